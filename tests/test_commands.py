"The commands from end to end, in processes of their own: what they write, that they continue, and what they say to bad input."
import csv
import json
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
import numpy as np
import pytest
import torch
from PIL import Image
import trees
from commands import ENV, ROOT, command, ok, process, refused
from maskmatch.run import Run

CAMVID = ROOT.parent/'shared'/'data'/'camvid_240x180'
TINY = ['--steps', '6', '--every', '2', '--batch', '2', '--size', '32', '--evals', '2', '--device', 'cpu']


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp('runs')/'mm'
    return out, ok(process('maskmatch_train', *TINY, '--out', out))


def test_console_scripts_are_installed():
    scripts = {e.name: e.load() for e in metadata.entry_points(group='console_scripts') if e.value.startswith('maskmatch.')}
    assert set(scripts) >= {f'maskmatch_{k}' for k in 'bench check compare data eval export flops predict report suggest table train'.split()}
    for name in scripts: # where pip has put them
        assert (Path(sys.executable).parent/name).exists()
        assert scripts[name].__name__ == name
        p = command(name, '--help')
        assert p.returncode == 0 and ('usage: ' + name in p.stdout or f'{name} splits --help' in p.stdout)
    text = subprocess.run([Path(sys.executable).parent/'maskmatch_train', '--help'], capture_output=True, text=True).stdout
    for option in '--tau --p --gamma --scales --lambda1 --lambda2 --alpha --data --root --labeled --method --steps --size --batch --lr --seed --device --out --model --no-lcr --no-ms --preset --dry-run --split --splits --output-stride --weights --head-lr --epochs --eval --window'.split():
        assert re.search(rf'{option}(?![\w-])', text), option                             # --p is not --preset
    assert 'confidence threshold, Eq. 3' in text


def test_output_that_nobody_reads_to_the_end():
    code = "from maskmatch.flops import maskmatch_flops; maskmatch_flops()"
    p = subprocess.run(f'"{sys.executable}" -c "{code}" --table5 | head -1', shell=True, env=ENV | dict(PYTHONUNBUFFERED='1'), capture_output=True, text=True)
    assert p.stdout.startswith('GFLOPs') and p.stderr == '', p.stderr


def test_run_folder(run):
    out, printed = run
    assert {p.name for p in out.iterdir()} == {'config.json', 'data.json', 'environment.json', 'log.csv', 'speed.csv', 'threads.csv', 'metrics.json', 'last.pt', 'previous.pt', 'best.pt', '.lock', 'curves.png', 'predictions.png'}
    said = json.loads((out/'environment.json').read_text())['threads']
    assert said == '1, OMP_NUM_THREADS' and 'threads' not in printed                 # nothing is raced
    record = f'step,threads,cores,why\n0,1,{os.cpu_count()},OMP_NUM_THREADS\n'
    assert (out/'threads.csv').read_text() == record
    assert 'step 2' in printed and '\x1b' not in printed and '\r' not in printed                # plain lines where there is no terminal
    rows = list(csv.DictReader(open(out/'log.csv')))
    assert [r['step'] for r in rows] == ['2', '4', '6']
    assert {'step', 'lr', 'supervised', 'weak_to_strong', 'lcr', 'kept', 'accuracy', 'miou'} == set(rows[0])
    assert all(Image.open(out/f).size > (100, 100) for f in ('curves.png', 'predictions.png'))


def test_metrics(run):
    m = json.loads((run[0]/'metrics.json').read_text())
    assert list(m) == ['preset', 'method', 'data', 'note', 'labeled', 'unlabeled', 'seed', 'steps', 'seconds', 'pairs_per_s', 'teacher', 'student', 'best', 'last', 'last5', 'pseudo']
    assert (m['method'], m['data'], m['labeled'], m['unlabeled'], m['seed'], m['steps']) == ('maskmatch', 'shapes', 40, 800, 0, 6)
    for who in ('teacher', 'student'):
        known = [v for v in m[who]['iou'] if v is not None]
        assert len(m[who]['iou']) == 6 and abs(m[who]['miou'] - np.mean(known)) < 0.02 and 1 < m[who]['miou'] <= 100   # percent
    assert set(m['best']) == set(m['last']) == {'step', 'miou'} and set(m['pseudo']) == {'kept', 'accuracy'}
    seen = [float(r['miou']) for r in csv.DictReader(open(run[0]/'log.csv')) if r['miou']]
    assert m['last'] == dict(step=6, miou=m['teacher']['miou']) and abs(m['last5'] - np.mean(seen[-5:])) < 0.01 and abs(m['best']['miou'] - max(seen)) < 0.01


def test_eval_agrees_with_metrics_exactly(run):
    printed = ok(command('maskmatch_eval', run[0], '--student'))
    m = json.loads((run[0]/'metrics.json').read_text())
    table = [line.split() for line in printed.splitlines()][:8]
    assert table[-1] == ['mIoU', f"{m['teacher']['miou']:.2f}", f"{m['student']['miou']:.2f}"]
    assert [r[1:] for r in table[1:-1]] == [[f'{a:.2f}', f'{b:.2f}'] for a, b in zip(m['teacher']['iou'], m['student']['iou'])]


