"What keeps the house in order: notebooks and modules in sync, clean, small, and imports in one direction."
import ast
import graphlib
import json
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT/'nbs').glob('[!_]*.ipynb'))
MODULES = sorted(p for p in (ROOT/'maskmatch').glob('[!_]*.py'))
METHOD = ['notation', 'processes', 'shapes', 'views', 'supervised', 'teacher', 'weak_to_strong', 'masking', 'lcr', 'multiscale', 'objective']


def cells(nb): return json.loads(nb.read_text(encoding='utf-8'))['cells']
RIVALS = {p.stem.split('_', 1)[1] for p in NOTEBOOKS if '31' <= p.stem[:2] <= '39'}


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The tree's sources in a folder of its own, exported and cleaned there."
    d = tmp_path_factory.mktemp('tree')
    for name in ('nbs', 'maskmatch'): shutil.copytree(ROOT/name, d/name, ignore=shutil.ignore_patterns('__pycache__', '_*.ipynb', '.ipynb_checkpoints'))
    for name in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/name, d/name)
    for tool in ('nbdev_export', 'nbdev_clean'):
        subprocess.run([Path(sys.executable).parent/tool], cwd=d, check=True, capture_output=True)
    return d


def test_modules_are_what_the_notebooks_export(copy):
    for p in (ROOT/'maskmatch').glob('*.py'):
        assert p.read_text() == (copy/'maskmatch'/p.name).read_text(), f'{p.name}: run nbdev_export'
    assert {p.name for p in (copy/'maskmatch').glob('*.py')} == {p.name for p in (ROOT/'maskmatch').glob('*.py')}


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_is_clean(nb, copy):
    assert nb.read_bytes() == (copy/'nbs'/nb.name).read_bytes(), f'{nb.name}: run nbdev_clean'
    assert nb.stat().st_size < 1_000_000
    for c in cells(nb):
        for o in c.get('outputs', []):
            assert o['output_type'] != 'error', f'{nb.name} stores an error'
            assert not any('widget' in k for k in o.get('data', {})), f'{nb.name} stores raw widget output'


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_first_cell_is_title_and_blurb(nb):
    lines = [x for x in ''.join(cells(nb)[0]['source']).splitlines() if x]
    assert len(lines) == 2 and lines[0].startswith('# ') and lines[1].startswith('> '), f'{nb.name}: {lines}'


@pytest.mark.parametrize('nb', [n for n in NOTEBOOKS if n.stem[:2].isdigit() and int(n.stem[:2]) < 15], ids=lambda p: p.stem)
def test_outputs_are_stored(nb):
    code = [c for c in cells(nb) if c['cell_type'] == 'code']
    assert any('text/html' in o.get('data', {}) and 'type="range"' in ''.join(o['data']['text/html']) for c in code for o in c['outputs']), \
        f'{nb.name}: no interactive figure is stored; run python docs/execute.py {nb.name}'


def test_sidebar_lists_every_page():
    sidebar = (ROOT/'nbs'/'sidebar.yml').read_text()
    assert len(re.findall(r'text: "(.*)", href: (\w+\.ipynb)', sidebar)) == sum(p.stem[:2].isdigit() for p in NOTEBOOKS) > 40
    assert sorted(re.findall(r'[\w.]+\.(?:ipynb|md)', sidebar)) == sorted(p.name for p in [*NOTEBOOKS, *(ROOT/'nbs').glob('*.md')])
    for text, name in re.findall(r'text: "(.*)", href: (\w+\.ipynb)', sidebar):
        assert text == f"{name.split('_')[0]} {''.join(cells(ROOT/'nbs'/name)[0]['source']).splitlines()[0][2:]}"


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_imports_stand_in_cells_of_their_own(nb):
    "The docs' builder runs the cells that import, without the others."
    for c in cells(nb):
        source = ''.join(c['source'])
        if c['cell_type'] != 'code' or source.startswith('#| export') or '%' in source: continue
        body = ast.parse(source).body
        if any(isinstance(n, (ast.Import, ast.ImportFrom)) for top in body for n in ast.walk(top)):
            assert all(isinstance(n, (ast.Import, ast.ImportFrom, ast.Try)) for n in body), f'{nb.name}: {source}'


