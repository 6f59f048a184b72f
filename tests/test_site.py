"The rendered site, in a real browser: every page, link, equation and figure, on a wide and on a narrow screen."
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urldefrag
import pytest
from browser import chromium, complaints, requests, screen, served

ROOT = Path(__file__).resolve().parent.parent
PAGES = ['index', 'results'] + [re.sub(r'^\d+[a-zA-Z0-9]*_', '', p.stem) for p in sorted((ROOT/'nbs').glob('[!_]*.ipynb')) if p.stem != 'index']


def build(root, *args): return subprocess.run([sys.executable, str(root/'docs'/'build.py'), *map(str, args)], capture_output=True, text=True)


@pytest.fixture(scope='module')
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp('site')/'_docs'
    p = build(ROOT, folder)
    if 'npm could not' in p.stderr and not os.environ.get('CI'): pytest.skip(p.stderr)
    assert p.returncode == 0, p.stderr[-3000:]
    return folder


@pytest.fixture(scope='module')
def browser():
    with chromium() as driver: yield driver


@pytest.fixture(scope='module')
def address(site):
    with served(site) as base: yield base


PAGE = '''const raw = [], walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
while (walk.nextNode()) { const n = walk.currentNode;
  if (!n.parentElement.closest("pre, code, script, style, .katex") && /\\\\tag|\\\\\\(|\\\\\\[|\\$[^$\\n]+\\$|\\]\\(/.test(n.data)) raw.push(n.data); }
return {raw, wide: document.documentElement.scrollWidth - arguments[0], bad: document.querySelectorAll(".katex-error").length,
  undrawn: [...document.querySelectorAll(".math")].filter(e => !e.querySelector(".katex")).length,
  blank: [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.src.slice(0, 80)),
  figures: document.querySelectorAll(".explore").length}'''
LINKS = 'return [[...document.querySelectorAll("a[href]")].map(a => a.href), [...document.querySelectorAll("[id]")].map(e => e.id)]'
OTHER = '''const [f, w] = [arguments[0], arguments[0].seen], all = k => [...f.querySelectorAll(k)];
f.seen = all("img").map(i => i.src).concat(all("canvas").map(c => c.toDataURL()), all("p, output").map(e => e.textContent)).join();
return w !== f.seen'''


def drawn(driver): # every equation is there, every picture decoded
    from selenium.webdriver.support.ui import WebDriverWait
    done = 'return document.readyState == "complete" && [...document.images].every(i => i.complete) && [...document.querySelectorAll(".math")].every(e => e.querySelector(".katex"))'
    WebDriverWait(driver, 20, poll_frequency=.05).until(lambda d: d.execute_script(done))


def changes(act, other, tries=3): # whether it does; a page that is still being laid out may slip away from under the mouse
    for _ in range(tries):
        other()
        act()
        for _ in range(40):
            if other(): return True
            time.sleep(.05)


def moved(browser, figures): # whether each slider of each of these, dragged with the mouse and moved by a key, changes what is seen: (figure, slider, by what) -> bool
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    done = {}
    for i, figure in enumerate(browser.find_elements(By.CSS_SELECTOR, figures)):
        other = lambda: browser.execute_script(OTHER, figure)
        for j, slider in enumerate(figure.find_elements(By.CSS_SELECTOR, 'input[type=range]')):
            browser.execute_script('arguments[0].scrollIntoView({block: "center", behavior: "instant"})', slider)
            low, high, at = (float(slider.get_attribute(k)) for k in ('min', 'max', 'value'))
            if low == high: continue
            w, share = slider.rect['width'] - 18, (at - low)/(high - low)
            to = -.45 if share > .5 else .45
            drag = ActionChains(browser, duration=20).move_to_element_with_offset(slider, int((share - .5)*w), 0).click_and_hold().move_to_element_with_offset(slider, int(to*w), 0).release()
            done[i, j, 'mouse'] = changes(drag.perform, other)
            done[i, j, 'key'] = changes(lambda: slider.send_keys(Keys.ARROW_LEFT if to > 0 else Keys.ARROW_RIGHT), other)
    return done


