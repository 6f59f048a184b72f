"A live figure in a real JupyterLab: a mouse and a key move its slider, and the kernel draws another picture."
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import urlopen
import pytest

for module in ('jupyterlab', 'ipywidgets', 'selenium'): pytest.importorskip(module)
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from browser import chromium, screen

FIGURE = '''\
from matplotlib import pyplot as plt
from maskmatch.viz import explore

def bar(share):
    fig, ax = plt.subplots(figsize=(2, 1)); ax.barh(0, share); ax.set_xlim(0, 4)
    return fig, f'share {share}'

figure = explore(bar, share=[0, 1, 2, 3, 4])
figure.live()'''


@contextmanager
def ended(process):
    "The process, which does not outlive the block, nor do its children."
    try: yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try: process.wait(10)
        except subprocess.TimeoutExpired: os.killpg(process.pid, signal.SIGKILL); process.wait()


def until(condition, what, seconds=40):
    "What `condition` returns once it is true."
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition(): return value
        time.sleep(0.1)
    raise AssertionError(f'{what}: not within {seconds} s')


def answers(url):
    try: return urlopen(url, timeout=2).status == 200
    except (URLError, OSError): return False


@pytest.fixture
def lab(tmp_path):
    "The address of a notebook in a JupyterLab of its own, with no settings of the user's."
    cell = dict(cell_type='code', execution_count=None, id='figure', metadata={}, outputs=[], source=FIGURE)
    kernel = dict(kernelspec=dict(display_name='Python 3', language='python', name='python3'))
    (tmp_path/'nbs').mkdir()
    (tmp_path/'nbs'/'live.ipynb').write_text(json.dumps(dict(cells=[cell], metadata=kernel, nbformat=4, nbformat_minor=5)))
    (tmp_path/'config'/'labconfig').mkdir(parents=True)
    (tmp_path/'config'/'labconfig'/'page_config.json').write_text(json.dumps(dict(disabledExtensions={'@jupyterlab/apputils-extension:announcements': True})))
    env = os.environ | {f'JUPYTER_{k.upper()}_DIR': str(tmp_path/k) for k in ('config', 'data', 'runtime')} | dict(IPYTHONDIR=str(tmp_path/'ipython'))
    token = secrets.token_hex(8)
    command = [sys.executable, '-m', 'jupyterlab', '--no-browser', '--allow-root', '--ServerApp.ip=127.0.0.1', f'--IdentityProvider.token={token}', f'--ServerApp.root_dir={tmp_path/"nbs"}']
    with open(tmp_path/'log', 'w') as log, ended(subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)) as server:
        def address():
            assert server.poll() is None, (tmp_path/'log').read_text()
            for file in (tmp_path/'runtime').glob('jpserver-*.json'):
                try: return json.loads(file.read_text())['url']
                except (ValueError, KeyError): pass # half written
        url = until(address, 'the address of the server')
        until(lambda: answers(f'{url}api?token={token}'), 'an answer of the server')
        yield f'{url}lab/tree/live.ipynb?token={token}'


@pytest.fixture
def browser():
    with chromium() as driver:
        screen(driver, 1280)
        yield driver


def test_slider_redraws_in_jupyterlab(browser, lab):
    scope = {}
    exec(FIGURE.removesuffix('figure.live()'), scope)
    frames = [base64.b64decode(picture) for picture, *_ in scope['figure'].frames]
    find = lambda css: next((e for e in browser.find_elements(By.CSS_SELECTOR, css) if e.is_displayed()), None)
    def picture(): # of the figure, as a number of its frame; None while there is none
        shown = browser.execute_script('return [...document.querySelectorAll(".jp-OutputArea-output img")].map(i => i.src)')
        return next((frames.index(v) for v in (base64.b64decode(s.split(',')[1]) for s in shown if s.startswith('data:image/png')) if v in frames), None)
    wait = lambda condition, what: WebDriverWait(browser, 40, 0.1).until(lambda _: condition(), f'{what}; text of the page: {browser.find_element(By.TAG_NAME, "body").text[-2000:]}')

    browser.get(lab)
    wait(lambda: '| Idle' in browser.find_element(By.TAG_NAME, 'body').text, 'the kernel')                  # in the bar of states; before, a run is lost
    wait(lambda: find('.jp-CodeCell .cm-content'), 'the notebook').click()
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()
    wait(lambda: picture() == 2, 'the first picture')

    handle = find('.jp-OutputArea-output .noUi-handle')
    ActionChains(browser).drag_and_drop_by_offset(handle, 400, 0).perform()
    wait(lambda: picture() == 4, 'the picture after the drag')
    assert 'share 4' in browser.find_element(By.CSS_SELECTOR, '.jp-OutputArea').text

    handle.send_keys(Keys.ARROW_LEFT)
    wait(lambda: picture() == 3, 'the picture after the arrow key')
