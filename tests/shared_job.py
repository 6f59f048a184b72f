"Trainings by Python, alone or under torchrun: what each comes to goes into a file. Arguments: JSON of name -> what to do, folder."
import copy
import json
import sys
from pathlib import Path
import torch
from torch import nn
from maskmatch.datasets import shapes
from maskmatch.learner import Learner
from maskmatch.methods import terms_of
from maskmatch.metrics import evaluate
from maskmatch.model import make_model
from maskmatch.processes import joined, rank, whole, world
from maskmatch.splits import partition

todos, folder = json.loads(sys.argv[1]), Path(sys.argv[2])


def grouped(net): # BatchNorm sees the pictures of its own process; GroupNorm sees one picture
    for m in net.modules():
        for name, child in m.named_children():
            if isinstance(child, nn.BatchNorm2d): setattr(m, name, nn.GroupNorm(1, child.num_features))
    return net


def exact(net): # in float64: a label on the edge between two classes falls to the same side, whichever way a batch is summed
    net = grouped(net).double()
    for m in net.modules():
        if isinstance(m, nn.Conv2d): m.register_forward_pre_hook(lambda m, x: x[0].double())
    return net


def recalibrated(L, n): # the teacher's tensors, the same in every process
    L.recalibrate(n)
    held = torch.cat([v.flatten().float() for v in L.teacher.state_dict().values()])
    every = whole(held[None])
    assert (every == every[0]).all()
    return L.teacher.state_dict()


def done(data, todo):
    net = make_model('small', 6)
    L = Learner(net if todo.get('bn') else exact(net), terms_of(todo['method'], p=8, new=lambda k: exact(make_model('small', 6, k)), **todo.get('terms', {})), data, size=32, batch=4, steps=todo.get('steps', 12), lr=.01, watch=True,
                **todo.get('options', {}))
    for term in L.terms:
        if 'tau' in todo and hasattr(term, 'tau'): term.tau = todo['tau']              # an untrained teacher is sure of nothing
    if 'start' in todo: L.load_state(torch.load(todo['start'], weights_only=True))
    rows = list(L.fit(L.steps//4, stop=lambda: L.t == todo.get('stop')))
    cm = evaluate(make_model('small', 6, seed=5), data.val, batch=4)
    if 'recalibrate' in todo: return dict(state=copy.deepcopy(L.state()), anew=recalibrated(L, todo['recalibrate']), world=world())
    return dict(state=L.state(), rows=rows, cm=cm, teacher=evaluate(L.teacher, data.val), world=world())


with joined('cpu'):
    torch.set_num_threads(1)
    data = partition(shapes(train=40, val=37), '12')
    for name, todo in todos.items():
        out = done(data, todo)
        if rank() == 0: torch.save(out, folder/f'{name}.pt')
