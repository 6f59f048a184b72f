"Files as people keep them: links, permissions, names that are taken, pictures that are damaged."
import io
import os
import stat
import struct
import subprocess
import sys
import threading
import warnings
from dataclasses import dataclass
import numpy as np
import pytest
from PIL import Image, ImageOps
from commands import ENV, ROOT, command as called, refused
from maskmatch.check import pages
from maskmatch.data import Pictures, as_rgb, opened, peek, read, sideways
from maskmatch.datasets import DATA
from maskmatch.notation import BadInput
from maskmatch.record import write_record
from maskmatch.run import Run, command, write
from maskmatch.scores import trained
from maskmatch.shapes import scenes
from maskmatch.splits import partition
from maskmatch.suggest import opened as looked


def left(folder): return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize('keep', [None, 'previous'])
def test_a_name_that_is_taken_by_a_folder(tmp_path, keep):
    "The renaming fails, not the writing."
    (tmp_path/'a'/'within').mkdir(parents=True)
    with pytest.raises(BadInput, match='a: cannot be written .*Is a directory.*as it was before'):
        write(tmp_path/'a', b'new', keep)
    assert left(tmp_path) == ['a'] and left(tmp_path/'a') == ['within']


def test_a_command_whose_file_cannot_be_renamed_says_so_in_a_sentence(tmp_path):
    (tmp_path/'run'/'config.json').mkdir(parents=True)
    run = Run(tmp_path/'run')
    with pytest.raises(BadInput, match='log.csv: cannot be written'):
        (run.dir/'log.csv').mkdir()
        run.log(dict(step=1))
    assert left(run.dir) == ['config.json', 'log.csv']


def test_a_link_is_written_through_and_permissions_stay(tmp_path):
    (tmp_path/'there').mkdir()
    (tmp_path/'there'/'file').write_bytes(b'old')
    (tmp_path/'there'/'file').chmod(0o604)
    (tmp_path/'link').symlink_to(tmp_path/'there'/'file')
    (tmp_path/'link of link').symlink_to('link')
    write(tmp_path/'link of link', b'new')
    assert (tmp_path/'link').is_symlink() and (tmp_path/'link of link').is_symlink()
    assert (tmp_path/'there'/'file').read_bytes() == b'new'
    assert stat.S_IMODE((tmp_path/'there'/'file').stat().st_mode) == 0o604
    assert left(tmp_path) == ['link', 'link of link', 'there'] and left(tmp_path/'there') == ['file']
    (tmp_path/'empty').symlink_to('there/made')                        # leads to nothing yet
    write(tmp_path/'empty', b'1')
    assert (tmp_path/'there'/'made').read_bytes() == b'1' and (tmp_path/'empty').is_symlink()
    (tmp_path/'lost').symlink_to('nowhere/made')
    with pytest.raises(BadInput, match='lost: cannot be written'): write(tmp_path/'lost', b'1')
    assert os.readlink(tmp_path/'lost') == 'nowhere/made'


def test_what_is_kept_beside_a_link(tmp_path):
    (tmp_path/'there').mkdir()
    (tmp_path/'last').symlink_to('there/weights')
    for text in (b'1', b'2', b'3'): write(tmp_path/'last', text, 'previous')
    assert [(tmp_path/k).read_bytes() for k in ('last', 'previous')] == [b'3', b'2']
    assert left(tmp_path/'there') == ['weights'] and (tmp_path/'last').is_symlink()


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    got = []
    reader = threading.Thread(target=lambda: got.append((tmp_path/'pipe').read_bytes()))
    reader.start()
    write(tmp_path/'pipe', b'new')
    reader.join()
    assert got == [b'new'] and stat.S_ISFIFO((tmp_path/'pipe').stat().st_mode)


def encoded(form, how):
    "A small picture as the bytes of a file; turned by its EXIF data, which is one thing more to be damaged."
    x = Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 32, 3), np.uint8))
    exif = Image.Exif()
    exif[274], exif[306], exif[271] = 6, '2020:01:01', 'a camera'
    if form in ('JPEG', 'PNG', 'WEBP'): how = how | dict(exif=exif)
    buf = io.BytesIO()
    x.save(buf, form, **how)
    return buf.getvalue()


