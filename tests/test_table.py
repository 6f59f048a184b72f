"`maskmatch_table` in processes: broken off and continued, runs that fail, and what cannot work. Rows, plan and files: notebook 41. What docs/results keeps is made anew from its logs."
import csv
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import fields
import pytest
import trees
from commands import ENV, ROOT, command, ok, program, refused
from maskmatch.config import Config
from maskmatch.notation import BadInput
from maskmatch.run import MOVES
from maskmatch.table import TableConfig, argv, finished, maskmatch_table, planned, spread, workplaces


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


@pytest.fixture(scope='module')
def trained(tmp_path_factory): # a run of a table, and the options that all its runs were given
    given = dict(labeled='20', seeds=1, steps=2, device='cpu', out=str(tmp_path_factory.mktemp('table')))
    small = dict(size=32, batch=2, evals=1, every=2, amp='off')
    run = next(r for r in planned(asking(given, small)) if r.config.method == 'maskmatch')
    ok(command('maskmatch_train', *argv(run)))
    assert finished(run)
    return run, given, small


def asking(given, small): return TableConfig('7', also=' '.join(f'{k}={v}' for k, v in small.items()), **given)


FREE = {*MOVES, 'out', 'compare', 'device'}                                     # what may differ
NAMED = {'data', 'labeled', 'method', 'seed', 'preset', 'dry_run', 'val', 'split'}  # what is in the name, and what these pictures have not
OTHER = dict(unlabeled='all', split_seed=1, side=40, lcr=False, ms=False, tau=.5, p=8, gamma=.3, scales='1,0.5', ensemble='logit', lambda1=.5, lambda2=.5, burn_in=.25, alpha=.9,
             sampler='grid', where='unmasked', norm='valid', bn='strong', loss='ohem', resize='1,2', cutmix_p=.2, blur=1., model='deeplabv3plus_resnet50', output_stride=16,
             weights='backbone.pt', size=40, batch=4, steps=4, epochs=1., lr=.01, head_lr=2., weight_decay=0., eval='slide', window=24, stride=8, evals=2, amp='bf16', every=1, watch=False, autotune=True, accumulate=2,
             recalibrate=2)


def test_every_option_is_in_the_lists_above(): assert {f.name for f in fields(Config)} == FREE | NAMED | {*OTHER} and not {*OTHER} & (FREE | NAMED)


@pytest.mark.parametrize('option', OTHER)
def test_a_run_with_another_option_is_not_this_one(option, trained):
    "Whether the folder has it or the command: one sentence that names folder and option."
    run, *_ = trained
    file = run.dir/'config.json'
    before = file.read_text(encoding='utf-8')
    said = f"{run.dir}: holds a run with --{option.replace('_', '-')} "
    try:
        file.write_text(json.dumps(json.loads(before) | {option: OTHER[option]}), encoding='utf-8')
        with pytest.raises(BadInput) as e: finished(run)
        assert str(e.value).startswith(f'{said}{OTHER[option]}, not ')
    finally: file.write_text(before, encoding='utf-8')
    default = Config.__dataclass_fields__[option].default
    if default is None or json.loads(before)[option] != default: return
    old = json.loads(before)
    del old[option]                                                             # a run that is older than the option had its default
    try:
        file.write_text(json.dumps(old), encoding='utf-8')
        assert finished(run)
        setattr(run.config, option, OTHER[option])
        with pytest.raises(BadInput) as e: finished(run)
        assert str(e.value).startswith(f'{said}{default}, not {OTHER[option]}')
    finally:
        file.write_text(before, encoding='utf-8')
        setattr(run.config, option, json.loads(before)[option])


@pytest.mark.parametrize('option', ['cutmix_p', 'bn', 'weight_decay', 'alpha', 'head_lr', 'loss', 'ensemble', 'blur', 'split_seed', 'amp', 'output_stride', 'lr'])
def test_what_is_also_given_is_never_mistaken(option, trained):
    run, given, small = trained
    options = [v for k, o in (given | dict(also=asking(given, small | {option: OTHER[option]}).also)).items() for v in (f'--{k}', str(o))]
    for way in ('--plan', '--collect'): refused(command('maskmatch_table', '7', *options, way), run.dir, f"--{option.replace('_', '-')} ")


def test_a_longer_run_that_was_broken_off_is_not_finished(trained):
    run, *_ = trained
    file, before = run.dir/'metrics.json', (run.dir/'metrics.json').read_text(encoding='utf-8')
    try:
        file.write_text(json.dumps(json.loads(before) | dict(steps=1)), encoding='utf-8')
        assert not finished(run)
    finally: file.write_text(before, encoding='utf-8')
    assert finished(run)


def test_a_format_that_nobody_asked_for_is_that_of_the_machine(trained):
    "A run whose machine chose its format may have been trained on another machine; one of this machine must have this machine's."
    run, given, small = trained
    place, auto = run.dir/'environment.json', next(r for r in planned(asking(given, small | dict(amp='auto'))) if r.dir == run.dir)
    config, machine = (run.dir/'config.json').read_text(encoding='utf-8'), place.read_text(encoding='utf-8')
    other = json.dumps(json.loads(config) | dict(amp='fp16'))                    # what no CPU takes by itself
    try:
        (run.dir/'config.json').write_text(other, encoding='utf-8')
        with pytest.raises(BadInput, match='--amp fp16, not auto'): finished(auto)
        place.write_text(json.dumps(json.loads(machine) | dict(processor='another')), encoding='utf-8')
        assert finished(auto)
        with pytest.raises(BadInput, match='--amp fp16, not off'): finished(run)
    finally:
        (run.dir/'config.json').write_text(config, encoding='utf-8')
        place.write_text(machine, encoding='utf-8')


def test_what_each_run_has_of_its_own(tmp_path):
    for option in ('out=x', 'seed=3', 'dry_run'): refused(command('maskmatch_table', 7, '--also', option, '--out', tmp_path/'t'), option.split('=')[0])


@pytest.mark.parametrize('said, have, places', [
    (None, 2, ['0', '1', '0']), ('3,1', 2, ['3', '1', '3']), ('GPU-5f, MIG-7a', 2, ['GPU-5f', 'MIG-7a', 'GPU-5f']), ('2,-1,0', 1, ['2', '2', '2']), ('', 0, [None]*3)])
def test_jobs_take_the_gpus_that_are_visible(said, have, places, monkeypatch):
    monkeypatch.setattr('torch.cuda.device_count', lambda: have)                # of machines that this one is not
    if said is None: monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    else: monkeypatch.setenv('CUDA_VISIBLE_DEVICES', said)
    assert [v.get('CUDA_VISIBLE_DEVICES') for v in workplaces(TableConfig('7', jobs=3))] == places
    assert len(workplaces(TableConfig('7'))) == (have or os.cpu_count())
    assert workplaces(TableConfig('7', jobs=1, device='cpu')) == [dict(OMP_NUM_THREADS=str(os.cpu_count()))]


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
