"""Would a test notice? `python tests/mutants.py FOLDER` replaces one function at a time by one
that returns its first argument, or nothing, or raises, and says which of these mutants nobody
notices.

Works on a copy of the tree in FOLDER, where results are kept too: started again it goes on. A
mutant is tried again if its function has changed, one that survived also if a test has. First
every notebook runs as it is, which tells what it calls (a file of tests does where it is first
needed). Then, for each mutant, the notebook that defines the function runs, and whatever calls it,
from the quickest on, notebooks first, until one fails. A notebook defines the functions of its own
module in its cells, so a mutant stands there and in the module. Processes are forked from one that
holds PyTorch. Needs a system with fork."""
import argparse
import ast
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOW = ('input', 'none', 'raise')
TEXTS = ('test_structure', 'test_notebooks', 'test_site', 'test_jupyterlab')    # compare or render
LEFT_OUT = {'__repr__': 'for the reader of a traceback', '__post_init__': 'part of __init__'}
SPECIAL = ('__init__', '__call__', '__len__', '__getitem__', '__iter__', '__add__')
# What does what the function does, wherever it is called: (function, how) -> why.
EQUIVALENT = {}

RECORD = '''
import builtins as _builtins, os as _os
_seen = set()
def _called(name): # says once which functions of the package are called, in any process
    if name in _seen or 'MUTANTS_CALLED' not in _os.environ: return
    _seen.add(name)
    to = _os.open(_os.environ['MUTANTS_CALLED'], _os.O_CREAT | _os.O_WRONLY | _os.O_APPEND)
    _os.write(to, (name + chr(10)).encode())
    _os.close(to)
_builtins._called = _called
'''


def named(tree):
    "Every public function and method of a module or cell: (name, node)."
    for node in tree.body:
        if isinstance(node, ast.FunctionDef): yield owner(node) + node.name, node
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            for n in node.body:
                if isinstance(n, ast.FunctionDef): yield f'{node.name}.{n.name}', n


def owner(node):
    "The class that fastcore's @patch makes a function a method of, and a dot."
    if not any('patch' in ast.unparse(d) for d in node.decorator_list): return ''
    return ast.unparse(node.args.args[0].annotation) + '.'


def public(name):
    last = name.split('.')[-1]
    return last in SPECIAL or not last.startswith('_') and last not in LEFT_OUT


def first_argument(name, node):
    args = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
    static = any(ast.unparse(d) == 'staticmethod' for d in node.decorator_list)
    args = args[1:] if '.' in name and not static else args
    return args[0] if args else node.args.vararg.arg if node.args.vararg else None


def yields(node):
    "Is it a generator?"
    every = list(ast.walk(node))
    inner = [n for n in every[1:] if isinstance(n, (ast.FunctionDef, ast.Lambda))]
    hidden = {id(m) for n in inner for m in ast.walk(n)}
    return any(isinstance(n, (ast.Yield, ast.YieldFrom)) and id(n) not in hidden for n in every)


def body(name, node, how):
    "What the function does instead; a generator yields it."
    if how == 'raise': return "raise RuntimeError('a mutant')"
    what = first_argument(name, node) if how == 'input' else 'None'
    return f"{'yield' if yields(node) else 'return'} {what}"


def around(source, node):
    "What stands before, in and after the body of a function, its docstring apart."
    stays = ast.get_docstring(node) is not None and len(node.body) > 1
    first, last, lines = node.body[stays], node.body[-1], source.encode().splitlines(keepends=True)
    first_line = min([first.lineno, *(d.lineno for d in getattr(first, 'decorator_list', ()))])
    column = len(lines[first_line - 1]) - len(lines[first_line - 1].lstrip())
    column = max(column, first.col_offset)
    start = len(b''.join(lines[:first_line - 1])) + column
    end = len(b''.join(lines[:last.end_lineno - 1])) + last.end_col_offset
    text = source.encode()
    return text[:start].decode(), text[start:end].decode(), text[end:].decode()


def mutated(source, name, how):
    "The source with another body for that function; None where it is not defined there."
    node = dict(named(ast.parse(source))).get(name)
    if node is None: return None
    before, _, after = around(source, node)
    return before + body(name, node, how) + after


def watched(source, module):
    "The source, in which every public function says that it is called."
    names = [n for n, _ in named(ast.parse(source)) if public(n)]
    for name in names:
        before, inside, after = around(source, dict(named(ast.parse(source)))[name])
        indent = before.rpartition('\n')[2]
        between = '; ' if indent.strip() else '\n' + indent
        source = f"{before}_called('{module}.{name}'){between}{inside}{after}"
    return source


