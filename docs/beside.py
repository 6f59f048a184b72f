"""What a training on this machine's CPU keeps of its speed beside other programs: `python docs/beside.py [--busy 1] [--rounds 2] [OPTION ...]`.

Trains the built-in pictures three ways, in turns: with all threads, with one, and as `maskmatch_train` chooses by itself; each alone, beside busy
programs that are there from the start, and beside programs that come after a third of the steps. Prints pairs/s over the last third, and the share
of the best free rate that is left. Further options go to `maskmatch_train`. The machine should have nothing else to do."""
import argparse
import csv
import math
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
import torch

FREE = {k: v for k, v in os.environ.items() if k not in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS')}
WAYS = {'all threads': ['--threads', str(torch.get_num_threads())], 'one thread': ['--threads', '1'], 'chosen': []}


def busy(n): return [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(n)]


def rate(options, steps, now, later):
    "Pairs/s of a run's last third, and its threads: `now` busy programs from the start, `later` more after a third of the steps."
    with tempfile.TemporaryDirectory() as folder:
        out, others = Path(folder)/'run', busy(now)
        args = ['--device', 'cpu', '--steps', steps, '--every', 5, '--evals', 1, '--labeled', 40, *options, '--out', out]
        p = subprocess.Popen([sys.executable, '-m', 'maskmatch.train', *map(str, args)], env=FREE, stdout=subprocess.PIPE, text=True)
        try:
            for line in p.stdout:
                if line.startswith(f'step {steps//3} '): others += busy(later)
            if p.wait(): sys.exit(p.returncode)
        finally:
            for q in [p, *others]: q.kill()
        seconds = {int(r['step']): float(r['seconds']) for r in csv.DictReader(open(out/'speed.csv'))}
        batch = next(float(r['pairs_per_s']) for r in csv.DictReader(open(out/'speed.csv')))*seconds[5]/5
        threads = ', '.join(f"{r['threads']} from step {r['step']}" for r in csv.DictReader(open(out/'threads.csv')))
    return batch*(steps//3)/(seconds[steps] - seconds[steps - steps//3]), threads


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--busy', type=int, default=1)
    p.add_argument('--rounds', type=int, default=2)
    p.add_argument('--steps', type=int, default=90, help='a multiple of 15')
    p.add_argument('--places', default='alone,beside,come', help='of these, with commas')
    p.add_argument('--ways', default=','.join(WAYS), help='likewise')
    a, more = p.parse_known_args()
    if a.steps % 15: p.error(f"--steps {a.steps}: give a multiple of 15.")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, PyTorch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    places, got = dict(alone=(0, 0), beside=(a.busy, 0), come=(0, a.busy)), {}
    where, ways = a.places.split(','), a.ways.split(',')
    for _ in range(a.rounds):
        for place, way in [(p, w) for p in where for w in ways]:
            pairs, threads = rate([*WAYS[way], *more], a.steps, *places[place])
            got.setdefault((place, way), []).append(pairs)
            print(f'{place:8}{way:14}{pairs:7.2f} pairs/s  threads {threads}', flush=True)
    free = max((sum(v)/a.rounds for (place, _), v in got.items() if place == 'alone'), default=math.nan)
    for (place, way), v in got.items():
        print(f"{place:8}{way:14}{sum(v)/a.rounds:7.2f} pairs/s, {100*sum(v)/a.rounds/free:.0f} % of the best free rate")


if __name__ == '__main__': main()
