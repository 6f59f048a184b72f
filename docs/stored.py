"""The trained networks and the logs that come with the package: `python docs/stored.py`.

Runs `maskmatch_train` for each entry of RUNS, one after the other on one thread (a run that is there is not repeated, one that stopped goes on),
and writes maskmatch/stored/: `shapes.pt` and `early.pt` (weights in float16), `sweep.csv` (the logs of the short runs) and `made.json` (how each run was
made, where, when, and what it came to). The run folders stay in runs/stored/. `--collect` only collects."""
import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from maskmatch.run import pack, unpack, write
from keep import machine

RUNS, STORED = Path('runs')/'stored', Path(__file__).resolve().parent.parent/'maskmatch'/'stored'
SHORT = ['--steps', '600', '--every', '20', '--evals', '10']
POINTS = dict(lambda1=(0, 4), lambda2=(0, 4), tau=(0, 0.7, 0.98))          # each away from lambda1 = lambda2 = 1, tau = 0.9
SWEEP = {'sweep': SHORT} | {f'sweep-{k}-{v}': [*SHORT, f'--{k}', str(v)] for k, values in POINTS.items() for v in values}
PLAN = {'shapes': []} | SWEEP
CHECKPOINTS = dict(shapes=('shapes', ('teacher', 'student')), early=('sweep', ('teacher',)))   # file -> run, networks


def train(name):
    out = RUNS/name
    if (out/'metrics.json').exists(): return
    subprocess.run([sys.executable, '-m', 'maskmatch.train', *PLAN[name], '--out', str(out)], check=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    (out/'machine.txt').write_text(machine() + '\n')


def half(state): return {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}


def checkpoint(file):
    run, who = CHECKPOINTS[file]
    state, c = unpack(RUNS/run/'last.pt'), json.loads((RUNS/run/'config.json').read_text())
    write(STORED/f'{file}.pt', pack(dict(model=c['model'], steps=state['t'], seed=c['seed']) | {k: half(state[k]) for k in who}))


def logs():
    rows = []
    for name in SWEEP:
        c = json.loads((RUNS/name/'config.json').read_text())
        with open(RUNS/name/'log.csv') as f: rows += [{k: c[k] for k in ('lambda1', 'lambda2', 'tau')} | r for r in csv.DictReader(f)]
    with open(STORED/'sweep.csv', 'w', newline='') as f:
        w = csv.DictWriter(f, list(rows[0]), lineterminator='\n')
        w.writeheader(), w.writerows(rows)


def made(name):
    m = json.loads((RUNS/name/'metrics.json').read_text())
    return dict(command=' '.join(['maskmatch_train', *PLAN[name]]), machine=(RUNS/name/'machine.txt').read_text().strip(), threads=1, steps=m['steps'], seconds=m['seconds'],
                teacher=m['teacher']['miou'], student=m['student']['miou'], **m['pseudo'])


def collect():
    STORED.mkdir(exist_ok=True)
    for file in CHECKPOINTS: checkpoint(file)
    logs()
    done = {name: made(name) for name in PLAN}
    write(STORED/'made.json', (json.dumps(dict(command='python docs/stored.py', runs=done), indent=1) + '\n').encode())
    for name, r in done.items(): print(f"{name:18} teacher {r['teacher']:5.1f} mIoU, student {r['student']:5.1f}, kept {r['kept']:5.1f} %, of these right {r['accuracy']:5.1f} %, {r['seconds']:4.0f} s: {r['command']}")
    for f in sorted(STORED.iterdir()): print(f'{f.stat().st_size/1e3:8.1f} kB  {f.name}')


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--collect', action='store_true')
    if not p.parse_args().collect:
        for name in PLAN: train(name)
    collect()
