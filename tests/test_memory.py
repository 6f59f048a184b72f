"What a step and an evaluation need: the exact way to save memory, slices, estimates for the machine at hand, and pictures that are evaluated few at a time."
import subprocess
import sys
from copy import deepcopy
import pytest
import torch
from torch import nn
from commands import ENV, ROOT
from maskmatch.config import Config, resolve
from maskmatch.data import Pictures
from maskmatch.flops import estimate, fitted
from maskmatch.metrics import VALUES, evaluate, predictions
from maskmatch.methods import METHODS, terms_of
from maskmatch.model import make_model
from maskmatch.notation import BadInput, rng
from maskmatch.objective import Step, backward
from maskmatch.run import MOVES
from maskmatch.teacher import make_teacher
from maskmatch.train import rescued


def trained(method, model='small', batch=4, size=48, **options): # gradient, state and losses of a step
    def new(k): return make_model(model, 6, k)
    net, g = new(0), rng(0, 'pictures')
    every = nn.ModuleList([net, *terms_of(new=new, method=method, tau=.1, p=8)])
    x, u = (torch.randint(256, (batch, 3, size, size), generator=g).byte() for _ in range(2))
    y = torch.randint(6, (batch, size, size), generator=g)
    step = Step(net, make_teacher(net), x, y, u, u[:, 0] >= 0, t=8, steps=9, **options)
    losses = backward(list(every)[1:], step)
    grad = torch.cat([p.grad.flatten() for p in every.parameters() if p.grad is not None])
    return grad, every.state_dict(), losses


def same(a, b):
    grads, states, losses = zip(a, b)
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    return torch.equal(*grads) and losses[0].items() == losses[1].items()


@pytest.mark.parametrize('method', [*METHODS, 'fixmatch+ir'])
def test_recomputing_changes_no_method(method):
    "The whole batch, running statistics and their count too, bit for bit; and in slices."
    plain = trained(method)
    assert same(trained(method, recompute=True), plain)
    slices = trained(method, slices=2)
    assert same(trained(method, slices=2, recompute=True), slices)
    assert not torch.equal(slices[0], plain[0])                                  # every term obeys: BatchNorm sees half


class Alive(torch.autograd.graph.saved_tensors_hooks):
    "The most bytes that were held for a backward pass at a time."
    def __init__(self):
        self.now = self.peak = 0
        super().__init__(lambda t: Held(self, t), lambda held: held.t)


class Held:
    def __init__(self, book, t):
        self.book, self.t = book, t
        book.now += t.nbytes
        book.peak = max(book.peak, book.now)

    def __del__(self): self.book.now -= self.t.nbytes


@pytest.mark.parametrize('method', ['unimatch', 'psmt', 'u2pl', 'cps', 'fixmatch+ir'])
@pytest.mark.parametrize('options', [dict(recompute=True), dict(slices=4)])
def test_no_pass_keeps_everything(method, options):
    "Each loss of each term needs much less than without; a pass past `Step.passing` would not."
    def kept(**options):
        def new(k): return make_model('small', 6, k)
        net, x = new(0), torch.zeros(4, 3, 48, 48).byte()
        terms = terms_of(new=new, method=method, tau=.1)
        step = Step(net, make_teacher(net), x, x[:, 0].long(), x, x[:, 0] >= 0, t=8, steps=9, **options)
        sizes = []
        for losses in (term(step) for term in terms):
            while True:
                book = Alive()
                with book: loss = next(losses, None)
                if loss is None: break
                sizes.append(book.peak)
                loss.backward()
        return sizes
    few, all_of_it = kept(**options), kept()
    assert len(few) == len(all_of_it) and all(a < .62*b for a, b in zip(few, all_of_it)), (few, all_of_it)


def test_running_statistics_move_as_far_in_slices():
    "Slices that are alike: what the batch leaves of the old mean, N slices leave; before, 0.9 was 0.9**4."
    net, pictures = make_model('small', 6), torch.zeros(8, 3, 48, 48).byte()
    def mean(slices):
        own = deepcopy(net)
        step = Step(own, own, pictures, pictures[:, 0].long(), pictures, pictures[:, 0] >= 0, slices=slices)
        step.student(step.x, 'labeled')
        return own.state_dict()['backbone.early.0.1.running_mean']
    assert mean(1).norm() > 1e-3
    for n in (2, 3, 4, 8): assert torch.allclose(mean(n), mean(1), rtol=1e-4)


