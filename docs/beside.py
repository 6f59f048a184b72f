"""What a training on this machine's CPU keeps of its speed beside other programs.

`python docs/beside.py [--busy 1] [--rounds 2] [OPTION ...]` trains the built-in pictures, in
turns with all threads, with one, and as `maskmatch_train` chooses by itself; alone, beside busy
programs, and beside programs that come after a third of the steps. Prints pairs/s over the last
third, and the share of the best free rate that is left. Further options go to `maskmatch_train`.
The machine should have nothing else to do."""
import argparse
import csv
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
import torch

FREE = {k: v for k, v in os.environ.items() if k not in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')}
ALL = os.cpu_count()
WAYS = {'all threads': ['--threads', ALL], 'one thread': ['--threads', 1], 'chosen': []}
TRAIN = ['--device', 'cpu', '--every', 5, '--evals', 1, '--labeled', 40]


def read(file): return list(csv.DictReader(open(file)))


def busy(n): return [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(n)]


def rate(options, steps, now, later):
    "Pairs/s of a run's last third, and its threads; `later` programs come after the first third."
    with tempfile.TemporaryDirectory() as folder:
        out, others = Path(folder)/'run', busy(now)
        args = map(str, [*TRAIN, '--steps', steps, *options, '--out', out])
        command = [sys.executable, '-m', 'maskmatch.train', *args]
        p = subprocess.Popen(command, env=FREE, stdout=subprocess.PIPE, text=True)
        try:
            for line in p.stdout:
                if line.startswith(f'step {steps//3} '): others += busy(later)
            if p.wait(): sys.exit(p.returncode)
        finally:
            for q in [p, *others]: q.kill()
        seconds = {int(r['step']): float(r['seconds']) for r in read(out/'speed.csv')}
        pairs = json.loads((out/'config.json').read_text())['batch']
        rows = read(out/'threads.csv')
        threads = ', '.join(f"{r['threads']} from step {r['step']}" for r in rows)
    return pairs*(steps//3)/(seconds[steps] - seconds[steps - steps//3]), threads


def main():
    raw = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    p.add_argument('--busy', type=int, default=1)
    p.add_argument('--rounds', type=int, default=2)
    p.add_argument('--steps', type=int, default=90, help='multiple of 15')
    p.add_argument('--places', default='alone,beside,come', help='of these, with commas')
    p.add_argument('--ways', default=','.join(WAYS), help='likewise')
    a, more = p.parse_known_args()
    if a.steps % 15: p.error(f"--steps {a.steps}: give a multiple of 15.")
    where = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    print(f"{where}, PyTorch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    places, got = dict(alone=(0, 0), beside=(a.busy, 0), come=(0, a.busy)), {}
    where, ways = a.places.split(','), a.ways.split(',')
    for _ in range(a.rounds):
        for place, way in [(p, w) for p in where for w in ways]:
            pairs, threads = rate([*WAYS[way], *more], a.steps, *places[place])
            got.setdefault((place, way), []).append(pairs)
            print(f'{place:8}{way:14}{pairs:7.2f} pairs/s  threads {threads}', flush=True)
    mean = {k: sum(v)/a.rounds for k, v in got.items()}
    free = max((v for (place, _), v in mean.items() if place == 'alone'), default=math.nan)
    for (place, way), v in mean.items():
        print(f"{place:8}{way:14}{v:7.2f} pairs/s, {100*v/free:.0f} % of the best free rate")


if __name__ == '__main__': main()
