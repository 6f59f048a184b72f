"What holds for every method in the list, with no line here for any of them. Exact continuation: notebook 30."
import pytest
import torch
from maskmatch.flops import in_shapes, meta_step
from maskmatch.methods import METHODS, terms_of
from maskmatch.model import make_model
from maskmatch.notation import BadInput
from maskmatch.objective import backward
from maskmatch.teacher import make_teacher
from test_processes import apart, jobs


OTHERS = sorted({*METHODS} - {'suponly', 'meanteacher', 'maskmatch'})                 # those are in test_processes


@pytest.fixture(scope='module')
def done(tmp_path_factory): # by one process, by two
    return [jobs(n, tmp_path_factory.mktemp(str(n)), {m: dict(method=m, tau=.2, steps=8) for m in OTHERS}) for n in (1, 2)]


@pytest.mark.parametrize('method', OTHERS)
def test_two_processes_are_one(method, done):
    one, two = (d[method] for d in done)
    assert apart(one, two) <= 1e-5 and len(one['rows']) == 4
    assert all(v != 0 for k, v in one['rows'][-1].items())                              # no loss had nothing to say


# What a method has already.
REFUSED = {('maskmatch', '+lcr+ms')}


@pytest.mark.parametrize('plugins', ['', '+ir', '+lcr+ms'])
@pytest.mark.parametrize('method', METHODS)
def test_a_step_reads_no_value(method, plugins):
    "On the meta device tensors have no values: a step that asked for one would fail."
    with torch.device('meta'):
        new = lambda k=0: make_model('small', 6)
        student = new()
        if (method, plugins) in REFUSED:
            with pytest.raises(BadInput): terms_of(method + plugins, p=8, new=new)
            return
        terms = terms_of(method + plugins, p=8, new=new)
    in_shapes(torch.nn.ModuleList([student, *terms]))                                 # notebook 13 does it with real normalisations
    values = backward(terms, meta_step(student, make_teacher(student), 32, 2))
    assert list(values) == [t.name for t in terms] and all(v.device.type == 'meta' for v in values.values())
