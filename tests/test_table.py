"`maskmatch_table` in processes: broken off and continued, runs that fail, and what cannot work. Rows, plan and files: notebook 41."
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from test_commands import ROOT

CODE = "import sys; from maskmatch.table import maskmatch_table as f; sys.argv[0] = 'maskmatch_table'; f()"
SMALL = ['--labeled', '12', '--seeds', '1', '--device', 'cpu', '--also', 'size=32 batch=2 evals=1 every=2']


def start(cwd, *args):
    return subprocess.Popen([sys.executable, '-c', CODE, *map(str, args)], cwd=cwd, env=os.environ | dict(PYTHONPATH=str(ROOT)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def done(p):
    out, err = p.communicate(timeout=300)
    return p.returncode, out, err


def table(cwd): return (cwd/'runs'/'table9-shapes'/'table.csv').read_bytes()


def test_broken_off_and_continued(tmp_path):
    whole, broken = (tmp_path/k for k in ('whole', 'broken'))
    whole.mkdir(), broken.mkdir()
    assert done(start(whole, 9, *SMALL, '--steps', 60, '--jobs', 1))[0] == 0
    p = start(broken, 9, *SMALL, '--steps', 60, '--jobs', 1)
    while not list(broken.glob('runs/*/*/log.csv')): time.sleep(.05); assert p.poll() is None
    os.killpg(p.pid, signal.SIGINT)                                             # as a terminal does: the command and its run
    code, out, err = done(p)
    assert code != 0 and not (broken/'runs'/'table9-shapes'/'table.csv').exists()
    code, out, err = done(start(broken, 9, *SMALL, '--steps', 60, '--jobs', 1))
    assert code == 0, err
    assert table(broken) == table(whole)
    assert len(list(csv.DictReader(table(whole).decode().splitlines()))) == 5 and 'of 5 runs' in out


def test_a_run_that_fails_takes_no_other_with_it(tmp_path):
    place = tmp_path/'runs'/'table9-shapes'/'grid-12-0'
    place.mkdir(parents=True), (place/'mine.txt').write_text('not a run')
    code, out, err = done(start(tmp_path, 9, *SMALL, '--steps', 4))
    assert code == 2 and err.count('\n') == 1 and '1 of 5 runs failed' in err and 'grid-12-0' in err and 'holds no run' in err
    assert [v['row'] for v in csv.DictReader(table(tmp_path).decode().splitlines())] == ['labels only', 'random', 'block', 'all labels']


def test_what_cannot_be(tmp_path):
    for args, words in (([4], 'table 4'), ([7, '--labeled', '9999'], '9999'), ([7, '--also', 'sise=3'], '--sise'), ([7, '--data', 'camvid'], 'camvid'), ([7, '--collect'], 'no run of this table')):
        code, out, err = done(start(tmp_path, *args))
        assert code == 2 and err.count('\n') == 1 and 'Traceback' not in err and words in err, (args, err)
    assert not (tmp_path/'runs').exists()
    code, out, err = done(start(tmp_path, 7, '--plan', '--seeds', 1))
    assert code == 0 and '6 of 6 runs to do' in out and not (tmp_path/'runs').exists()
