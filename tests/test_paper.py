"What the pages say of each other and of the package: links and headings, 'From paper to code', the glossary, the form of a page."
import contextlib
import importlib
import io
import json
import re
import shlex
from configparser import ConfigParser
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = {p.stem: p for p in sorted((ROOT/'nbs').glob('[!_]*.ipynb'))}
NUMBERED = [n for n in NOTEBOOKS if n[:2].isdigit()]


def sources(name, kind): return [''.join(c['source']) for c in json.loads(NOTEBOOKS[name].read_text(encoding='utf-8'))['cells'] if c['cell_type'] == kind]


def outside_code(text): return re.sub(r'`[^`\n]*`', '', re.sub(r'^```.*?^```', '', text, flags=re.M | re.S))


def slug(heading):
    "The anchor that Quarto gives a heading: pandoc's `auto_identifiers`."
    text = re.sub(r'[^\w\-. ]', '', re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)).strip().lower()
    return re.sub(r'^[\W\d_]+', '', re.sub(r' +', '-', text))


def headings(name):
    text = re.sub(r'^```.*?^```', '', '\n\n'.join(sources(name, 'markdown')), flags=re.M | re.S)
    return [slug(h) for h in re.findall(r'^##+ (.+)$', text, re.M)]


def has(name, anchor): return name in NOTEBOOKS and (not anchor or anchor in headings(name))


@pytest.fixture(scope='module')
def rows():
    "ROWS of 21_paper, made by its own cells."
    cells, env = sources('21_paper', 'code'), {}
    last = next(i for i, s in enumerate(cells) if 'ROWS =' in s)
    for s in cells[:last + 1]:
        if '%pip' not in s: exec(s, env)
    return env['ROWS']


def test_slugs_are_those_of_pandoc():
    for heading, anchor in {'Eq. 2: two views of one image': 'eq.-2-two-views-of-one-image', 'The paper\'s networks': 'the-papers-networks', '`explore`': 'explore',
                            'Labels: ids, one-hot, and "no class"': 'labels-ids-one-hot-and-no-class', '[A link](x.md) and 3': 'a-link-and-3', 'λ: how far': 'λ-how-far', '3. Third': 'third', 'VOC, SBD': 'voc-sbd'}.items():
        assert slug(heading) == anchor


# -- every page ---------------------------------------------------------------------------------------------------------------

LINK = re.compile(r'\]\((?:(\w+)\.ipynb)?(?:#([^)\s]+))?\)')


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_links_between_pages_resolve(name):
    text = outside_code('\n\n'.join(sources(name, 'markdown')))
    for page, anchor in LINK.findall(text):
        assert has(page or name, anchor), f'{name} links to {page or name}#{anchor}'
    assert not [h for h in headings(name) if headings(name).count(h) > 1 and f'#{h})' in text]                      # an anchor that two headings share


def test_links_are_seen():
    found = [m for n in NOTEBOOKS for m in LINK.findall(outside_code('\n\n'.join(sources(n, 'markdown')))) if any(m)]
    assert len(found) > 500 and sum(bool(anchor) for _, anchor in found) > 250
    assert not has('nowhere', '') and not has('04_teacher', 'nowhere') and has('04_teacher', 'the-average')


@pytest.mark.parametrize('name', NUMBERED)
def test_a_page_opens_with_its_question_and_closes_with_what_one_can_do(name):
    cells = sources(name, 'markdown')
    assert '?' in re.sub(r'\]\([^)]*\)', ']', cells[1] + cells[2]), f'{name}: no question in its second or third markdown cell'
    text = '\n\n'.join(cells)
    assert text.count('\n## What you can do now\n') == 1, f'{name}: one section "What you can do now"'
    end = text.split('\n## What you can do now\n')[1]
    assert 2 <= len(re.findall(r'^- ', end.split('\n## ')[0], re.M)) <= 6, f'{name}: two to six bullets of what one can do'
    assert re.findall(r'^## (.+)$', end, re.M) in ([], ['Exercises'])                                              # then exercises or nothing