def test_same_seed_same_run_and_other_seed_another(run, tmp_path):
    for seed in (0, 1): ok(command('maskmatch_train', *TINY, '--seed', seed, '--out', tmp_path/str(seed)))
    weights = [torch.load(d/'last.pt', weights_only=True)['teacher'] for d in (run[0], tmp_path/'0', tmp_path/'1')]
    assert all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[1].values()))
    assert not all(torch.equal(a, b) for a, b in zip(weights[0].values(), weights[2].values()))


def test_a_run_that_stopped_goes_on_and_ends_the_same(run, tmp_path):
    def stop(self, name, state): # the process ends right after its first checkpoint
        save(self, name, state)
        if name == 'last.pt': raise SystemExit(7)
    save = Run.save
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, 'save', stop)
        assert command('maskmatch_train', *TINY, '--out', tmp_path/'r').returncode == 7
    assert not (tmp_path/'r'/'metrics.json').exists()
    printed = ok(command('maskmatch_train', *TINY, '--out', tmp_path/'r'))
    assert 'continues at step' in printed
    a, b = (torch.load(d/'last.pt', weights_only=True) for d in (run[0], tmp_path/'r'))
    for who in ('student', 'teacher'): assert all(torch.equal(v, b[who][k]) for k, v in a[who].items())
    assert (run[0]/'log.csv').read_bytes() == (tmp_path/'r'/'log.csv').read_bytes()


def test_ids_from_a_file_and_a_picture_to_compare_with(run, tmp_path):
    (tmp_path/'ids.txt').write_text('scene_0003\nscene_0005\n')
    ok(command('maskmatch_train', *TINY, '--labeled', tmp_path/'ids.txt', '--compare', run[0], '--out', tmp_path/'r'))
    assert json.loads((tmp_path/'r'/'metrics.json').read_text())['labeled'] == 2
    assert Image.open(tmp_path/'r'/'predictions.png').width > Image.open(run[0]/'predictions.png').width


# -- CamVid -------------------------------------------------------------------------------------------------------------------

@pytest.fixture
def camvid(tmp_path): return trees.camvid(tmp_path)


def camvid_train(root, out, *args): return command('maskmatch_train', '--data', 'camvid', '--root', root, '--labeled', '3', *TINY, '--out', out, *args)


def test_camvid_folder(camvid, tmp_path):
    ok(camvid_train(camvid, tmp_path/'r', '--val', 'test'))
    m = json.loads((tmp_path/'r'/'metrics.json').read_text())
    assert (m['labeled'], m['unlabeled'], len(m['teacher']['iou'])) == (3, 6, 11) and m['pseudo']['accuracy'] is None
    assert f"{m['teacher']['miou']:.2f}" in ok(command('maskmatch_eval', tmp_path/'r'))


@pytest.mark.parametrize('args', [['--method', 'suponly'], ['--method', 'meanteacher'], ['--method', 'fixmatch'], ['--method', 'cps+lcr'], ['--method', 'unimatch+lcr+ms'], ['--no-lcr'], ['--no-ms'], ['--sampler', 'block'],
                                  ['--sampler', 'grid'], ['--where', 'unmasked'], ['--norm', 'valid'], ['--bn', 'labeled,strong,masked'], ['--loss', 'ohem'], ['--amp', 'off'],
                                  ['--cutmix-p', '0'], ['--labeled', '1/3', '--unlabeled', 'all'], ['--labeled', '1', '--batch', '3']], ids=' '.join)
def test_methods_and_switches(args, camvid, tmp_path):
    tau = [] if args[-1] in ('suponly', 'meanteacher') else ['--tau', '0.2']                    # these have no threshold
    ok(camvid_train(camvid, tmp_path/'r', '--evals', '1', *tau, *args))
    config = json.loads((tmp_path/'r'/'config.json').read_text())
    name = args[0].removeprefix('--').replace('-', '_')
    assert (config[name.removeprefix('no_')] is False) if name.startswith('no_') else str(config[name]) in (args[1], args[1] + '.0')


def test_masks_of_unlabelled_frames_are_never_opened(camvid, tmp_path):
    (tmp_path/'ids.txt').write_text('f0\nf1\n')
    for i in range(2, 6): (camvid/'trainannot'/f'f{i}.png').write_bytes(b'not a picture')
    ok(camvid_train(camvid, tmp_path/'r', '--labeled', tmp_path/'ids.txt'))
    refused(camvid_train(camvid, tmp_path/'r2', '--labeled', '1/1'), 'cannot be read', out=tmp_path/'r2')


@pytest.mark.skipif(not CAMVID.exists(), reason='the real CamVid frames are not beside this checkout')
def test_real_camvid(tmp_path):
    ok(command('maskmatch_train', '--data', 'camvid', '--root', CAMVID, '--labeled', '1/8', '--model', 'small', '--steps', '4', '--every', '2', '--evals', '1', '--batch', '2', '--device', 'cpu', '--out', tmp_path/'r'))
    m = json.loads((tmp_path/'r'/'metrics.json').read_text())
    assert (m['labeled'], m['unlabeled']) == (46, 367)


