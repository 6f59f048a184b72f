"Files as people keep them: links, permissions, names that are taken, pictures that are damaged."
import os
import stat
import subprocess
import sys
import threading
import pytest
from commands import ENV, process, refused
from maskmatch.notation import BadInput
from maskmatch.run import Run, write


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
