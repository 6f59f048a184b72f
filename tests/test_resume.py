"A run that is killed, stopped, or meets trouble goes on, and ends as if nothing had happened."
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
import numpy as np
import pytest
import torch
import trees
from commands import ENV, ROOT, WITH_TWO_LAYERS, command, program

TINY = ['--steps', '12', '--every', '1', '--save', '0', '--batch', '2', '--size', '32', '--evals', '2', '--device', 'cpu', '--amp', 'off', '--tau', '0.2']
BARE = TINY[:-2]                                                                # for methods without a threshold


def start(*args, before=None, code="import maskmatch.train as t; t.maskmatch_train()", env=ENV):
    return subprocess.Popen([sys.executable, '-c', code, *map(str, args)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before)


def ended(p): # -> exit code, output, error stream
    out, err = p.communicate(timeout=300)
    assert 'Traceback' not in err, err
    return p.returncode, out, err


def train(*args, **kw):
    if kw: return ended(start(*args, **kw))
    p = command('maskmatch_train', *args)
    return p.returncode, p.stdout, p.stderr


def line(p, word): # wait until the process prints a line with the word
    for said in p.stdout:
        if word in said: return said
    raise AssertionError(p.stderr.read())


def same(a, b): # two states, bit for bit; the seconds they took apart
    if isinstance(a, dict): return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a if k != 'seconds')
    if isinstance(a, (list, tuple)): return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def assert_same_runs(a, b):
    for name in ('last.pt', 'best.pt'): assert same(*(torch.load(d/name, weights_only=True) for d in (a, b))), name
    assert (a/'log.csv').read_bytes() == (b/'log.csv').read_bytes()
    scores = [json.loads((d/'metrics.json').read_text()) for d in (a, b)]
    assert all(scores[0][k] == scores[1][k] for k in ('teacher', 'student', 'best', 'last5', 'pseudo', 'steps'))


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    "Options that name a data set of a few small frames."
    return ['--data', 'camvid', '--root', str(trees.camvid(tmp_path_factory.mktemp('data'))), '--labeled', '3', '--watch']


@pytest.fixture(scope='module')
def whole(frames, tmp_path_factory):
    "A run that nothing happened to."
    out = tmp_path_factory.mktemp('runs')/'whole'
    assert train(*TINY, *frames, '--out', out)[0] == 0
    return out


@pytest.fixture
def copied(whole, tmp_path): return Path(shutil.copytree(whole, tmp_path/'r'))


# -- killed -------------------------------------------------------------------------------------------------------------------

KILLED = ['', '--workers 2', '--method suponly', '--method meanteacher', '--method fixmatch', '--loss ohem --accumulate 2']


