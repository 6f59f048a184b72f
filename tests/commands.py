"The commands as a terminal calls them: in a process of their own, or in this one, where PyTorch is loaded already."
import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parent.parent
ENV = os.environ | dict(PYTHONPATH=str(ROOT))
MODULES = dict(maskmatch_eval='scores', maskmatch_data='splits', maskmatch_compare='report', maskmatch_bench='bench_step')


def module(name): return f"maskmatch.{MODULES.get(name, name.removeprefix('maskmatch_'))}"


def program(name): # for `python -c`
    return f"import sys; from {module(name)} import {name}; sys.argv[0] = '{name}'; {name}()"


def two_layers(classes, output_stride=None): # a network for where the size of what is done matters, and not what comes out
    from torch import nn
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, classes, 1))


WITH_TWO_LAYERS = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import commands, maskmatch.model; maskmatch.model.MODELS['two'] = commands.two_layers; "


def process(name, *args, env={}): # -> returncode, stdout, stderr
    return subprocess.run([sys.executable, '-c', program(name), *map(str, args)], env=ENV | env, capture_output=True, text=True)


def command(name, *args): # the same without the start of a process, which is most of the time
    f = getattr(importlib.import_module(module(name)), name)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try: f([*map(str, args)]); done = 0
        except SystemExit as e: done = e.code or 0
    return SimpleNamespace(returncode=done, stdout=out.getvalue(), stderr=err.getvalue())


def ok(p):
    assert p.returncode == 0, p.stdout + p.stderr
    return p.stdout


def refused(p, *words, out=None, lines=1):
    "One sentence that holds the words, exit code 2, and nothing written."
    assert p.returncode == 2 and 'Traceback' not in p.stderr and p.stderr.count('\n') == lines, p.stdout + p.stderr
    for w in words: assert str(w) in p.stderr, f'{w!r} not in {p.stderr!r}'
    assert out is None or not out.exists()
