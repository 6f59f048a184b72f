"""What one call of `maskmatch_predict` for many small pictures is worth: `python docs/predict_rate.py [--pictures 1000] [--side 240] [--calls 5] [--json FILE]`.

Writes pictures of the built-in set, enlarged to `--side`, into a temporary folder and times (a) one command for all of them and (b) one process for each of
a few, as a shell loop would have it. (b) is extrapolated to all: its calls do not know of each other. Both write ids, overlay and confidence."""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
import torch
from PIL import Image
from maskmatch.datasets import DATA
from maskmatch.record import write_record
from maskmatch.run import Run
from maskmatch.scores import trained
from maskmatch.splits import partition

CODE = 'from maskmatch.predict import maskmatch_predict; maskmatch_predict()'


def timed(*args):
    start = time.perf_counter()
    subprocess.run([sys.executable, '-c', CODE, *map(str, args)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--pictures', type=int, default=1000)
    p.add_argument('--side', type=int, default=240)
    p.add_argument('--calls', type=int, default=5)
    p.add_argument('--json')
    a = p.parse_args()
    folder, val = Path(tempfile.mkdtemp()), DATA['shapes'].load().val
    run = Run(folder/'run')
    run.dir.mkdir(), (folder/'in').mkdir()
    (run.dir/'config.json').write_text(json.dumps(dict(data='shapes', model='small', size=48)))
    write_record(run, partition(DATA['shapes'].load(), '40'))
    run.save('last.pt', dict(teacher=trained().state_dict()))
    for i in range(a.pictures): val.image(i % len(val)).resize((a.side, a.side), Image.BILINEAR).save(folder/'in'/f'{i:05d}.png')
    timed(run.dir, folder/'in'/'00000.png', '--out', folder/'warm')                                  # the disk's cache
    one = timed(run.dir, folder/'in', '--out', folder/'one')
    each = [timed(run.dir, folder/'in'/f'{i:05d}.png', '--out', folder/'each'/str(i)) for i in range(a.calls)]
    per = statistics.median(each)
    assert len(list((folder/'one'/'ids').iterdir())) == a.pictures
    row = dict(pictures=a.pictures, side=a.side, one_command=round(one, 1), per_second=round(a.pictures/one, 1), one_process=[round(t, 2) for t in each], extrapolated=round(per*a.pictures), ratio=round(per*a.pictures/one, 1))
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {os.environ.get('OMP_NUM_THREADS', 'all')} threads, PyTorch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    print(f"{a.pictures} pictures of {a.side} x {a.side}, one command: {one:.1f} s, {a.pictures/one:.1f} pictures/s")
    print(f"one process for each: {per:.2f} s (median of {a.calls}), so {per*a.pictures:.0f} s for all, extrapolated")
    print(f"ratio: {row['ratio']}")
    if a.json: Path(a.json).write_text(json.dumps(row, indent=1))


if __name__ == '__main__': main()
