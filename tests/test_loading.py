"Only what a step needs is opened; and statistics estimated anew at the end of a run are those of its last row, of its checkpoint and of whoever goes on."
import json
import subprocess
import sys
import pytest
import torch
import trees
from commands import ENV, command, ok
from maskmatch.config import Config, resolve
from maskmatch.metrics import evaluate, miou
from maskmatch.run import Run
from maskmatch.scores import config_of, find_data, how, network_of
from test_resume import BARE, TINY, assert_same_runs, same

COUNTED = """
import atexit, collections, json, sys
opened = collections.Counter()
def note(event, args):
    if event == 'open' and isinstance(args[0], (str, bytes)) or hasattr(args[0] if args else None, '__fspath__'): opened[str(args[0])] += 1
sys.addaudithook(note)
atexit.register(lambda: print('opened ' + json.dumps(opened)))
import maskmatch.train as t
if sys.argv.pop(1) == 'disk': t.remember = lambda pictures, **k: pictures      # as if the pictures did not fit into memory
t.maskmatch_train()
"""


@pytest.fixture(scope='module')
def frames(tmp_path_factory):
    "Options that name a data set of a few small frames, three of them labelled."
    return ['--data', 'camvid', '--root', str(trees.camvid(tmp_path_factory.mktemp('data'))), '--labeled', '3', '--unlabeled', 'rest', '--watch']


def decoded(frames, out, where, *options): # how often unlabelled pictures were opened, after their headers and their hashes
    own = TINY if 'fixmatch' in options else BARE
    p = subprocess.run([sys.executable, '-c', COUNTED, where, *own, *frames, *options, '--out', str(out)], env=ENV, capture_output=True, text=True)
    opened = json.loads(ok(p).split('opened ')[1])
    data = find_data(resolve(Config(data='camvid', root=frames[3], labeled='3', unlabeled='rest')))
    assert len(data.unlabeled) == 3 and all(opened[str(data.train.images[i])] > 1 for i in data.labeled)
    return sum(max(0, opened.get(str(data.train.images[i]), 0) - 2) for i in data.unlabeled)


@pytest.mark.parametrize('where', ['disk', 'memory'])
def test_labels_alone_open_no_other_picture(where, frames, tmp_path):
    assert decoded(frames, tmp_path/'r', where, '--method', 'suponly') == 0


def test_a_burn_in_opens_unlabelled_pictures_when_it_is_over(frames, tmp_path):
    "Twelve steps of two pictures."
    assert decoded(frames, tmp_path/'half', 'disk', '--method', 'fixmatch', '--burn-in', '0.5') == 6*2
    assert decoded(frames, tmp_path/'none', 'disk', '--method', 'fixmatch') == 12*2
    assert decoded(frames, tmp_path/'third', 'disk', '--method', 'stpp') == 8*2


# -- BatchNorm at the end of a run --------------------------------------------------------------------------------------------

def rows(folder): return [v.rsplit(',', 1) for v in (folder/'log.csv').read_text().splitlines()]


@pytest.mark.parametrize('method', ['suponly', 'fixmatch+lcr', 'cps'])
def test_recalibrated(method, frames, tmp_path):
    plain, again = ['--out', tmp_path/'plain'], ['--recalibrate', '3', '--out', tmp_path/'again']
    own = TINY if 'lcr' in method else BARE
    for args in (plain, again): ok(command('maskmatch_train', *own, *frames, '--method', method, *args))
    a, b = Run(tmp_path/'plain').load(), (run := Run(tmp_path/'again')).load()
    assert same(*({k: v for k, v in s.items() if k != 'teacher'} for s in (a, b)))                      # nothing else has changed
    moved = {k for k in a['teacher'] if not torch.equal(a['teacher'][k], b['teacher'][k])}
    norms = {k for k in a['teacher'] if 'running' in k or 'tracked' in k}
    assert moved == norms and all(v == 3 for k, v in b['teacher'].items() if 'tracked' in k)
    assert rows(tmp_path/'plain')[:-1] == rows(tmp_path/'again')[:-1]
    c = config_of(run, device='cpu')
    data = find_data(c)
    score = miou(evaluate(network_of(run, c, data), data.val, **how(c)))
    assert abs(run.rows[-1]['miou'] - score) < 1e-9
    held = json.loads((tmp_path/'again'/'metrics.json').read_text())
    assert held['teacher']['miou'] == round(score, 2) == held['last']['miou']
    ok(command('maskmatch_train', '--out', tmp_path/'again'))                                            # a finished run
    assert json.loads((tmp_path/'again'/'metrics.json').read_text())['teacher'] == held['teacher']
    assert same(Run(tmp_path/'again').load(), b)


@pytest.mark.parametrize('at', [3, 7])
def test_stopped_in_a_burn_in_or_after_it(at, frames, tmp_path):
    "The continuation loads, and recalibrates, as the run would have done that was not stopped."
    args = [*TINY, *frames, '--method', 'fixmatch', '--burn-in', '0.5', '--recalibrate', '3']
    ok(command('maskmatch_train', *args, '--out', tmp_path/'whole'))
    stopped = "import maskmatch.train as t\nfit = t.Learner.fit\ndef some(self, every, stop): yield from fit(self, every, lambda: self.t == STEP)\nt.Learner.fit = some\nt.maskmatch_train()"
    p = subprocess.run([sys.executable, '-c', stopped.replace('STEP', str(at)), *args, '--out', str(tmp_path/'broken')], env=ENV, capture_output=True, text=True)
    assert p.returncode == 143 and f'stopped at step {at} of 12' in p.stdout, p.stderr
    assert f'continues at step {at}' in ok(command('maskmatch_train', '--out', tmp_path/'broken'))
    assert_same_runs(tmp_path/'whole', tmp_path/'broken')
