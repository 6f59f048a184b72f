"A folder of one's own: a clean one in which nothing is found, each defect planted alone, what training says to it, and the page in a browser."
import json
import os
import shutil
import unicodedata
from functools import lru_cache
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from maskmatch.check import check, maskmatch_check
from maskmatch.data import Pictures
from maskmatch.folder import folder_data
from maskmatch.shapes import TEXTURES, scenes
from maskmatch.train import maskmatch_train
from maskmatch.viz import palette
from browser import chromium, complaints, requests, screen

COLORS = palette().tolist()[:len(TEXTURES)]
NAMES = [v.replace('_', ' ') for v in '''a.jpg b.JPG c.jpeg street/d.jpg street/e.jpg f.png g.PNG gray.png rgba.png palette.png deep.png h.webp straße/größe.webp i.tif j.TIFF deep_tiff.tif
    k.bmp Köln/早い.jpg with_a_space.png a.b.c.png exif/turned.jpg late.jpg two/late.png last.webp'''.split()]
N, MASKS = len(NAMES), 20
drawn = lru_cache(scenes)
pytestmark = pytest.mark.filterwarnings('ignore::UserWarning:PIL.TiffImagePlugin')         # of a function that is called, not of a command


# -- the clean folder ---------------------------------------------------------------------------------------------------------

def picture(x, name): # as the file holds it, and what to save it with
    im, stem = Image.fromarray(x), Path(name).stem
    if stem == 'gray': im = im.convert('L')
    if stem == 'rgba': im = im.convert('RGBA'); im.putalpha(Image.new('L', im.size, 200))
    if stem == 'palette': im = im.quantize(64)
    if stem.startswith('deep'): im = Image.fromarray(x[..., 1].astype(np.uint16)*256 + 77)
    if stem != 'turned': return im, {}
    exif = Image.Exif()
    exif[274] = 6
    return im.transpose(Image.ROTATE_90), dict(exif=exif)

def mask_path(root, name): return (root/'masks'/name).with_suffix('.png')

def scene(i): # picture and ids, of sizes from 48 to 64
    x, y = (v[i] for v in drawn(N, 3, 64))
    return x[:64 - 4*(i % 3), :64 - 8*(i % 3)], y[:64 - 4*(i % 3), :64 - 8*(i % 3)].copy()

def clean_folder(root):
    for i, name in enumerate(NAMES):
        x, y = scene(i)
        file, mask = root/'images'/name, mask_path(root, name)
        for f in (file, mask): f.parent.mkdir(parents=True, exist_ok=True)
        im, options = picture(x, name)
        im.save(file, **options | (dict(quality=95) if file.suffix.lower() in ('.jpg', '.jpeg') else {}))
        if not keeps_mask(i): continue
        m = Image.fromarray(y)
        if i % 4 == 1: m.putpalette(palette().tobytes())                          # ids with a palette
        if i == 5: m = Image.fromarray(y == 1)                                    # one bit
        if i == 6: y[:3] = 255; m = Image.fromarray(y)                            # ignored rows
        m.save(mask)
    return root

def keeps_mask(i): return i < 18 or i in (20, 22) # the turned picture has one

@pytest.fixture(scope='module')
def pristine(tmp_path_factory): return clean_folder(tmp_path_factory.mktemp('clean')/'mine')

@pytest.fixture
def folder(pristine, tmp_path): return Path(shutil.copytree(pristine, tmp_path/'mine'))

@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- the commands -------------------------------------------------------------------------------------------------------------

def train(root, capsys): # exit code, what was written to stderr
    out = root.parent/'run'
    capsys.readouterr()
    try: maskmatch_train(['--data', str(root), *'--steps 2 --every 1 --evals 1 --device cpu --model small --size 33 --batch 2'.split(), '--out', str(out)])
    except SystemExit as e: code = e.code
    else: code = 0
    assert (out/'metrics.json').exists() == (code == 0)
    return code, capsys.readouterr().err

def checked(root, *args): # exit code of the command, and the findings in its file
    file = root.parent/'findings.json'
    try: maskmatch_check([str(root), '--json', str(file), *map(str, args)])
    except SystemExit as e: return e.code, json.loads(file.read_text()) if file.exists() else None
    return 0, json.loads(file.read_text())


# -- nothing is wrong ---------------------------------------------------------------------------------------------------------

