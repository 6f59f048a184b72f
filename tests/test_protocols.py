"The paper's protocols from end to end: published partitions, miniature VOC and Cityscapes trees, presets, evaluation, cost, benchmarks."
import json
import shutil
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
import trees
from commands import ROOT, command, ok, process, refused
from maskmatch.learner import best_amp

SPLITS = ROOT.parent/'shared'/'splits'
published = pytest.mark.skipif(not SPLITS.exists(), reason='the published lists are not beside this checkout')
MINI = '--size 65 --device cpu --weights none --workers 0 --every 1 --evals 1'.split()


def names(kind, n): return [f'{kind}_{i:06d}' for i in range(n)]


# -- partitions ---------------------------------------------------------------------------------------------------------------

@published
def test_all_published_lists_verify(tmp_path):
    rows = [line.split() for line in ok(command('maskmatch_data', 'splits', '--splits', SPLITS)).splitlines()]
    table = [line.split('|') for line in (SPLITS/'README.md').read_text().splitlines() if line.startswith('| `')]
    want = {t[1].strip(' `').removesuffix('.txt'): (t[2].strip(), t[3].strip()) for t in table}
    assert len(want) == 24 == len(rows) and {r[0]: (r[1], r[2]) for r in rows} == want and all(r[3] == 'ok' for r in rows)


@published
def test_a_list_with_one_id_changed_is_refused(tmp_path):
    shutil.copytree(SPLITS, tmp_path/'splits')
    file = tmp_path/'splits'/'voc'/'classic'/'92.txt'
    ids = file.read_text().split()
    file.write_text('\n'.join(['2007_000032', *ids[1:]]))
    from maskmatch.splits import sha1
    p = command('maskmatch_data', 'splits', '--splits', tmp_path/'splits')
    assert p.returncode == 2 and 'voc/classic/92' in p.stderr and sum(line.split()[3] == 'ok' for line in p.stdout.splitlines()) == 23
    base = trees.voc(tmp_path, ids[:3], names('val', 1))
    refused(command('maskmatch_train', '--preset', 'voc_classic_92_r101', '--splits', tmp_path/'splits', '--root', base, *MINI, '--out', tmp_path/'r'),
            '92.txt', '13268666f4', sha1(['2007_000032', *ids[1:]]))
    assert not (tmp_path/'r').exists()


def test_offline_with_no_cache(tmp_path):
    base = trees.voc(tmp_path, names('a', 3), names('val', 1))
    proxy = dict.fromkeys(('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'), 'http://127.0.0.1:9')     # nothing listens there
    refused(process('maskmatch_train', '--preset', 'voc_classic_92_r101', '--root', base, *MINI, '--out', tmp_path/'r', env=proxy | dict(MASKMATCH_SPLITS=str(tmp_path/'cache'))), 'voc/classic/92', '--splits')
    assert not (tmp_path/'r').exists() and not list(tmp_path.glob('cache/**/*.txt'))


def test_make_split(tmp_path):
    base = trees.voc(tmp_path, names('a', 12), names('val', 1), names('sbd', 8))
    draw = lambda out, seed: ok(command('maskmatch_data', 'make-split', '--data', 'voc', '--root', base, '--labeled', '1/4', '--seed', seed, '--out', tmp_path/out))
    assert '5 of 20' in draw('a.txt', 0) and draw('b.txt', 0) and draw('c.txt', 1)
    a, b, c = ((tmp_path/f'{k}.txt').read_text().split() for k in 'abc')
    assert a == b != c and len(set(a)) == 5 and set(a) <= {*names('a', 12), *names('sbd', 8)}
    refused(command('maskmatch_data', 'make-split', '--data', 'voc', '--root', base, '--labeled', '99', '--out', tmp_path/'d.txt'), '--labeled 99')
    ok(command('maskmatch_train', '--data', 'voc', '--root', base, '--labeled', tmp_path/'a.txt', '--model', 'small', '--steps', '1', '--batch', '2', *MINI, '--out', tmp_path/'r'))
    m = json.loads((tmp_path/'r'/'metrics.json').read_text())
    assert (m['labeled'], m['unlabeled']) == (5, 15) and 'not comparable' in m['note']


FORMAT = [] if best_amp('cpu') else ['--amp', 'off']                            # what a processor has to imitate takes minutes a step


# -- miniature trees through the presets ----------------------------------------------------------------------------------------

