"An environment that holds the package, what it requires and a kernel, made of the packages of this one; and notebooks run in it."
import ast
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from configparser import ConfigParser
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from unittest.mock import patch
import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def settings():
    parser = ConfigParser(delimiters=['='])
    parser.read(ROOT/'settings.ini', encoding='utf-8')
    return parser['DEFAULT']


def closure(requirements):
    "The installed distributions, by name, that pip would install for these."
    found, seen, todo = {}, set(), [Requirement(r) for r in requirements]
    while todo:
        r = todo.pop()
        for extra in {'', *r.extras}:
            if (canonicalize_name(r.name), extra) in seen: continue
            seen.add((canonicalize_name(r.name), extra))
            dist = found[canonicalize_name(r.name)] = metadata.distribution(r.name)
            wants = map(Requirement, dist.requires or [])
            todo += [w for w in wants if w.marker is None and not extra or w.marker and w.marker.evaluate(dict(extra=extra))]
    return found


def link(dists, site):
    "Their files into a folder, by reference; a folder as a whole, unless others have files in it too."
    owners = {}
    for d in metadata.distributions():
        name = canonicalize_name(d.name)                    # reads its metadata, each time
        for f in d.files or (): owners.setdefault(f.parts[0], set()).add(name)
    for d in dists.values():
        for f in d.files:
            part = Path(f.parts[0]) if owners[f.parts[0]] <= dists.keys() else Path(f)
            if '..' in part.parts or '__pycache__' in part.parts or (site/part).is_symlink(): continue
            (site/part).parent.mkdir(parents=True, exist_ok=True)
            (site/part).symlink_to(d.locate_file(part))


def build(folder):
    "Such an environment in a folder; returns its Python."
    subprocess.run([sys.executable, '-m', 'venv', '--without-pip', folder/'env'], check=True)
    python = folder/'env'/('Scripts' if os.name == 'nt' else 'bin')/'python'
    site = Path(subprocess.check_output([python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))'], text=True).strip())
    link(closure([*settings()['requirements'].split(), 'ipykernel']), site)
    for name in ('maskmatch', 'settings.ini', 'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'CHANGELOG.md', 'CONTRIBUTING.md', 'CITATION.cff'):
        (shutil.copytree if (ROOT/name).is_dir() else shutil.copy)(ROOT/name, folder/'tree'/name)
    subprocess.run([sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', site, folder/'tree'], check=True)
    return python


SKIPS = re.compile(r"No module named '([\w.]+)': the cells? that needs? it (?:is|are) skipped")


def names(source): # what a cell binds, and what it mentions
    nodes = list(ast.walk(ast.parse(TransformerManager().transform_cell(source))))
    bound = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} | {(n.asname or n.name).split('.')[0] for n in nodes if isinstance(n, ast.alias)}
    return bound | {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}, {n.id for n in nodes if isinstance(n, ast.Name)}


def waiting(cells): # those that something was missing for, and those that mention it
    missing = set().union(*(names(c.source)[0] for c in cells if SKIPS.search(said([c]))))
    return [c for c in cells if missing & set.union(*names(c.source))]


def said(cells): return ''.join(o.get('text', '') for c in cells for o in c.get('outputs', ()))


KERNELS = Path(__file__).with_name('kernels.py')


def variables(): # for a process that should find nothing but what is installed for it
    return {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'VIRTUAL_ENV', 'MPLBACKEND')} | dict(PYTHONNOUSERSITE='1')


@contextmanager
def kernels(python):
    "What forks kernels of that Python: the address of its socket."
    folder = tempfile.TemporaryDirectory()                                       # a short name: a socket's may have 100 letters
    address = Path(folder.name)/'socket'
    p = subprocess.Popen([python, KERNELS, 'serve', address], env=variables(), start_new_session=True)
    try:
        while not address.exists(): time.sleep(.05); assert p.poll() is None
        yield address
    finally: os.killpg(p.pid, signal.SIGKILL), folder.cleanup()


def every_second(get_msg):
    "The same, looking again each second: now and then asyncio misses the arrival of a reply, which is then read when the time is up, all five minutes of it."
    async def patient(timeout=None):
        end = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            try: return await get_msg(timeout=1)
            except Empty:
                if time.monotonic() > end: raise
    return patient


def run(*args):
    "Every code cell of a notebook in a kernel of that Python, in an empty folder; then, with this environment's packages too, those that skipped. Seconds, what was missing and what still is, the error, and the files left behind."
    try: return once(*args)
    except RuntimeError: return once(*args)                                      # two tests at a time may find the same port free; the kernel that comes second dies at once


def once(path, python, address, folder):
    folder.mkdir(parents=True, exist_ok=True)
    spec = folder.with_suffix('.jupyter')/'kernels'/'it'
    spec.mkdir(parents=True, exist_ok=True)
    (spec/'kernel.json').write_text(json.dumps(dict(argv=[str(python), str(KERNELS), '{connection_file}', str(address)], display_name='it', language='python')))
    env, nb, start, error, missing = variables(), nbformat.read(path, 4), time.monotonic(), None, []
    client = NotebookClient(nb, kernel_name='it', timeout=300, resources=dict(metadata=dict(path=str(folder))))
    cells = [c for c in nb.cells if c.cell_type == 'code']
    with patch.dict(os.environ, JUPYTER_PATH=str(spec.parent.parent)), client.setup_kernel(env=env):
        client.kc.shell_channel.get_msg = every_second(client.kc.shell_channel.get_msg)
        try:
            for c in cells: client.execute_cell(c, nb.cells.index(c))
            if missing := SKIPS.findall(said(cells)):
                more = nbformat.v4.new_code_cell(f"__import__('site').addsitedir({sysconfig.get_path('purelib')!r})")
                nb.cells.append(more)
                for c in [more, *waiting(cells)]: client.execute_cell(c, nb.cells.index(c))
        except Exception as e: error = str(e)
    return SimpleNamespace(seconds=time.monotonic() - start, missing=missing, still=SKIPS.findall(said(cells)), error=error, left=[p.name for p in folder.iterdir()])
