"Options that nothing uses are refused when somebody typed them, and only then."
import json
import pytest
import torch
import trees
from commands import command, ok, refused
from maskmatch.config import Config, resolve, term_options
from maskmatch.flops import in_shapes, meta_step
from maskmatch.methods import METHODS, every_option, parts_of, takes, terms_of, unused
from maskmatch.model import make_model
from maskmatch.notation import BadInput
from maskmatch.objective import backward
from maskmatch.run import parser
from maskmatch.table import TABLES, TableConfig, argv, planned
from maskmatch.teacher import make_teacher

MINI = '--size 32 --batch 2 --steps 1 --evals 1 --device cpu --amp off'.split()
TAKEN = dict(tau='.8', p='8', gamma='.3', scales='1,0.5', lambda1='.5', lambda2='.5', sampler='grid', where='unmasked', norm='valid', loss='ohem')


def dashed(option): return '--' + option.replace('_', '-')


@pytest.mark.parametrize('args, words', [
    ('--method fixmatch --lcr --ms', ['--lcr: --method fixmatch makes no use', 'take --method fixmatch+lcr+ms']),
    ('--method fixmatch --ms', ['--ms:', 'take --method fixmatch+ms']), ('--method u2pl+lcr --ms', ['--ms:', 'u2pl+lcr+ms']),
    ('--method fixmatch --no-lcr', ['--no-lcr:', '--method fixmatch', 'leave it out.']), ('--method cps --no-ms', ['--no-ms:', 'leave it out.']),
    ('--method cps --tau .8', ['--tau 0.8:', '--method cps', 'take fixmatch, unimatch, maskmatch, +lcr.']),
    ('--method fixmatch+lcr --scales 1,0.5', ['--scales 1,0.5:', 'take maskmatch, +ms.']), ('--method suponly --lambda1 1', ['--lambda1 1.0:', 'meanteacher']),
    ('--no-lcr --p 8', ['--p 8:', '--method maskmatch --no-lcr makes', 'take --lcr.']), ('--no-ms --scales 1,2', ['--scales 1,2:', 'take --ms.']),
    ('--method meanteacher --cutmix-p .1', ['--cutmix-p 0.1:', 'no CutMix']), ('--method suponly+lcr --blur 1', ['--blur 1.0:', 'no strong view']),
    ('--method suponly --burn-in .1', ['--burn-in 0.1:', 'labels alone']), ('--method fixmatch --ensemble logit', ['--ensemble logit:', 'one scale']),
    ('--method fixmatch --bn labeled,masked', ['--bn labeled,masked:', 'no such view']), ('--window 24', ['--window 24:', '--eval slide and center have']),
    ('--stride 8', ['--stride 8:', '--eval slide']), ('--eval center --stride 8', ['--stride 8:']), ('--labeled all --split-seed 1', ['--split-seed 1:', 'nothing is drawn']),
    ('--splits .', ['--splits .:', '--split']), ('--root .', ['--root .:', 'built in']),
    ('--preset voc_classic_92_r101 --method cps --tau .9', ['--tau 0.9:', '--method cps'])], ids=lambda v: v if isinstance(v, str) else '')
def test_typed_and_used_by_nothing(args, words, tmp_path):
    for way in ([], ['--dry-run']): refused(command('maskmatch_train', *args.split(), *way, '--out', tmp_path/'r'), *words, out=tmp_path/'r')


@pytest.mark.parametrize('args', ['--method fixmatch+lcr+ms --p 8 --scales 1,2', '--method cps+lcr --tau .8 --gamma .3', '--method suponly+lcr --burn-in .1 --bn masked',
                                  '--method cutmixseg --cutmix-p .1', '--eval slide --window 24 --stride 8', '--eval center --window 24', '--no-lcr --no-ms --tau .5', '--method suponly --alpha .5 --loss ohem',
                                  '--labeled 1/8 --split-seed 1', '--preset voc_classic_92_r101 --method cps --lambda1 .5', '--preset voc_classic_92_r101 --method suponly'])
def test_typed_and_used(args): assert ok(command('maskmatch_train', *args.split(), '--dry-run'))


