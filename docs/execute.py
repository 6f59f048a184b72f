"""Run notebooks and store their outputs: `python docs/execute.py [NOTEBOOK ...]`, all of nbs/ by default.

Cells are run under the rules of `nbdev_test` (`tst_flags` of settings.ini and `eval: false` are skipped), one process a notebook,
and the result is cleaned, so that running twice stores the same bytes. What a cell marked `#| measured` prints (times, memory) is another
thing each time and is not stored. Exits with 1 if a cell fails; that notebook stays as it was."""
import base64
import io
import os
import subprocess
import sys
from pathlib import Path
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def small(cell):
    "Reduce the pictures in a cell's outputs to 128 colours: a third of the bytes, the same ones each time."
    for png in (o['data'] for o in cell.outputs if 'image/png' in o.get('data', {})):
        buf = io.BytesIO()
        with Image.open(io.BytesIO(base64.b64decode(png['image/png']))) as im:
            im.convert('RGB').quantize(128, dither=Image.Dither.NONE).save(buf, 'PNG', optimize=True)
        png['image/png'] = base64.b64encode(buf.getvalue()).decode() + '\n'


def run(path):
    "Execute one notebook in this process and write it back, cleaned."
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from nbdev.clean import clean_nb
    from nbdev.config import get_config
    from nbdev.process import NBProcessor
    flags = set(get_config().tst_flags.split())
    marked = [getattr(c, 'directives_', {}) for c in NBProcessor(path, process=True).nb.cells]
    skip = {i for i, d in enumerate(marked) if flags & d.keys() or d.get('eval:', [''])[0].lower() == 'false'}
    nb, shell = read_nb(path), CaptureShell(path)
    shell.run_cell('%config InlineBackend.figure_formats = ["png"]')
    os.chdir(path.parent)
    for i, cell in enumerate(nb.cells):
        if cell.cell_type != 'code': continue
        cell.outputs = []
        if i in skip: continue
        shell.cell(cell)
        small(cell)
        if 'measured' in marked[i]: cell.outputs = []
        if shell.exc: sys.exit(f'{path.name}, cell {i}:\n{shell.prettytb(fname=path)}')
    clean_nb(nb)
    write_nb(nb, path)
    size = path.stat().st_size
    print(f'{path.name}: {size/1e3:.0f} kB', flush=True)
    if size > 1e6: sys.exit(f'{path.name}: {size} bytes; keep a notebook under 1 MB')


if __name__ == '__main__':
    if len(sys.argv) == 3 and sys.argv[1] == '--one': run(Path(sys.argv[2]).resolve())
    else:
        paths = [Path(p) for p in sys.argv[1:]] or sorted((ROOT/'nbs').glob('[!_]*.ipynb'))
        env = os.environ | dict(OMP_NUM_THREADS='1', MPLBACKEND='module://matplotlib_inline.backend_inline')
        failed = [p.name for p in paths if subprocess.run([sys.executable, __file__, '--one', str(p)], env=env).returncode]
        sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