def test_exported_cells_are_short():
    sizes = {}
    for nb in NOTEBOOKS:
        for i, c in enumerate(cells(nb)):
            source = ''.join(c['source'])
            if c['cell_type'] == 'code' and source.startswith('#| export'):
                sizes[nb.name, i] = len(source.splitlines())
    assert len(sizes) > 250 and statistics.median(sizes.values()) <= 15
    assert not [k for k, v in sizes.items() if v > 40]


def test_modules_are_short_and_import_by_name():
    for p in MODULES:
        source = p.read_text(encoding='utf-8')
        assert source.count('\n') <= 320, p.name
        assert 'import *' not in source, p.name


def imports(path):
    "The modules of the package that a module imports, in whatever form and wherever in it; `__init__` is the package itself."
    found = set()
    for n in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(n, ast.Import): names = [a.name for a in n.names]
        elif isinstance(n, ast.ImportFrom):
            assert n.level < 2, f'{path.name}: the package has no folders'
            base = '.'.join(v for v in ('maskmatch' if n.level else '', n.module) if v)
            names = [f'{base}.{a.name}' for a in n.names] if base == 'maskmatch' else [base]
        else: continue
        inside = [name.split('.') + ['__init__'] for name in names if name.split('.')[0] == 'maskmatch']
        found |= {v[1] if path.with_name(f'{v[1]}.py').exists() else '__init__' for v in inside}
    return found


def graph_of(package): return {p.stem: imports(p) for p in package.glob('*.py') if p.stem != '_modidx'}


def one_way(graph):
    "What is wrong with the imports, in sentences."
    wrong = []
    try: list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as e: wrong.append(f"cycle: {' -> '.join(e.args[1])}")
    for m, seen in graph.items():
        of_others = seen - {*METHOD}
        if m in METHOD and of_others: wrong.append(f'{m}, of the method, imports {of_others} of the machine')
        if m in RIVALS and of_others: wrong.append(f'{m}, a rival, imports {of_others} beside the method')
        if m != 'methods' and seen & RIVALS: wrong.append(f'{m} knows {seen & RIVALS}; only the list of methods does')
        if 'train' in seen: wrong.append(f'{m} imports train')
    return wrong


def test_imports_go_one_way():
    graph = graph_of(ROOT/'maskmatch')
    assert graph.keys() == {p.stem for p in MODULES} | {'__init__'} and {*METHOD} | RIVALS <= graph.keys()
    assert sum(map(len, graph.values())) > 200 and len(RIVALS) >= 6 and not graph['__init__']
    assert all(graph[m] for m in METHOD if m not in ('notation', 'processes', 'teacher', 'multiscale'))
    assert not one_way(graph), '\n'.join(one_way(graph))


@pytest.mark.parametrize('module, line, words', [
    ('processes', 'from .views import cut', 'cycle: '), ('lcr', 'from .learner import Learner', 'lcr, of the method, imports'),
    ('masking', 'def f():\n    from .run import write', 'masking, of the method, imports'),
    ('teacher', 'import maskmatch.metrics as m', 'teacher, of the method, imports'),
    ('views', 'from maskmatch.data import read', 'views, of the method, imports'),
    ('shapes', 'from . import check', 'shapes, of the method, imports'), ('shapes', 'from . import __version__', 'shapes, of the method'),
    ('cps', 'from .learner import Learner', 'cps, a rival, imports'), ('stpp', 'from .cps import Twin', 'stpp knows'),
    ('table', 'from .u2pl import roles', 'table knows'), ('scores', 'try: from .train import begin\nexcept ImportError: pass', 'scores imports train')])
