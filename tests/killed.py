"Trainings that are killed again and again, in forks of one process: no time is lost on imports. Arguments: JSON of name -> options, folder, seed of the moments, how many of them. Says how often each was killed."
import json
import os
import random
import signal
import sys
import time

cases, folder, seed, kills = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
import torch, torch._dynamo  # noqa: E401, F401: PyTorch's optimisers import the second, four seconds in each fork
from maskmatch.train import maskmatch_train

NEVER = 10**9


def training(options, out, writes=NEVER): # a child that trains, and kills itself at its n-th write to the disk: before the flush, before or after a renaming
    pid = os.fork()
    if pid: return pid
    left = [writes]
    def counted(f):
        def call(*args):
            left[0] -= 1
            if left[0] == 0: os.kill(os.getpid(), signal.SIGKILL)
            return f(*args)
        return call
    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    os.dup2(os.open(out + '.said', os.O_CREAT | os.O_WRONLY | os.O_APPEND), 1), os.dup2(1, 2)
    try: maskmatch_train([*options, '--out', out])
    except SystemExit as e: os._exit(e.code or 0)
    os._exit(0)


def end(pid): return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def again_and_again(options, whole, broken): # -> how often it was killed
    start = time.monotonic()
    assert end(training(options, whole)) == 0, open(whole + '.said').read()
    took, draw, killed = time.monotonic() - start, random.Random(seed), 0
    assert end(training(options, broken, 1)) == -signal.SIGKILL             # nothing but an unfinished config.json is there
    for k in range(kills):
        writing = k % 2                                                     # every other time while files are written
        pid = training(options, broken, draw.randint(2, 40) if writing else NEVER)
        if not writing:
            time.sleep(draw.uniform(.2, .8)*took)
            os.kill(pid, signal.SIGKILL)
        killed += end(pid) == -signal.SIGKILL
    assert end(training(options, broken)) == 0, open(broken + '.said').read()
    return killed


torch.set_num_threads(1)
print(json.dumps({name: again_and_again(options, f'{folder}/{name}/whole', f'{folder}/{name}/broken') for name, options in cases.items()}))
