"""What of tables goes into the repository: `python docs/keep.py runs/tables-shapes ...`, folders of `maskmatch_table`.

docs/results/NAME/ gets, for each finished run, configuration, log, metrics, machine and boundary scores (as of `maskmatch_eval --boundary`). It is a folder of
`maskmatch_table` itself: `maskmatch_table 7 --data shapes --collect --out docs/results/tables-shapes` makes the table anew from what is kept.
maskmatch/stored/NAME.csv, which comes with the package, has a line a run, for notebook 40."""
import argparse
import csv
import json
import shutil
from pathlib import Path
from maskmatch import choices
from maskmatch.scores import EvalConfig, evaluate_run
from maskmatch.table import as_csv

ROOT = Path(__file__).resolve().parent.parent
RESULTS, STORED = ROOT/'docs'/'results', ROOT/'maskmatch'/'stored'
FILES = ('config.json', 'log.csv', 'metrics.json', 'environment.json', 'boundary.json')


def machine():
    m = choices.machine()
    return f"{m['processor']}, GPU: {m['GPU']}; Python {m['Python']}, torch {m['torch']}; {m['date']}"


def keep_run(run, out):
    if not (run/'boundary.json').exists() and (run/'last.pt').exists(): evaluate_run(EvalConfig(run=str(run), boundary=True, json=str(run/'boundary.json'), student=False))
    out.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (run/name).exists(): shutil.copy(run/name, out/name)
    c = json.loads((run/'config.json').read_text())
    (out/'config.json').write_text(json.dumps(c | dict(out=f'runs/{run.parent.name}/{run.name}', root=c['root'] and 'ROOT'), indent=1))


def line(out):
    "A run in one line; the values of classes with spaces between them."
    m, c = (json.loads((out/f'{k}.json').read_text()) for k in ('metrics', 'config'))
    b = json.loads((out/'boundary.json').read_text())['teacher']['boundary']['skip'] if (out/'boundary.json').exists() else dict(mean=None, f=[])
    words = lambda values: ' '.join('-' if v is None else f'{v:g}' for v in values)
    with open(out/'log.csv') as f: *_, end = csv.DictReader(f)
    return dict(run=out.name, method=c['method'], labeled=m['labeled'], seed=m['seed'], steps=m['steps'], last=m['teacher']['miou'], best=m['best']['miou'], best_step=m['best']['step'],
                kept=m['pseudo']['kept'], accuracy=m['pseudo']['accuracy'], supervised=end['supervised'], seconds=m['seconds'], iou=words(m['teacher']['iou']), boundary=b['mean'], boundary_iou=words(b['f']))


def keep(folder):
    out = RESULTS/folder.name
    if folder.resolve() != out.resolve():                                       # what is kept already is only put into lines
        for run in sorted(v.parent for v in folder.glob('*/metrics.json')): keep_run(run, out/run.name)
    (STORED/f'{folder.name}.csv').write_bytes(as_csv([line(v.parent) for v in sorted(out.glob('*/metrics.json'))]))


if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('folders', nargs='+', type=Path)
    for folder in p.parse_args().folders: keep(folder)
