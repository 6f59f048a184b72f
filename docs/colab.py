"The first code cell of each notebook, which installs the package where it is missing, as on Colab: `python docs/colab.py` writes it from settings.ini, `cell()` returns it."
import json
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START = "#| hide\nfrom importlib.util import find_spec\nif not find_spec('"


def cell():
    "The source of that cell."
    parser = ConfigParser(delimiters=['='])
    parser.read(ROOT/'settings.ini', encoding='utf-8')
    cfg = parser['DEFAULT']
    return f"{START}{cfg['lib_name']}'):\n    %pip install -q git+{cfg['git_url'].rstrip('/')}"


def put(nb):
    "Make it the first code cell of a notebook that has code; what it was before is replaced."
    code = [i for i, c in enumerate(nb['cells']) if c['cell_type'] == 'code']
    if not code: return
    first = nb['cells'][code[0]]
    if ''.join(first['source']).startswith(START): first['source'] = cell().splitlines(keepends=True)
    else: nb['cells'].insert(1, dict(cell_type='code', execution_count=None, id='install', metadata={}, outputs=[], source=cell().splitlines(keepends=True)))


if __name__ == '__main__':
    for path in sorted((ROOT/'nbs').glob('[!_]*.ipynb')):
        nb = json.loads(path.read_text(encoding='utf-8'))
        put(nb)
        path.write_text(json.dumps(nb, indent=1, ensure_ascii=False, sort_keys=True) + '\n', encoding='utf-8')
