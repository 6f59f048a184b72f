"Two processes with half a batch each do what one does with the whole: by PyTorch's launcher, over gloo, on the CPU."
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
ENV = os.environ | dict(PYTHONPATH=str(ROOT))
TORCHRUN = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2']
TINY = ['--steps', '30', '--every', '1', '--save', '0', '--batch', '4', '--size', '32', '--evals', '2', '--device', 'cpu']


def jobs(n, folder, todos): # `todos` and what is returned: name -> dict
    "All of them by one launch of `n` processes."
    folder.mkdir(exist_ok=True)
    args = [str(ROOT/'tests'/'shared_job.py'), json.dumps(todos), str(folder)]
    for _ in range(2):
        p = subprocess.run([*TORCHRUN, *args] if n == 2 else [sys.executable, *args], env=ENV, capture_output=True, text=True)
        if 'terminate called without an active exception' not in p.stderr: break       # gloo's threads at the interpreter's end, once in hundreds: pytorch/pytorch#179291
    assert p.returncode == 0, p.stderr
    done = {name: torch.load(folder/f'{name}.pt', weights_only=True) for name in todos}
    assert all(v['world'] == n for v in done.values())
    return done


def apart(a, b): # largest difference of weights, teacher and log
    tensors = lambda s: [*s['student'].values(), *s['teacher'].values()]
    momentum = lambda s: torch.cat([v['momentum_buffer'].flatten() for v in s['opt']['state'].values()])
    gap = max((x.double() - y.double()).abs().max().item() for x, y in zip(tensors(a['state']), tensors(b['state']), strict=True))
    m, n = momentum(a['state']), momentum(b['state'])
    assert [r.keys() for r in a['rows']] == [r.keys() for r in b['rows']]
    assert (m - n).abs().max() < 1e-3*m.abs().max()                                      # a gradient is a sum of many small numbers
    return max([gap, *(abs(r[k] - q[k]) for r, q in zip(a['rows'], b['rows']) for k in r)])


PLAIN = dict(method='maskmatch', terms=dict(tau=.2))
TODOS = dict(maskmatch=PLAIN, options=dict(method='maskmatch', terms=dict(tau=.2, norm='valid', loss='ohem', sampler='block', min_kept=.3), options=dict(accumulate=2)), meanteacher=dict(method='meanteacher', options=dict(recompute=True)))
BN = dict(method='maskmatch', bn=True)


@pytest.fixture(scope='module')
def one(tmp_path_factory): return jobs(1, tmp_path_factory.mktemp('one'), TODOS)


@pytest.fixture(scope='module')
def two(tmp_path_factory): return jobs(2, tmp_path_factory.mktemp('two'), TODOS | dict(half=PLAIN | dict(stop=4), bn=BN, recompute=BN | dict(options=dict(recompute=True)), anew=dict(method='fixmatch', bn=True, recalibrate=3)))     # 4: between two rows of the log


@pytest.mark.parametrize('name', TODOS)
def test_two_processes_are_one(name, one, two):
    a, b = one[name], two[name]
    assert apart(a, b) <= 1e-5 and len(a['rows']) == 4
    assert name == 'meanteacher' or a['rows'][-1]['kept'] > .05                          # the unlabelled losses had something to say
    assert torch.equal(a['cm'], b['cm']) and a['cm'].sum() == 37*64*64


def test_two_begin_and_one_goes_on(one, two, tmp_path):
    assert two['half']['state']['t'] == 4
    rest = jobs(1, tmp_path, dict(rest=PLAIN | dict(start=save(two['half']['state'], tmp_path))))['rest']
    whole = one['maskmatch']
    assert apart(dict(state=whole['state'], rows=whole['rows'][1:]), rest) <= 1e-5


def test_batchnorm_keeps_one_network(two, tmp_path):
    "Each process normalises with its own pictures, yet weights and running statistics stay the same everywhere: teachers evaluated in shards agree with the one in the file."
    again = jobs(1, tmp_path, dict(bn=dict(method='maskmatch', bn=True, start=save(two['bn']['state'], tmp_path), stop=12)))['bn']
    assert torch.equal(again['teacher'], two['bn']['teacher'])


