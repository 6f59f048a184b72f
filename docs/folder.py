"""What a folder of one's own comes to: `python docs/folder.py --root CAMVID`, CAMVID in the layout of the SegNet tutorial.

Copies CamVid's 367 training frames into images/ and the masks of 23 of them (drawn with the seed) into masks/, trains with
`maskmatch_train --data DIR` and no option but those of the row, and scores the teacher on CamVid's test frames, which no run has seen.
Two rows give the folder of the first seed 20 masks more: as `maskmatch_suggest` says of the default's first run, and by chance,
another draw for each seed. A run that is there is not repeated. Writes docs/results/folder.csv and folder.md; `--collect` only collects."""
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
from maskmatch.config import on_machine
from maskmatch.datasets import CAMVID, camvid
from maskmatch.folder import Folder
from maskmatch.notation import rng
from maskmatch.run import Run, write
from maskmatch.scores import config_of, measure, network_of
from keep import machine

RESULTS = Path(__file__).resolve().parent/'results'
ROWS = {
    'default': [],
    'labels only': ['--method', 'suponly'],
    'FixMatch with EMA teacher': ['--method', 'fixmatch'],
    '+ LCR': ['--method', 'maskmatch', '--lcr', '--no-ms'],
    'MaskMatch': ['--method', 'maskmatch', '--lcr', '--ms'],
    'all 367 labels': ['--method', 'suponly'],
    'default, 20 masks more by chance': [],
    'default, 20 masks more as suggested': []}
MORE = list(ROWS)[-2:]


def build(folder, root, masks, seed):
    "A folder as a user would have it: all frames, and some masks."
    frames = sorted(Path(root, 'train').iterdir())
    for d in ('images', 'masks'): (folder/d).mkdir(parents=True, exist_ok=True)
    for f in frames: shutil.copy(f, folder/'images'/f.name)
    for i in torch.randperm(len(frames), generator=torch.Generator().manual_seed(seed))[:masks].tolist():
        shutil.copy(Path(root, 'trainannot', f'{frames[i].stem}.png'), folder/'masks'/f'{frames[i].stem}.png')
    (folder/'classes.txt').write_text('\n'.join([*CAMVID, 'void']))
    have = sorted(f.stem for f in (folder/'masks').iterdir())                     # who validated when the stored runs were made
    drawn = torch.randperm(len(have), generator=rng(0, 'validation')).tolist()
    (folder/'val.txt').write_text('\n'.join(have[i] for i in drawn[:max(1, len(have)//5)]))


def grow(folder, row, seed, root, work):
    "The first folder and run of `default`, with 20 masks more; its val.txt comes along."
    first = Folder(work/'few-0')
    shutil.copytree(first.root, folder)
    if row.endswith('suggested'):
        subprocess.run([sys.executable, '-c', 'from maskmatch.suggest import maskmatch_suggest; maskmatch_suggest()', str(work/'default-0'), '--n', '20'], check=True, stdout=subprocess.DEVNULL)
        chosen = [Path(v).stem for v in (work/'default-0'/'suggest'/'suggest.txt').read_text().splitlines()]
    else:
        rest = [v for v in first.images if v not in first.masks]
        chosen = [rest[i] for i in torch.randperm(len(rest), generator=torch.Generator().manual_seed(100 + seed))[:20].tolist()]
    for v in chosen: shutil.copy(Path(root, 'trainannot', f'{v}.png'), folder/'masks'/f'{v}.png')


def run(row, seed, root, more):
    work = Path('runs')/'folder'
    name = '-'.join(''.join(c if c.isalnum() else ' ' for c in row.lower()).split())
    data, out = work/('all' if row.startswith('all') else f'data-{name}-{seed}' if row in MORE else f'few-{seed}'), work/f'{name}-{seed}'
    if (out/'test.json').exists(): return json.loads((out/'test.json').read_text())
    if row in MORE and not data.exists(): grow(data, row, seed, root, work)
    if not data.exists(): build(data, root, 367 if row.startswith('all') else 23, seed)
    subprocess.run([sys.executable, '-m', 'maskmatch.train', '--data', str(data), *ROWS[row], '--seed', str(seed), '--out', str(out), *more], check=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    c, held = on_machine(config_of(Run(out), device='auto')), camvid(root, 'test')
    m = json.loads((out/'metrics.json').read_text())
    found = dict(row=row, options=' '.join(ROWS[row] + more), seed=seed, labeled=m['labeled'], steps=m['steps'], test=measure(network_of(Run(out), c, held), c, held)['miou'],
                 val=m['teacher']['miou'], kept=m['pseudo']['kept'], seconds=m['seconds'])
    write(out/'test.json', json.dumps(found).encode())
    return found


def keep(out):
    "Configuration, log and scores, without the paths of this machine."
    to = RESULTS/'folder'/out.name
    to.mkdir(parents=True, exist_ok=True)
    for f in ('config.json', 'log.csv', 'metrics.json'): (to/f).write_text((out/f).read_text().replace(str(Path('runs', 'folder')), 'DIR'))


def collect(lines):
    with open(RESULTS/'folder.csv', 'w', newline='') as f:
        w = csv.DictWriter(f, list(lines[0]), lineterminator='\n')
        w.writeheader(), w.writerows(lines)
    md = ['| | options | test mIoU | by seed | seconds |', '| --- | --- | --- | --- | --- |']
    for row in ROWS:
        v = [x['test'] for x in lines if x['row'] == row]
        if not v: continue
        spread = f' ± {statistics.stdev(v):.1f}' if len(v) > 1 else ''
        options = next(x['options'] for x in lines if x['row'] == row)
        seconds = statistics.mean(x['seconds'] for x in lines if x['row'] == row)
        md.append(f"| {row} | {f'`{options}`' if options else '(none)'} | {statistics.mean(v):.1f}{spread} | {' / '.join(f'{x:.1f}' for x in v)} | {seconds:.0f} |")
    (RESULTS/'folder.md').write_text('\n'.join(md) + '\n')
    print('\n'.join(md))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('--root', required=True), p.add_argument('--rows', nargs='*', default=list(ROWS), choices=ROWS), p.add_argument('--seeds', type=int, nargs='*', default=[0, 1, 2])
    p.add_argument('--collect', action='store_true')
    a, more = p.parse_known_args()
    if not a.collect:
        for s in a.seeds:
            for row in a.rows: run(row, s, a.root, more)
        (RESULTS/'folder.machine.txt').write_text(machine() + '\n')
    done = sorted(Path('runs', 'folder').glob('*/test.json'))
    for f in done: keep(f.parent)
    collect([json.loads(f.read_text()) for f in done])