def memory(**options): return estimate(resolve(Config(**options)))['gib']


def test_max_memory_chooses_what_changes_nothing():
    def of(**options): return fitted(resolve(Config(amp='off', **options)))
    need, less = memory(amp='off'), memory(amp='off', recompute=True)
    assert less < .7*need
    assert (of(max_memory=need + 1e-6).recompute, of(max_memory=need - 1e-6).recompute) == (False, True)
    assert of(max_memory=less + 1e-6).accumulate == 1 and of(accumulate=2, max_memory=.02).accumulate == 2
    for options, words in (dict(), 'even with --recompute'), (dict(compile=True), '--compile'):
        with pytest.raises(BadInput, match=words) as e: of(max_memory=less - 1e-4, **options)
        assert '--accumulate N, which is another method' in str(e.value)
    with pytest.raises(BadInput, match='--recompute'): of(recompute=True, compile=True)
    assert 'recompute' in MOVES and 'max_memory' in MOVES and 'accumulate' not in MOVES


@pytest.mark.parametrize('has', [False, True])
def test_half_precision_is_counted_where_it_is(monkeypatch, has):
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: has)
    auto, full, half = (memory(device='cpu', amp=k) for k in ('auto', 'off', 'bf16'))
    assert half < .75*full and auto == (half if has else full)
    assert memory(device='cuda', amp='auto') == memory(device='cuda', amp='fp16') == half        # a GPU need not be here


def pictures(n, hw, classes):
    return Pictures(tuple(map(str, range(n))), (torch.zeros(*hw, 3).byte().numpy(),)*n, (torch.zeros(hw).byte().numpy(),)*n, classes)


class Flat(nn.Module):
    "Logits at half size, and a note of how many pictures were shown."
    def __init__(self, classes):
        super().__init__()
        self.classes, self.shown = classes, []

    def forward(self, x):
        self.shown.append(len(x))
        return x[:, :1, ::2, ::2].expand(-1, self.classes, -1, -1)


def test_small_pictures_are_evaluated_as_ever_large_ones_few_at_a_time():
    def shown(n, hw, classes, **how):
        net = Flat(classes)
        assert len(list(predictions(net, pictures(n, hw, classes), **how))) == n
        return net.shown
    assert shown(20, (64, 64), 6) == [16, 4] and shown(17, (360, 480), 11) == [16, 1]            # shapes, CamVid
    assert shown(3, (600, 800), 60) == [1]*3 and shown(5, (300, 400), 60) == [4, 1]
    assert shown(3, (32, 32), 60, mode='center', crop=513) == [2, 1] and 2*60*513**2 < VALUES < 3*60*513**2
    assert shown(2, (64, 64), 6, mode='slide', window=48, stride=16) == [8]                       # of windows


PEAK = '''
import resource, sys, torch
sys.path.insert(0, 'tests')
from test_memory import pictures
from maskmatch.metrics import evaluate
from maskmatch.model import make_model
cm = evaluate(make_model('small', 60), pictures(3, (960, 1280), 60))
assert cm.sum() == 3*960*1280
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
'''


def test_large_pictures_with_many_classes_fit():
    "It took 9 GB."
    p = subprocess.run([sys.executable, '-c', PEAK], cwd=ROOT, env=ENV, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    assert int(p.stdout) < 2*2**20                                               # KiB


class Greedy(nn.Module):
    def __init__(self, error): super().__init__(); self.error = error
    def forward(self, x): raise self.error


@pytest.mark.parametrize('error', [torch.OutOfMemoryError('CUDA out of memory. Tried'), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_want_of_memory_says_what_helps_there(error, tmp_path):
    for mode, words in dict(whole='--eval slide', slide='--window').items():
        with pytest.raises(BadInput, match=words) as e: evaluate(Greedy(error), pictures(1, (64, 64), 6), mode=mode)
        assert '--accumulate' not in str(e.value)
    class Run: dir, begun = tmp_path, staticmethod(lambda: False)
    class L: whole, workers = False, 0
    with pytest.raises(BadInput, match='--recompute needs less'):
        with rescued(L, Run): raise error
    with pytest.raises(RuntimeError, match='another'): evaluate(Greedy(RuntimeError('another')), pictures(1, (64, 64), 6))