def test_recomputing_changes_nothing_in_two_processes(two):
    "Each normalises with its own pictures, the second time as the first."
    a, b = (two[k]['state'] for k in ('bn', 'recompute'))
    assert a['student'].keys() == b['student'].keys()
    for k, v in a['student'].items(): assert torch.equal(v, b['student'][k]), k
    assert two['bn']['rows'] == two['recompute']['rows']


def test_statistics_estimated_anew_are_the_same_in_any_number_of_processes(two, tmp_path):
    "Each process looks at the whole batches, and comes to what one process comes to."
    alone = jobs(1, tmp_path, dict(anew=dict(method='fixmatch', bn=True, recalibrate=3, start=save(two['anew']['state'], tmp_path))))['anew']
    was, a, b = two['anew']['state']['teacher'], alone['anew'], two['anew']['anew']
    assert all(torch.equal(a[k], b[k]) for k in a) and not all(torch.equal(a[k], was[k]) for k in a)


def save(state, folder):
    torch.save(state, folder/'state')
    return str(folder/'state')


# -- the command --------------------------------------------------------------------------------------------------------------

def begin(*args): return subprocess.Popen([*TORCHRUN, '-m', 'maskmatch.train', *map(str, args)], env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def until(p, word):
    for said in p.stdout:
        if word in said: return said
    raise AssertionError(p.stderr.read())


def alone(*args): return subprocess.run([sys.executable, '-m', 'maskmatch.train', *map(str, args)], env=ENV, capture_output=True, text=True)


def workers(p): # the launcher's children
    return [int(c) for c in Path(f'/proc/{p.pid}/task/{p.pid}/children').read_text().split() if b'maskmatch.train' in Path(f'/proc/{c}/cmdline').read_bytes()]


def test_a_process_that_dies_ends_the_job_and_another_number_goes_on(tmp_path):
    p = begin(*TINY, '--out', tmp_path/'r')
    assert ', 2 processes, ' in until(p, 'labelled and')
    until(p, 'step 3 ')
    ranks = {c: Path(f'/proc/{c}/environ').read_bytes() for c in workers(p)}
    assert len(ranks) == 2
    os.kill(next(c for c, env in ranks.items() if b'\0RANK=1\0' in b'\0' + env), signal.SIGKILL)
    out, err = p.communicate(timeout=120)
    assert p.returncode != 0 and 'SIGKILL' in err
    assert not any(Path(f'/proc/{c}').exists() for c in ranks)
    q = alone('--out', tmp_path/'r')                                                     # one process, same batch
    assert q.returncode == 0 and 'continues at step' in q.stdout and (tmp_path/'r'/'metrics.json').exists(), q.stderr


def test_stopped_together(tmp_path):
    p = begin(*TINY, '--steps', '4000', '--save', '10', '--out', tmp_path/'r')
    until(p, 'step 3 ')
    os.kill(p.pid, signal.SIGTERM)                                                       # the launcher hands it on
    out, err = p.communicate(timeout=120)
    assert p.returncode != 0 and f"maskmatch_train --out {tmp_path/'r'} goes on from there." in out, (out, err)
    assert torch.load(tmp_path/'r'/'last.pt', weights_only=True)['t'] >= 3


def test_loader_processes_share_the_machine(tmp_path):
    "However many are asked for, the processes of a machine do not start more of them than it has processors, but one each."
    p = begin(*TINY, '--steps', '4000', '--workers', '64', '--out', tmp_path/'r')
    until(p, 'step 3 ')
    children = [len(Path(f'/proc/{c}/task/{c}/children').read_text().split()) for c in workers(p)]
    os.kill(p.pid, signal.SIGTERM)
    p.communicate(timeout=120)
    assert children == [max(1, os.cpu_count()//2)]*2


def test_a_batch_that_cannot_be_shared(tmp_path):
    p = begin(*TINY, '--batch', '3', '--out', tmp_path/'r')
    out, err = p.communicate(timeout=120)
    assert p.returncode != 0 and '--batch 3: 2 processes share a batch; give a multiple of 2.' in err
