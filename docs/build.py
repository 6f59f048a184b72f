"""The site: `python docs/build.py` renders every notebook to _docs/, from the outputs that are stored in them.

nbdev prepares the notebooks (signatures, links between names), smalldocs writes the pages, KaTeX (from npm, once, checked by its hash)
draws the equations. No kernel, no Quarto; nothing on a page comes from another host. The same sources build with `nbdev_docs` where Quarto is.
A notebook that stores an error, a cell that cannot run, a link that leads nowhere: one sentence, exit 1, and _docs/ stays as it was."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path(os.environ.get('XDG_CACHE_HOME') or Path.home()/'.cache')/'maskmatch'
KATEX, KATEX_SHA = 'katex-0.16.22.tgz', 'e9e0d167db3175481cbadaff38e8d90b130f6a3ddb451a47e43c577fd511f365'
PREFIX = re.compile(r'^\d+[a-zA-Z0-9]*_')                       # of notebooks; Quarto's addresses have none


class Refused(Exception): "What stops the build, in one sentence."


def katex(site):
    "KaTeX's script, style and fonts into the site."
    file = CACHE/KATEX
    if not file.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as d:
            name, version = KATEX.removesuffix('.tgz').split('-')
            try: subprocess.run(['npm', 'pack', f'{name}@{version}'], cwd=d, check=True, capture_output=True)
            except (OSError, subprocess.CalledProcessError) as e: raise Refused(f'{KATEX}: npm could not fetch it ({e}); put the file into {CACHE}.')
            os.replace(Path(d)/KATEX, file)
    if hashlib.sha256(file.read_bytes()).hexdigest() != KATEX_SHA: raise Refused(f'{file}: not the file that was checked; delete it and build again.')
    with tarfile.open(file) as tar:
        for m in tar:
            path = m.name.removeprefix('package/')
            if not re.fullmatch(r'LICENSE|dist/(katex\.min\.(js|css)|contrib/auto-render\.min\.js|fonts/\w+-\w+\.woff2)', path): continue
            to = site/'site_libs'/'katex'/path.removeprefix('dist/')
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(tar.extractfile(m).read())


def plain(name): return PREFIX.sub('', name)


def notebooks():
    "Sources of the pages. Refuses what stores an error."
    for p in sorted((ROOT/'nbs').glob('[!_]*.ipynb')):
        nb = json.loads(p.read_text(encoding='utf-8'))
        for i, c in enumerate(nb['cells']):
            if any(o['output_type'] == 'error' for o in c.get('outputs', ())): raise Refused(f'{p.name}: cell {i} stores an error; run python docs/execute.py nbs/{p.name}.')
        yield p


def process(tree):
    "nbdev's preparation, in a copy of the sources. Returns the folder of what the pages are made from, and the settings."
    shutil.copytree(ROOT/'maskmatch', tree/'maskmatch', ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('settings.ini', 'pyproject.toml'): shutil.copy(ROOT/name, tree)
    (tree/'nbs').mkdir()
    for p in [*notebooks(), *(ROOT/'nbs').glob('*.yml'), *(ROOT/'nbs').glob('*.css'), *(ROOT/'nbs').glob('*.svg'), *(ROOT/'nbs').glob('*.md')]: shutil.copy(p, tree/'nbs')
    os.chdir(tree)
    sys.path.insert(0, str(tree))                               # the package as it is here, installed or not
    from nbdev.config import get_config
    from nbdev.doclinks import _build_modidx
    from nbdev.quarto import refresh_quarto_yml
    from nbdev.serve import proc_nbs
    refresh_quarto_yml()
    _build_modidx()
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: return Path(proc_nbs(n_workers=0, force=True)), get_config()
        except Exception as e: raise Refused(f'{str(e).strip().splitlines()[0]} {e.__cause__ or ""}')


def readable(text):
    "A signature as one would write it: no links in its comments, no type that was only guessed from the default. Options in the text beside it as code."
    signature = lambda s: re.sub(r'=<(lambda|factory)>', '=…', re.sub(r':(NoneType|function|builtin_function_or_method)(?==)', '', re.sub(r'\[(`[^`]+`)\]\([^)]*\)', r'\1', s)))
    words = lambda s: re.sub(r'(?<![\w-])--[a-z][\w-]*', r'`\g<0>`', s).replace(' -> ', ' → ')
    return ''.join(s if i % 2 and not s.startswith('```') else (words, signature)[i % 2](s) for i, s in enumerate(re.split(r'(```.*?```|`[^`]*`)', text, flags=re.S)))


def rename(folder, cfg):
    "Addresses as Quarto gives them, links that stay within the site, and a way to Colab on each page."
    names = {p.name: plain(p.name) for p in folder.glob('*.ipynb')}
    own = f'{cfg.doc_host}{cfg.doc_baseurl}'.rstrip('/') + '/'
    def links(text):
        text = text.replace(own, '')
        for old, new in names.items(): text = text.replace(old, new)
        return text
    for old, new in names.items():
        nb = json.loads((folder/old).read_text(encoding='utf-8'))
        nb['cells'][0]['source'] = re.sub(r'^output-file:.*\n', '', ''.join(nb['cells'][0]['source']), flags=re.M) # the file has its name now
        for c in nb['cells']:
            if c['cell_type'] == 'markdown': c['source'] = links(''.join(c['source']))
            for o in c.get('outputs', ()):
                if 'text/markdown' in o.get('data', {}): o['data']['text/markdown'] = links(readable(''.join(o['data']['text/markdown'])))
        colab = f'https://colab.research.google.com/github/{cfg.user}/{cfg.repo}/blob/{cfg.branch}/nbs/{quote(old)}'
        nb['cells'].insert(1, dict(cell_type='markdown', metadata={}, id='colab', source=f'[Open in Colab]({colab}) · [notebook]({cfg.git_url.rstrip("/")}/blob/{cfg.branch}/nbs/{quote(old)})'))
        (folder/old).unlink()
        (folder/new).write_text(json.dumps(nb), encoding='utf-8')
    for p in [folder/'_quarto.yml', folder/'sidebar.yml', *folder.glob('*.md')]: p.write_text(links(p.read_text(encoding='utf-8')), encoding='utf-8')


def coloured(page, own):
    "Each symbol of `viz.SYMBOLS` in its colour, in equations and in code. A lone p is the side of a patch only where masks are the subject."
    from maskmatch.viz import SYMBOLS
    latex = {tex: colour for _, (tex, colour) in sorted(SYMBOLS.items(), key=lambda kv: -len(kv[1][0])) if tex.startswith('\\') or own}
    words = re.compile(r'\b(' + '|'.join(k for k in SYMBOLS if len(k) > 1 or own) + r')\b')
    tokens = re.compile('|'.join(re.escape(t) + ('(?![A-Za-z])' if t[-1].isalpha() else '') if t[0] == '\\' else rf'(?<![\\A-Za-z_{{^]){t}(?![A-Za-z_^(])' for t in latex))
    text = lambda html, f: re.sub(r'(^|>)([^<]+)', lambda m: m[1] + f(m[2]), html)
    paint = lambda m: f'<span style="{style(SYMBOLS[m[0]][1])}">{m[0]}</span>'
    style = lambda c: f'color:{c};color:color-mix(in srgb,{c} 75%,currentColor)'
    page = re.sub(r'(<span class="math [^>]*>)(.*?)(</span>)', lambda m: m[1] + tokens.sub(lambda t: f'{{\\textcolor{{{latex[t[0]]}}}{{{t[0]}}}}}', m[2]) + m[3], page, flags=re.S)
    return re.sub(r'(<code[^>]*>)(.*?)(</code>)', lambda m: m[1] + text(m[2], lambda s: words.sub(paint, s)) + m[3], page, flags=re.S)


def breakable(page): # where a line may end in code within text: after a dot, an underscore, a bracket; never within an option
    parts = lambda s: re.sub(r'(?<=[\w)\]])([._(/])(?=[A-Za-z])', r'\1<wbr>', re.sub(r'--\w[\w-]*', r'<span class="text-nowrap">\g<0></span>', s))
    return re.sub(r'(?<!<pre>)<code>.*?</code>', lambda m: re.sub(r'>([^<]+)', lambda t: '>' + parts(t[1]), m[0]), page, flags=re.S)


def anchored(pages): # name -> html; nbdev links `Class.method` to a heading that only `show_doc` of the method would make: then to the page
    ids = {name: set(re.findall(r' id="([^"]+)"', html)) for name, html in pages.items()}
    link = lambda m: m[0] if m[2] in ids[m[1]] else f'<a href="{m[1]}"'
    return {name: re.sub(r'<a href="([\w.]+\.html)#([^"]+)"(?=[^>]*><code)', lambda m: link(m) if m[1] in ids else m[0], html) for name, html in pages.items()}


def render(folder):
    "smalldocs' pages. Refuses broken links and whatever it does not understand."
    from smalldocs import layout, site
    layout.KATEX = 'site_libs/katex'
    built = site.build(folder, quiet=True)
    if unknown := [w for w in built.warnings if not re.search('format commonmark|keep-md', w)]: raise Refused('; '.join(unknown))
    for p in built.out.glob('site_libs/themes/*.css'): p.write_text(re.sub(r'@import\s*(url\([^)]*\)|"[^"]*"|\'[^\']*\')[^;]*;', '', p.read_text(encoding='utf-8')), encoding='utf-8')
    for name, html in anchored({p.name: p.read_text(encoding='utf-8') for p in built.out.glob('*.html')}).items():
        html = html.replace('<em>Call self as a function.</em>', '')                # Python's word for a function that has none of its own
        (built.out/name).write_text(breakable(coloured(html, name in ('masking.html', 'lcr.html'))), encoding='utf-8')
    (built.out/'sitemap.xml').write_text(re.sub(r'\s*<lastmod>.*?</lastmod>', '', (built.out/'sitemap.xml').read_text()))
    return built.out


def build(out=ROOT/'_docs'):
    "Everything, then one renaming."
    out = Path(out).resolve()
    with tempfile.TemporaryDirectory() as d:
        try:
            folder, cfg = process(Path(d))
            rename(folder, cfg)
            site = render(folder)
        finally: os.chdir(ROOT)
        katex(site)
        new, old = out.with_name(out.name + '.new'), out.with_name(out.name + '.old')
        for p in (new, old): shutil.rmtree(p, ignore_errors=True)
        shutil.copytree(site, new)
        if out.exists(): out.rename(old)
        new.rename(out)
        shutil.rmtree(old, ignore_errors=True)
    pages = list(out.glob('*.html'))
    print(f'{out}: {len(pages)} pages, {sum(p.stat().st_size for p in out.rglob("*") if p.is_file())/1e6:.1f} MB')


if __name__ == '__main__':
    try: build(*map(Path, sys.argv[1:2]))
    except Refused as e: sys.exit(f'{e}')
