"Every notebook runs from top to bottom, under the flags of settings.ini."
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_every_notebook_runs():
    env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='agg')
    p = subprocess.run([Path(sys.executable).parent/'nbdev_test', '--n_workers', '2', '--do_print', '--timing'], cwd=ROOT, env=env, capture_output=True, text=True)
    print(p.stdout[-8000:], p.stderr[-8000:])
    assert p.returncode == 0
