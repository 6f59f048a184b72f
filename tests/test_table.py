"`maskmatch_table` in processes: broken off and continued, runs that fail, and what cannot work. Rows, plan and files: notebook 41. What docs/results keeps is made anew from its logs."
import csv
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import pytest
import trees
from commands import ENV, ROOT, command, ok, program, refused
from maskmatch.table import TableConfig, argv, maskmatch_table, planned, spread


def small(tmp_path): # options of a table, as Python and as the command takes them
    options = dict(data='camvid', root=str(trees.camvid(tmp_path)), labeled='3', seeds=1, steps=20, device='cpu', also='model=small weights=none size=32 batch=2 evals=1 every=2')
    return options, [v for k, o in options.items() for v in (f'--{k}', str(o))]


def start(cwd, *args):
    return subprocess.Popen([sys.executable, '-c', program('maskmatch_table'), *map(str, args)], cwd=cwd, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))    # where the tests run in the background it is ignored


def done(p):
    out, err = p.communicate(timeout=300)
    return p.returncode, out, err


def table(cwd): return (cwd/'runs'/'tables-camvid'/'table9-3.csv').read_bytes()


def test_broken_off_refused_a_folder_and_continued(tmp_path, monkeypatch):
    whole, broken = (tmp_path/k for k in ('whole', 'broken'))
    whole.mkdir(), broken.mkdir()
    options, typed = small(tmp_path)
    monkeypatch.chdir(whole)
    for r in planned(TableConfig('9', **options)): ok(command('maskmatch_train', *argv(r)))   # each alone, as `--plan` shows them
    ok(command('maskmatch_table', 9, *typed, '--collect'))
    p = start(broken, 9, *typed)
    while not list(broken.glob('runs/*/*/log.csv')): time.sleep(.05); assert p.poll() is None
    os.killpg(p.pid, signal.SIGINT)                                             # as a terminal does: the command and its runs
    assert done(p)[0] != 0 and not list(broken.glob('runs/*/*.csv'))
    place = broken/'runs'/'tables-camvid'/'maskmatch-sampler=grid-3-0'
    shutil.rmtree(place, ignore_errors=True), place.mkdir(), (place/'mine.txt').write_text('not a run')
    code, out, err = done(start(broken, 9, *typed))                             # a run that cannot be takes no other with it
    assert code == 2 and err.count('\n') == 1 and '1 of 5 runs failed' in err and 'sampler=grid-3-0' in err and 'holds no run' in err
    assert [v['row'] for v in csv.DictReader(table(broken).decode().splitlines())] == ['labels only', 'random', 'block', 'all labels']
    shutil.rmtree(place)
    code, out, err = done(start(broken, 9, *typed))
    assert code == 0, err
    assert table(broken) == table(whole)
    assert len(list(csv.DictReader(table(whole).decode().splitlines()))) == 5 and 'of 5 runs' in out


def test_what_cannot_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for args, words in (([4], 'table 4'), ([7, '--labeled', '9999'], '9999'), ([7, '--also', 'sise=3'], '--sise'), ([7, '--data', 'camvid'], 'camvid'), ([7, '--collect'], 'no run of this table')):
        refused(command('maskmatch_table', *args), words, out=tmp_path/'runs')
    assert '6 of 6 runs to do' in ok(command('maskmatch_table', 7, '--plan', '--seeds', 1)) and not (tmp_path/'runs').exists()


KEPT = sorted((ROOT/'docs'/'results').glob('tables-*/table*.md'))


@pytest.mark.parametrize('md', KEPT, ids=lambda p: f'{p.parent.name}/{p.stem}')
def test_a_kept_table_is_that_of_its_logs(md, tmp_path):
    "The command under the table, in a copy of the folder: the same table; and every run that it names has its log."
    assert len(KEPT) > 12
    folder = tmp_path/md.parent.name
    shutil.copytree(md.parent, folder, ignore=shutil.ignore_patterns('table*'))
    command = shlex.split(re.search(r'`maskmatch_table (.*)`', md.read_text())[1])
    maskmatch_table([*command, '--collect', '--out', str(folder)])
    for end in ('.md', '.csv', '-time.csv'):
        old, new = (f.with_name(md.stem + end).read_text() for f in (md, folder/md.name))
        drop = lambda text: re.sub(r'\| [\d.e-]+ \| (\d+ \| [\d. ]*\|)$', r'| \1', text, flags=re.M) if end == '.md' else text     # estimated memory: another version of PyTorch keeps other tensors
        if end == '.csv': old, new = ([{k: v for k, v in r.items() if k != 'gib'} for r in csv.DictReader(t.splitlines())] for t in (old, new))
        else: old, new = map(drop, (old, new))
        assert old == new
    runs = list(md.parent.glob('*/metrics.json'))
    assert len(runs) >= len(md.with_suffix('.csv').read_text().splitlines()) - 1 > 2
    for f in runs: assert (f.parent/'log.csv').stat().st_size and (f.parent/'config.json').exists() and (f.parent/'environment.json').exists()


def test_the_first_page_has_what_the_tables_have():
    def of(data, labels): # method -> mean and spread
        with open(ROOT/'maskmatch'/'stored'/f'tables-{data}.csv') as f: runs = [r for r in csv.DictReader(f) if r['run'].split('-')[-2] in (labels, 'all') and '=' not in r['run']]
        name = lambda r: r['method'] + ' --labeled all'*('-all-' in r['run'])
        return {m: spread([float(r['last']) for r in runs if name(r) == m]) for m in map(name, runs)}
    shapes, camvid = of('shapes', '40'), of('camvid', '12')
    table = re.findall(r'^\| [^|]+ \| (?:`--method ([^`]+)`|\((default)\)) \| ([^|]+) \| ([^|]+) \|$', (ROOT/'README.md').read_text(encoding='utf-8'), re.M)
    said = {method or 'maskmatch': (a, b) for method, _, a, b in table}
    assert said == {m: (shapes[m], camvid[m]) for m in shapes} and len(said) == 13
