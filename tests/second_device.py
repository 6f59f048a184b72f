"""A device beside the CPU that has no float64, as Apple's GPUs have none. Its name is meta, and it computes with the CPU.

PyTorch knows on which device each tensor is; a mixture of the two is an error here as on a GPU."""
from contextlib import contextmanager
from unittest import mock
import torch
from maskmatch.notation import colours
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device('meta')
MIXED = ('copy_', 'index') # operations that take tensors of two devices


class There(torch.Tensor):
    "A tensor on that device."
    @staticmethod
    def __new__(cls, held):
        if held.dtype == torch.float64: raise TypeError('the second device has no float64')
        where = dict(strides=held.stride(), storage_offset=held.storage_offset(), device=DEVICE)
        new = torch.Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, **where)
        new.held = held
        return new

    def __repr__(self): return f'There({self.held!r})'

    @classmethod
    def __torch_dispatch__(cls, f, types, args=(), kwargs=None): return ran(f, args, kwargs or {})


def ran(f, args, kwargs):
    "The operation on the CPU; what it returns is there if its tensors were, or if that was asked for."
    tensors = [v for v in tree_leaves((args, kwargs)) if isinstance(v, torch.Tensor)]
    mine = {id(v.held): v for v in tensors if isinstance(v, There)}
    asked = kwargs.get('device')
    if mine and asked is None and not any(v in str(f) for v in MIXED):
        for v in tensors:
            if not isinstance(v, There) and v.ndim: raise RuntimeError(f'{f}: tensors on two devices')
    there = mine if asked is None else torch.device(asked) == DEVICE
    if asked is not None: kwargs = kwargs | dict(device='cpu')
    out = f(*tree_map_only(There, lambda v: v.held, args), **tree_map_only(There, lambda v: v.held, kwargs))
    if not there: return out
    return tree_map_only(torch.Tensor, lambda v: mine.get(id(v)) if id(v) in mine else There(v), out)


class Mode(TorchDispatchMode):
    def __torch_dispatch__(self, f, types, args=(), kwargs=None): return ran(f, args, kwargs or {})


@contextmanager
def second_device():
    "Within, `device='meta'` is that device."
    made, autocast = torch.tensor, torch.autocast
    def tensor(data, dtype=None, device=None):
        kept = made(data, dtype=dtype)
        return kept if device is None else kept.to(device)
    def cast(kind, *args, **kwargs):
        return autocast('cpu' if kind == DEVICE.type else kind, *args, **kwargs)
    def like(self, data, dtype=None): return tensor(data, dtype or self.dtype, self.device)
    colours.cache_clear()
    with (Mode(), mock.patch('torch.tensor', tensor), mock.patch('torch.autocast', cast),
          mock.patch.object(torch.Tensor, 'new_tensor', like)):
        yield DEVICE.type
    colours.cache_clear()
