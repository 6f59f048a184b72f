"`maskmatch_suggest` on a folder: the list, the table, the sheet in a browser, and what cannot work."
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
import numpy as np
import pytest
from PIL import Image
from browser import chromium, complaints, requests, screen
from maskmatch.datasets import DATA
from maskmatch.run import Run
from maskmatch.scores import trained

ROOT = Path(__file__).resolve().parent.parent
ENV = os.environ | dict(PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')


def call(*args): return subprocess.run([sys.executable, '-c', "import sys; from maskmatch.suggest import maskmatch_suggest as f; sys.argv[0] = 'maskmatch_suggest'; f()", *map(str, args), '--device', 'cpu'], env=ENV, capture_output=True, text=True)


@pytest.fixture
def run(tmp_path):
    "A folder of twelve scenes, four of them with masks, one without that is empty of shapes and one that is there twice; and a run on it."
    data, d = DATA['shapes'].load(), tmp_path/'Fotos ü'
    for k in ('images', 'masks'): (d/k).mkdir(parents=True)
    for i in range(12):
        data.train.image(11 if i == 10 else i).save(d/'images'/f'{i:02}.png')
        if i < 4: data.train.label(i).save(d/'masks'/f'{i:02}.png')
    (d/'classes.txt').write_text('\n'.join(data.classes))
    r = Run(tmp_path/'run')
    r.dir.mkdir()
    (r.dir/'config.json').write_text(json.dumps(dict(data='folder', root=str(d), model='small', size=48, labeled='all')))
    (r.dir/'classes.json').write_text(json.dumps(dict(names=data.classes, colors=None)))
    r.save('last.pt', dict(teacher=trained('early.pt').state_dict(), student=trained('early.pt').state_dict()))
    return r.dir, d


def test_the_list_the_table_and_the_sheet(run):
    r, d = run
    p = call(r, '--n', 5)
    assert p.returncode == 0 and p.stderr == '', p.stderr
    names = (r/'suggest.txt').read_text().splitlines()
    assert len(set(names)) == 5 and all(Path(n).exists() and int(Path(n).stem) >= 4 for n in names) and p.stdout.splitlines()[:5] == names
    assert not {'10.png', '11.png'} <= {Path(n).name for n in names}                                        # the same picture twice teaches once
    rows = list(csv.DictReader(open(r/'suggest.csv')))
    assert [v['picture'] for v in rows] == names and all(0 <= float(v[k]) <= 1 for v in rows for k in ('score', 'doubt', 'disagreement'))
    with chromium() as b:
        for width in (1280, 390):
            screen(b, width)
            b.get((r/'suggest.html').as_uri())
            assert b.execute_script('return document.querySelectorAll(".shot").length') == 5 and b.execute_script('return document.documentElement.scrollWidth') <= width
            assert b.execute_script('return [...document.images].every(i => i.naturalWidth && i.alt)')
        assert not complaints(b) and not [u for u in requests(b) if u.split(':')[0] not in ('file', 'data', 'chrome')]
    was = [(r/f'suggest.{k}').read_bytes() for k in ('txt', 'csv', 'html')]
    assert call(r, '--n', 5).returncode == 0 and was == [(r/f'suggest.{k}').read_bytes() for k in ('txt', 'csv', 'html')]


def test_diversity_and_more_than_there_are(run):
    r, d = run
    p = call(r, '--n', 50, '--out', r/'all', '--delta', 0)
    assert p.returncode == 0 and 'only 8' in p.stderr and len((r/'all'/'suggest.txt').read_text().splitlines()) == 8
    scores = [float(v['score']) for v in csv.DictReader(open(r/'all'/'suggest.csv'))]
    assert scores == sorted(scores, reverse=True)


def test_what_cannot_work(run):
    r, d = run
    for args, words in (([r, '--n', 0], '--n 0'), ([r, '--delta', -1], '--delta -1'), ([r, '--scales', '1,x'], '--scales'), ([d], 'no config.json'), ([r, '--root', d/'gone'], 'gone')):
        p = call(*args)
        assert p.returncode == 2 and p.stderr.count('\n') == 1 and words in p.stderr, p.stderr
    whole = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file = d/'images'/'07.png'
    Image.fromarray(whole).save(file)
    file.write_bytes(file.read_bytes()[:3000])                                                             # a picture that breaks off
    p = call(r, '--n', 3)
    assert p.returncode == 0 and '07.png' in p.stderr and '07.png' not in p.stdout
    for i in range(4, 12): (d/'masks'/f'{i:02}.png').write_bytes((d/'masks'/'00.png').read_bytes())
    p = call(r)
    assert p.returncode == 2 and 'every training picture has a mask' in p.stderr
