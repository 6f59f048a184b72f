"A headless Chromium for the tests: Debian's `chromium` and `chromium-driver`, driven by Selenium; and a server of one folder on this machine."
import functools
import http.server
import json
import os
import shutil
import tempfile
import threading
from contextlib import contextmanager
import pytest

FLAGS = ('--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --disable-background-networking --disable-component-update '
         '--disable-sync --disable-extensions --hide-scrollbars')


@contextmanager
def chromium():
    "A browser. Skips, with the reason, where there is none; in CI that is a failure."
    binary = shutil.which('chromium') or shutil.which('google-chrome')
    missing = [name for name, there in dict(chromium=binary, chromedriver=shutil.which('chromedriver')).items() if not there]
    try: from selenium import webdriver
    except ImportError: missing.append('selenium')
    if missing:
        if os.environ.get('CI'): pytest.fail(f"not installed: {', '.join(missing)}")
        pytest.skip(f"not installed: {', '.join(missing)} (Debian: apt-get install chromium chromium-driver)")
    from selenium.webdriver.chrome.service import Service
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in [*FLAGS.split(), f'--user-data-dir={profile}']: options.add_argument(flag)
        options.set_capability('goog:loggingPrefs', dict(browser='ALL', performance='ALL'))
        driver = webdriver.Chrome(options=options, service=Service(shutil.which('chromedriver')))
        try: yield driver
        finally: driver.quit()


def screen(driver, width, height=900):
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 600))


def complaints(driver): # what the console says since the last call; a slow first page makes the browser ask the host for an icon that no page names
    return [e['message'] for e in driver.get_log('browser') if e['level'] in ('SEVERE', 'WARNING') and '/favicon.ico ' not in e['message']]


def requests(driver): # addresses asked for since the last call
    events = [json.loads(e['message'])['message'] for e in driver.get_log('performance')]
    return [e['params']['request']['url'] for e in events if e['method'] == 'Network.requestWillBeSent']


@contextmanager
def served(folder):
    "The address of a server of this folder."
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try: yield f'http://127.0.0.1:{server.server_port}/'
    finally: server.shutdown(), server.server_close()