def test_an_import_the_other_way_is_seen(module, line, words, tmp_path):
    shutil.copytree(ROOT/'maskmatch', tmp_path/'maskmatch', ignore=shutil.ignore_patterns('__pycache__', 'stored'))
    with open(tmp_path/'maskmatch'/f'{module}.py', 'a', encoding='utf-8') as f: f.write(f'\n{line}\n')
    assert any(words in v for v in one_way(graph_of(tmp_path/'maskmatch')))


def text_calls(source): # calls that open a text file -> whether each names its encoding
    for n in ast.walk(ast.parse(source)):
        name = getattr(n.func, 'attr', getattr(n.func, 'id', '')) if isinstance(n, ast.Call) else ''
        if name not in ('open', 'read_text', 'write_text') or getattr(getattr(n.func, 'value', None), 'id', '') in ('Image', 'av', 'os', 'run'): continue
        mode = next((a.value for a in n.args[:2] if isinstance(a, ast.Constant) and re.fullmatch('[rwabx+]+', str(a.value))), 'r')
        if 'b' not in mode: yield n.lineno, any(k.arg == 'encoding' for k in n.keywords)


def test_text_is_read_and_written_as_utf_8():
    "Without an encoding it would be that of the locale, another one on Windows."
    found = {(p.name, line): told for p in MODULES for line, told in text_calls(p.read_text(encoding='utf-8'))}
    assert len(found) > 6 and not [k for k, told in found.items() if not told]
    assert dict(text_calls("open(f)\nopen(f, 'w', encoding='utf-8')\nopen(f, 'rb')\nf.read_text()")) == {1: False, 2: True, 4: False}


def test_readme_is_made_from_the_index():
    sys.path.insert(0, str(ROOT/'docs'))
    from readme import text
    assert (ROOT/'README.md').read_text(encoding='utf-8') == text(), 'run python docs/readme.py'


def test_what_is_to_be_typed_works_from_a_clone():
    "The package is on no index: an extra is installed from the folder, and each that is named exists."
    import configparser
    settings = configparser.ConfigParser(delimiters=['='])
    settings.read(ROOT/'settings.ini', encoding='utf-8')
    texts = [*NOTEBOOKS, *MODULES, *ROOT.glob('*.md'), *(ROOT/'docs').glob('*.py'), *(ROOT/'nbs').glob('*.md')]
    named = set()
    for p in texts:
        text = p.read_text(encoding='utf-8').replace('\\', '')
        assert not re.findall(r"install [-\w ]*['\"]?maskmatch\b", text), p.name
        named |= set(re.findall(r"install [-\w ]*'\.\[(\w+)\]'", text)) | set(re.findall(r"\bextra\('(\w+)'\)", text))
    assert {'lite0', 'export', 'live', 'dev'} <= named and all(f'{v}_requirements' in settings['DEFAULT'] for v in named)


def test_import_is_quiet():
    "No import of the package (its dependencies apart) opens a socket or starts a process."
    code = '''
import socket, subprocess, sys
import torch, matplotlib.pyplot, fastcore.script, fastprogress.fastprogress, PIL.Image
def refuse(*a, **k): raise RuntimeError('not on import')
socket.socket.connect = subprocess.Popen.__init__ = refuse
import importlib
for m in sys.argv[1:]: importlib.import_module('maskmatch.' + m)
'''
    subprocess.run([sys.executable, '-c', code, *(p.stem for p in MODULES)], check=True, cwd=ROOT)


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_name_no_place_of_the_machine(nb):
    said = json.dumps([c.get('outputs', []) for c in cells(nb)])
    assert not PLACES.findall(said)


PLACES = re.compile(r'/(?:tmp|home|root|Users|var/folders)/[\w./-]+')


def test_a_place_of_the_machine_is_seen():
    for said in ('see /tmp/tmpab3_/run', '/home/ada/x.png', 'in /var/folders/z1/T'): assert PLACES.findall(json.dumps([dict(text=[said])])), said
