"""What of tables goes into the repository: `python docs/keep.py runs/table7-shapes ...`, folders that `maskmatch_table` has finished.

Each gets docs/results/NAME/ with the table's files and, for each run, its configuration, log, metrics and boundary scores (by `maskmatch_eval --boundary`).
maskmatch/stored/NAME.csv, which comes with the package, has the table's lines with the scores of each class beside them."""
import argparse
import csv
import json
import shutil
from pathlib import Path
from maskmatch.scores import EvalConfig, evaluate_run
from maskmatch.table import as_csv, label

ROOT = Path(__file__).resolve().parent.parent
RESULTS, STORED = ROOT/'docs'/'results', ROOT/'maskmatch'/'stored'


def keep_run(run, out):
    out.mkdir(parents=True, exist_ok=True)
    if not (out/'boundary.json').exists(): evaluate_run(EvalConfig(run=str(run), boundary=True, json=str(out/'boundary.json'), student=False))
    for name in ('log.csv', 'metrics.json'): shutil.copy(run/name, out/name)
    c = json.loads((run/'config.json').read_text())
    (out/'config.json').write_text(json.dumps(c | dict(out=f'runs/{run.parent.name}/{run.name}', root=c['root'] and 'ROOT'), indent=1))


def scores(out):
    teacher, boundary = (json.loads((out/name).read_text())['teacher'] for name in ('metrics.json', 'boundary.json'))
    words = lambda values: ' '.join('' if v is None else f'{v:g}' for v in values)
    with open(out/'log.csv') as f: *_, end = csv.DictReader(f)
    return dict(supervised=end['supervised'], iou=words(teacher['iou']), boundary=boundary['boundary']['skip']['mean'], boundary_iou=words(boundary['boundary']['skip']['f']))


def keep(folder):
    out = RESULTS/folder.name
    with open(folder/'table.csv') as f: lines = list(csv.DictReader(f))
    for v in lines:
        name = f"{label(v['row'])}-{label(v['column'])}-{v['seed']}"
        keep_run(folder/name, out/name)
        v |= scores(out/name)
    for name in ('table.csv', 'time.csv', 'table.md', 'table.png', 'machine.txt'): shutil.copy(folder/name, out/name)
    (STORED/f'{folder.name}.csv').write_bytes(as_csv(lines))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('folders', nargs='+', type=Path)
    for folder in p.parse_args().folders: keep(folder)
