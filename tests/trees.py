"Miniature copies of PASCAL VOC, SBD, Cityscapes and CamVid in their original layouts: small pictures, every kind of file and every id."
from pathlib import Path
import numpy as np
from PIL import Image

CITY = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18}


def palette(): # VOC's: the bits of an id spread over red, green and blue
    out = []
    for i in range(256):
        bits = [(i >> k) & 1 for k in range(8)]
        out += [sum(bits[c + 3*k] << (7 - k) for k in range(3) if c + 3*k < 8) for c in range(3)]
    return out


def picture(hw, seed): return np.random.default_rng(seed).integers(0, 256, (*hw, 3), dtype=np.uint8)


def blocks(hw, values, seed): # (H,W) uint8: every value in a block of its own
    cells = np.random.default_rng(seed).permutation(np.resize(values, 48)).reshape(6, 8).astype(np.uint8)
    return np.asarray(Image.fromarray(cells).resize(hw[::-1], Image.NEAREST)).copy()


def bordered(mask): # VOC's masks have a rim of 255 around each object
    edge = np.pad(mask, 1, mode='edge')
    rim = (edge[1:-1, 1:-1] != edge[2:, 1:-1]) | (edge[1:-1, 1:-1] != edge[1:-1, 2:])
    return np.where(rim, 255, mask).astype(np.uint8)


def save(array, path, colours=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    im = Image.fromarray(array)
    if colours: im.putpalette(colours)                                          # mode P, as VOC's own masks
    im.save(path)


def voc(root, train, val, sbd=(), hw=(60, 80), aug=True):
    "VOCdevkit/VOC2012 with `train` and `val` as its segmentation lists; `sbd` are pictures that only SBD labels."
    base = Path(root)/'VOCdevkit'/'VOC2012'
    for k, i in enumerate([*train, *val, *sbd]):
        mask = blocks(hw, range(21), k)
        save(picture(hw, k), base/'JPEGImages'/f'{i}.jpg')
        if i not in sbd: save(bordered(mask), base/'SegmentationClass'/f'{i}.png', palette()), save(mask, base/'SegmentationObject'/f'{i}.png', palette())
        if aug: save(mask if i in sbd else bordered(mask), base/'SegmentationClassAug'/f'{i}.png', None if k % 2 else palette())
    lists = base/'ImageSets'/'Segmentation'
    lists.mkdir(parents=True)
    for name, ids in (('train', train), ('val', val), ('trainval', [*train, *val])): (lists/f'{name}.txt').write_text('\n'.join(ids) + '\n')
    return base


def sbd(root, ids, hw=(60, 80)):
    "benchmark_RELEASE/dataset with one .mat file a picture, as its authors packed it."
    from scipy.io import savemat
    base = Path(root)/'benchmark_RELEASE'/'dataset'
    for k, i in enumerate(ids):
        save(picture(hw, k), base/'img'/f'{i}.jpg')
        (base/'cls').mkdir(parents=True, exist_ok=True)
        savemat(base/'cls'/f'{i}.mat', dict(GTcls=dict(Segmentation=blocks(hw, range(21), k), Boundaries=np.zeros((20, 1)), CategoriesPresent=np.arange(1, 21)[:, None])))
    (base/'train.txt').write_text('\n'.join(ids[::2])), (base/'val.txt').write_text('\n'.join(ids[1::2]))
    return base


def cityscapes(root, train, val, hw=(64, 128), train_ids=False):
    "leftImg8bit and gtFine, with the colour, instance and polygon files that lie beside the ids; all 34 of them occur."
    for split, ids in (('train', train), ('val', val)):
        for k, i in enumerate(ids):
            city, raw = i.split('_')[0], blocks(hw, [*range(34)], k)
            save(picture(hw, k), Path(root)/'leftImg8bit'/split/city/f'{i}_leftImg8bit.png')
            at = Path(root)/'gtFine'/split/city
            mapped = np.vectorize(lambda v: CITY.get(v, 255))(raw).astype(np.uint8)
            save(mapped if train_ids else raw, at/f"{i}_gtFine_{'labelTrainIds' if train_ids else 'labelIds'}.png")
            save(picture(hw, k), at/f'{i}_gtFine_color.png'), save(raw.astype(np.uint16), at/f'{i}_gtFine_instanceIds.png'), (at/f'{i}_gtFine_polygons.json').write_text('{}')
    return Path(root)


def camvid(root):
    "train, trainannot, val, ...: PNG and JPEG frames of two sizes, 11 = void."
    root, g = Path(root)/'camvid', np.random.default_rng(0)
    for split, n in dict(train=6, val=3, test=3).items():
        for i in range(n):
            hw = (45, 60) if i % 2 else (36, 48)
            save(g.integers(0, 256, (*hw, 3), np.uint8), root/split/f'f{i}.{"png" if i % 2 else "jpg"}')
            save(g.integers(0, 12, hw, np.uint8), root/f'{split}annot'/f'f{i}.png')
    return root
