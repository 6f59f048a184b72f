"`maskmatch_predict` from end to end: formats, folders, refusals, an end in the middle, memory."
import csv
import json
import signal
import subprocess
import sys
import time
import numpy as np
import pytest
import torch
from PIL import Image
from commands import ENV, WITH_TWO_LAYERS, command, process, program, refused, two_layers
from maskmatch.datasets import DATA
from maskmatch.metrics import predict, slide
from maskmatch.record import write_record
from maskmatch.run import Run
from maskmatch.scores import trained
from maskmatch.splits import partition


def call(*args): return command('maskmatch_predict', *args, '--device', 'cpu')


def ok(p):
    assert p.returncode == 0 and p.stderr == '', p.stdout + p.stderr
    return p.stdout


def a_run(folder, model='small', net=trained):
    run = Run(folder)
    run.dir.mkdir()
    (run.dir/'config.json').write_text(json.dumps(dict(data='shapes', model=model, size=48)))
    write_record(run, partition(DATA['shapes'].load(), '40'))
    run.save('last.pt', dict(teacher=net().state_dict(), student=net(who='student').state_dict()))
    return run.dir


@pytest.fixture(scope='module')
def run(tmp_path_factory): return a_run(tmp_path_factory.mktemp('run')/'r')


def pictures(n, size=64):
    "Pictures of the built-in set; beyond 64 pixels, several side by side."
    val, k = DATA['shapes'].load().val, -(-size//64)
    one = lambda i: np.concatenate([np.concatenate([np.asarray(val.image((i + 7*a + 3*b) % 200)) for b in range(k)], 1) for a in range(k)])[:size, :size]
    return [one(i) for i in range(n)]


def files(out): return {p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob('*.*') if p.name != '.lock'}


def ids(out, name): return np.asarray(Image.open(out/'ids'/f'{name}.png'))


def said(x, amp=None, window=None): # reference: ids of one (H,W,3) picture
    x = torch.from_numpy(np.array(x)).permute(2, 0, 1)[None]
    return (slide(trained(), x, window, 2*window//3, amp=amp) if window else predict(trained(), x, amp))[0].argmax(0).numpy()


@pytest.fixture(scope='module')
def formats(tmp_path_factory):
    "One picture in every format, as a camera, a scanner or a drawing program would leave it."
    d, x = tmp_path_factory.mktemp('formats'), pictures(1)[0]
    (d/'tief'/'noch tiefer').mkdir(parents=True)
    im = Image.fromarray(x)
    for name in ('a.png', 'b.bmp', 'tief/c.tif', 'tief/noch tiefer/Grün ü.PNG'): im.save(d/name)
    im.save(d/'lossless.webp', lossless=True), im.save(d/'photo.jpg', quality=100, subsampling=0)
    im.convert('RGBA').save(d/'alpha.png'), im.convert('L').save(d/'gray.png')
    Image.fromarray(np.asarray(im.convert('L')).astype(np.uint16)*257).save(d/'deep.tiff')
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(x[:, :50]))).save(d/'turned.png', exif=exif)                     # stored lying down; 6: turn clockwise
    (d/'.hidden.png').write_bytes(b''), (d/'notes.txt').write_text('no picture')
    return d, x


def test_every_format_and_folder(run, formats, tmp_path):
    d, x = formats
    ok(process('maskmatch_predict', run, d, '--out', tmp_path/'out', '--amp', 'off', '--device', 'cpu'))   # where a warning would be seen
    names = {'a', 'b', 'tief/c', 'tief/noch tiefer/Grün ü', 'lossless', 'photo', 'alpha', 'gray', 'deep', 'turned'}
    for kind, end in dict(ids='.png', overlay='.jpg', confidence='.png').items():
        assert {p.relative_to(tmp_path/'out'/kind).as_posix() for p in (tmp_path/'out'/kind).rglob('*.*')} == {n + end for n in names}
    gray = np.asarray(Image.fromarray(x).convert('L').convert('RGB'))
    for name in names:
        want = said(gray if name in ('gray', 'deep') else x[:, :50] if name == 'turned' else x)
        assert ids(tmp_path/'out', name).shape == want.shape, name
        assert (ids(tmp_path/'out', name) == want).mean() > (.9 if name == 'photo' else .999), name
    im = Image.open(tmp_path/'out'/'ids'/'a.png')
    assert im.mode == 'P' and len(set(im.getpalette()[:18])) > 1
    rows = {r['image']: r for r in csv.DictReader(open(tmp_path/'out'/'areas.csv', encoding='utf-8'))}
    assert set(rows) == names and (rows['turned']['width'], rows['turned']['height']) == ('50', '64')
    for name, r in rows.items():
        share = [float(r[c]) for c in DATA['shapes'].classes]
        assert np.allclose(share, [(ids(tmp_path/'out', name) == c).mean() for c in range(6)], atol=1e-6)
        assert abs(float(r['confidence']) - np.asarray(Image.open(tmp_path/'out'/'confidence'/f'{name}.png')).mean()/255) < 1e-6


def test_windows_are_those_of_slide(run, tmp_path):
    x = pictures(1, 200)[0]
    Image.fromarray(x).save(tmp_path/'x.png')
    ok(call(run, tmp_path/'x.png', '--out', tmp_path/'whole', '--amp', 'off')), ok(call(run, tmp_path/'x.png', '--out', tmp_path/'cut', '--window', '60', '--amp', 'off'))
    whole, cut = ids(tmp_path/'whole', 'x'), ids(tmp_path/'cut', 'x')
    assert (whole == said(x)).mean() > .9999 and (cut == said(x, window=60)).mean() > .9999 and (whole != cut).mean() > .01


def test_what_cannot_work_is_said_in_a_sentence(run, formats, tmp_path):
    d, _ = formats
    out = tmp_path/'out'
    (tmp_path/'more').mkdir(), Image.new('RGB', (40, 40)).save(tmp_path/'more'/'a.jpg')
    refused(call(run, d, tmp_path/'more', '--out', out), 'more/a.jpg', 'a.png', 'same name')
    refused(call(run, tmp_path/'nowhere', '--out', out), 'nowhere: no such file or folder')
    refused(call(tmp_path, d, '--out', out), 'holds no config.json'), refused(call(d/'a.png', d, '--out', out), 'neither a run folder')
    refused(call(run, d, '--out', out, '--window', '20', '--stride', '30'), 'stride 30'), refused(call(run, d, '--out', out, '--checkpoint', 'best'), '--checkpoint best')
    refused(call(run, '--out', out), 'paths'), refused(call(run, d, '--out', d), 'is not empty and holds no predictions')
    assert not out.exists()


def test_a_video_without_the_package_that_reads_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr('maskmatch.predict.find_spec', lambda name: None)
    (tmp_path/'clip.mp4').touch()
    refused(call(run, tmp_path/'clip.mp4', '--out', tmp_path/'out'), 'clip.mp4', 'pip install av', out=tmp_path/'out')


def test_a_broken_picture_is_named_and_the_others_are_done(run, formats, tmp_path):
    (tmp_path/'in').mkdir()
    for i, x in enumerate(pictures(5)): Image.fromarray(x).save(tmp_path/'in'/f'{i}.png')
    (tmp_path/'in'/'1b.png').write_bytes((tmp_path/'in'/'1.png').read_bytes()[:3000]), (tmp_path/'in'/'2b.jpg').write_text('no picture'), (tmp_path/'in'/'3b.png').touch()
    p = call(run, tmp_path/'in', '--out', tmp_path/'out')
    refused(p, '1b.png: cannot be read', '2b.jpg: cannot be read', '3b.png: cannot be read', '3 of the files', 'cannot be read as an image: 3', lines=4)
    assert sorted(q.stem for q in (tmp_path/'out'/'ids').iterdir()) == list('01234') and len((tmp_path/'out'/'areas.csv').read_text().splitlines()) == 6


def test_another_model_is_refused_or_replaces(run, formats, tmp_path):
    d, _ = formats
    ok(call(run, d, '--out', tmp_path/'out'))
    first = files(tmp_path/'out')
    refused(call(run, d, '--out', tmp_path/'out', '--student'), 'another model', '--again')
    assert files(tmp_path/'out') == first
    assert '10 made' in ok(call(run, d, '--out', tmp_path/'out', '--student', '--again'))
    changed = {k for k, v in files(tmp_path/'out').items() if v != first[k]}
    assert {'predict.json', 'areas.csv', 'ids/a.png'} <= changed
    assert '10 were there already' in ok(call(run, d, '--out', tmp_path/'out', '--student'))


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGTERM])
def test_it_goes_on_where_it_was_stopped(run, tmp_path, how):
    (tmp_path/'in'/'deep').mkdir(parents=True)
    for i, x in enumerate(pictures(60, 256)): Image.fromarray(x).save(tmp_path/'in'/('deep' if i % 3 else '.')/f'{i}.png')
    ok(call(run, tmp_path/'in', '--out', tmp_path/'whole'))
    p = subprocess.Popen([sys.executable, '-c', program('maskmatch_predict'), run, tmp_path/'in', '--out', tmp_path/'out', '--device', 'cpu'], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while p.poll() is None and len(list((tmp_path/'out').glob('ids/**/*.png'))) < 12: time.sleep(.005)
    p.send_signal(how)
    assert p.wait() == (-9 if how == signal.SIGKILL else 143), p.stderr.read()
    there = {q: q.stat().st_mtime_ns for q in (tmp_path/'out').glob('ids/**/*.png')}
    assert 12 <= len(there) < 60
    for q in there: Image.open(q).load()                                       # each of them whole
    printed = ok(call(run, tmp_path/'in', '--out', tmp_path/'out'))
    assert f'{60 - len(there)} made' in printed and f'{len(there)} were there already' in printed
    assert all(q.stat().st_mtime_ns == t for q, t in there.items())
    whole, now = files(tmp_path/'whole'), {k: v for k, v in files(tmp_path/'out').items() if not k.endswith('.part')}
    assert whole.keys() == now.keys()
    for k in whole: # batches are cut elsewhere after a stop, and may change a last bit; the overlay follows the ids
        if k.startswith('ids'): assert (ids(tmp_path/'whole', k[4:-4]) == ids(tmp_path/'out', k[4:-4])).mean() > .9999
    assert whole['predict.json'] == now['predict.json'] and [r[:3] for r in csv.reader(whole['areas.csv'].decode().splitlines())] == [r[:3] for r in csv.reader(now['areas.csv'].decode().splitlines())]


def test_a_single_file_is_a_model(run, tmp_path):
    pytest.importorskip('safetensors')
    from maskmatch.export import maskmatch_export
    maskmatch_export([str(run), '--out', str(tmp_path/'m'), '--format', 'safetensors'])
    Image.fromarray(pictures(1)[0]).save(tmp_path/'x.png')
    ok(call(run, tmp_path/'x.png', '--out', tmp_path/'a')), ok(call(tmp_path/'m'/'model.safetensors', tmp_path/'x.png', '--out', tmp_path/'b'))
    assert files(tmp_path/'a') == files(tmp_path/'b')


def test_a_video_is_its_frames(run, tmp_path):
    av = pytest.importorskip('av')
    with av.open(str(tmp_path/'clip.mp4'), 'w') as v:
        stream = v.add_stream('mpeg4', rate=5)
        stream.width = stream.height = 64
        stream.pix_fmt = 'yuv420p'
        for x in pictures(7): v.mux(stream.encode(av.VideoFrame.from_ndarray(x, format='rgb24')))
        v.mux(stream.encode())
    assert '7 made' in ok(call(run, tmp_path/'clip.mp4', '--out', tmp_path/'out'))
    assert sorted(p.name for p in (tmp_path/'out'/'ids'/'clip').iterdir()) == [f'{k:06d}.png' for k in range(7)]
    assert '7 were there already' in ok(call(run, tmp_path/'clip.mp4', '--out', tmp_path/'out'))
    (tmp_path/'bad.mp4').write_text('no video')
    refused(call(run, tmp_path/'bad.mp4', '--out', tmp_path/'none'), 'bad.mp4: cannot be read as a video', lines=2)


def film(path, n=40, codec='mpeg4', every=10):
    "A video with a key frame every ten."
    av = pytest.importorskip('av')
    scenes = pictures(n)
    with av.open(str(path), 'w') as v:
        stream = v.add_stream(codec, rate=10, options=dict(g=str(every), sc_threshold='1000000000'))
        stream.width = stream.height = 64
        stream.pix_fmt = 'yuv420p'
        for x in scenes: v.mux(stream.encode(av.VideoFrame.from_ndarray(x, format='rgb24')))
        v.mux(stream.encode())
    with av.open(str(path)) as v: return [(q.pos, q.size) for q in v.demux(video=0) if q.size]


def zeroed(path, start, size):
    data = bytearray(path.read_bytes())
    data[start:start + size] = bytes(size)
    path.write_bytes(data)


def cut(path, share): path.write_bytes(path.read_bytes()[:int(path.stat().st_size*share)])


def sound(path):
    av = pytest.importorskip('av')
    with av.open(str(path), 'w') as v:
        stream = v.add_stream('aac', rate=8000)
        hum = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), 'fltp', 'mono')
        hum.sample_rate = 8000
        v.mux(stream.encode(hum)), v.mux(stream.encode())


