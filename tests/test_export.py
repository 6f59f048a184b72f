"`maskmatch_export` from end to end: every format of Lite0 against PyTorch, also where this package is not. The small network: notebook 26."
import json
import os
import subprocess
import sys
import numpy as np
import pytest
import torch
from commands import ROOT, command, process
from maskmatch.datasets import DATA
from maskmatch.metrics import predict
from maskmatch.model import make_model
from maskmatch.record import write_record
from maskmatch.run import Run
from maskmatch.splits import partition

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript'), pytest.importorskip('safetensors')
SHAPES = [(b, 3, h, w) for b in (1, 4) for h, w in ((64, 64), (120, 161), (333, 90))]


def call(*args): return command('maskmatch_export', *args)


def images(b, _, h, w): # smooth spots, like pictures: on noise every pixel is near a boundary
    x = torch.nn.functional.interpolate(torch.rand(b, 3, h//8 + 1, w//8 + 1, generator=torch.Generator().manual_seed(b*h)), (h, w), mode='bilinear')
    return x.mul(255).byte()


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    "A run folder with all three files, and its network."
    run = Run(tmp_path_factory.mktemp('run')/'r')
    run.dir.mkdir()
    pytest.importorskip('timm')
    net = make_model('deeplabv3plus_lite0', 6)
    (run.dir/'config.json').write_text(json.dumps(dict(data='shapes', model='deeplabv3plus_lite0', size=48)))
    write_record(run, partition(DATA['shapes'].load(), '40'))
    run.save('last.pt', dict(teacher=net.state_dict(), student=net.state_dict()))
    p = process('maskmatch_export', run.dir)
    assert p.returncode == 0 and p.stderr == '', p.stdout + p.stderr
    assert len(p.stdout.splitlines()) == 3 and '% of the pixels' in p.stdout
    return run.dir, net.eval()


def agree(y, net, x):
    want = predict(net, x)
    assert y.shape == want.shape and (y.argmax(1) == want.argmax(1)).float().mean() >= .9999 and (y - want).abs().max() < 1e-3


def test_onnx(made):
    session = onnxruntime.InferenceSession(made[0]/'model.onnx', providers=['CPUExecutionProvider'])
    for s in SHAPES: agree(torch.from_numpy(session.run(None, dict(image=images(*s).numpy()))[0]), made[1], images(*s))


def test_pt2_where_the_package_is_not(made, tmp_path):
    np.savez(tmp_path/'x.npz', *(images(*s).numpy() for s in SHAPES))
    code = """import sys, torch, numpy as np
f = torch.export.load(sys.argv[1]).module()
x = np.load(sys.argv[2])
np.savez(sys.argv[3], *(f(torch.from_numpy(x[k])).detach().numpy() for k in x.files))
assert not [m for m in sys.modules if m.split('.')[0] in ('maskmatch', 'timm')]"""
    subprocess.run([sys.executable, '-I', '-c', code, made[0]/'model.pt2', tmp_path/'x.npz', tmp_path/'y.npz'], check=True)
    y = np.load(tmp_path/'y.npz')
    for k, s in zip(y.files, SHAPES): agree(torch.from_numpy(y[k]), made[1], images(*s))


def test_safetensors(made):
    from safetensors import safe_open
    with safe_open(made[0]/'model.safetensors', 'pt') as f: told, weights = json.loads(f.metadata()['maskmatch']), {k: f.get_tensor(k) for k in f.keys()}
    assert told['classes'] == list(DATA['shapes'].classes) and told['crop'] == 48 and len(told['colours']) == 6
    assert weights.keys() == made[1].state_dict().keys() and all(torch.equal(v, made[1].state_dict()[k]) for k, v in weights.items())


def test_refusals(made, tmp_path):
    for args, words in {(made[0], '--format', 'onxx'): '--format onxx', (tmp_path,): 'holds no config.json', (made[0], '--checkpoint', 'best.pt'): 'no such checkpoint'}.items():
        p = call(*args)
        assert p.returncode == 2 and p.stderr.count('\n') == 1 and words in p.stderr and 'Traceback' not in p.stderr, p.stderr
    (tmp_path/'none').mkdir(), (tmp_path/'none'/'onnxscript.py').write_text('raise ImportError("No module", name="onnxscript")')
    p = process('maskmatch_export', made[0], '--out', tmp_path/'new', '--format', 'onnx', env=dict(PYTHONPATH=f"{tmp_path/'none'}{os.pathsep}{ROOT}"))
    assert p.returncode == 2 and "needs the package onnxscript; pip install -e '.[export]'" in p.stderr and p.stderr.count('\n') == 1 and not list((tmp_path/'new').iterdir()), p.stderr