@pytest.fixture(scope='module')
def killed(frames, tmp_path_factory):
    "SIGKILL five times and once at the very start, also in the middle of writing a checkpoint."
    folder = tmp_path_factory.mktemp('killed')
    cases = {str(k): [*(BARE if options.endswith(('suponly', 'meanteacher')) else TINY), *frames, *options.split()] for k, options in enumerate(KILLED)}
    for k in cases: (folder/k).mkdir()
    p = subprocess.run([sys.executable, ROOT/'tests'/'killed.py', json.dumps(cases), folder, '7', '5'], env=ENV, capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    return {options: (folder/k, n) for options, (k, n) in zip(KILLED, json.loads(p.stdout).items())}


@pytest.mark.parametrize('options', KILLED)
def test_killed_at_random_moments(options, killed):
    "Weights, teacher, optimiser and log are those of the run that was left alone."
    folder, times = killed[options]
    assert times >= 3, 'it was hardly ever killed'                                  # a moment may come after the end
    assert 'continues at step' in (folder/'broken.said').read_text()
    assert_same_runs(folder/'whole', folder/'broken')


def test_finished_and_extended(copied):
    code, out, _ = train('--out', copied)                                            # no option but the folder: the run's own are taken
    assert code == 0 and 'is finished at step 12' in out and (copied/'metrics.json').exists()
    code, _, err = train('--out', copied, '--steps', '15', '--every', '2')
    assert code == 2 and 'holds a run with --every 1, not 2' in err
    code, out, _ = train('--out', copied, '--steps', '15')
    assert code == 0 and 'continues at step 12' in out
    assert [r['step'] for r in csv.DictReader(open(copied/'log.csv'))][-4:] == ['12', '13', '14', '15'] and json.loads((copied/'config.json').read_text())['steps'] == 15
    assert train('--out', copied, '--steps', '14')[0] == 2                           # longer, not shorter


# -- asked to stop ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('sent, code', [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop(sent, code, whole, frames, tmp_path):
    p = start(*TINY, *frames, '--save', '10', '--out', tmp_path/'r')
    line(p, 'step 2 ')
    p.send_signal(signal.SIGSTOP)                                                    # time stands still for it
    second = train(*TINY, *frames, '--out', tmp_path/'r')                                     # meanwhile nobody else may write there
    assert second[0] == 2 and 'another process trains in this folder' in second[2]
    p.send_signal(sent), p.send_signal(signal.SIGCONT)
    got, out, err = ended(p)
    assert got == code and out.splitlines()[-1].endswith(f"maskmatch_train --out {tmp_path/'r'} goes on from there.") and err == ''
    code, out, _ = train('--out', tmp_path/'r')
    assert code == 0 and 'continues at step' in out
    assert_same_runs(whole, tmp_path/'r')


# -- another number of threads ------------------------------------------------------------------------------------------------

UNSETTLED = {k: v for k, v in ENV.items() if k != 'OMP_NUM_THREADS'}
UNSETTLED['OMP_WAIT_POLICY'] = 'PASSIVE'                                              # quicker beside other tests
FREE = "import maskmatch.threads as s, maskmatch.train as t\ns.settled = lambda: ''\n"
AFTER = "s.quickest = lambda took: 1\n"
CHANGES = """
turn = iter([s.torch.get_num_threads(), 1, 1, 1, 1])                # what the races decide
s.ladder, s.quickest = lambda n: [n, 1], lambda took: next(turn)
def slow(self, seconds):
    self.steps = getattr(self, 'steps', 0) + 1
    return self.steps == 40
s.Pace.slow = slow
s.Threads.rest = property(lambda self: 0., lambda self, v: None) # a race may follow at once
"""


@pytest.mark.skipif(os.cpu_count() < 2, reason='one core has one thread')
def test_change_of_threads_comes_again_at_its_step(frames, tmp_path):
    "Killed after the change and taken up from before it: the same bits as a run left alone."
    args = [*BARE, *frames, *'--method suponly --steps 100 --evals 4 --save 10 --out'.split()]
    def run(name, code):
        return start(*args, tmp_path/name, code=FREE + code + 't.maskmatch_train()', env=UNSETTLED)
    def threads(name):
        rows = csv.DictReader(open(tmp_path/name/'threads.csv'))
        return [(r['step'], r['threads']) for r in rows]
    def last(name): return torch.load(tmp_path/name/'last.pt', weights_only=True)
    code, said, _ = ended(run('whole', CHANGES))
    assert code == 0 and 'from step 40 on, by a race (' in said
    assert threads('whole')[1:] == [('40', '1')]
    p = run('broken', CHANGES)
    line(p, 'step 45 ')
    p.kill(), p.communicate()
    assert last('broken')['t'] == 25
    code, said, _ = ended(run('broken', AFTER))
    assert code == 0 and 'continues at step 25' in said and 'race' not in said
    assert threads('broken') == threads('whole')
    assert_same_runs(tmp_path/'whole', tmp_path/'broken')
    many = ['--threads', threads('whole')[0][1]]
    assert ended(start(*args, tmp_path/'many', *many, env=UNSETTLED))[0] == 0
    logs = [(tmp_path/k/'log.csv').read_text().splitlines() for k in ('whole', 'many')]
    assert logs[0][:41] == logs[1][:41] and not same(last('whole'), last('many'))


# -- trouble with files -------------------------------------------------------------------------------------------------------

def test_disk_full_while_saving(whole, copied):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, ((copied/'last.pt').stat().st_size//2,)*2)
    held = (copied/'last.pt').read_bytes()
    code, _, err = train('--out', copied, '--steps', '16', before=limit)
    assert code == 2 and err.count('\n') == 1 and 'cannot be written (File too large), and is as it was before' in err and 'goes on' in err
    assert (copied/'last.pt').read_bytes() == held and not list(copied.glob('*.part'))
    assert train('--out', copied)[0] == 0 and torch.load(copied/'last.pt', weights_only=True)['t'] == 16


class Evil:
    def __init__(self, path): self.path = path
    def __reduce__(self): return Path.touch, (self.path,)


@pytest.mark.parametrize('how', ['truncated', 'garbage', 'evil', 'gone'])
def test_damaged_checkpoint_falls_back_to_the_one_before(how, whole, copied, tmp_path):
    last = copied/'last.pt'
    if how == 'truncated': last.write_bytes(last.read_bytes()[:5000])
    if how == 'garbage': last.write_bytes(np.random.default_rng(0).bytes(5000))
    if how == 'evil': torch.save(dict(t=12, student=Evil(tmp_path/'owned')), last)
    if how == 'gone': last.unlink()
    code, out, err = train('--out', copied)
    assert code == 0 and err.count('\n') == 1 and err.startswith('Warning: ') and 'last.pt' in err and 'Using previous.pt, of step 11' in err and 'continues at step 11' in out
    assert not (tmp_path/'owned').exists()
    assert_same_runs(whole, copied)


def test_two_damaged_checkpoints_are_refused(copied, tmp_path):
    for name in ('last.pt', 'previous.pt'): torch.save(dict(t=12, student=Evil(tmp_path/'owned')), copied/name)
    code, _, err = train('--out', copied)
    assert code == 2 and 'previous.pt: is not a checkpoint that can be loaded safely' in err and not (tmp_path/'owned').exists()


def test_read_only_folder(tmp_path):
    (tmp_path/'ro').mkdir(mode=0o555)
    held = tmp_path/'ro' if os.getuid() else Path('/proc')                           # root may write anywhere but there
    code, _, err = train(*TINY, '--out', held/'maskmatch-run')
    assert code == 2 and err.count('\n') == 1 and 'maskmatch-run: cannot be written (' in err and 'choose another --out' in err and not (held/'maskmatch-run').exists()


# -- trouble with data, loaders and losses ------------------------------------------------------------------------------------

ON_DISK = "import maskmatch.train as t; t.remember = lambda pictures, **k: pictures; t.maskmatch_train()"      # as if the pictures did not fit into memory


@pytest.mark.parametrize('workers', [0, 2])
def test_picture_that_turns_unreadable(workers, frames, tmp_path):
    p = start(*TINY, *frames, '--steps', '80', '--save', '10', '--workers', workers, '--out', tmp_path/'r', code=ON_DISK)    # nothing is saved before the trouble
    line(p, 'step 2 ')
    held = {f: f.read_bytes() for f in Path(frames[3], 'train').iterdir()}
    for f in held: f.write_bytes(b'not a picture any more')
    code, _, err = ended(p)
    for f, data in held.items(): f.write_bytes(data)
    assert code == 2 and err.count('\n') == 1 and str(Path(frames[3], 'train', 'f')) in err and 'cannot be read as an image' in err and 'goes on' in err
    done = torch.load(tmp_path/'r'/'last.pt', weights_only=True)['t']
    code, out, _ = train(*TINY, *frames, '--steps', '80', '--save', '10', '--out', tmp_path/'r')
    assert code == 0 and f'continues at step {done}' in out


def test_evaluation_that_fails_loses_no_row(whole, frames, tmp_path):
    second = ("import maskmatch.train as t\nseen, real = [], t.evaluate\n"
              "def evaluate(*args, **kw):\n    seen.append(1)\n    if len(seen) == 2: raise t.BadInput('f1.png: cannot be read as an image.')\n    return real(*args, **kw)\n"
              "t.evaluate = evaluate; t.maskmatch_train()")
    code, _, err = train(*TINY, *frames, '--save', '10', '--out', tmp_path/'r', code=second)
    assert code == 2 and 'f1.png: cannot be read as an image. Then' in err
    code, out, _ = train('--out', tmp_path/'r', '--save', '0')
    assert code == 0 and 'continues at step 6' in out
    assert_same_runs(whole, tmp_path/'r')


def test_loader_that_is_killed(frames, tmp_path):
    p = start(*TINY, *frames, '--steps', '400', '--workers', '2', '--out', tmp_path/'r')
    line(p, 'step 2 ')
    children = Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text().split()
    assert len(children) == 2                                                        # as many as were asked for, in all
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = p.communicate(timeout=300)
    said = [v for v in err.splitlines() if v.startswith('maskmatch_train: ')]           # Python may note beside it that a lost process could not be cleaned up
    assert p.returncode == 2 and len(said) == 1 and 'a loader process was ended from outside' in said[0] and '--workers' in said[0] and 'goes on' in said[0], err
    assert not any(Path(f'/proc/{c}').exists() for c in children)
    p = start('--out', tmp_path/'r')
    assert 'continues at step' in line(p, 'continues')
    p.terminate(), ended(p)


def test_loss_that_is_not_finite_keeps_the_last_good_checkpoint(frames, tmp_path):
    code, _, err = train(*BARE, *frames, '--method', 'suponly', '--lr', '1e20', '--steps', '60', '--out', tmp_path/'r')
    assert code == 2 and err.count('\n') == 1 and 'supervised: the loss is not finite at step' in err
    step, held = int(err.split('at step ')[1].split(';')[0]), torch.load(tmp_path/'r'/'last.pt', weights_only=True)
    assert held['t'] == step - 1 and [r['step'] for r in held['rows']][-1] == step - 1


# -- for a long time ----------------------------------------------------------------------------------------------------------

def test_two_thousand_steps_neither_grow_nor_leave_anything_behind(tmp_path):
    p = start('--model', 'two', '--steps', '2000', '--every', '50', '--batch', '2', '--size', '16', '--p', '4', '--evals', '1', '--workers', '1', '--device', 'cpu', '--save', '0', '--out', tmp_path/'r', code=WITH_TWO_LAYERS + program('maskmatch_train'))
    resident = lambda: int(next(x for x in Path(f'/proc/{p.pid}/status').read_text().splitlines() if x.startswith('VmRSS')).split()[1])
    files = lambda: sorted(len(os.listdir(f'/proc/{p.pid}/fd')) for _ in range(25) if not time.sleep(.02))   # a batch may just be handed over, a checkpoint written
    line(p, 'step 200 ')
    before = resident(), files()
    line(p, 'step 1950 ')
    after, children = (resident(), files()), Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text().split()
    assert ended(p)[0] == 0
    assert after[0] < 1.05*before[0] and after[1][0] <= before[1][12], (before, after)     # the fewest then, what was usual before
    assert len(children) == 1                                                        # as many as were asked for
    time.sleep(.5)
    assert not any(Path(f'/proc/{c}').exists() for c in children)
