"Which pictures, from where: splits that are evaluated, folders called as data sets, and text files in other encodings."
import json
import shutil
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
import trees
from commands import command, ok, process, refused
from maskmatch.datasets import DATA
from maskmatch.notation import BadInput
from maskmatch.shapes import scenes

MINI = '--model small --size 32 --batch 2 --steps 1 --evals 1 --device cpu --amp off'.split()
WINDOWS = dict(PYTHONUTF8='0', PYTHONCOERCECLOCALE='0', LC_ALL='C', LANG='C')    # as where the locale's encoding is not UTF-8


# -- what is evaluated is not trained on --------------------------------------------------------------------------------------

def names(kind, n): return [f'{kind}_{i:06d}' for i in range(n)]


def test_voc_trains_on_nothing_that_is_evaluated(tmp_path):
    base = trees.voc(tmp_path, names('train', 4), names('val', 2), names('sbd', 3))
    lists = base/'ImageSets'/'Segmentation'
    lists.joinpath('test.txt').write_text('\n'.join(['sbd_000000', 'train_000001']))
    lists.joinpath('train_aug.txt').write_text('\n'.join([*names('train', 4), *names('sbd', 3), 'val_000001']))
    shutil.copy(base/'SegmentationClassAug'/'sbd_000000.png', base/'SegmentationClass')
    val, test = (DATA['voc'].load(tmp_path, v) for v in ('val', 'test'))
    assert test.val.ids == ('sbd_000000', 'train_000001') and val.val.ids == tuple(names('val', 2))
    assert val.train.ids == test.train.ids == ('sbd_000001', 'sbd_000002', 'train_000000', 'train_000002', 'train_000003')
    lists.joinpath('more.txt').write_text('train_000003')
    assert 'train_000003' not in DATA['voc'].load(tmp_path, 'more').train.ids    # whatever is evaluated


def test_a_picture_in_two_splits_is_refused(tmp_path):
    root = trees.camvid(tmp_path)                                                # other pictures of the same names are no fault
    DATA['camvid'].load(root)
    shutil.copy(root/'test'/'f1.png', root/'train'/'f1.png')
    for val in ('val', 'test'):                                                  # the training pictures are the same, whatever is evaluated
        with pytest.raises(BadInput, match='f1.png: would be trained on and evaluated'): DATA['camvid'].load(root, val)
    ids = [f'aachen_{i:06d}_000019' for i in range(3)]
    with pytest.raises(BadInput, match=f'{ids[0]}_leftImg8bit.png: would be trained on'): DATA['cityscapes'].load(trees.cityscapes(tmp_path/'c', ids, ids[:1]))


@pytest.fixture
def pictures(tmp_path): # a folder of one's own
    x, y = scenes(8, 0, 48)
    for i in range(8):
        for kind, array in (('images', x[i]), ('masks', y[i])):
            (tmp_path/'own'/kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.asarray(array)).save(tmp_path/'own'/kind/f'p{i}.png')
    return tmp_path/'own'


@pytest.mark.parametrize('way', [[], ['--dry-run']])
def test_what_has_no_test_split_says_so(way, pictures, tmp_path):
    city = trees.cityscapes(tmp_path/'c', ['aachen_0_0'], ['aachen_1_0'])
    for data in (['shapes'], [pictures], ['cityscapes', '--root', city]):
        refused(command('maskmatch_train', '--data', *data, '--labeled', '1', *MINI, '--val', 'test', '--out', tmp_path/'r', *way), '--val test', 'camvid and voc have a test split', out=tmp_path/'r')


def test_val_test_of_a_run_without_one(tmp_path):
    ok(command('maskmatch_train', *MINI, '--out', tmp_path/'r'))
    for call in (['maskmatch_eval', tmp_path/'r'], ['maskmatch_report', tmp_path/'r'], ['maskmatch_compare', tmp_path/'r', tmp_path/'r', '--out', tmp_path/'c.html']):
        refused(command(*call, '--val', 'test'), '--val test')
    refused(command('maskmatch_table', '7', '--also', 'val=test', '--out', tmp_path/'t'), '--val test', out=tmp_path/'t')


# -- a name or a folder -------------------------------------------------------------------------------------------------------

def test_folder_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for call in (['maskmatch_train'], ['maskmatch_train', '--dry-run'], ['maskmatch_data', 'make-split'], ['maskmatch_table', '7', '--plan']):
        refused(command(*call, '--data', 'folder'), '--data folder', '--root DIR', out=tmp_path/'runs')