def mini_run(preset, root, out, *args):
    said = ok(command('maskmatch_train', '--preset', preset, '--root', root, '--steps', '3', *MINI, '--out', out, *args))
    m, config = (json.loads((out/f'{k}.json').read_text()) for k in ('metrics', 'config'))
    assert m['steps'] == 3 and m['preset'] == preset and m['last']['step'] == 3 and m['last5'] == m['last']['miou'] == m['teacher']['miou'] and 'mean of the last five' in said
    assert config['steps'] == 3 and config['alpha'] == 0.999 and config['p'] == 32
    return m, config


@published
def test_voc_from_folder_to_metrics(tmp_path):
    ids, val = (SPLITS/'voc'/'classic'/'92.txt').read_text().split(), names('val', 3)
    base = trees.voc(tmp_path, ids, val, names('sbd', 20))
    for i in names('sbd', 20): (base/'SegmentationClassAug'/f'{i}.png').write_bytes(b'never to be opened')
    m, config = mini_run('voc_classic_92_r101', tmp_path, tmp_path/'r', '--batch', '1', '--splits', SPLITS, '--model', 'deeplabv3plus_resnet50s') # Cityscapes' run has the hundred layers
    assert (m['labeled'], m['unlabeled'], len(m['teacher']['iou'])) == (92, 20, 21) and 'voc/classic/92 (13268666f4)' in m['note'] and 'not comparable' in m['note']
    assert (config['model'], config['output_stride'], config['lr'], config['head_lr'], config['amp'], config['eval']) == ('deeplabv3plus_resnet50s', 8, 0.001, 10, 'off', 'whole')
    printed = ok(command('maskmatch_eval', tmp_path/'r', '--splits', SPLITS, '--boundary', '--student', '--eval', 'center', '--window', '33', '--json', tmp_path/'e.json'))
    e = json.loads((tmp_path/'e.json').read_text())
    assert 'pottedplant' in printed and set(e) == {'teacher', 'student'} and 0 <= e['teacher']['boundary']['skip']['mean'] <= 100


def test_voc_without_the_published_lists(tmp_path):
    base = trees.voc(tmp_path, names('a', 6), names('val', 2), names('sbd', 4))
    m, config = mini_run('voc_blender_cps_662_r50_fast', base, tmp_path/'r', '--batch', '2', '--split', '', '--labeled', '1/2', *FORMAT)
    assert (m['labeled'], m['unlabeled']) == (5, 5) and (config['output_stride'], config['amp']) == (16, FORMAT[-1] if FORMAT else 'bf16')


@published
def test_cityscapes_from_folder_to_metrics(tmp_path):
    ids = (SPLITS/'cityscapes'/'cps'/'186.txt').read_text().split()
    train = [*ids, *(SPLITS/'cityscapes'/'cps'/'372.txt').read_text().split()]
    train = list(dict.fromkeys(train))
    trees.cityscapes(tmp_path/'city', train, (SPLITS/'cityscapes'/'val.txt').read_text().split()[:2])
    m, config = mini_run('cityscapes_cps_186_r101_fast', tmp_path/'city', tmp_path/'r', '--batch', '2', '--splits', SPLITS, '--window', '49', *FORMAT)
    assert (m['labeled'], m['unlabeled'], len(m['teacher']['iou'])) == (186, len(train) - 186, 19)
    assert (config['loss'], config['head_lr'], config['lr'], config['eval'], config['stride']) == ('ohem', 1, 0.01, 'slide', 32)
    assert f"{m['teacher']['miou']:.2f}" in ok(command('maskmatch_eval', tmp_path/'r', '--splits', SPLITS))


def test_both_kinds_of_cityscapes_masks_are_one(tmp_path):
    from maskmatch.datasets import DATA
    ids = [f'aachen_{i:06d}_000019' for i in range(3)]
    a, b = (DATA['cityscapes'].load(trees.cityscapes(tmp_path/str(k), ids, ['aachen_000009_000019'], train_ids=k)) for k in (False, True))
    for i in range(3):
        mask = np.array(a.train.label(i))
        assert np.array_equal(mask, np.array(b.train.label(i))) and set(np.unique(mask)) == {*range(19), 255}
        raw = np.array(Image.open(a.train.masks[i]))
        assert all((mask[raw == v] == trees.CITY.get(v, 255)).all() for v in range(34)) and set(np.unique(raw)) == set(range(34))


