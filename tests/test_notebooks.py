"Every notebook runs from top to bottom where only the package, what it requires and a kernel are installed, and from any folder; what was skipped there runs here."
import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import pytest

pytest.importorskip('nbclient')
import bare
from bare import ROOT

sys.path.insert(0, str(ROOT/'docs'))
pytestmark = pytest.mark.xdist_group('notebooks')            # one environment for all
NOTEBOOKS = sorted((ROOT/'nbs').glob('[!_]*.ipynb'))
SKIPS = re.compile(r"No module named '([\w.]+)': the cells? that needs? it (?:is|are) skipped")


@pytest.fixture(scope='module')
def python(tmp_path_factory): return bare.build(tmp_path_factory.mktemp('bare'))


@pytest.fixture(scope='module')
def ran(request, python, tmp_path_factory):
    "The notebooks that were asked for, two at a time; those that say that something is missing, here as well."
    asked = [i.callspec.params['nb'] for i in request.session.items if getattr(i, 'originalname', '') == 'test_notebook_runs']
    d = tmp_path_factory.mktemp('runs')
    def both(nb):
        alone = bare.run(nb, python, d/f'{nb.stem}-bare')
        return alone, bare.run(nb, sys.executable, d/f'{nb.stem}-dev') if SKIPS.search(alone.said) else None
    with ThreadPoolExecutor(2) as pool: return dict(zip(asked, pool.map(both, asked)))


def test_nothing_else_is_installed(python):
    names = [r for r in bare.closure(['maskmatch[dev]']) if r not in bare.closure([*bare.settings()['requirements'].split(), 'ipykernel', 'maskmatch'])]
    assert {'nbdev', 'execnb', 'timm', 'torchmetrics', 'scikit-image', 'ipywidgets', 'pytest'} <= set(names)
    code = 'import sys; from importlib import metadata; import maskmatch; print(sorted(d.name.lower() for d in metadata.distributions()), maskmatch.__file__)'
    said = subprocess.run([python, '-c', code], capture_output=True, text=True, check=True, cwd=python.parent).stdout
    assert "'maskmatch'" in said and str(ROOT) not in said and not [n for n in names if f"'{n}'" in said.replace('_', '-')], said


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(nb, ran):
    alone, here = ran[nb]
    print(f'{alone.seconds:.0f} s', SKIPS.findall(alone.said), here and f'{here.seconds:.0f} s')
    for r in filter(None, (alone, here)):
        assert r.error is None, r.error
        assert not r.left, f'leaves {r.left} in the folder it runs in'
        assert r.seconds < 300
    assert here is None or not SKIPS.search(here.said), f'skipped here too: {SKIPS.findall(here.said)}'


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_first_code_cell_installs_what_is_missing(nb):
    from colab import cell
    assert bare.settings()['git_url'].rstrip('/').endswith('/'.join(bare.settings()[k] for k in ('user', 'repo')))
    code = [''.join(c['source']) for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    assert not code or code[0] == cell(), f'{nb.name}: run python docs/colab.py'
