"README.md from the markdown cells of nbs/index.ipynb: `python docs/readme.py` writes it, `text()` returns it."
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def text():
    cells = json.loads((ROOT/'nbs'/'index.ipynb').read_text(encoding='utf-8'))['cells']
    parts = [''.join(c['source']) for c in cells if c['cell_type'] == 'markdown']
    body = '\n\n'.join(parts) + '\n'
    body = re.sub(r'^:::.*\n', '', body, flags=re.M)                                   # Quarto's callouts
    body = re.sub(r'\]\((\w+\.(?:ipynb|md))', r'](nbs/\1', body)                                # links between notebooks
    return '<!-- made from nbs/index.ipynb by docs/readme.py: edit there -->\n\n' + body


if __name__ == '__main__': (ROOT/'README.md').write_text(text(), encoding='utf-8')