def code_cells(text): return [c for c in json.loads(text)['cells'] if c['cell_type'] == 'code']


def ways(name, node):
    "How it can be replaced, each if that changes anything."
    can = [how for how in HOW if how != 'input' or first_argument(name, node)]
    now = ast.unparse(node.body[-1])
    return [how for how in can if len(node.body) > 1 or body(name, node, how) != now]


def copied(folder):
    "A copy of the project that mutants are put into; its package tells what is called."
    tree = folder/'tree'
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    skip = shutil.ignore_patterns('.git', '.venv', '__pycache__', '_docs', '*.egg-info', '.*_cache')
    shutil.copytree(ROOT, tree, ignore=skip)
    if (ROOT.parent/'shared').exists() and not (folder/'shared').exists():
        (folder/'shared').symlink_to((ROOT.parent/'shared').resolve())
    with open(tree/'maskmatch'/'__init__.py', 'a', encoding='utf-8') as f: f.write(RECORD)
    return tree


class Sources:
    "What can be mutated, and where it stands."
    def __init__(self, root):
        self.clock = int(time.time())
        paths = [*sorted(root.glob('maskmatch/[!_]*.py')), *sorted(root.glob('nbs/[!_]*.ipynb'))]
        self.text = {str(p.relative_to(root)): p.read_text(encoding='utf-8') for p in paths}
        self.functions, self.hows = {}, {}
        for file, text in self.text.items():
            if file.endswith('.py'): self.add(Path(file), text)
        tests = [p for p in sorted(root.glob('tests/*.py')) if p.stem not in ('mutants', *TEXTS)]
        told = {str(p.relative_to(root)): p.read_text(encoding='utf-8') for p in tests}
        self.tests = {f: t for f, t in told.items() if f.startswith('tests/test_')}
        self.helpers = digest(*(t for f, t in told.items() if f not in self.tests))
        self.modules = digest(*(t for f, t in self.text.items() if f.endswith('.py')))

    def add(self, file, text):
        for name, node in named(ast.parse(text)):
            full = f'{file.stem}.{name}'
            if not public(name): continue
            self.functions[full] = ast.get_source_segment(text, node)
            self.hows[full] = ways(name, node)

    def notebooks(self): return [f for f in self.text if f.endswith('.ipynb')]

    def jobs(self):
        "Every notebook and file of tests: its path -> a digest of it and of what it runs."
        out = {f: digest(self.modules, *(''.join(c['source']) for c in code_cells(t)))
               for f, t in self.text.items() if f.endswith('.ipynb')}
        return out | {f: digest(self.modules, self.helpers, t) for f, t in self.tests.items()}

    @lru_cache(None)
    def home(self, module):
        "The notebook that exports a module."
        mark = f'#| default_exp {module}'
        for file, text in self.text.items():
            if not file.endswith('.ipynb') or mark not in text: continue
            if any(mark in ''.join(c['source']).splitlines() for c in code_cells(text)): return file
        raise LookupError(f'no notebook exports {module}')

    def plant(self, tree, function, how):
        "Put a mutant into the module and into the cell that defines it."
        module, name = function.split('.', 1)
        file, nb = f'maskmatch/{module}.py', self.home(module)
        self.put(tree/file, mutated(self.text[file], name, how))
        content, planted = json.loads(self.text[nb]), 0
        for c in content['cells']:
            source = ''.join(c['source'])
            code = c['cell_type'] == 'code' and source.startswith('#| export')
            new = mutated(source, name, how) if code else None
            if new is None: continue
            c['source'], planted = new.splitlines(keepends=True), planted + 1
        if planted != 1: raise LookupError(f'{function} stands in {planted} cells of {nb}')
        self.put(tree/nb, json.dumps(content))

    def put(self, path, text):
        "Write it, younger than ever before: what was compiled of the last one is out of date."
        self.clock += 10
        path.write_text(text, encoding='utf-8')
        os.utime(path, (self.clock, self.clock))

    def heal(self, tree):
        "As it was."
        for f, text in self.text.items():
            if (tree/f).read_text(encoding='utf-8') != text: self.put(tree/f, text)

    def watch(self, tree):
        "Let every function of the modules say that it is called."
        for f, text in self.text.items():
            if f.endswith('.py'): self.put(tree/f, watched(text, Path(f).stem))