@pytest.mark.parametrize('width', [1280, 390])
def test_every_page(width, browser, address, site):
    "No complaint in the console, nothing asked of another host, equations drawn, no page wider than the screen, no link into nothing, every figure moves."
    assert {p.stem for p in site.glob('*.html')} == set(PAGES)
    screen(browser, width)
    movable, many = ('.explore', 180) if width > 390 else ('.explore:has(canvas)', 20)  # a picture is the same one on a narrow screen; a canvas is drawn for it
    links, ids, wrong, figures, sliders = {}, {}, [], 0, {}
    for page in PAGES:
        complaints(browser), requests(browser)
        browser.get(address + page + '.html')
        drawn(browser)
        said = browser.execute_script(PAGE, width)                                         # a phone zooms out where a page is too wide
        figures += said.pop('figures')
        links[page], ids[page] = browser.execute_script(LINKS)
        sliders |= {(page, *k): v for k, v in moved(browser, movable).items()}
        foreign = [u for u in requests(browser) if not u.startswith((address, 'data:', 'blob:'))]
        loud = complaints(browser)
        if any(v for k, v in said.items() if k != 'wide') or said['wide'] > 0 or foreign or loud: wrong.append((page, said, foreign, loud))
    assert not wrong, '\n'.join(map(str, wrong))
    assert figures > 60 and len(sliders) > many and not [k for k, v in sliders.items() if not v]
    dead = []
    for page, hrefs in links.items():
        for href in {h for h in hrefs if h.startswith(address)}:
            to, anchor = urldefrag(href.removeprefix(address))
            name = to.removesuffix('.html') or 'index'
            if not (site/(to or 'index.html')).is_file() or (anchor and name in ids and unquote(anchor) not in ids[name]): dead.append((page, href))
    assert not dead


LIGHTNESS = 'return ["backgroundColor", "color"].map(k => getComputedStyle(document.body)[k].match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0))'


@pytest.mark.parametrize('scheme', ['dark', 'light'])
def test_dark_where_the_reader_has_it_dark(address, scheme):
    from selenium.webdriver.support.ui import WebDriverWait
    with chromium() as browser: # a new reader, who has chosen nothing
        screen(browser, 1280)
        browser.get(address + 'index.html')
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value=scheme)]))
        WebDriverWait(browser, 30).until(lambda b: b.execute_script('return matchMedia(`(prefers-color-scheme: ${arguments[0]})`).matches', scheme), 'the browser wants none')
        browser.get(address + 'masking.html')
        def right(_): # a stylesheet that the script switches on may come after the page's own load event
            paper, ink = browser.execute_script(LIGHTNESS)
            return paper + 300 < ink if scheme == 'dark' else ink + 300 < paper
        WebDriverWait(browser, 30, poll_frequency=.1).until(right, f'not {scheme}')


def test_search_finds_a_word(browser, address):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait
    screen(browser, 1280)
    browser.get(address + 'index.html')
    browser.find_element(By.CSS_SELECTOR, 'input[type=search]').send_keys('pseudo-label')
    WebDriverWait(browser, 10, poll_frequency=.05).until(lambda d: 'weak_to_strong' in d.execute_script('return [...document.querySelectorAll(".smalldocs-search-results a")].map(a => a.href).join()'))


def files(folder): return {p.relative_to(folder): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


def test_a_second_build_is_the_same(site, tmp_path):
    assert build(ROOT, tmp_path/'again').returncode == 0
    one, two = files(site), files(tmp_path/'again')
    assert one.keys() == two.keys() and not [k for k in one if one[k] != two[k]]
    assert sum(map(len, one.values())) < 25e6


def test_a_broken_notebook_leaves_the_site_as_it_was(tmp_path):
    "An output that is an error, a cell that cannot run, a link into nothing: each is refused by name; what stands stays. With one notebook of all, for time: links to the others are refused beside."
    for name in ('nbs', 'maskmatch', 'docs'): shutil.copytree(ROOT/name, tmp_path/name, ignore=shutil.ignore_patterns('__pycache__', 'results', '*.ipynb', 'results.md'))
    for name in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/name, tmp_path)
    out, file = tmp_path/'_docs', tmp_path/'nbs'/'06_masking.ipynb'
    out.mkdir(), (out/'index.html').write_text('as it was')
    for words, change in {'06_masking.ipynb: cell .* stores an error': lambda c: c['outputs'].append(dict(output_type='error', ename='E', evalue='', traceback=[])),
                          'masking.*division by zero': lambda c: c.update(source='#| export\n1/0'),
                          'masking.ipynb: broken link nowhere.ipynb': lambda c: c.update(cell_type='markdown', source='[gone](nowhere.ipynb)')}.items():
        nb = json.loads((ROOT/'nbs'/file.name).read_text(encoding='utf-8'))
        change(next(c for c in nb['cells'] if c['cell_type'] == 'code' and c['outputs']))
        file.write_text(json.dumps(nb), encoding='utf-8')
        p = build(tmp_path, out)
        assert p.returncode == 1 and re.search(words, p.stderr, flags=re.I), p.stderr[-500:]
        assert files(out) == {Path('index.html'): b'as it was'} and not list(tmp_path.glob('_docs.*'))
