"""The tables of README and docs: `python docs/table.py shapes`, `python docs/table.py camvid --root DIR`, `python docs/table.py camvid_lite0 --root DIR`.

Runs `maskmatch_train` for every row and seed (a run that is there is not repeated, one that stopped goes on), copies config, log and
metrics of each run to docs/results/NAME/, and writes docs/results/NAME.csv and NAME.md. `--collect` only collects."""
import argparse
import csv
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
import torch
from maskmatch import choices

RESULTS = Path(__file__).resolve().parent/'results'
PLANS = dict(
    shapes=dict(seeds=(0, 1, 2), options=[], rows={
        'labels only': ['--method', 'suponly'],
        'FixMatch with EMA teacher (MT+WS+PS)': ['--method', 'fixmatch'],
        '+ MS': ['--no-lcr'],
        '+ LCR': ['--no-ms'],
        'MaskMatch (+ MS + LCR)': [],
        'all 840 labels': ['--method', 'suponly', '--labeled', '840']}),
    camvid=dict(seeds=(0,), options=['--data', 'camvid', '--val', 'test', '--labeled', '1/8'], rows={
        'labels only (46)': ['--method', 'suponly'],
        'FixMatch with EMA teacher': ['--method', 'fixmatch'],
        'MaskMatch': [],
        'all 367 labels': ['--method', 'suponly', '--labeled', '1/1']}),
    camvid_lite0=dict(seeds=(0,), options=['--data', 'camvid', '--val', 'test', '--model', 'deeplabv3plus_lite0', '--labeled', '12', '--size', '129', '--lr', '0.01', '--steps', '400', '--evals', '4'], rows={
        'labels only (12)': ['--method', 'suponly'],
        'FixMatch with EMA teacher': ['--method', 'fixmatch'],
        '+ LCR': ['--no-ms'],
        '+ MS': ['--no-lcr'],
        'MaskMatch (+ MS + LCR)': [],
        'all 367 labels': ['--method', 'suponly', '--labeled', '1/1']}))


def folder(name, row, seed): return f"{''.join(c if c.isalnum() else '-' for c in row.lower()).strip('-')}-{seed}"


def train(name, row, seed, more):
    plan, out = PLANS[name], Path('runs')/name/folder(name, row, seed)
    args = [*plan['options'], *plan['rows'][row], '--seed', str(seed), '--out', str(out), *more]
    if not (out/'metrics.json').exists():
        subprocess.run([sys.executable, '-m', 'maskmatch.train', *args], check=True, env=os.environ | dict(OMP_NUM_THREADS='1'))    # the number of threads changes the last bits
    keep = RESULTS/name/folder(name, row, seed)
    keep.mkdir(parents=True, exist_ok=True)
    for f in ('config.json', 'log.csv', 'metrics.json'): shutil.copy(out/f, keep/f)
    c = json.loads((keep/'config.json').read_text())
    if c['root']: (keep/'config.json').write_text(json.dumps(c | dict(root='ROOT'), indent=1))


def collect(name):
    plan, lines, table = PLANS[name], [], []
    for row, options in plan['rows'].items():
        ms = {s: json.loads(p.read_text()) for s in plan['seeds'] if (p := RESULTS/name/folder(name, row, s)/'metrics.json').exists()}
        if not ms: continue
        for s, m in ms.items():
            lines.append(dict(row=row, options=' '.join(plan['options'] + options), seed=s, steps=m['steps'], labeled=m['labeled'], teacher=m['teacher']['miou'], student=m['student']['miou'],
                              best=m['best']['miou'], best_step=m['best']['step'], kept=m['pseudo']['kept'], accuracy=m['pseudo']['accuracy'], seconds=m['seconds'], pairs_per_s=m['pairs_per_s']))
        v = [m['teacher']['miou'] for m in ms.values()]
        spread = f" ± {statistics.stdev(v):.1f}" if len(v) > 1 else ''
        table.append([row, f"`{' '.join(options)}`" if options else '(default)', f"{statistics.mean(v):.1f}{spread}", *[' / '.join(f'{x:.1f}' for x in v)][:len(plan['seeds']) - 1], ' / '.join(f"{m['best']['miou']:.1f}" for m in ms.values())])
    with open(RESULTS/f'{name}.csv', 'w', newline='') as f:
        w = csv.DictWriter(f, list(lines[0]), lineterminator='\n')
        w.writeheader(), w.writerows(lines)
    head = ['', 'options', 'teacher mIoU', *['by seed'][:len(plan['seeds']) - 1], 'best step']
    md = '\n'.join('| ' + ' | '.join(r) + ' |' for r in [head, ['---']*len(head), *table]) + '\n'
    (RESULTS/f'{name}.md').write_text(md)
    print(md)


def machine():
    m = choices.machine()
    return f"{m['processor']}, GPU: {m['GPU']}; Python {m['Python']}, torch {m['torch']}; {m['date']}"


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('name', choices=PLANS), p.add_argument('--root'), p.add_argument('--collect', action='store_true'), p.add_argument('--seeds', type=int, nargs='*')
    a = p.parse_args()
    if not a.collect:
        for s in a.seeds or PLANS[a.name]['seeds']:
            for row in PLANS[a.name]['rows']: train(a.name, row, s, ['--root', a.root] if a.root else [])
        (RESULTS/f'{a.name}.machine.txt').write_text(machine() + '\n')
    collect(a.name)
