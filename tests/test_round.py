"A folder of one's own, by the commands alone: check, train, report, predict, suggest, export, with no option but the folder (and --steps and --format: a test has no quarter of an hour)."
import csv
import importlib.util
import json
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from commands import ROOT, command, ok
from maskmatch.choices import typed
from maskmatch.datasets import CAMVID, camvid
from maskmatch.folder import Folder
from maskmatch.shapes import TEXTURES, scenes

FRAMES = ROOT.parent/'shared'/'data'/'camvid_240x180'


def call(what, *args): return ok(command(f'maskmatch_{what}', *args))


def built_in(d):
    x, y = scenes(40, seed=5)
    for i in range(40):
        Image.fromarray(x[i]).save(d/'images'/f'{i:02}.png')
        if i < 15: Image.fromarray(y[i]).save(d/'masks'/f'{i:02}.png')
    (d/'classes.txt').write_text('\n'.join(TEXTURES))


def frames(d):
    data = camvid(FRAMES).train
    for i in range(0, len(data), 24):
        data.image(i).save(d/'images'/f'{data.ids[i]}.png')
        if i % 48: Path(d/'masks'/f'{data.ids[i]}.png').write_bytes(Path(data.masks[i]).read_bytes())
    (d/'classes.txt').write_text('\n'.join([*CAMVID, 'void']))


@pytest.mark.parametrize('fill', [built_in, frames])
def test_the_whole_round(tmp_path, monkeypatch, fill):
    if fill is frames and not FRAMES.exists(): pytest.skip('CamVid is not beside the checkout')
    monkeypatch.chdir(tmp_path)
    d = tmp_path/'mine'
    (d/'images').mkdir(parents=True), (d/'masks').mkdir()
    fill(d)
    assert '0 errors' in call('check', 'mine') and (d/'report.html').exists()
    said = call('train', '--data', 'mine', '--steps', 10)
    run = tmp_path/'runs'/'mine-maskmatch-0'
    chosen = json.loads((run/'choices.json').read_text())
    assert all(typed(k, v['value']) in said and v['reason'] in said for k, v in chosen.items()) and {'model', 'size', 'batch', 'tau', 'burn_in'} <= set(chosen)
    assert 'mIoU' in call('report', 'runs/mine-maskmatch-0') and (run/'report.html').stat().st_size > 1e4
    call('predict', 'runs/mine-maskmatch-0', 'mine/images')
    images = Folder(d).images
    rows = list(csv.DictReader(open(tmp_path/'predictions'/'areas.csv', encoding='utf-8')))
    assert {r['image'] for r in rows} == set(images)
    for name, f in images.items():
        with Image.open(f) as a, Image.open(tmp_path/'predictions'/'ids'/f'{name}.png') as b: assert a.size == b.size and b.mode == 'P' and np.asarray(b).max() < len(rows[0]) - 4
    call('suggest', 'runs/mine-maskmatch-0')
    listed = (run/'suggest'/'suggest.txt').read_text().splitlines()
    assert len(listed) == min(20, len(images) - len(Folder(d).masks)) > 0 and all((d/'images'/v).exists() and Path(v).stem not in Folder(d).masks for v in listed)
    if fill is built_in and importlib.util.find_spec('safetensors'):           # every format: notebook 26 and test_export.py
        call('export', 'runs/mine-maskmatch-0', '--format', 'safetensors')
        call('predict', run/'model.safetensors', 'mine/images', '--out', 'again')
        assert all((tmp_path/'again'/'ids'/f'{n}.png').read_bytes() == (tmp_path/'predictions'/'ids'/f'{n}.png').read_bytes() for n in images)
