"What keeps the house in order: notebooks and modules in sync, clean, small, and imports in one direction."
import ast
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
def imports(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    return {n.module.split('.')[1] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and (n.module or '').startswith('maskmatch.')}


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
    assert statistics.median(sizes.values()) <= 15
    assert not [k for k, v in sizes.items() if v > 40]


def test_modules_are_short_and_import_by_name():
    for p in MODULES:
        source = p.read_text(encoding='utf-8')
        assert source.count('\n') <= 300, p.name
        assert 'import *' not in source, p.name


def test_imports_go_one_way():
    graph = {p.stem: imports(p) for p in MODULES}
    def above(m, seen=()):
        assert m not in seen, f"cycle: {' -> '.join([*seen, m])}"
        for n in graph[m]: above(n, (*seen, m))
    for m in graph: above(m)
    for m in METHOD: assert graph[m] <= set(METHOD), f'{m}, of the method, imports {graph[m] - set(METHOD)} of the machine'
    rivals = {p.stem.split('_', 1)[1] for p in NOTEBOOKS if '31' <= p.stem[:2] <= '39'}
    for m in rivals: assert graph[m] <= set(METHOD) and not any(m in v for k, v in graph.items() if k != 'methods'), f'{m}: a rival stands on the method alone, and only the list of methods knows it'
    assert not any('train' in v for v in graph.values())


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
    assert not re.findall(r'/(?:tmp|home|root|Users|var/folders)/[\w./-]+', said)