def masks_of(root): return sorted((root/'masks').rglob('*.png'))
def ids_of(file): return 0 + np.asarray(Image.open(file))
def put(file, a): Image.fromarray(np.asarray(a)).save(file)
def lines(root, text, name='classes.txt', encoding='utf-8'): (root/name).write_bytes(text.encode(encoding)); return root/name

def in_colour(root, void='void 9 9 9\n'):
    lines(root, ''.join(f'{v} {r} {g} {b}\n' for v, (r, g, b) in zip(TEXTURES, COLORS)) + void)
    table = np.full((256, 3), 9, np.uint8)
    table[:len(COLORS)] = COLORS
    for f in masks_of(root): put(f, table[ids_of(f)])

def deep_ids(root):
    for f in masks_of(root): put(f, ids_of(f).astype(np.uint16))

def zero_and_255(root):
    for f in masks_of(root): put(f, np.uint8(255)*(ids_of(f) % 255 > 0))

def windows(root):
    lines(root, '\ufeff# made by hand\r\n' + '\r\n'.join(f'{v} of cloth' for v in TEXTURES) + '\r\n\r\n')
    lines(root, '\ufeff' + '\r\n'.join(f'images\\{NAMES[i]}'.replace('/', '\\') for i in (3, 7, 9, 12, 15)) + '\r\n', 'val.txt')

def void_line(root):
    lines(root, 'void\n' + '\n'.join(TEXTURES))
    for f in masks_of(root): put(f, (ids_of(f) + 1).astype(np.uint8))

def hidden(root):
    for f in ('images/.DS_Store', 'images/._a.jpg', 'images/Thumbs.db', 'masks/.DS_Store', 'masks/._a.png', 'images/.cache/a.png'):
        (root/f).parent.mkdir(exist_ok=True)
        (root/f).write_bytes(b'\0\5\26\7')

def decomposed(root): # as some systems write the names of a copy
    f = mask_path(root, 'straße/größe.webp')
    f.rename(f.with_name(unicodedata.normalize('NFD', f.name)))
    lines(root, ''.join(f'{unicodedata.normalize("NFD", NAMES[i])}\n' for i in (3, 7, 9, 12, 15)), 'val.txt')

def linked(root):
    (root/'images').rename(root.parent/'elsewhere')
    (root/'images').mkdir()
    for f in (root.parent/'elsewhere').rglob('*'):
        if f.is_file(): to = root/'images'/f.relative_to(root.parent/'elsewhere'); to.parent.mkdir(exist_ok=True, parents=True); to.symlink_to(f)

@pytest.mark.parametrize('change', [None, in_colour, deep_ids, zero_and_255, windows, void_line, hidden, decomposed, linked], ids=lambda f: f.__name__ if f else 'as it is')
def test_nothing_is_found_in_a_clean_folder(change, folder, capsys):
    if change: change(folder)
    code, found = checked(folder)
    assert (code, found) == (0, []) and 'Nothing was found to be wrong' in (folder/'report.html').read_text(encoding='utf-8')
    data = folder_data(folder)
    assert len(data.train) + len(data.val) == N and len(data.labeled) + len(data.val) == MASKS and len(data.classes) == (2 if change is zero_and_255 else len(TEXTURES))
    if change in (windows, decomposed): assert len(data.val) == 5
    assert train(folder, capsys) == (0, '')


@pytest.mark.parametrize('change', [None, in_colour, deep_ids, void_line], ids=lambda f: f.__name__ if f else 'as it is')
def test_what_is_read_is_what_was_drawn(change, folder):
    if change: change(folder)
    data = folder_data(folder)
    for p in (data.train, data.val):
        for i, name in enumerate(p.ids):
            k = [unicodedata.normalize('NFC', str(Path(v).with_suffix(''))) for v in NAMES].index(name)
            x, y = scene(k)
            got = np.asarray(p.image(i)).astype(int)
            if name in ('gray', 'rgba'): x = np.asarray(Image.fromarray(x).convert('L').convert('RGB')) if name == 'gray' else x
            if name.startswith('deep'): x = x[..., [1, 1, 1]]
            assert got.shape == x.shape and np.abs(got - x).mean() < 25, name                # 64 colours and JPEG are not exact
            if not keeps_mask(k): continue
            if k == 5: y = (y == 1).astype(np.uint8)
            if k == 6: y[:3] = 255
            if change is void_line and k == 6: y[:3] = 255
            assert np.array_equal(p.label(i), y), name


