"Every notebook runs from top to bottom where only the package, what it requires and a kernel are installed, and from any folder; what was skipped there runs when the rest is there too."
import json
import os
import subprocess
import sys
from pathlib import Path
import pytest
from filelock import FileLock
import bare
from bare import ROOT

sys.path.insert(0, str(ROOT/'docs'))
NOTEBOOKS = sorted((ROOT/'nbs').glob('[!_]*.ipynb'))


@pytest.fixture(scope='session')
def python(tmp_path_factory):
    "Of one such environment, for all processes of the tests."
    base = tmp_path_factory.getbasetemp().parent if 'PYTEST_XDIST_WORKER' in os.environ else tmp_path_factory.getbasetemp()
    with FileLock(base/'bare.lock'):
        if not (base/'bare').exists():
            python = bare.build(tmp_path_factory.mktemp('bare'))
            (base/'bare').write_text(str(python))
    return Path((base/'bare').read_text())


@pytest.fixture(scope='session')
def kernels(python):
    with bare.kernels(python) as address: yield address


def test_nothing_else_is_installed(python):
    names = bare.closure(['maskmatch[dev]']).keys() - bare.closure([*bare.settings()['requirements'].split(), 'ipykernel', 'maskmatch']).keys()
    assert {'nbdev', 'execnb', 'timm', 'torchmetrics', 'scikit-image', 'ipywidgets', 'pytest'} <= names
    code = 'import sys; from importlib import metadata; import maskmatch; print(sorted(d.name.lower() for d in metadata.distributions()), maskmatch.__file__)'
    said = subprocess.run([python, '-I', '-c', code], capture_output=True, text=True, check=True, cwd=python.parent).stdout
    assert "'maskmatch'" in said and str(ROOT) not in said and not [n for n in names if f"'{n}'" in said.replace('_', '-')], said


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs(nb, python, kernels, tmp_path):
    r = bare.run(nb, python, kernels, tmp_path/'alone')
    print(f"{nb.stem}: {r.seconds:.0f} s{f', the cells that need {r.missing} once more' if r.missing else ''}")
    assert r.error is None, r.error
    assert not r.left, f'leaves {r.left} in the folder it runs in'
    assert not r.still, f'skipped with everything installed: {r.still}'


def test_what_is_skipped_is_seen():
    "Every notebook that does without a package says so in the words that `bare` looks for."
    said = [line for nb in NOTEBOOKS for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if not ''.join(c['source']).startswith('#| export')
            for line in ''.join(c['source']).splitlines() if line.startswith('except ImportError as e: ')]
    assert len(said) >= 7
    for line in said:
        assert bare.SKIPS.findall(line.replace('{e}', "No module named 'some.package'")) == ['some.package'], line


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda p: p.stem)
def test_first_code_cell_installs_what_is_missing(nb):
    from colab import cell
    assert bare.settings()['git_url'].rstrip('/').endswith('/'.join(bare.settings()[k] for k in ('user', 'repo')))
    code = [''.join(c['source']) for c in json.loads(nb.read_text(encoding='utf-8'))['cells'] if c['cell_type'] == 'code']
    assert not code or code[0] == cell(), f'{nb.name}: run python docs/colab.py'