FORMS = dict(png=('PNG', {}), jpg=('JPEG', {}), tif=('TIFF', {}), webp=('WEBP', {}), bmp=('BMP', {}))


def damaged(data, n, seed=0):
    "Cut short, or with bytes changed: in the header, in the EXIF data, or anywhere."
    draw = np.random.default_rng(seed)
    exif = max(data.find(b'Exif\0\0'), data.find(b'MM\0*'), data.find(b'II*\0'), 0)
    for k in range(n):
        a = bytearray(data)
        if k % 4 == 0: a = a[:draw.integers(0, len(a))]
        start, stop = ((0, len(a)), (0, 60), (exif, exif + 90), (0, len(a)))[k % 4]
        for at in draw.integers(start, max(start + 1, min(stop, len(a))), draw.integers(1, 10)) if k % 4 else ():
            a[at % len(a)] = draw.integers(0, 256)
        yield bytes(a)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('end', FORMS)
def test_whatever_a_decoder_raises_is_a_sentence(tmp_path, end):
    refusals = 0
    for k, data in enumerate(damaged(encoded(*FORMS[end]), 120)):
        file = tmp_path/f'{k}.{end}'
        file.write_bytes(data)
        for use in (read, peek, pages, as_rgb):
            try: use(file)
            except BadInput as e:
                refusals += 1
                assert str(e).startswith(f'{file}: cannot be ') and '\n' not in str(e) and '()' not in str(e), e
    assert refusals > 30


def odd_exif(way, tag, kind, value):
    "EXIF data with a direction, and a field of a type that it should not have."
    rows = sorted([(274, 3, 1, struct.pack('<HH', way, 0)), (tag, kind, 1, value)])
    body = b''.join(struct.pack('<HHI', *row[:3]) + row[3] for row in rows)
    return b'Exif\0\0II*\0\x08\0\0\0' + struct.pack('<H', 2) + body + bytes(4)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.parametrize('tag, kind', [(306, 11), (296, 11), (277, 2), (700, 11)])
def test_odd_exif_data_do_not_stop_a_picture(tmp_path, tag, kind):
    "Pillow's exif_transpose raises AttributeError, struct.error and TypeError for these."
    x = Image.linear_gradient('L').resize((32, 24)).convert('RGB')
    x.save(tmp_path/'x.jpg', exif=odd_exif(6, tag, kind, struct.pack('<f', 1.5)), quality=95)
    with pytest.raises(Exception) as e: ImageOps.exif_transpose(Image.open(tmp_path/'x.jpg'))
    assert not isinstance(e.value, OSError)
    with pytest.raises(BadInput, match='x.jpg: cannot be read as an image'):
        with opened(tmp_path/'x.jpg') as im: ImageOps.exif_transpose(im)
    turned = np.rot90(np.asarray(Image.open(tmp_path/'x.jpg')), -1)
    assert np.array_equal(read(tmp_path/'x.jpg'), turned) and peek(tmp_path/'x.jpg') == (32, 24)


@pytest.mark.parametrize('way', [0, 2, 3, 4, 5, 6, 7, 8, 9, 65535])
def test_every_direction(tmp_path, way):
    "As Pillow turns it; a direction that does not exist turns nothing, and the size is that of what is read."
    x = Image.fromarray(np.arange(24*32*3, dtype=np.uint8).reshape(24, 32, 3))
    exif = Image.Exif()
    exif[274] = way
    x.save(tmp_path/'x.png', exif=exif)
    got = read(tmp_path/'x.png')
    assert np.array_equal(got, ImageOps.exif_transpose(Image.open(tmp_path/'x.png')))
    assert peek(tmp_path/'x.png') == got.size[::-1] and sideways(tmp_path/'x.png') == (5 <= way <= 8)


def test_importing_leaves_warnings_alone(tmp_path):
    "The library's user sees what Pillow warns of; a command does not, nor do the processes of a loader."
    modules = sorted(p.stem for p in (ROOT/'maskmatch').glob('[!_]*.py'))
    code = ("import importlib, sys, torch, torchvision, matplotlib, PIL.Image, scipy.stats, warnings\n"
            "old = list(warnings.filters)\n"
            f"for m in {modules!r}: importlib.import_module('maskmatch.' + m)\n"
            "ours = [f for f in warnings.filters if f not in old]\n"
            "assert not ours, ours")
    p = subprocess.run([sys.executable, '-c', code], env=ENV, capture_output=True, text=True)
    assert p.returncode == 0, p.stderr


