"For every test, and every process that a test starts: one thread each. Two at a time, with two threads each on two cores, wait for each other and take four times as long."
import os
import pytest
from xdist.scheduler import LoadScopeScheduling

os.environ['OMP_NUM_THREADS'] = '1'


class ByFile(LoadScopeScheduling):
    "A file's tests share what they prepare, and so one process; notebooks share nothing. What `--dist loadgroup` is for, which pytest-xdist 3.8 has lost with pytest 9.2."
    def _split_scope(self, nodeid): return nodeid if 'test_notebooks.py' in nodeid else nodeid.split('::')[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log): return ByFile(config, log)