def test_no_video_ends_the_others(run, tmp_path):
    "Every kind of damage at once, beside a good picture and a good video: each is one sentence, all others are done."
    d = tmp_path/'in'
    d.mkdir()
    Image.fromarray(pictures(1)[0]).save(d/'z.png')
    (d/'text.mp4').write_text('no video'), (d/'empty.mov').touch(), sound(d/'sound.mp4')
    film(d/'whole.mp4'), film(d/'half.mp4'), cut(d/'half.mp4', .5)
    at = film(d/'one.mp4')
    zeroed(d/'one.mp4', *at[13])
    at = film(d/'middle.mp4')
    zeroed(d/'middle.mp4', at[15][0], at[24][0] - at[15][0])
    film(d/'short.mkv'), cut(d/'short.mkv', .5)
    at = film(d/'tail.mp4')
    zeroed(d/'tail.mp4', at[31][0], at[-1][0] + at[-1][1] - at[31][0])
    film(d/'none.avi'), cut(d/'none.avi', .02)
    p = process('maskmatch_predict', run, d, '--out', tmp_path/'out', '--device', 'cpu')
    want = {'text.mp4': 'cannot be read as a video', 'empty.mov': 'cannot be read as a video', 'sound.mp4': 'holds no video, only sound',
            'half.mp4': 'cannot be read as a video', 'one.mp4': 'frames are damaged, 7 of 40, the first after 13 ', 'none.avi': 'cannot be read as a video',
            'middle.mp4': 'frames are damaged, 15 of 40, the first after 15 ', 'short.mkv': 'breaks off after ', 'tail.mp4': 'breaks off after 31 frames'}
    refused(p, *(f'{d/k}: {v}' for k, v in want.items()), lines=len(want) + 1)
    assert all('take it out.' in v for v in p.stderr.splitlines()[:-1])
    summary = p.stderr.splitlines()[-1]
    assert '9 of the files' in summary and all(v in summary for v in ('cannot be read as a video: 4', 'frames are damaged: 2', 'breaks off: 2', 'holds no video, only sound: 1'))
    made = {q.relative_to(tmp_path/'out'/'ids').with_suffix('').as_posix() for q in (tmp_path/'out'/'ids').rglob('*.png')}
    numbers = lambda name: sorted(int(v.split('/')[1]) for v in made if v.startswith(name + '/'))
    assert 'z' in made and numbers('whole') == list(range(40)) and not numbers('half')
    assert numbers('one') == [*range(13), *range(20, 40)] and numbers('middle') == [*range(15), *range(30, 40)] and numbers('tail') == list(range(31))
    short = numbers('short')
    assert short == list(range(len(short))) and 5 < len(short) < 35 and f'breaks off after {len(short)} frames' in p.stderr
    for name in ('one', 'tail', 'short', 'middle'): # what is kept is what it was
        for k in numbers(name): assert (ids(tmp_path/'out', f'{name}/{k:06d}') == ids(tmp_path/'out', f'whole/{k:06d}')).mean() > .99
    again = process('maskmatch_predict', run, d, '--out', tmp_path/'out', '--device', 'cpu')
    assert again.returncode == 2 and '0 made' in again.stdout and sorted(again.stderr.splitlines()) == sorted(p.stderr.splitlines())


