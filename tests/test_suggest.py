"`maskmatch_suggest` on a folder: the list, the table, the sheet in a browser, and what cannot work."
import csv
import io
import json
import shutil
import numpy as np
import pytest
from PIL import Image
from browser import chromium, complaints, requests, screen
from commands import command, process
from maskmatch.datasets import DATA
from maskmatch.folder import folder_data
from maskmatch.record import write_record
from maskmatch.run import Run
from maskmatch.scores import trained
from maskmatch.splits import partition


def call(*args): return command('maskmatch_suggest', *args, '--device', 'cpu')


@pytest.fixture
def run(tmp_path):
    "A folder of twelve scenes, four of them with masks, one without that is empty of shapes and one that is there twice; and a run on it."
    data, d = DATA['shapes'].load(), tmp_path/'Fotos ü'
    for k in ('images', 'masks'): (d/k).mkdir(parents=True)
    for i in range(12):
        data.train.image(11 if i == 10 else i).save(d/'images'/f'{i:02}.png')
        if i < 4: data.train.label(i).save(d/'masks'/f'{i:02}.png')
    (d/'classes.txt').write_text('\n'.join(data.classes))
    (d/'val.txt').write_text('00')
    r = Run(tmp_path/'run')
    r.dir.mkdir()
    (r.dir/'config.json').write_text(json.dumps(dict(data='folder', root=str(d), model='small', size=48, labeled='all')))
    noted(r.dir, d)
    r.save('last.pt', dict(teacher=trained('early.pt').state_dict(), student=trained('early.pt').state_dict()))
    return r.dir, d


def noted(r, d, labeled='all'): # the record of a run that began now
    write_record(Run(r), partition(folder_data(d), str(labeled)))


def rows(out): return list(csv.DictReader(open(out/'suggest.csv', encoding='utf-8')))


def test_the_list_the_table_and_the_sheet(run):
    r, d = run
    (d/'images'/'weit weg').mkdir(), (d/'images'/'09.png').rename(d/'images'/'weit weg'/'ö.png')
    noted(r, d)
    alone = lambda: process('maskmatch_suggest', r, '--n', 5, '--device', 'cpu')
    p = alone()
    assert p.returncode == 0 and p.stderr == '', p.stderr
    out = r/'suggest'
    names = (out/'suggest.txt').read_text(encoding='utf-8').splitlines()
    assert len(set(names)) == 5 and all((d/'images'/n).is_file() and not (d/'masks'/n).exists() for n in names) and p.stdout.splitlines()[:5] == names
    assert not {'10.png', '11.png'} <= set(names)                                                            # the same picture twice teaches once
    assert [v['name'] for v in rows(out)] == names and all(0 <= float(v[k]) <= 1 for v in rows(out) for k in ('score', 'doubt', 'disagreement'))
    assert (out/'suggest.html').stat().st_size < 400_000
    WebDriverWait = pytest.importorskip('selenium.webdriver.support.ui').WebDriverWait
    with chromium() as b:
        for width in (1280, 390):
            screen(b, width)
            b.get((out/'suggest.html').as_uri())
            said = b.execute_script('return [...document.querySelectorAll(".shot figcaption")].map(e => e.textContent)')
            assert len(said) == 5 and all(v.startswith(f'{k}. {n}: ') and len(v) > 30 for k, (v, n) in enumerate(zip(said, names), 1))
            assert b.execute_script('return document.documentElement.scrollWidth') <= width
            assert b.execute_script('return [...document.images].every(i => i.naturalWidth && i.alt)')
        b.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value='dark')]))
        WebDriverWait(b, 30).until(lambda b: b.execute_script('return matchMedia("(prefers-color-scheme: dark)").matches'))
        assert sum(Image.open(io.BytesIO(b.get_screenshot_as_png())).convert('RGB').getpixel((2, 2))) < 200 and b.execute_script('return getComputedStyle(document.body).color') == 'rgb(255, 255, 255)'
        schemes = {u.split(':')[0] for u in requests(b)}
        assert not complaints(b) and 'file' in schemes <= {'file', 'data', 'chrome'}
    was = [(out/f'suggest.{k}').read_bytes() for k in ('txt', 'csv', 'html')]
    assert alone().returncode == 0 and was == [(out/f'suggest.{k}').read_bytes() for k in ('txt', 'csv', 'html')]