def blocks(name): # the python blocks of the solutions
    text = '\n\n'.join(sources(name, 'markdown')).split('\n## Exercises\n')
    return re.findall(r'^```python\n(.*?)^```', text[1], re.M | re.S) if len(text) > 1 else []


WITH_SOLUTIONS = [n for n in NUMBERED if blocks(n)]


@pytest.mark.parametrize('name', WITH_SOLUTIONS)
def test_solutions_run(name):
    "What a solution shows stands in a cell of the notebook, which the tests run; a last expression may be part of an assert there."
    assert len(WITH_SOLUTIONS) > 8
    run = {''.join(line.split('#')[0].split()) for s in sources(name, 'code') for line in s.splitlines()}
    for b in blocks(name):
        lines = [''.join(line.split('#')[0].split()) for line in b.splitlines()]
        missing = [x for x in lines if x and not any(x in r for r in run)]
        assert len(missing) <= 1 and (not missing or missing[0] == [x for x in lines if x][-1]), f'{name}: {missing}'


@pytest.mark.parametrize('name', [n for n in NUMBERED if 1 <= int(n[:2]) <= 9])
def test_method_pages_have_exercises(name):
    text = '\n\n'.join(sources(name, 'markdown')).split('\n## Exercises\n')[1]
    asked, solved = len(re.findall(r'^(?:\*\*\d\.\*\*|\d\.) ', text, re.M)), text.count('title="Solution"')
    assert 2 <= asked == solved


# -- the glossary -------------------------------------------------------------------------------------------------------------

def test_every_term_has_one_entry_with_a_page():
    text = '\n\n'.join(sources('20_glossary', 'markdown'))
    entries = re.findall(r'^### (.+)\n\n(.+(?:\n[^#\n].*)*)', text, re.M)
    names = [slug(h) for h, _ in entries]
    assert len(names) == len(set(names)) > 80
    for h, said in entries: assert re.search(r'\]\(\w+\.ipynb', said), f'{h}: no page'
    for word in 'pseudo-label confidence threshold student teacher ema cutmix lcr patch mask scale term iou-and-miou logits batchnorm partition'.split(): assert word in names


def test_the_commands_are_those_that_are_installed():
    entry = re.search(r'^### Command\n\n(.+)', '\n\n'.join(sources('20_glossary', 'markdown')), re.M)[1]
    assert set(re.findall(r'`(maskmatch_\w+)`', entry)) == set(scripts()) and len(scripts()) == 12 and ' twelve' in entry
    index = '\n\n'.join(sources('index', 'markdown'))
    assert set(re.findall(r'\bmaskmatch_\w+', index)) == set(scripts())


# -- from paper to code ---------------------------------------------------------------------------------------------------------

def test_the_paper_is_covered(rows):
    want = [f'{kind} {k}' for kind, n in (('Eq.', 9), ('Table', 9), ('Figure', 4)) for k in range(1, n + 1)]
    assert sorted(r.what for r in rows if not r.what.startswith('§')) == sorted(want)


def test_its_pages_and_equations_are_there(rows):
    for r in rows:
        for p in r.pages: assert has(*p.split('#')), f'{r.what}: {p}'
        if r.what.startswith('Eq.'):
            own = '\n'.join(sources(r.pages[0].split('#')[0], 'markdown'))
            at = [slug(re.findall(r'^##+ (.+)$', own[:m.start()], re.M)[-1]) for m in re.finditer(rf'\\tag\{{{r.what[4:]}\}}', own)]
            assert at == [r.pages[0].split('#')[1]], f'{r.what} stands under {at}'
    tags = [t for n in NOTEBOOKS for t in re.findall(r'\\tag\{(\d+)\}', '\n'.join(sources(n, 'markdown')))]
    assert sorted(map(int, tags)) == list(range(1, 10))