@pytest.mark.parametrize('codec, end', [('libx264', 'mp4'), ('libx264', 'mkv'), ('mpeg4', 'avi'), ('libvpx', 'webm')])
def test_random_damage_to_a_video_is_a_sentence_or_nothing(tmp_path, codec, end):
    av = pytest.importorskip('av')
    from maskmatch.notation import BadInput
    from maskmatch.video import frames
    try: film(tmp_path/f'whole.{end}', codec=codec)
    except (av.FFmpegError, ValueError): pytest.skip(f'no {codec} here')
    data, draw, said = (tmp_path/f'whole.{end}').read_bytes(), np.random.default_rng(0), 0
    assert len(list(frames('v', tmp_path/f'whole.{end}'))) == 40
    for k in range(24):
        b = bytearray(data)
        if k % 3 == 0: b = b[:draw.integers(len(b))]
        elif k % 3 == 1:
            at = int(draw.integers(len(b) - 300))
            b[at:at + 300] = bytes(300)
        else:
            for at in draw.integers(0, len(b), 20): b[at] = draw.integers(256)
        (tmp_path/f'x.{end}').write_bytes(b)
        *good, last = frames('v', tmp_path/f'x.{end}')
        assert all(isinstance(v.source, np.ndarray) for v in good)
        if not isinstance(last.source, BadInput): continue
        said += 1
        assert str(last.source).startswith(str(tmp_path/f'x.{end}: ')) and 'take it out.' in str(last.source) and '\n' not in str(last.source)
    assert said > 8