def test_diversity_and_more_than_there_are(run):
    r, d = run
    p = call(r, '--n', 50, '--out', r/'all', '--delta', 0)
    assert p.returncode == 0 and 'only 8' in p.stderr and len((r/'all'/'suggest.txt').read_text().splitlines()) == 8
    scores = [float(v['score']) for v in rows(r/'all')]
    assert scores == sorted(scores, reverse=True)


def test_masks_of_unlabelled_pictures_are_never_opened(run, tmp_path):
    r, d = run
    for i in range(4, 12): (d/'masks'/f'{i:02}.png').write_text('poison')                                    # that are there and no part of the run
    (tmp_path/'few.txt').write_text('01\n02\n')
    (r/'config.json').write_text(json.dumps(json.loads((r/'config.json').read_text()) | dict(labeled=str(tmp_path/'few.txt'))))
    noted(r, d, tmp_path/'few.txt')
    p = call(r, '--n', 9)
    assert p.returncode == 0 and p.stderr == '', p.stderr
    assert sorted((r/'suggest'/'suggest.txt').read_text().splitlines()) == [f'{i:02}.png' for i in range(3, 12)]
    (d/'masks'/'01.png').write_text('poison')                                                                # one that is needed
    noted(r, d, tmp_path/'few.txt')
    p = call(r, '--n', 9)
    assert p.returncode == 2 and p.stderr.count('\n') == 1 and '01.png' in p.stderr, p.stderr


def test_scales_moved_data_and_large_pictures(run, tmp_path):
    r, d = run
    config = json.loads((r/'config.json').read_text()) | dict(scales='1')
    (r/'config.json').write_text(json.dumps(config))
    big = Image.open(d/'images'/'05.png').resize((3000, 2000))
    big.save(d/'images'/'05.png')
    noted(r, d)
    shutil.move(d, tmp_path/'moved')
    p = call(r, '--n', 8)
    assert p.returncode == 2 and p.stderr.count('\n') == 1 and 'no such folder' in p.stderr, p.stderr
    p = call(r, '--n', 8, '--root', tmp_path/'moved')
    assert p.returncode == 0 and '05.png' in p.stdout and all(float(v['disagreement']) == 0 for v in rows(r/'suggest'))  # the run's own scales
    small = next(v for v in rows(r/'suggest') if v['name'] == '05.png')
    big.resize((1024, 683), Image.BICUBIC, reducing_gap=2).save(tmp_path/'moved'/'images'/'05.png')          # what is shown to the network
    noted(r, tmp_path/'moved')
    assert call(r, '--n', 8, '--root', tmp_path/'moved').returncode == 0 and next(v for v in rows(r/'suggest') if v['name'] == '05.png') == small


def test_what_cannot_work(run):
    r, d = run
    for args, words in (([r, '--n', 0], '--n 0'), ([r, '--scales', '0'], '--scales 0'), ([r, '--out', d/'classes.txt'], 'cannot be made'), ([r, '--delta', -1], '--delta -1'), ([r, '--scales', '1,x'], '--scales'), ([d], 'no config.json'), ([r, '--root', d/'gone'], 'gone')):
        p = call(*args)
        assert p.returncode == 2 and p.stderr.count('\n') == 1 and words in p.stderr, p.stderr
    whole = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file = d/'images'/'07.png'
    Image.fromarray(whole).save(file)
    file.write_bytes(file.read_bytes()[:3000])                                                             # a picture that breaks off
    noted(r, d)
    p = call(r, '--n', 3)
    assert p.returncode == 0 and '07.png' in p.stderr and '07.png' not in p.stdout
    for i in range(4, 12): (d/'masks'/f'{i:02}.png').write_bytes((d/'masks'/'00.png').read_bytes())
    p = call(r)
    assert p.returncode == 2 and 'every training picture has a mask' in p.stderr


def test_pictures_that_came_since_and_masks_that_came_since(run):
    "A mask that is new takes its picture off the list without being opened; a picture that is new may be on it."
    r, d = run
    before = call(r, '--n', 8).stdout.splitlines()
    assert '06.png' in before and len(before) == 9
    (d/'masks'/'06.png').write_text('poison')
    shutil.copy(d/'images'/'09.png', d/'images'/'new.png')
    p = call(r, '--n', 9)
    assert p.returncode == 0 and 'only 8' in p.stderr and '06.png' not in p.stdout and 'new.png' in p.stdout, p.stderr
    (d/'images'/'05.png').write_bytes((d/'images'/'04.png').read_bytes())
    p = call(r, '--n', 9)
    assert p.returncode == 2 and 'the picture 05 is not what the run has seen' in p.stderr, p.stderr