def test_a_folder_that_is_called_as_a_data_set(pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pictures.rename('shapes')
    first = lambda p: ok(p).splitlines()[0]
    for call in (['maskmatch_train', *MINI], ['maskmatch_train', '--dry-run'], ['maskmatch_data', 'make-split', '--labeled', '40'], ['maskmatch_table', '7', '--plan', '--seeds', '1']):
        assert first(command(*call, '--data', 'shapes')) == '--data shapes is the data set of that name, not the folder shapes that is here; --data ./shapes is the folder.'
    assert '--data ./shapes' in first(command('maskmatch_train', '--out', 'runs/shapes-maskmatch-0'))
    said = ok(command('maskmatch_train', *MINI, '--data', './shapes'))
    assert 'is the data set of that name' not in said and '8 pictures, 8 with masks' in said
    assert sorted(p.name for p in Path('runs').iterdir()) == ['shapes-folder-maskmatch-0', 'shapes-maskmatch-0']
    built_in, own = (json.loads(Path('runs', v, 'config.json').read_text()) for v in ('shapes-maskmatch-0', 'shapes-folder-maskmatch-0'))
    assert (built_in['data'], built_in['root'], own['data'], own['root']) == ('shapes', None, 'folder', './shapes')
    for name in ('shapes-maskmatch-0', 'shapes-folder-maskmatch-0'): ok(command('maskmatch_eval', Path('runs', name)))
    assert 'runs/tables-shapes-folder/suponly-all-0' in ok(command('maskmatch_table', '7', '--data', './shapes', '--also', 'model=small size=32', '--plan', '--seeds', '1'))
    assert 'shapes-folder_6_0.txt: 6 of 6' in ok(command('maskmatch_data', 'make-split', '--data', './shapes', '--labeled', '6'))
    assert 'is the data set of' not in first(command('maskmatch_train', '--data', 'camvid', '--root', trees.camvid(tmp_path), '--labeled', '2', *MINI, '--out', 'r'))


def test_a_number_is_a_number_also_where_a_file_is_called_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('2').write_text('scene_0000\nscene_0001\nscene_0002\n')
    for labeled, n in (('2', 2), ('./2', 3)):
        ok(command('maskmatch_train', *MINI, '--labeled', labeled, '--out', f'r{n}'))
        assert json.loads(Path(f'r{n}', 'metrics.json').read_text())['labeled'] == n


# -- text files ---------------------------------------------------------------------------------------------------------------

def test_a_list_in_another_encoding_is_one_sentence(pictures, tmp_path):
    file = tmp_path/'list.txt'
    for text in ('scene_0000\nK\xf6ln\n'.encode('latin-1'), 'scene_0000\n'.encode('utf-16'), 'scene_0000\n'.encode('utf-16-le')):
        file.write_bytes(text)
        refused(command('maskmatch_train', *MINI, '--labeled', file, '--out', tmp_path/'r'), file, 'UTF-8', out=tmp_path/'r')
        refused(command('maskmatch_train', *MINI, '--data', pictures, '--labeled', file, '--out', tmp_path/'r'), file, 'UTF-8', out=tmp_path/'r')
        for name in ('val.txt', 'classes.txt'):
            (pictures/name).write_bytes(text)
            refused(command('maskmatch_train', *MINI, '--data', pictures, '--out', tmp_path/'r'), name, 'UTF-8', out=tmp_path/'r')
            (pictures/name).unlink()
    base = trees.voc(tmp_path, names('a', 3), names('val', 1))
    for name in ('val', 'train_aug', 'test'):
        lists = base/'ImageSets'/'Segmentation'/f'{name}.txt'
        before = lists.read_bytes() if lists.exists() else None
        lists.write_bytes('K\xf6ln'.encode('latin-1'))
        refused(command('maskmatch_train', *MINI, '--data', 'voc', '--root', base, '--labeled', '1', '--out', tmp_path/'r'), f'{name}.txt', 'UTF-8')
        lists.unlink() if before is None else lists.write_bytes(before)
    (tmp_path/'splits'/'voc'/'classic').mkdir(parents=True)
    (tmp_path/'splits'/'voc'/'classic'/'92.txt').write_bytes('K\xf6ln'.encode('latin-1'))
    assert 'classic/92.txt: is not text in UTF-8' in command('maskmatch_data', 'splits', '--splits', tmp_path/'splits').stdout


def test_a_list_with_a_mark_at_its_head(pictures, tmp_path):
    (pictures/'val.txt').write_text('p1\n', encoding='utf-8-sig')
    (pictures/'classes.txt').write_text('Stra\xdfe\nb\nc\nd\ne\nf\n', encoding='utf-8-sig')
    (tmp_path/'list.txt').write_text('p0\np2\n', encoding='utf-8-sig')
    ok(command('maskmatch_train', *MINI, '--data', pictures, '--labeled', tmp_path/'list.txt', '--out', tmp_path/'r'))
    assert json.loads((tmp_path/'r'/'metrics.json').read_text(encoding='utf-8'))['labeled'] == 2
    assert json.loads((tmp_path/'r'/'data.json').read_text(encoding='utf-8'))['classes'][0] == 'Stra\xdfe'


def test_another_locale_reads_and_writes_the_same(pictures, tmp_path):
    (pictures/'classes.txt').write_bytes('Stra\xdfe\nb\nc\nd\ne\nf\n'.encode())
    (pictures/'val.txt').write_bytes(b'p1\np2\n')
    env, out = WINDOWS, tmp_path/'r'
    said = ok(process('maskmatch_train', *MINI, '--data', pictures, '--out', out, env=env))
    assert json.loads((out/'data.json').read_bytes())['classes'][0] == 'Stra\xdfe' and '2 validate' in said
    assert 'Stra\\xdfe' in ok(process('maskmatch_eval', out, env=env))            # what the terminal cannot show
    ok(process('maskmatch_report', out, env=env))
    assert 'Stra\xdfe' in (out/'report.html').read_bytes().decode()
    (tmp_path/'list.txt').write_bytes('p0\nK\xf6ln\n'.encode('latin-1'))
    refused(process('maskmatch_train', *MINI, '--data', pictures, '--labeled', tmp_path/'list.txt', '--out', tmp_path/'r2', env=env), 'list.txt', 'UTF-8', out=tmp_path/'r2')
