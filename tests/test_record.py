"A run knows its data: what changes in a folder is refused, announced or of no account, by every command; and large pictures go all the way."
import json
import shutil
import numpy as np
import pytest
import torch
from PIL import Image
from commands import command, ok, refused
from maskmatch.check import maskmatch_check
from maskmatch.config import Config
from maskmatch.folder import contents_at, folder_data
from maskmatch.model import make_model
from maskmatch.run import Run
from maskmatch.scores import config_of, find_data, network_of
from maskmatch.shapes import TEXTURES, scenes

SHORT = '--model small --size 33 --batch 2 --steps 2 --every 1 --evals 2 --device cpu --amp off'.split()
NAMES = [f'p{i:02}' for i in range(12)]


def put(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(file)


@pytest.fixture(scope='module')
def origin(tmp_path_factory):
    "Twelve scenes, seven of them with masks, and a run on them."
    root = tmp_path_factory.mktemp('record')
    x, y = scenes(12, 5, 48)
    for i, name in enumerate(NAMES):
        put(root/'d'/'images'/f'{name}.png', x[i])
        if i < 7: put(root/'d'/'masks'/f'{name}.png', y[i])
    (root/'d'/'classes.txt').write_text('\n'.join(TEXTURES))
    assert 'val.txt: written' in ok(train(root))
    return root


@pytest.fixture
def root(origin, tmp_path, monkeypatch):
    "A copy of them, with the run's folder as it was."
    shutil.copytree(origin, tmp_path/'copy')
    monkeypatch.chdir(tmp_path/'copy')
    return tmp_path/'copy'


def train(root, *args, out='run', data='d'):
    return command('maskmatch_train', '--data', root/data, '--out', root/out, *SHORT, *args)


def listed(root): return (root/'d'/'val.txt').read_text().split()
def learned(root): return list(json.loads((root/'run'/'data.json').read_text())['labeled'])


COMMANDS = dict(
    train=lambda r: train(r, '--steps', 4), eval=lambda r: command('maskmatch_eval', r/'run', '--root', r/'d'),
    report=lambda r: command('maskmatch_report', r/'run', '--root', r/'d'),
    suggest=lambda r: command('maskmatch_suggest', r/'run', '--root', r/'d', '--n', 2),
    compare=lambda r: command('maskmatch_compare', r/'run', r/'run', '--root', r/'d', '--out', r/'c.html'))


def rename_class(r): (r/'d'/'classes.txt').write_text('\n'.join(['ground', *TEXTURES[1:]])); return 'class 0 was background and is ground now'
def more_classes(r): (r/'d'/'classes.txt').write_text('\n'.join([*TEXTURES, 'fish'])); return 'there were 6 classes, and fish is new'
def void_first(r): (r/'d'/'classes.txt').write_text('\n'.join(['void', *TEXTURES])); return 'the value 0 meant background in its masks and means void now'
def painted(r):
    colors = [f'{name} {20*k} {20*k} {20*k}' for k, name in enumerate(TEXTURES)]
    (r/'d'/'classes.txt').write_text('\n'.join(colors))
    return 'the color 0 0 0 meant nothing'
def validating_image(r): return swap(r, 'images', listed(r)[0][:-4], 'the picture or mask of ')
def validating_mask(r): return swap(r, 'masks', listed(r)[0][:-4], 'the picture or mask of ')
def labelled_image(r): return swap(r, 'images', learned(r)[1], 'the picture ')
def labelled_mask(r): return swap(r, 'masks', learned(r)[1], 'the mask of ')
def unlabelled_image(r): return swap(r, 'images', NAMES[9], 'the picture ')
def deleted_image(r): (r/'d'/'images'/f'{NAMES[9]}.png').unlink(); return f'the picture {NAMES[9]} is gone'
def deleted_mask(r):
    name = learned(r)[0]
    (r/'d'/'masks'/f'{name}.png').unlink()
    return f'{name}.png: cannot be read'
def other_list(r):
    (r/'d'/'val.txt').write_text(learned(r)[0])
    return 'the pictures that validate are others, now with'
def swap(r, kind, name, said):
    file = r/'d'/kind/f'{name}.png'
    Image.fromarray(np.roll(np.array(Image.open(file)), 5, 0)).save(file)
    return f'{said}{name} is not what the run has seen'


EVERYTHING = set(COMMANDS)
LEARNING = {'train', 'suggest'} # commands that open what is learned from
CHANGES = [(rename_class, EVERYTHING), (more_classes, EVERYTHING), (void_first, EVERYTHING), (painted, EVERYTHING),
           (validating_image, EVERYTHING), (validating_mask, EVERYTHING), (other_list, EVERYTHING),
           (labelled_image, LEARNING), (labelled_mask, LEARNING), (unlabelled_image, LEARNING),
           (deleted_image, LEARNING), (deleted_mask, LEARNING)]


@pytest.mark.parametrize('change, who', CHANGES, ids=lambda v: v.__name__ if callable(v) else '')
def test_what_has_changed_is_refused(root, change, who):
    before = {p.name: p.read_bytes() for p in (root/'run').iterdir()}
    sentence = change(root)
    for name in COMMANDS:
        p = COMMANDS[name](root)
        if name in who: refused(p, 'its data have changed: ', sentence, 'put back what was there')
        else: ok(p)
        kept = {k: v for k, v in before.items() if k not in ('.lock', 'report.html')}
        assert {k: (root/'run'/k).read_bytes() for k in kept} == kept, f'{name} wrote into the run'


def test_a_run_without_its_record_is_refused(root):
    for text in (None, '', '{}'):
        if text is None: (root/'run'/'data.json').unlink()
        else: (root/'run'/'data.json').write_text(text)
        for f in COMMANDS.values(): refused(f(root), 'data.json', 'put back the file')


def test_an_edited_list_of_labels_is_refused(root):
    few = root/'few.txt'
    few.write_text('\n'.join(learned(root)[:3]))
    ok(train(root, '--labeled', few, out='few'))
    few.write_text('\n'.join(learned(root)[1:4]))
    refused(train(root, '--labeled', few, '--steps', 4, out='few'), 'the labelled pictures are others', learned(root)[3])


def test_new_masks_move_nobody_and_are_announced(root):
    x, y = scenes(12, 5, 48)
    val, scored = listed(root), ok(COMMANDS['eval'](root))
    for i in (7, 8, 10): put(root/'d'/'masks'/f'{NAMES[i]}.png', y[i])
    put(root/'d'/'images'/'late.png', x[0][::-1])
    assert ok(COMMANDS['eval'](root)) == scored and listed(root) == val
    p = ok(train(root, '--steps', 4))
    assert '3 masks and 1 picture are new' in p and 'goes on without' in p and 'continues at step 2 of 4' in p
    assert '6 of 12' not in p and f'{len(learned(root))} labelled and' in p
    assert 'maskmatch_suggest' not in p and NAMES[7] not in ok(COMMANDS['suggest'](root))
    start = p.split('maskmatch_train ')[1].splitlines()[0].split()                            # the command that it names
    said = ok(command('maskmatch_train', *start, '--device', 'cpu', '--steps', 1))
    assert f"Starts from the teacher of {root/'run'}." in said
    new = json.loads((root/'run-more'/'data.json').read_text())
    assert len(new['labeled']) == len(learned(root)) + 3 and [v + '.png' for v in new['validation']] == val and 'late' in new['training']


def test_a_run_that_goes_on_without_new_masks_ends_the_same(root):
    "Bit for bit, although the folder now holds more."
    shutil.copytree(root/'run', root/'before')
    ok(train(root, '--steps', 4, out='before'))
    put(root/'d'/'masks'/f'{NAMES[8]}.png', scenes(12, 5, 48)[1][8])
    put(root/'d'/'images'/'aaa.png', scenes(1, 9, 48)[0][0])                                   # would stand first
    ok(train(root, '--steps', 4))
    before, after = (Run(root/k).load() for k in ('before', 'run'))
    assert before['t'] == after['t'] == 4
    assert all(torch.equal(v, after['teacher'][k]) for k, v in before['teacher'].items())


def test_the_head_grows(root):
    (root/'d'/'classes.txt').write_text('\n'.join([TEXTURES[1], 'fish', TEXTURES[0], *TEXTURES[2:]]))
    p = ok(train(root, '--weights', root/'run', '--steps', 1, '--lr', '1e-12', out='grown'))
    assert 'new to it: fish' in p
    old, new = (network_of(Run(root/k), config_of(Run(root/k), device='cpu'), find_data(config_of(Run(root/k)))) for k in ('run', 'grown'))
    assert torch.allclose(new.classifier.weight[0], old.classifier.weight[1], atol=1e-6)
    assert torch.allclose(new.classifier.weight[2], old.classifier.weight[0], atol=1e-6)
    assert torch.allclose(new.classifier.weight[1], make_model('small', 7).classifier.weight[1], atol=1e-6)
    (root/'d'/'classes.txt').write_text('cat\ndog\nfish\ncow\nhen\npig')
    refused(train(root, '--weights', root/'run', out='other'), 'no class of background', 'start without')


def test_a_start_that_would_validate_what_it_learned_is_refused(root):
    (root/'d'/'val.txt').write_text(learned(root)[0])
    refused(train(root, '--weights', root/'run', out='leak'), f'the picture {learned(root)[0]} was trained on')


def test_two_projects_whose_folders_have_one_name(root, monkeypatch):
    for k, names in (('a', TEXTURES), ('b', ('cat', 'dog', 'sky', 'sea', 'sun', 'ice'))):
        shutil.copytree(root/'d', root/k/'data')
        (root/k/'data'/'classes.txt').write_text('\n'.join(names))
    monkeypatch.chdir(root)
    ok(command('maskmatch_train', '--data', 'a/data', *SHORT))
    refused(command('maskmatch_train', '--data', 'b/data', *SHORT), 'runs/data-maskmatch-0', 'class 0 was background and is cat now', '--out')


def test_who_validates_shows_something(tmp_path):
    "Whichever mask is void all over, another one validates; where all are, that is said."
    x, y = scenes(6, 5, 48)
    for i in range(6): put(tmp_path/'d'/'images'/f'{NAMES[i]}.png', x[i])
    (tmp_path/'d'/'classes.txt').write_text('\n'.join(TEXTURES))
    for void in range(6):
        for i in range(6): put(tmp_path/'d'/'masks'/f'{NAMES[i]}.png', y[i]*0 + 255 if i == void else y[i])
        assert folder_data(tmp_path/'d').val.ids != (NAMES[void],)
    for i in range(6): put(tmp_path/'d'/'masks'/f'{NAMES[i]}.png', y[i]*0 + 255)
    refused(train(tmp_path), 'has a mask of void pixels alone', 'choose others', out=tmp_path/'run')
    for i in range(1, 6): put(tmp_path/'d'/'masks'/f'{NAMES[i]}.png', y[i])
    (tmp_path/'d'/'val.txt').write_text(NAMES[0])
    refused(train(tmp_path), NAMES[0], 'validates has a mask of void pixels alone', out=tmp_path/'run')


def test_what_a_run_was_begun_with_is_said_first(tmp_path):
    args = '--size 32 --batch 2 --steps 2 --every 1 --evals 1 --device cpu'.split()
    out = tmp_path/'run'
    ok(command('maskmatch_train', *args, '--labeled', 10, '--out', out))
    first = ok(command('maskmatch_train', '--out', out)).splitlines()[0]
    assert str(out) in first and '--labeled 10' in first and 'Another --out begins anew' in first and '--tau' not in first


def test_the_format_is_kept(root):
    "`auto` is what the first machine made of it; another machine goes on in the same format, and says what it evaluates with."
    def held(out): return (root/out/'config.json').read_text()
    assert json.loads(held('run'))['amp'] == 'off'
    ok(train(root, '--amp', 'auto', out='a'))
    assert json.loads(held('a'))['amp'] in ('bf16', 'off')
    ok(train(root, '--amp', 'bf16', out='b'))
    refused(train(root, out='b'), '--amp bf16, not off')
    (root/'b'/'config.json').write_text(held('b').replace('"bf16"', '"fp16"'))
    said = ok(command('maskmatch_eval', root/'b', '--root', root/'d', '--device', 'cpu'))
    assert 'was trained with --amp fp16; this machine evaluates it with ' in said


def test_the_best_is_the_first_of_equals(tmp_path, monkeypatch):
    "metrics.json and best.pt mean the same step."
    scores = iter([1, 5, 5, 2, 2])
    monkeypatch.setattr('maskmatch.train.evaluate', lambda *a, **k: torch.tensor([[next(scores), 9], [0, 0]]))
    args = '--size 32 --batch 2 --steps 4 --every 1 --evals 4 --device cpu --labeled 4'.split()
    ok(command('maskmatch_train', *args, '--out', tmp_path/'run'))
    best = json.loads((tmp_path/'run'/'metrics.json').read_text())['best']['step']
    assert best == 2 == Run(tmp_path/'run').load('best.pt')['t']


def test_a_middle_without_a_label_is_said(tmp_path):
    x, y = scenes(6, 5, 48)
    for i in range(6):
        y[i][16:32, 16:32] = 255
        put(tmp_path/'d'/'images'/f'{NAMES[i]}.png', x[i]), put(tmp_path/'d'/'masks'/f'{NAMES[i]}.png', y[i])
    (tmp_path/'d'/'classes.txt').write_text('\n'.join(TEXTURES))
    refused(train(tmp_path, '--eval', 'center', '--window', 8), '--eval center', 'choose --eval whole')


def test_a_mask_is_decoded_once(tmp_path, monkeypatch):
    x, y = scenes(6, 5, 48)
    for i in range(6): put(tmp_path/'d'/'images'/f'{NAMES[i]}.png', x[i]), put(tmp_path/'d'/'masks'/f'{NAMES[i]}.png', y[i])
    contents_at.cache_clear()
    seen, opening = [], Image.open
    monkeypatch.setattr(Image, 'open', lambda f, *a, **k: seen.append(str(f)) or opening(f, *a, **k))
    for _ in range(3): folder_data(tmp_path/'d')
    masks = [f for f in seen if 'masks' in f]
    assert len(masks) == len(set(masks)) == 6


@pytest.mark.parametrize('size', [(900, 700), (4000, 3000), (1200, 40)], ids=lambda v: f'{v[0]}x{v[1]}')
def test_large_pictures_go_all_the_way(size, tmp_path):
    "With what a folder chooses by itself: check, train, go on, evaluate, predict, report, suggest."
    x, y = scenes(7, 5, 64)
    d, run = tmp_path/'d', tmp_path/'run'
    for i in range(7):
        for kind, a, how in (('images', x[i], Image.BICUBIC), ('masks', y[i], Image.NEAREST)):
            if kind == 'masks' and i > 4: continue
            (d/kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(a).resize(size, how).save(d/kind/f'p{i}.{"jpg" if kind == "images" else "png"}')
    p = command('maskmatch_check', d)
    assert p.returncode == 0 and '0 errors' in p.stdout
    short = '--model small --batch 2 --every 1 --evals 1 --device cpu'.split()
    assert '--side' in ok(command('maskmatch_train', '--data', d, '--steps', 1, *short, '--out', run))
    assert json.loads((run/'config.json').read_text())['side'] < max(size)
    ok(command('maskmatch_train', '--out', run, '--steps', 2))
    ok(command('maskmatch_eval', run))
    ok(command('maskmatch_report', run))
    ok(command('maskmatch_predict', run, d/'images'/'p0.jpg', '--out', tmp_path/'maps'))
    assert Image.open(tmp_path/'maps'/'ids'/'p0.png').size == size
    assert len(ok(command('maskmatch_suggest', run, '--n', 2)).split()) >= 2