def test_its_functions_are_there_and_used(rows):
    assert sum(len(r.functions) for r in rows) > 30
    for r in rows:
        code = '\n'.join(s for p in r.pages for s in sources(p.split('#')[0], 'code'))
        for f in r.functions:
            module, name = f.split('.')
            assert hasattr(importlib.import_module(f'maskmatch.{module}'), name), f'{r.what}: {f}'
            assert re.search(rf'\b{name}\b', code), f'{r.what}: {f} does not occur in its pages'


def asserted(name): # the lines of a notebook that check something
    return [line for s in sources(name, 'code') for line in s.splitlines() if re.search(r'\bassert\b|\bassert_close\(|\bassert_allclose\(', line) and not line.lstrip().startswith('#')]


def test_its_checks_are_there(rows):
    for r in rows:
        lines = [line for name in {p.split('#')[0] for p in r.pages} for line in asserted(name)]
        assert r.checks, r.what
        for piece in r.checks: assert any(piece in line for line in lines), f'{r.what}: no assert with {piece}'


def scripts(): # console script -> function
    ini = ConfigParser()
    ini.read(ROOT/'settings.ini')
    return dict(line.strip().split('=') for line in ini['DEFAULT']['console_scripts'].splitlines())


def understood(line): # what a command line of the table comes to; an error if it is none
    from maskmatch.config import Config, resolve
    from maskmatch.flops import FlopsConfig
    from maskmatch.run import parser
    from maskmatch.scores import EvalConfig
    from maskmatch.table import TableConfig, planned
    program, *args = shlex.split(line)
    module, function = scripts()[program].split(':')
    assert hasattr(importlib.import_module(module), function)
    config = dict(maskmatch_train=Config, maskmatch_eval=EvalConfig, maskmatch_flops=FlopsConfig, maskmatch_table=TableConfig)[program]
    given = vars(parser(config, program).parse_args(args))
    if config is TableConfig: return planned(TableConfig(**given))
    if config is not Config or given.get('preset') == 'list': return config(**given)
    if 'compare' in given: given.pop('compare')                                                    # a run that is not there yet
    return resolve(Config.of(**given))


def test_its_commands_are_understood(rows):
    from maskmatch.config import PRESETS, Config, resolve
    lines = [c for r in rows for c in r.commands]
    assert len(lines) > 15
    for line in lines: understood(line)
    for bad in ('maskmatch_train --preset voc_classic_93_r101', 'maskmatch_train --no-lrc', 'maskmatch_evaluate x', 'maskmatch_train --sampler blok'):
        with contextlib.redirect_stderr(io.StringIO()), pytest.raises((Exception, SystemExit)): understood(bad)
    for k in (1, 2, 3):
        own = next(r for r in rows if r.what == f'Table {k}').commands
        assert all(PRESETS[c.split()[2]].table == k for c in own if 'preset' in c) and f'maskmatch_table {k}' in own
    for name in PRESETS: assert resolve(Config.of(name)).preset == name


def test_a_preset_can_be_asked_what_it_would_do(rows):
    from maskmatch.train import maskmatch_train
    line = next(r for r in rows if r.what == 'Table 2').commands[0]
    with contextlib.redirect_stdout(io.StringIO()) as said: maskmatch_train([*shlex.split(line)[1:], '--dry-run'])
    assert line.split()[2] in said.getvalue() and 'GiB' in said.getvalue()


def test_the_page_stores_its_table(rows):
    cells = json.loads(NOTEBOOKS['21_paper'].read_text(encoding='utf-8'))['cells']
    stored = '\n'.join(''.join(o['data'].get('text/markdown', '')) for c in cells for o in c.get('outputs', []) if 'data' in o)
    for r in rows:
        assert f'| **{r.what}**<br>{r.title} |' in stored, f'{r.what}: run python docs/execute.py nbs/21_paper.ipynb'
        for p in r.pages: assert f"]({p.replace('#', '.ipynb#')})" in stored
        for c in r.commands: assert f'`{c}`' in stored