def warm():
    "Import what a notebook or a test imports, except what is under test."
    os.environ |= dict(OMP_NUM_THREADS='1', MPLBACKEND='module://matplotlib_inline.backend_inline')
    import matplotlib.figure, nbdev.test, pytest, scipy.stats, torch._dynamo, torchvision  # noqa
    for name in 'scipy.ndimage timm torchmetrics segmentation_models_pytorch onnxscript'.split():
        with suppress(ImportError): importlib.import_module(name)
    torch.set_num_threads(1)
    assert 'maskmatch' not in sys.modules


def passes(tree, job, temp):
    "Run a notebook or a file of tests in this process."
    os.environ |= dict(TMPDIR=str(temp), PYTHONPATH=str(tree))
    sys.path[:] = [str(tree), *(p for p in sys.path if p != str(Path(__file__).parent))]
    os.chdir(tree)
    import tempfile
    tempfile.tempdir = None
    if job.endswith('.ipynb'):
        from nbdev.test import test_nb
        return test_nb(tree/job, skip_flags=['slow', 'cuda'])[0]
    import pytest
    os.environ.pop('MPLBACKEND', None)
    args = ['-x', '-q', '-o', 'addopts=', '-p', 'no:cacheprovider', '-p', 'no:xdist', '--tb=short']
    return pytest.main([*args, f'--basetemp={temp/"pytest"}', str(tree/job)]) in (0, 5)


def forked(tree, job, limit, called=None):
    "(passed, failed or time; seconds; what was said) of a job in a process of its own."
    temp, start, done = tree.parent/'temp', time.monotonic(), 0
    shutil.rmtree(temp, ignore_errors=True)
    temp.mkdir()
    pid = os.fork()
    if not pid:
        code = 2
        try:
            os.setsid()
            to = os.open(temp/'said', os.O_CREAT | os.O_WRONLY)
            os.dup2(to, 1)
            os.dup2(to, 2)
            if called: os.environ['MUTANTS_CALLED'] = str(called)
            code = 0 if passes(tree, job, temp) else 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    while not done and time.monotonic() - start < limit:
        time.sleep(.05)
        done, status = os.waitpid(pid, os.WNOHANG)
    with suppress(ProcessLookupError): os.killpg(pid, signal.SIGKILL)   # and what it has started
    if not done: os.waitpid(pid, 0)
    verdict = 'time' if not done else 'passed' if status == 0 else 'failed'
    text = (temp/'said').read_text(encoding='utf-8', errors='replace')
    shutil.rmtree(temp, ignore_errors=True)
    return verdict, round(time.monotonic() - start, 1), text


def reason(text):
    "The line of a failure that says what went wrong."
    lines = [x.strip() for x in text.splitlines()]
    lines = [x for x in lines if 'Error' in x or x.startswith('E  ')]
    return lines[-1][:160] if lines else ''


def digest(*texts): return hashlib.sha256('\0'.join(texts).encode()).hexdigest()[:16]


def as_it_is(tree, src, job, key, limit):
    "A job without a mutant: does it pass, how long does it take, and what does it call?"
    called = tree.parent/'called'
    called.unlink(missing_ok=True)
    src.watch(tree)
    verdict, seconds, said = forked(tree, job, limit, called)
    src.heal(tree)
    calls = sorted(set(called.read_text().split())) if called.exists() else []
    if verdict != 'passed': calls, (verdict, seconds, said) = None, forked(tree, job, limit)
    why = '' if verdict == 'passed' else reason(said)
    return dict(job=job, key=key, verdict=verdict, seconds=seconds, calls=calls, why=why)


def tried(tree, src, base, function, how):
    "The row of a mutant: who noticed it, if anybody. `base`: of a job, its row as it is."
    start, home = time.monotonic(), src.home(function.split('.')[0])
    row = dict(function=function, how=how, verdict='survived', by='', why='', tried=0)
    def calling(jobs):
        rows = [base(j) for j in jobs if j != home]
        rows = [r for r in rows if r['calls'] is None or function in r['calls']]
        return sorted((r for r in rows if r['verdict'] == 'passed'), key=lambda r: r['seconds'])
    stages = (lambda: [base(home)], lambda: calling(src.notebooks()), lambda: calling(src.tests))
    for stage in stages:
        for r in stage():
            if r['verdict'] != 'passed' or row['by']: continue
            src.plant(tree, function, how)
            verdict, _, said = forked(tree, r['job'], 300 + 8*r['seconds'])
            src.heal(tree)
            row['tried'] += 1
            if verdict == 'passed': continue
            row |= dict(by=r['job'], why=reason(said), verdict=verdict.replace('failed', 'killed'))
        if row['by']: break
    return row | dict(seconds=round(time.monotonic() - start, 1))


