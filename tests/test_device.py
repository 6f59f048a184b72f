"All that runs on a device, on one that has no float64; a number of it that went by way of another device would be an error too."
import json
from dataclasses import asdict, replace
import numpy as np
import pytest
import torch
from second_device import second_device
from maskmatch.config import Config, resolve, settle
from maskmatch.datasets import DATA, shapes
from maskmatch.methods import METHODS
from maskmatch.metrics import evaluate
from maskmatch.record import write_record
from maskmatch.report import compare, look, report
from maskmatch.run import Run
from maskmatch.scores import measure, trained
from maskmatch.segment import Segmenter, segment
from maskmatch.splits import partition
from maskmatch.suggest import suggest
from maskmatch.train import make_learner

pytestmark = pytest.mark.filterwarnings('ignore:.*copying from a non-meta parameter')   # it is done all the same


def some(**options):
    "A configuration, off the terminal."
    own = dict(data='shapes', model='small', device='cpu', amp='off', workers=0) | options
    return settle(resolve(Config(**own)), 8)


@pytest.fixture(scope='module')
def few():
    data = DATA['shapes'].load()
    return replace(data, val=data.val.subset(range(3)))


def test_the_device_is_one():
    with second_device() as there:
        x = torch.arange(3.).to(there)
        assert x.device.type == (x + x).device.type == there and (x + x).cpu().tolist() == [0, 2, 4]
        with pytest.raises(TypeError, match='no float64'): x.double()
        with pytest.raises(TypeError, match='no float64'): torch.zeros(2, dtype=torch.float64, device=there)
        with pytest.raises(RuntimeError, match='two devices'): x + torch.arange(3.)


def test_report_and_compare(few, tmp_path):
    run = Run(tmp_path/'run')
    run.dir.mkdir()
    c = some()
    (run.dir/'config.json').write_text(json.dumps(asdict(c)))
    write_record(run, partition(few, '40'))
    state = dict(teacher=trained().state_dict(), student=trained(who='student').state_dict())
    run.save('last.pt', state)
    want = look(run, c, few, 2)
    with second_device() as there: got = look(run, replace(c, device=there), few, 2)
    assert torch.equal(got.cm, want.cm) and got.mean == want.mean
    assert report(replace(got, c=c)) == report(want) and compare([got, want]) == compare([want, want])


@pytest.mark.parametrize('mode', ['whole', 'slide', 'center'])
def test_evaluation(few, mode):
    c = some(eval=mode, window=40)
    want = measure(trained(), c, few, True), evaluate(trained(), few.val)
    with second_device() as there:
        net = trained().to(there)
        got = measure(net, replace(c, device=there), few, True), evaluate(net, few.val, there)
    assert got[0] == want[0] and torch.equal(got[1], want[1])


@pytest.mark.parametrize('how', [{}, dict(side=40), dict(window=40)])
def test_a_picture(few, how):
    side, how = how.get('side'), {k: v for k, v in how.items() if k != 'side'}
    s, x = Segmenter(trained(), few.classes, side=side), np.asarray(few.val.image(0))
    want = segment(s, x, **how)
    with second_device() as there: got = segment(replace(s, net=trained().to(there)), x, **how)
    assert all(np.array_equal(a, b) for a, b in zip(got, want))


def test_suggestions():
    data = partition(shapes(train=12, val=3), '1/4')
    want = suggest(trained(), data, 3)
    with second_device() as there: got = suggest(trained().to(there), data, 3, device=there)
    assert [v.index for v in got] == [v.index for v in want]


@pytest.mark.parametrize('method', METHODS)
def test_training(method):
    "Two steps, in which pseudo-labels count; what is learned is what the CPU learns."
    data = partition(shapes(train=16, val=3), '1/2')
    c = some(method=method, steps=2, batch=2, size=48, tau=.2)
    want = list(make_learner(c, data).fit(1))
    with second_device() as there:
        learner = make_learner(replace(c, device=there), data)
        got = list(learner.fit(1))
        learner.state()
    for a, b in zip(got, want): assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