def test_links_are_followed_once(run, tmp_path):
    d, disk = tmp_path/'in', tmp_path/'disk'
    d.mkdir(), disk.mkdir()
    for i, x in enumerate(pictures(4)): Image.fromarray(x).save((d if i < 2 else disk)/f'{i}.png')
    for name, to in dict(all=disk, more='../disk', loop='..', lost='nowhere').items(): (d/name).symlink_to(to)
    p = process('maskmatch_predict', run, d, '--out', tmp_path/'out', '--device', 'cpu')
    assert p.returncode == 0 and '4 made' in p.stdout and p.stderr.count('\n') == 3, p.stderr
    for name in ('more', 'loop', 'lost'): assert f'{d/name}: is a link ' in p.stderr
    assert sorted(q.relative_to(tmp_path/'out'/'ids').as_posix() for q in (tmp_path/'out'/'ids').rglob('*.png')) == ['0.png', '1.png', 'all/2.png', 'all/3.png']


def test_a_picture_of_80_million_pixels_stays_below_2_gb(tmp_path):
    "10,000 x 8,000, with overlay and confidence. Windows side by side and a network of two layers: overlaps and depth cost time, and of memory what a few windows need."
    run = a_run(tmp_path/'run', 'two', lambda who='teacher': two_layers(6))
    Image.fromarray(np.tile(pictures(1, 640)[0], (13, 16, 1))[:8000, :10000]).save(tmp_path/'large.png', compress_level=1)
    code = f"import resource, subprocess, sys; p = subprocess.run([sys.executable, '-c', {WITH_TWO_LAYERS + program('maskmatch_predict')!r}, *sys.argv[1:]]); print(p.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    p = subprocess.run([sys.executable, '-c', code, run, tmp_path/'large.png', '--out', tmp_path/'out', '--window', '48', '--stride', '48', '--device', 'cpu'], env=ENV, capture_output=True, text=True)
    status, peak = map(int, p.stdout.splitlines()[-1].split())
    print(f'peak {peak/2**20:.2f} GiB')
    assert status == 0 and peak < 2e9/1024, p.stdout + p.stderr                 # ru_maxrss is in KiB
    m = ids(tmp_path/'out', 'large')
    assert m.shape == (8000, 10000) and len(np.unique(m)) > 1
    assert all(Image.open(tmp_path/'out'/k).size == (10000, 8000) for k in ('overlay/large.jpg', 'confidence/large.png'))
    assert (m[640:1280, 640:1280] == m[2560:3200, 2560:3200]).mean() > .999   # the same scenes, in windows cut alike


def test_a_picture_is_reduced_as_in_training(run, tmp_path):
    "A run with --side saw reduced pictures; large ones are shown to it reduced, and the maps have their own size."
    small, large = pictures(1)[0], tmp_path/'x.png'
    Image.fromarray(small).resize((320, 320), Image.BICUBIC).save(large)
    (tmp_path/'run').mkdir()
    for f in run.iterdir(): (tmp_path/'run'/f.name).write_bytes(f.read_bytes())
    (tmp_path/'run'/'config.json').write_text(json.dumps(dict(data='shapes', model='small', size=48, side=64)))
    ok(call(tmp_path/'run', large, '--out', tmp_path/'out', '--amp', 'off')), ok(call(run, large, '--out', tmp_path/'as_it_is', '--amp', 'off'))
    reduced, as_it_is = ids(tmp_path/'out', 'x'), ids(tmp_path/'as_it_is', 'x')
    assert reduced.shape == (320, 320) and (reduced[2::5, 2::5] == said(small)).mean() > .9 > (as_it_is[2::5, 2::5] == said(small)).mean()
    assert len(np.unique(np.diff(reduced.astype(int), axis=1).nonzero()[1] % 5)) == 5                       # enlarged as probabilities: borders lie between the small pixels too
