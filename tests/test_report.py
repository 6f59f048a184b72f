"`maskmatch_report` and `maskmatch_compare`: the pages in a real browser, from the disk, and what the commands refuse."
import json
import pytest
from browser import chromium, complaints, requests, screen
from commands import command, process



def call(what, *args): return command(f'maskmatch_{what}', *args, '--device', 'cpu')


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    "Two short runs, and their pages."
    d = tmp_path_factory.mktemp('runs')
    for name, *more in (('one', '--watch'), ('two', '--method', 'suponly')):
        p = call('train', '--out', d/name, '--steps', 20, '--batch', 2, '--every', 5, '--evals', 2, *more)
        assert p.returncode == 0, p.stderr
    for p in (process('maskmatch_report', d/'one', '--pictures', 5, '--device', 'cpu'), process('maskmatch_compare', d/'one', d/'two', '--out', d/'compare.html', '--pictures', 4, '--device', 'cpu')): assert p.returncode == 0 and not p.stderr, p.stderr
    return d


@pytest.fixture(scope='module')
def browser():
    with chromium() as driver: yield driver


LAYERS = 'return [...arguments[0].querySelectorAll("img")].map(i => Number(i.style.opacity))'


@pytest.mark.parametrize('width', [1280, 390])
@pytest.mark.parametrize('page, shots, names', [('one/report.html', 5, ['image', 'truth', 'prediction', 'wrong']), ('compare.html', 4, ['image', 'truth', 'one', 'two'])])
def test_a_page_from_the_disk(runs, browser, page, shots, names, width):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys
    find = lambda css, of=browser: of.find_elements(By.CSS_SELECTOR, css)
    screen(browser, width)
    complaints(browser), requests(browser)
    browser.get((runs/page).as_uri())
    figures = find('.shot')
    assert len(figures) == shots and browser.execute_script('return document.documentElement.scrollWidth') <= width
    assert browser.execute_script('return [...document.images].every(i => i.complete && i.naturalWidth && i.alt)')
    for f in figures:
        slider = find('input', f)[0]
        browser.execute_script('arguments[0].scrollIntoView({block: "center"})', f)
        said = lambda: (find('output', f)[0].text, browser.execute_script(LAYERS, f))
        assert said() == (names[2], [1, 1, 1, 0])
        ActionChains(browser).drag_and_drop_by_offset(slider, 1 - slider.size['width']//2, 0).perform()
        assert said() == (names[0], [1, 0, 0, 0])
        slider.send_keys(Keys.END)
        assert said() == (names[3], [1, 1, 1, 1])
    every = find('#all')[0]
    browser.execute_script('arguments[0].scrollIntoView({block: "center"})', every)
    every.send_keys(Keys.HOME)
    assert {find('output', f)[0].text for f in figures} == {'image'}
    every.send_keys(Keys.ARROW_RIGHT)
    assert all(0 < browser.execute_script(LAYERS, f)[1] < .1 for f in figures)
    ink = lambda: sum(map(int, browser.execute_script('return getComputedStyle(document.body).color').strip('rgb()').split(',')))
    for scheme, light in (('dark', True), ('light', False)):
        browser.execute_cdp_cmd('Emulation.setEmulatedMedia', dict(features=[dict(name='prefers-color-scheme', value=scheme)]))
        assert (ink() > 600) == light, scheme
    asked = requests(browser)
    assert not complaints(browser) and 'file' in {u.split(':')[0] for u in asked} <= {'file', 'data'}
    assert not [u for u in asked if u.startswith('file') and not u.endswith('.html')]


def test_the_scores_are_those_of_the_run(runs):
    page, m = (runs/'one'/'report.html').read_text(), json.loads((runs/'one'/'metrics.json').read_text())
    assert f"<b>{m['teacher']['miou']:.2f} mIoU</b>" in page and 'accuracy' in page and str(m['seconds']) in page
    assert json.loads((runs/'one'/'environment.json').read_text())['torch'] in page and '--evals' in page.split('Settings')[1].split('All options')[0]
    both = (runs/'compare.html').read_text()
    for name in ('one', 'two'): assert f"{json.loads((runs/name/'metrics.json').read_text())['teacher']['miou']:.1f}" in both
    assert 'suponly' in both.split('What differs')[1]


def test_the_same_page_each_time(runs):
    was = (runs/'one'/'report.html').read_bytes()
    assert call('report', runs/'one', '--pictures', 5).returncode == 0 and (runs/'one'/'report.html').read_bytes() == was


@pytest.mark.parametrize('what, args, words', [
    ('report', ['nowhere'], ['nowhere']), ('report', ['one', '--pictures', '-1'], ['--pictures -1']), ('report', ['one', '--checkpoint', 'best'], ['best.pt']),
    ('report', ['one', '--out', 'none/r.html'], ['none']), ('compare', ['one'], ['two or more']), ('compare', ['one', 'nowhere'], ['nowhere'])])
def test_what_cannot_work(runs, what, args, words):
    p = call(what, *(runs/a if a in ('one', 'nowhere', 'none/r.html') else a for a in args))
    assert p.returncode == 2 and p.stderr.count('\n') == 1 and 'Traceback' not in p.stderr and all(w in p.stderr for w in words), p.stderr