# -- defects ------------------------------------------------------------------------------------------------------------------

DEFECTS = []

def defect(name, kind, error=True, also=()): # of a function that plants it and returns what the finding must name
    return lambda f: DEFECTS.append(pytest.param(f, kind, error, set(also), id=name))

def image(root, k=5): return root/'images'/NAMES[k]
def mask(root, k=2): return mask_path(root, NAMES[k])
def unlabelled(root): return root/'images'/'late.jpg'
def side(root, which): # names of pictures with masks that are trained on, or validate
    data = folder_data(root)
    return [data.train.ids[i] for i in data.labeled] if which == 'train' else list(data.val.ids)

def listed(root): # who validates, or else the choice would follow the masks
    lines(root, '\n'.join(side(root, 'val')), 'val.txt')

def without(root, which, k=5): # a class
    for name in side(root, which):
        f = root/'masks'/f'{name}.png'
        a = ids_of(f)
        if (a == k).any(): put(f, np.where(a == k, 0, a).astype(np.uint8))

def smooth(a, mode): # as if enlarged like a photograph
    im = Image.fromarray(a)
    return im.resize((im.width//2, im.height//2), Image.NEAREST).resize(im.size, mode)

@defect('no images folder', 'pictures')
def _(d): shutil.rmtree(d/'images'); return d/'images'

@defect('no pictures', 'pictures')
def _(d): shutil.rmtree(d/'images'); (d/'images').mkdir(); return d/'images'

@defect('no masks folder', 'masks')
def _(d): shutil.rmtree(d/'masks'); return d/'masks'

@defect('no masks', 'masks')
def _(d): shutil.rmtree(d/'masks'); (d/'masks').mkdir(); return d/'masks'

@defect('one mask', 'masks')
def _(d):
    for f in masks_of(d)[1:]: f.unlink()
    return d/'masks'

@defect('mask without picture', 'masks')
def _(d): shutil.copy(mask(d), d/'masks'/'nobody.png'); return d/'masks'/'nobody.png'

@defect('mask in another folder than its picture', 'masks')
def _(d): mask(d).rename(d/'masks'/'street'/mask(d).name); return d/'masks'/'street'/mask(d).name

@defect('two pictures of one name', 'pictures')
def _(d): shutil.copy(image(d, 6), d/'images'/'f.jpg'); return d/'images'/'f.png'

@defect('two pictures whose names differ in their Unicode form', 'pictures')
def _(d): shutil.copy(image(d, 5), d/'images'/'straße'/(unicodedata.normalize('NFD', 'größe') + '.png')); return 'größe'

@defect('two masks of one name', 'masks')
def _(d): shutil.copy(mask(d), mask(d).with_suffix('.PNG')); return mask(d).name

@defect('JPEG mask', 'no mask', False)
def _(d): Image.open(mask(d)).convert('L').save(d/'masks'/'late.jpg'); return d/'masks'/'late.jpg'

@defect('another file among the pictures', 'no picture', False)
def _(d): (d/'images'/'notes.txt').write_text('mine'); return d/'images'/'notes.txt'

def torn(f, share): f.write_bytes(f.read_bytes()[:int(f.stat().st_size*share)]); return f

for name, k in dict(JPEG=0, PNG=5, WebP=11, TIFF=13, BMP=16).items():
    defect(f'truncated {name}', 'picture')(lambda d, k=k: torn(image(d, k), .6))

@defect('TIFF with a damaged directory', 'several pictures', False)
def _(d): # its first picture can be read; asked for more of them, Pillow raises a TypeError
    b = bytearray(image(d, 13).read_bytes())
    assert b[:8] == b'II*\0\x08\0\0\0'
    b[8] = 8
    image(d, 13).write_bytes(b); return image(d, 13)

@defect('truncated JPEG without a mask', 'picture')
def _(d): return torn(unlabelled(d), .6)

@defect('text called PNG', 'picture')
def _(d): image(d).write_text('not a picture'); return image(d)

@defect('file of 0 bytes', 'picture')
def _(d): return torn(unlabelled(d), 0)

@defect('link that leads nowhere', 'picture')
def _(d): (d/'images'/'lost.jpg').symlink_to(d/'gone.jpg'); return d/'images'/'lost.jpg'

@defect('link to a folder that leads nowhere', 'link', False)
def _(d): (d/'images'/'more').symlink_to('/no/such/disk'); return '/no/such/disk'

@defect('link to a folder that holds it', 'link', False)
def _(d): (d/'images'/'loop').symlink_to('..'); return d/'images'/'loop'

@defect('two links to one folder', 'link', False)
def _(d):
    (d/'images'/'street').rename(d.parent/'outside')
    for name in ('street', 'way'): (d/'images'/name).symlink_to(d.parent/'outside')
    return d/'images'/'way'

@defect('a picture and a link to it', 'link', False)
def _(d): (d/'images'/'A copy.jpg').symlink_to('a.jpg'); return d/'images'/'A copy.jpg'

@defect('mask that is a link that leads nowhere', 'broken mask')
def _(d): mask(d).unlink(); mask(d).symlink_to(d/'gone.png'); return mask(d)

@defect('truncated mask', 'broken mask')
def _(d): return torn(mask(d), .5)

@defect('truncated mask beside classes.txt', 'broken mask')
def _(d): lines(d, '\n'.join(TEXTURES)); return torn(mask(d), .5)

@defect('mask of another size', 'size of mask')
def _(d): put(mask(d), ids_of(mask(d))[:-1]); return mask(d)

@defect('mask not turned with its picture', 'mask not turned')
def _(d): put(mask(d, 20), np.rot90(ids_of(mask(d, 20)))); return mask(d, 20)

def with_id(d, k, kind): lines(d, '\n'.join(TEXTURES)); a = ids_of(mask(d)).astype(kind); a[3, 4] = k; put(mask(d), a); return mask(d)

@defect('unknown id', 'unknown id')
def _(d): return with_id(d, 77, np.uint8)

@defect('unknown id of 16 bits', 'unknown id')
def _(d): return with_id(d, 1000, np.uint16)

@defect('unknown id of 16 bits, no classes.txt', 'classes')
def _(d): a = ids_of(mask(d)).astype(np.uint16); a[3, 4] = 1000; put(mask(d), a); return d/'masks'

@defect('stray id, no classes.txt', 'class not learned', False, ['class not measured'])
def _(d): # it makes 201 classes, of which 194 are not there, and one is in a single mask
    f = d/'masks'/f"{side(d, 'train')[0]}.png"
    a = ids_of(f).astype(np.uint8); a[3, 4] = 200; put(f, a); return 'class 6, class 7'

@defect('masks in colour, no classes.txt', 'mask in colour')
def _(d): in_colour(d); (d/'classes.txt').unlink(); return masks_of(d)[0]

@defect('one mask in colour beside classes without colours', 'mask in colour')
def _(d): lines(d, '\n'.join(TEXTURES)); put(mask(d), palette()[ids_of(mask(d))]); return mask(d)

@defect('unknown colour', 'unknown colour')
def _(d):
    in_colour(d)
    a = np.array(Image.open(mask(d))); a[3, 4] = 1, 2, 3; put(mask(d), a)
    return mask(d)

@defect('mask in colour with smooth edges', 'unknown colour')
def _(d): in_colour(d); put(mask(d), smooth(np.array(Image.open(mask(d))), Image.BILINEAR)); return mask(d)

@defect('mask of ids with smooth edges', 'smooth edges', False)
def _(d):
    a = ids_of(mask(d)); b = np.where(a > 0, 5, 0).astype(np.uint8)
    put(mask(d), smooth(b, Image.BILINEAR)); return mask(d)

@defect('mask of 255 alone', 'empty mask', False)
def _(d): put(mask(d), np.full_like(ids_of(mask(d)), 255)); return mask(d)

@defect('masks of 255 alone', 'classes')
def _(d):
    for f in masks_of(d): put(f, np.full(ids_of(f).shape, 255, np.uint8))
    return d/'masks'

@defect('0 and 255 beside classes.txt', '0 and 255', False)
def _(d):
    lines(d, '\n'.join(TEXTURES))
    put(mask(d), np.where(ids_of(mask(d)) > 0, 255, 0).astype(np.uint8)); return mask(d)

for name, text in {'class named twice': 'sky\nroad\nsky', 'bad colour': 'sky 300 0 0\nroad 1 1 1', 'same colour twice': 'sky 1 1 1\nroad 1 1 1',
                   'some without colour': 'sky 1 1 1\nroad', 'one class': 'sky', 'classes.txt empty': '', 'only void': 'void\nsky'}.items():
    defect(name, 'classes')(lambda d, text=text: lines(d, text))

@defect('classes.txt not in UTF-8', 'classes')
def _(d): return lines(d, 'größe\nsky', encoding='latin-1')

@defect('val.txt names nobody', 'validation list')
def _(d): lines(d, 'a\nnobody', 'val.txt'); return 'nobody'

@defect('val.txt names a picture without mask', 'validation list')
def _(d): lines(d, 'a\nlate.jpg', 'val.txt'); return 'late'

@defect('val.txt empty', 'validation list')
def _(d): return lines(d, '\n\n', 'val.txt')

@defect('val.txt lists all', 'validation list')
def _(d): return lines(d, '\n'.join(f.relative_to(d/'masks').as_posix() for f in masks_of(d)), 'val.txt')

@defect('val.txt not in UTF-8', 'validation list')
def _(d): return lines(d, 'größe', 'val.txt', 'latin-1')

def twin(d, save): # another picture made of one that validates
    data = folder_data(d)
    save(data.val.images[0], data.val.image(0))
    return data.val.ids[0]

@defect('duplicate', 'duplicate', False)
def _(d): return twin(d, lambda f, im: shutil.copy(f, d/'images'/f'twin{f.suffix}'))

@defect('near duplicate, JPEG', 'duplicate', False)
def _(d): return twin(d, lambda f, im: im.save(d/'images'/'twin.jpg', quality=60))

@defect('near duplicate, brighter', 'duplicate', False)
def _(d): return twin(d, lambda f, im: ImageEnhance.Brightness(im).enhance(1.05).save(d/'images'/'twin.png'))

@defect('near duplicate, of less contrast and another size', 'duplicate', False)
def _(d): return twin(d, lambda f, im: ImageEnhance.Contrast(im).enhance(.7).resize((im.width*2, im.height*2)).save(d/'images'/'twin.png'))

@defect('class that no mask shows', 'class not learned', False)
def _(d): lines(d, '\n'.join([*TEXTURES, 'cloud'])); return 'cloud'

@defect('class that only validates', 'class only validates', False)
def _(d): listed(d), without(d, 'train'); return 'class 5'

@defect('class that is not measured', 'class not measured', False)
def _(d): listed(d), without(d, 'val'); return 'class 5'

@defect('tiny picture', 'tiny picture', False)
def _(d): put(d/'images'/'tiny.png', scene(0)[0][:20, :31]); return d/'images'/'tiny.png'

@defect('picture of one pixel', 'tiny picture', False)
def _(d): put(d/'images'/'tiny.png', scene(0)[0][:1, :1]); return d/'images'/'tiny.png'

@defect('picture of one colour', 'empty picture', False)
def _(d): put(d/'images'/'flat.png', np.full((50, 60, 3), 90, np.uint8)); return d/'images'/'flat.png'

@defect('TIFF of two pages', 'several pictures', False)
def _(d):
    a, b = (Image.fromarray(v) for v in scenes(2, 8, 64)[0])
    a.save(d/'images'/'pages.tif', save_all=True, append_images=[b]); return d/'images'/'pages.tif'

@defect('TIFF of real numbers', 'picture')
def _(d): put(d/'images'/'real.tif', scene(0)[0][..., 0].astype(np.float32)); return d/'images'/'real.tif'

@defect('picture of 200 million pixels', 'picture')
def _(d): Image.new('1', (20000, 10000)).save(d/'images'/'huge.png', compress_level=1); return d/'images'/'huge.png'

@defect('nothing without a mask', 'nothing unlabelled', False)
def _(d):
    for f in [f for i, v in enumerate(NAMES) if not keeps_mask(i) for f in [d/'images'/v]]: f.unlink()
    return d


@pytest.mark.parametrize('plant, kind, error, also', DEFECTS)
def test_a_planted_defect_is_found_alone_and_training_agrees(plant, kind, error, also, folder, capsys):
    named = str(plant(folder))
    c = check(folder)
    assert {f.kind for f in c.findings} == {kind} | also, c.findings
    hits = [f for f in c.findings if f.kind == kind]
    assert len(hits) == 1 and unicodedata.normalize('NFC', named) in unicodedata.normalize('NFC', hits[0].text), hits
    assert hits[0].error == error == c.failed and '\n' not in hits[0].text and hits[0].text.endswith('.')
    code, said = train(folder, capsys)
    assert (code, said) == ((2, f'maskmatch_train: {hits[0].text}\n') if error else (0, ''))


def test_kinds_are_all_planted():
    "No finding that check.py can make is left out of the table."
    import inspect, re
    import maskmatch.check as module
    source = inspect.getsource(module)
    kinds = set(re.findall(r"(?:Finding|caught)\('([\w ]+)'", source)) | set(module.CLOSER.values()) | {'pictures', 'masks', 'classes', 'validation list', 'no picture', 'no mask'} | \
        set(re.findall(r"\('(class [\w ]+)', ", source))
    assert kinds - {'mask'} == {p.values[1] for p in DEFECTS} and len(DEFECTS) >= 30          # 'mask' is what a new message would be called until it has a name


@pytest.mark.filterwarnings('ignore')                                                         # Pillow has much to say about such files
def test_random_damage_is_a_finding_or_none_and_never_an_exception(folder):
    g, damaged = np.random.default_rng(0), []
    for k in range(240):
        source = folder/'images'/NAMES[(0, 2, 5, 8, 11, 13, 16, 23)[k % 8]]
        b = bytearray(source.read_bytes())
        if k % 3: b = b[:g.integers(len(b))]
        else:
            for _ in range(g.integers(1, 20)): b[int(len(b)*g.random()**3)] = g.integers(256)
        damaged.append(folder/'images'/f'damaged {k}{source.suffix}')
        damaged[-1].write_bytes(b)
    c = check(folder)
    assert {f.kind for f in c.findings} <= {'picture', 'several pictures', 'empty picture', 'tiny picture', 'duplicate'} and all('\n' not in f.text for f in c.findings)
    assert 120 < sum(f.kind == 'picture' for f in c.findings) <= len(damaged)


# -- the command --------------------------------------------------------------------------------------------------------------

def test_exit_code_and_files(folder, capsys, tmp_path):
    (folder/'images'/'notes.txt').write_text('mine')
    code, found = checked(folder, '--out', tmp_path/'r.html')
    assert code == 0 and [f['kind'] for f in found] == ['no picture'] and (tmp_path/'r.html').exists() and not (folder/'report.html').exists()
    torn(image(folder), .5), torn(image(folder, 0), .5), torn(mask(folder), .5)
    code, found = checked(folder)
    assert code == 1 and {f['kind'] for f in found if f['error']} == {'broken mask'}
    lines(folder, '\n'.join(TEXTURES))                                                 # now masks are not asked for their classes, and all errors come at once
    code, found = checked(folder)
    assert code == 1 and sorted(f['kind'] for f in found) == ['broken mask', 'no picture', 'picture', 'picture']
    said = capsys.readouterr()
    assert '3 errors, 1 warning;' in said.out and said.err == ''


def test_a_hundred_masks_with_one_fault_are_one_line(folder, capsys):
    lines(folder, '\n'.join(TEXTURES))
    for k in range(100):
        name = f'more {k:03d}.png'
        put(folder/'images'/name, np.random.default_rng(k).integers(0, 255, (48, 48, 3)).astype(np.uint8))
        put(folder/'masks'/name, np.full((48, 48 + k), 2, np.uint8) if k < 60 else np.full((48, 48), 200, np.uint8))
    code, found = checked(folder)
    said = [v for v in capsys.readouterr().out.splitlines() if v.startswith(('error', 'warning'))]
    assert code == 1 and len(found) == len([f for f in found if f['error']]) == 99      # the 48 x 48 among the first is right
    assert len(said) == 2 and sum(v.startswith('error, size of mask: 59 times, ') for v in said) == 1
    line = next(v for v in said if 'unknown id' in v)
    assert line.startswith('error, unknown id: 40 times, ') and line.endswith('fix the mask or the number of classes.')
    assert line.count('.png') == 3 and ' and 37 more: holds the value 200, ' in line
    page = (folder/'report.html').read_text(encoding='utf-8')
    assert page.count('<details>') == 2 and all(page.count(f"more {k:03d}.png") for k in range(1, 100))
    assert '99 errors' in page


@pytest.mark.parametrize('how', ['a folder', 'folders within', 'images itself'])
def test_links_to_folders_are_followed(how, folder, capsys):
    "Ten pictures here and the others on another disk, as it were."
    kept, away = folder/'images', folder.parent/'disk'
    if how == 'images itself':
        kept.rename(away)
        kept.symlink_to(away)
    for name in ('street', 'exif', 'two') if how == 'folders within' else ():
        (kept/name).rename(folder.parent/name)
        (kept/name).symlink_to(folder.parent/name)
    if how == 'a folder':
        kept.rename(away)
        kept.mkdir()
        (kept/'all').symlink_to(away)
        (folder/'masks').rename(folder.parent/'masks')
        (folder/'masks').mkdir()
        (folder/'masks'/'all').symlink_to(folder.parent/'masks')
    code, found = checked(folder)
    assert (code, found) == (0, [])
    data = folder_data(folder)
    assert len(data.train) + len(data.val) == N and len(data.labeled) + len(data.val) == MASKS
    assert train(folder, capsys) == (0, '')


def test_training_names_the_links_that_it_passes_over(folder):
    for name, to in dict(loop='..', lost='/no/such/disk', again='street').items(): (folder/'images'/name).symlink_to(to)
    data = folder_data(folder)
    assert len(data.train) + len(data.val) == N
    for name in ('loop', 'lost', 'again'): assert f"{folder/'images'/name}: is a link " in data.note


def test_one_mask_may_serve_two_pictures(folder):
    first, second = masks_of(folder)[:2]
    second.unlink()
    second.symlink_to(first)
    assert len([f for f in masks_of(folder)]) == MASKS and not [f for f in check(folder).findings if f.kind == 'link']


@pytest.mark.parametrize('plant', [lambda d: shutil.rmtree(d), lambda d: (d/'report.html').mkdir(), lambda d: (d/'report.html.part').mkdir()], ids=['no folder', 'report is a folder', 'not writable'])
def test_check_itself_says_one_sentence(plant, folder, capsys):
    plant(folder)
    code, _ = checked(folder)
    err = capsys.readouterr().err
    assert code == 2 and err.count('\n') == 1 and str(folder) in err and err.startswith('maskmatch_check: ')


@pytest.mark.skipif(not hasattr(os, 'geteuid') or os.geteuid() == 0, reason='root may write everywhere')
def test_a_folder_that_must_not_be_written(folder, capsys):
    folder.chmod(0o555)
    try: code, _ = checked(folder)
    finally: folder.chmod(0o755)
    err = capsys.readouterr().err
    assert code == 2 and err.count('\n') == 1 and 'report.html' in err


@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_ninety_million_pixels(folder):
    big = Image.new('L', (10000, 9000), 40)
    big.paste(200, (3000, 2000, 8000, 7000))
    big.save(folder/'images'/'big.png', compress_level=1)
    big.point(lambda v: v > 100 and 2).save(folder/'masks'/'big.png', compress_level=1)
    c = check(folder)
    assert not c.findings, c.findings
    side = next(p for p in (c.data.train, c.data.val) if 'big' in p.ids)
    i = side.ids.index('big')
    small = Pictures(side.ids[i:i + 1], side.images[i:i + 1], side.masks[i:i + 1], len(c.data.classes), side=500)
    assert side.size(i) == (9000, 10000) and small.size(0) == (450, 500) and np.asarray(small.image(0))[200, 250].tolist() == [200]*3 and np.asarray(small.label(0))[200, 250] == 2


# -- the page -----------------------------------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def browser():
    with chromium() as driver: yield driver


@pytest.mark.parametrize('width', [1280, 390])
def test_the_page_in_a_browser(width, browser, folder, capsys):
    odd = '<i>&"' + 'long'*40 + '.txt'
    (folder/'images'/odd).write_text('mine')
    torn(unlabelled(folder), .5)
    lines(folder, '\n'.join([*TEXTURES[:-1], 'a class with a name that is rather long', 'cloud']))
    code, found = checked(folder)
    assert code == 1 and len(found) == 2
    screen(browser, width)
    complaints(browser), requests(browser)
    address = (folder/'report.html').as_uri()
    browser.get(address)
    text = browser.find_element('tag name', 'body').text
    for f in found: assert f['kind'] + ': ' + f['text'] in text
    assert odd in text and '1 error, 1 warning.' in text and 'a class with a name' in text and browser.title == 'mine'
    assert browser.execute_script('return document.documentElement.scrollWidth') <= width
    asked = requests(browser)
    assert complaints(browser) == [] and address in asked and [u for u in asked if not u.startswith(('data:', address))] == []
    assert browser.execute_script('return getComputedStyle(document.querySelector("li.error")).borderLeftWidth') == '4px'