def test_what_the_data_a_preset_or_a_run_fills_in_is_not_refused(tmp_path):
    for method in ('cps', 'suponly'):
        call = ['maskmatch_train', *MINI, '--method', method, '--out', tmp_path/method]
        ok(command(*call))
        assert json.loads((tmp_path/method/'config.json').read_text())['tau'] == .9
        ok(command(*call)), ok(command('maskmatch_train', '--out', tmp_path/method)), ok(command('maskmatch_eval', tmp_path/method))
        refused(command(*call, '--tau', '.9'), '--tau 0.9')
    refused(command('maskmatch_eval', tmp_path/'cps', '--window', '24'), '--window 24', '--eval whole')
    refused(command('maskmatch_eval', tmp_path/'cps', '--eval', 'center', '--window', '24', '--stride', '8'), '--stride 8')
    ok(command('maskmatch_eval', tmp_path/'cps', '--eval', 'slide', '--window', '24'))


def test_tables_run_and_refuse_what_no_row_uses():
    for table in TABLES:
        for r in planned(TableConfig(table, seeds=1)): assert not r.config.given or set(r.config.given) <= set(r.row.options)
    for table, also in (('7', 'tau=.8'), ('1', 'p=8 gamma=.3'), ('lambda1', 'method=u2pl'), ('7', 'eval=slide window=40'), ('9', 'no-ms')): planned(TableConfig(table, seeds=1, also=also))
    for table, also, word in (('p', 'method=u2pl', '--p 4: --method u2pl'), ('tau', 'method=cps', '--tau 0.5'), ('9', 'no-lcr', '--sampler random'), ('7', 'window=40', '--window 40: no row of table 7'),
                              ('meanteacher', 'tau=.8', '--tau 0.8: no row'), ('5', 'root=x', '--root x: no row')):
        with pytest.raises(BadInput, match=f'^{word}'): planned(TableConfig(table, seeds=1, also=also))
    with pytest.raises(BadInput, match='^--root x: no row'): planned(TableConfig('7', seeds=1, root='x'))


def test_the_command_of_each_row_is_taken_and_makes_the_row(tmp_path):
    "With options for all rows that some of them do not use."
    for table in ('1', '6', '7', '8', 'meanteacher'):
        also = 'loss=ohem' if table == 'meanteacher' else 'tau=.8 scales=1,2 cutmix_p=.1 bn=labeled,strong' + ' p=8'*(table != '7')
        for r in planned(TableConfig(table, seeds=1, also=also.replace(' scales=1,2', '' if table == '6' else ' scales=1,2'), out=str(tmp_path))):
            assert resolve(Config.of(**vars(parser(Config, 'maskmatch_train').parse_args(argv(r))))) == r.config
    shared = [planned(TableConfig('7', seeds=1, also=also))[0].config for also in ('', 'tau=.8')]
    assert shared[0] == shared[1]                                               # labels alone: the same run, whatever others are given


def made(c, new): return [{k: v for k, v in vars(t).items() if k[0] != '_'} | dict(loss=str(getattr(t, 'loss', ''))) for t in terms_of(new=new, **term_options(c))]


@pytest.mark.parametrize('method', [m + plug for m in METHODS for plug in ('', '+lcr', '+ir', '+ms', '+lcr+ms')])
def test_what_is_refused_changes_nothing_and_what_is_not_does(method):
    "Not from a list: the terms are made with another value, and a step says which draws it made."
    with torch.device('meta'):
        new = lambda k=0: make_model('small', 6)
        try: made(usual := resolve(Config(method=method)), new)
        except BadInput: return
        idle, changed = unused(usual), set()
        simple = lambda terms: [{k: v for k, v in t.items() if isinstance(v, (int, float, str)) or k == 'scales'} for t in terms]
        for k, v in TAKEN.items():
            other = resolve(Config(method=method, **{k: Config.__dataclass_fields__[k].type(v)}))
            if simple(made(usual, new)) != simple(made(other, new)): changed.add(k)
        student = new()
        terms = terms_of(new=new, **term_options(usual) | dict(p=8))
    assert changed == {*TAKEN} - {*idle}
    in_shapes(torch.nn.ModuleList([student, *terms]))
    step = meta_step(student, make_teacher(student), 32, 2)
    values = backward(terms, step)
    assert ('draws' in vars(step)) == ('blur' not in idle) and ('box' in vars(step)) == ('cutmix_p' not in idle) and (len(values) > 1) == ('burn_in' not in idle)


def test_no_second_list():
    fields = {*Config.__dataclass_fields__}
    assert {*TAKEN, 'lcr', 'ms'} == every_option() & fields == {*term_options(resolve(Config()))} - {'method'}
    assert takes('maskmatch') == every_option() and parts_of('maskmatch') == ('maskmatch',)
    with pytest.raises(TypeError, match='taux'): terms_of('fixmatch', taux=.9)