# -- bad input ----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('args, words', [
    (['--data', 'shapse'], ['shapse', 'shapes']), (['--method', 'maskmach'], ['maskmach', 'maskmatch']), (['--model', 'smal'], ['smal']),
    (['--labeled', '0'], ['--labeled 0']), (['--labeled', '1/0'], ['1/0']), (['--labeled', 'none.txt'], ['none.txt']), (['--labeled', '9999'], ['840']),
    (['--tau', '1.5'], ['--tau 1.5', 'between 0 and 1']), (['--gamma', '-1'], ['--gamma']), (['--steps', '0'], ['--steps 0']), (['--scales', 'a,b'], ['--scales a,b']),
    (['--scales', '0.5,2'], ['--scales 0.5,2']), (['--lr', '0'], ['--lr']), (['--sampler', 'blok'], ['blok', 'block']), (['--bn', 'label'], ['label']),
    (['--data', 'camvid'], ['--root']), (['--data', 'camvid', '--root', 'nowhere'], ['nowhere']), (['--compare', 'nowhere'], ['nowhere']),
    (['--device', 'gpu'], ['gpu', 'cpu'])], ids=lambda v: ' '.join(v) if v and v[0].startswith('--') else '')
def test_bad_options(args, words, tmp_path):
    refused(command('maskmatch_train', *TINY, *args, '--out', tmp_path/'r'), *words, out=tmp_path/'r')


def test_unknown_option_and_wrong_type(tmp_path):
    for args in (['--taux', '1'], ['--tau', 'high']):
        p = command('maskmatch_train', *args, '--out', tmp_path/'r')
        assert p.returncode == 2 and 'Traceback' not in p.stderr and args[0] in p.stderr and not (tmp_path/'r').exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_no_gpu(tmp_path): refused(command('maskmatch_train', *TINY, '--device', 'cuda', '--out', tmp_path/'r'), '--device cuda', out=tmp_path/'r')


def test_labelled_image_without_mask(camvid, tmp_path):
    for f in (camvid/'trainannot').iterdir(): f.unlink()
    refused(camvid_train(camvid, tmp_path/'r'), 'has no mask', 'trainannot', out=tmp_path/'r')


def spoil(what, camvid):
    "Damage one file of the labelled set; returns its name and a word of the message."
    image, mask = camvid/'train'/'f0.jpg', camvid/'trainannot'/'f0.png'
    if what == 'size': Image.fromarray(np.zeros((10, 20), np.uint8)).save(mask); return mask, '20x10'
    if what == 'value': Image.fromarray(np.full((36, 48), 77, np.uint8)).save(mask); return mask, '77'
    if what == 'colour': Image.fromarray(np.zeros((36, 48, 3), np.uint8)).save(mask); return mask, 'one channel'
    if what == 'truncated': image.write_bytes(image.read_bytes()[:300]); return image, 'cannot be read'
    if what == 'empty': image.write_bytes(b''); return image, 'cannot be read'


@pytest.mark.parametrize('what', ['size', 'value', 'colour', 'truncated', 'empty'])
def test_bad_files(what, camvid, tmp_path):
    file, word = spoil(what, camvid)
    refused(camvid_train(camvid, tmp_path/'r', '--labeled', '6'), str(file), word, out=tmp_path/'r')


def test_unreadable_unlabelled_image_and_val_mask(camvid, tmp_path):
    (camvid/'valannot'/'f1.png').unlink()
    refused(camvid_train(camvid, tmp_path/'r'), 'valannot', out=tmp_path/'r')


def test_folder_of_another_run(run, tmp_path):
    refused(command('maskmatch_train', *TINY, '--tau', '0.5', '--out', run[0]), '--tau')
    (tmp_path/'full').mkdir()
    (tmp_path/'full'/'thesis.txt').write_text('mine')
    refused(command('maskmatch_train', *TINY, '--out', tmp_path/'full'), 'full')
    assert [p.name for p in (tmp_path/'full').iterdir()] == ['thesis.txt']
    refused(command('maskmatch_eval', tmp_path), 'config.json')


def test_loss_that_is_not_finite_names_term_and_step(tmp_path):
    p = command('maskmatch_train', *TINY, '--lr', '1e30', '--steps', '40', '--amp', 'off', '--out', tmp_path/'r')
    refused(p, 'supervised', 'step')


def test_a_checkpoint_cannot_run_code(run, tmp_path):
    shutil.copytree(run[0], tmp_path/'r')
    class Evil:
        def __reduce__(self): return Path.touch, (tmp_path/'owned',)
    torch.save(dict(teacher=Evil()), tmp_path/'r'/'last.pt')
    p = command('maskmatch_eval', tmp_path/'r')
    refused(p, 'last.pt')
    assert not (tmp_path/'owned').exists()
