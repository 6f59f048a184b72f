"""What presets sustain on this machine: `python docs/rates.py [PRESET[:OPTION=VALUE,...] ...] [--steps 30] [--json FILE]`.

Makes pictures of VOC's or Cityscapes' size with random masks in a temporary folder, trains each preset on them for a few steps through
`maskmatch_train`'s own code (ImageNet weights left out), and prints pairs/s, TFLOP/s and the peak of GPU memory beside the estimate of `maskmatch_flops`.
The rate is the median over the log's rows but the first two."""
import argparse
import csv
import json
import platform
import statistics
import tempfile
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from maskmatch.bench import picture_files
from maskmatch.config import Config, resolve
from maskmatch.flops import estimate
from maskmatch.notation import BadInput
from maskmatch.run import parser
from maskmatch.train import train


def tree(folder, data, n=96, val=2):
    "`n` training pictures and `val` more, of the set's size and in its layout; 16 different ones under many names."
    voc, g = data == 'voc', np.random.default_rng(0)
    hw, kind = ((375, 500), 'jpeg') if voc else ((1024, 2048), 'png')
    files = [Path(p) for p in picture_files(folder, 16, hw, kind).images]
    for i in range(n + val):
        name, split = f'a_{i:06d}_000019', 'train' if i < n else 'val'
        image = folder/'JPEGImages'/f'{name}.jpg' if voc else folder/'leftImg8bit'/split/'a'/f'{name}_leftImg8bit.png'
        mask = folder/'SegmentationClassAug'/f'{name}.png' if voc else folder/'gtFine'/split/'a'/f'{name}_gtFine_labelTrainIds.png'
        for f in (image, mask): f.parent.mkdir(parents=True, exist_ok=True)
        image.hardlink_to(files[i % 16])
        Image.fromarray(g.integers(0, 19, (8, 8), np.uint8)).resize(hw[::-1], Image.NEAREST).save(mask)
    lists = folder/'ImageSets'/'Segmentation'
    lists.mkdir(parents=True)
    for split, ids in (('train', range(n)), ('val', range(n, n + val))): (lists/f'{split}.txt').write_text('\n'.join(f'a_{i:06d}_000019' for i in ids))
    return folder


def measure(spec, steps, roots, device):
    "Train one preset for a few steps -> a row."
    preset, _, options = spec.partition(':')
    given = vars(parser(Config, 'rates').parse_args([v for o in options.split(',') if o for v in ('--' + o).split('=')]))
    c = resolve(Config.named(preset, **given))
    e = estimate(c)
    if c.data not in roots: roots[c.data] = tree(Path(tempfile.mkdtemp()), c.data)
    if device == 'cuda': torch.cuda.empty_cache(), torch.cuda.reset_peak_memory_stats()
    out = tempfile.mkdtemp() + '/run'
    try: m = train(Config.named(preset, **given | dict(split='', labeled='32', root=str(roots[c.data]), weights='none', steps=steps, every=5, evals=1, device=device, out=out)))
    except BadInput as said:
        if 'memory is too small' not in str(said): raise
        return dict(preset=spec, estimate_gib=round(e['gib'], 1), failed='out of memory')
    rate = statistics.median(float(r['pairs_per_s']) for r in list(csv.DictReader(open(out + '/speed.csv')))[2:])
    return dict(preset=spec, pairs_per_s=round(rate, 2), tflops=round(rate*e['tflop_per_pair'], 1), peak_gib=m.get('peak_gib'), estimate_gib=round(e['gib'], 1))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('presets', nargs='*', default=['voc_blender_u2pl_1323_r101_fast', 'voc_blender_u2pl_1323_r101:amp=bf16', 'voc_blender_cps_662_r50', 'cityscapes_cps_372_r101_fast'])
    p.add_argument('--steps', type=int, default=30)
    p.add_argument('--json')
    a = p.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    where = torch.cuda.get_device_name() if device == 'cuda' else platform.processor() or platform.machine()
    rows, roots = [], {}
    for spec in a.presets:
        try: rows.append(measure(spec, a.steps, roots, device))
        except BadInput as e: p.error(str(e))
        print(rows[-1], flush=True)
    print(f"{where}, PyTorch {torch.__version__}, {a.steps} steps\n{'preset':44}{'pairs/s':>9}{'TFLOP/s':>9}{'peak GiB':>10}{'estimate':>10}")
    for r in rows: print(f"{r['preset']:44}{r.get('pairs_per_s', r.get('failed')):>9}{r.get('tflops', ''):>9}{r.get('peak_gib') or '':>10}{r['estimate_gib']:>10}")
    if a.json: Path(a.json).write_text(json.dumps(dict(machine=where, torch=torch.__version__, steps=a.steps, rows=rows), indent=1))


if __name__ == '__main__': main()