def sample(src, n, seed):
    "n of (function, how). What is added or renamed moves few of the others."
    def draw(what): return random.Random(f'{seed} {what}')
    can = sorted(f for f, hows in src.hows.items() if hows)
    chosen = sorted(can, key=lambda f: draw(f).random())[:n]
    return [(f, draw(f + ' how').choice(src.hows[f])) for f in chosen]


def stored(file):
    "The rows of a file of JSON lines."
    return [json.loads(x) for x in file.read_text().splitlines()] if file.exists() else []


def append(file, row):
    with open(file, 'a') as f: f.write(json.dumps(row) + '\n')


SAID = ('function', 'how', 'job', 'verdict', 'by', 'seconds', 'why')


def in_processes(folder, jobs, todo, work, file):
    "work(tree, x) for each of todo, the rows appended to a file."
    pids = []
    for k in range(jobs):
        pids.append(os.fork())
        if pids[-1]: continue
        try:
            for x in todo[k::jobs]:
                row = work(folder/str(k)/'tree', x)
                append(file, row)
                print(*(row[c] for c in SAID if c in row), flush=True)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if any(os.waitpid(p, 0)[1] for p in pids): sys.exit('a process ended with an error')


def main():
    p = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    p.add_argument('folder', type=Path, help='where the copies and the results go')
    p.add_argument('--n', type=int, default=150, help='how many mutants')
    p.add_argument('--seed', type=int, default=0, help='of the sample')
    p.add_argument('--jobs', type=int, default=1, help='processes')
    p.add_argument('--only', default='', help='functions whose name holds this, in every way')
    p.add_argument('--limit', type=float, default=1800, help='seconds for a job without a mutant')
    a = p.parse_args()
    folder = a.folder.resolve()
    trees = [copied(folder/str(k)) for k in range(a.jobs)]
    src = Sources(trees[0])
    keys = src.jobs()
    warm()
    bases, results = folder/'baseline.jsonl', folder/'results.jsonl'
    def now(): return {r['job']: r for r in stored(bases) if keys.get(r['job']) == r['key']}
    def plain(tree, job): return as_it_is(tree, src, job, keys[job], a.limit)
    in_processes(folder, a.jobs, [j for j in src.notebooks() if j not in now()], plain, bases)
    mutants = sample(src, a.n, a.seed)
    if a.only: mutants = [(f, how) for f, hows in src.hows.items() if a.only in f for how in hows]
    def key(m): return digest(src.functions[m[0]], m[1])
    everything = digest(*keys.values())
    def known():
        rows = {(r['function'], r['how']): r for r in stored(results)}
        return {m: r for m, r in rows.items() if m in mutants and r['key'] == key(m)
                and (r['verdict'] != 'survived' or r['all'] == everything)}
    def work(tree, m):
        def base(job):
            if job not in now(): append(bases, plain(tree, job))
            return now()[job]
        return tried(tree, src, base, *m) | dict(key=key(m), all=everything)
    in_processes(folder, a.jobs, [m for m in mutants if m not in known()], work, results)
    for r in now().values():
        if r['verdict'] != 'passed': print(f"{r['job']} fails as it is, is left out: {r['why']}")
    told(known())


def told(rows):
    "Print the table and the rate."
    alive = {m: r for m, r in rows.items() if r['verdict'] == 'survived'}
    same = {m for m in alive if m in EQUIVALENT}
    for m, r in sorted(rows.items()):
        print(f"{m[0]:45}{m[1]:7}{r['verdict']:10}{r['seconds']:7.1f} s  {r['by']}")
    for m in sorted(alive): print('survives:', *m, f'= {EQUIVALENT[m]}' if m in same else '')
    print(*(f'{n} {k},' for k, n in Counter(r['verdict'] for r in rows.values()).items()), end=' ')
    n = len(rows) - len(same)
    print(f'of {n} that are not equivalent {1 - (len(alive) - len(same))/n:.1%} are noticed')


if __name__ == '__main__': main()