def test_voc_palette_and_gray_masks_are_ids(tmp_path):
    from maskmatch.datasets import DATA
    base = trees.voc(tmp_path, names('a', 2), names('val', 1), names('sbd', 2))
    data = DATA['voc'].load(tmp_path)
    modes = {Image.open(m).mode for m in data.train.masks}
    assert modes == {'P', 'L'} and data.train.ids == (*names('a', 2), *names('sbd', 2)) and data.val.ids == tuple(names('val', 1))
    for i, name in enumerate(data.train.ids): assert np.array_equal(np.array(data.train.label(i)), np.array(Image.open(base/'SegmentationClassAug'/f'{name}.png')))
    assert (np.array(data.val.label(0)) == 255).any() and set(np.unique(data.val.label(0))) <= {*range(21), 255}


def test_sbd_is_merged_into_voc(tmp_path):
    base = trees.voc(tmp_path, names('a', 3), names('val', 2), names('sbd', 4), aug=False)
    box = trees.sbd(tmp_path/'sbd', [*names('sbd', 4), 'a_000000', 'val_000001'])
    build = lambda: ok(command('maskmatch_data', 'voc', '--root', tmp_path, '--sbd', tmp_path/'sbd'))
    assert '7 training pictures' in build() and 'not the published 10582' in build()
    from maskmatch.datasets import DATA
    from torchvision.datasets import SBDataset
    shutil.copy(box/'train.txt', box/'train_noval.txt')
    theirs = SBDataset(box, image_set='train', mode='segmentation')
    ours = DATA['voc'].load(tmp_path).train
    assert ours.ids == (*names('a', 3), *names('sbd', 4))
    for k, i in enumerate((box/'train.txt').read_text().split()):
        if i.startswith('sbd'): assert np.array_equal(np.array(theirs[k][1]), np.array(ours.label(ours.ids.index(i)))), i
    own = np.array(Image.open(base/'SegmentationClass'/'a_000000.png'))
    assert np.array_equal(np.array(ours.label(0)), own)                                  # VOC's own mask, with its border, not SBD's


@pytest.mark.parametrize('data, words', [('voc', ['JPEGImages']), ('cityscapes', ['leftImg8bit'])])
def test_wrong_roots(data, words, tmp_path):
    base = ['--model', 'small', '--labeled', '1', *MINI, '--out', tmp_path/'r']
    refused(command('maskmatch_train', '--data', data, *base), '--root')
    refused(command('maskmatch_train', '--data', data, '--root', tmp_path, *base), *words)
    assert not (tmp_path/'r').exists()


# -- presets and cost ---------------------------------------------------------------------------------------------------------

def test_every_preset_passes_a_dry_run():
    from maskmatch.config import PRESETS
    listed = ok(command('maskmatch_train', '--preset', 'list')).splitlines()[1:]
    assert [line.split()[0] for line in listed] == list(PRESETS)
    steps = {}
    for name, p in PRESETS.items():
        said = ok(command('maskmatch_train', '--preset', name, '--dry-run'))
        gib = float(said.splitlines()[-1].split()[0])
        assert f'--split {p.options["split"]}\n' in said and 'TFLOP a pair' in said and 'hours at an assumed' in said and abs(gib - p.gib) <= 0.5, said
        steps[name] = int(next(line for line in said.splitlines() if line.startswith('--steps')).split()[1])
    assert steps['voc_classic_92_r101'] == 52400 == steps['voc_classic_92_r101_fast'] and steps['cityscapes_cps_372_r101'] == 38880
    assert not Path('runs').joinpath('voc_classic_92_r101-0').exists()


def test_table5():
    said = ok(command('maskmatch_flops', '--table5'))
    for paper in (2058.41, 4844.49):
        ours = float(next(line for line in said.splitlines() if f'{paper}' in line).split(f'{paper}')[1].split()[0])
        assert abs(ours/paper - 1) < 0.005
    assert 'three scales' in said


def test_preset_errors(tmp_path):
    refused(command('maskmatch_train', '--preset', 'voc_clasic_92_r101'), 'voc_classic_92_r101')
    refused(command('maskmatch_train', '--preset', 'voc_classic_92_r101', '--dry-run', '--labeled', '3'), '--labeled 3')
    refused(command('maskmatch_flops'), '--table5')


# -- benchmarks run -----------------------------------------------------------------------------------------------------------

def test_benchmarks_run(tmp_path): # those of a step: notebook 16b
    said = ok(command('maskmatch_bench', '--loader', '--ohem', '--windows', '--boundary', '--quick', '--device', 'cpu', '--json', tmp_path/'b.json'))
    assert 'ratio' in said and list(json.loads((tmp_path/'b.json').read_text())['rows']) == ['loader', 'ohem', 'windows', 'boundary']
    refused(command('maskmatch_bench', '--repeats', '0'), '--repeats')
    refused(command('maskmatch_bench', '--step', '--batch', '0'), '--batch')