def large(folder):
    "A picture of more pixels than Pillow takes without a word."
    Image.new('L', (10000, 9000)).save(folder/'large.png', compress_level=1)
    return folder/'large.png'


def test_a_command_is_quiet_and_its_caller_is_not(tmp_path):
    @dataclass
    class Options: path: str # a picture
    file, before = large(tmp_path), list(warnings.filters)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        inside = list(warnings.filters)
        command(Options, lambda o: peek(o.path), 'show', [str(file)])
        assert not seen and warnings.filters == inside
        with opened(file): pass
        assert [v.category for v in seen] == [Image.DecompressionBombWarning]
    assert warnings.filters == before


def test_the_processes_of_a_loader_are_quiet(tmp_path):
    code = ("import sys; from maskmatch.data import *\n"
            "crops = Crops(Pictures(('a',), (sys.argv[1],)), 32, masks=False)\n"
            "batches = zip(Batches(1, 1, 0, 'x', 0, 1))\n"
            "for (x, _), in loader((crops,), batches, int(sys.argv[2])): print(tuple(x.shape))")
    said = {}
    for workers in ('0', '1'):
        p = subprocess.run([sys.executable, '-c', code, large(tmp_path), workers], env=ENV, capture_output=True, text=True)
        assert p.stdout == '(1, 3, 32, 32)\n', p.stderr
        said[workers] = p.stderr
    assert 'DecompressionBomb' in said['0'] and said['1'] == ''


@pytest.fixture(scope='module')
def broken(tmp_path_factory):
    "A folder in which five files of each form are damaged, and some are whole and have masks."
    root = tmp_path_factory.mktemp('broken')
    x, y = scenes(6, 0, 48)
    for d in ('images', 'masks'): (root/d).mkdir()
    for i in range(6):
        Image.fromarray(x[i]).save(root/'images'/f'a{i}.png')
        Image.fromarray(y[i]).save(root/'masks'/f'a{i}.png')
    for end in FORMS:
        for k, data in enumerate(damaged(encoded(*FORMS[end]), 20)):
            if k % 4 < 2: (root/'images'/f'{end}{k}.{end}').write_bytes(data)
    return root


@pytest.mark.filterwarnings('ignore')
def test_no_command_ends_in_a_traceback(broken, tmp_path):
    net = tmp_path/'run'
    net.mkdir()
    (net/'config.json').write_text('{"data": "shapes", "model": "small", "size": 48}')
    Run(net).save('last.pt', dict(teacher=trained().state_dict(), student=trained().state_dict()))
    write_record(Run(net), partition(DATA['shapes'].load(), '40'))
    p = called('maskmatch_predict', net, broken/'images', '--out', tmp_path/'out', '--device', 'cpu')
    *said, last = p.stderr.splitlines()
    made = sorted((tmp_path/'out'/'ids').iterdir())
    files = list((broken/'images').iterdir())
    assert p.returncode == 2 and len(said) > 15 and len(made) + len(said) == len(files)
    assert all('cannot be read as an image (' in v and v.endswith('take it out.') for v in said)
    assert last == f'maskmatch_predict: {len(said)} of the files could not be read, or not to the end (cannot be read as an image: {len(said)}), see above; all others are done.'
    p = called('maskmatch_check', broken)
    assert p.returncode == 1 and p.stderr == '' and f'error, picture: {len(said)} times, ' in p.stdout
    p = called('maskmatch_train', '--data', broken, '--out', tmp_path/'t', '--steps', '2', '--batch', '2', '--model', 'small', '--device', 'cpu', '--workers', '0')
    refused(p, 'cannot be read as an image (', 'take it out.')
    pictures = Pictures(tuple(map(str, files)), tuple(files))
    seen = [looked(pictures, i)[1] for i in range(len(files))]
    assert sum(isinstance(v, BadInput) for v in seen) == len(said)
