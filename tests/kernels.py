"""Notebooks' kernels without the wait for their imports. `python kernels.py serve SOCKET` imports what most notebooks import, and forks for each kernel;
`python kernels.py CONNECTION_FILE SOCKET` is what Jupyter starts and waits for: it asks for such a kernel and ends with it. Standard library alone, until then."""
import json
import os
import signal
import socket
import sys

del sys.path[0]                                                                 # this folder: a notebook finds what is installed


def serve(path):
    os.environ['MPLBACKEND'] = 'module://matplotlib_inline.backend_inline'      # as a kernel sets it before matplotlib is there
    import ipykernel.kernelapp, matplotlib.figure, scipy.ndimage, torch._dynamo, torchvision  # noqa: E401, F401
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(path), door.listen()
        while True:
            asked, _ = door.accept()                                            # stays open in the child, until its end
            if not os.fork(): return kernel(json.loads(asked.makefile().readline()), door, asked)
            asked.close()


def kernel(ask, door, asked):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL), door.close()
    os.chdir(ask['cwd']), os.environ.clear(), os.environ.update(ask['env'])
    sys.argv = ['ipykernel_launcher', '-f', ask['file']]
    from ipykernel import kernelapp
    kernelapp.launch_new_instance()


def stand_in(file, path):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(json.dumps(dict(file=file, cwd=os.getcwd(), env=dict(os.environ))).encode() + b'\n')
        s.recv(1)                                                               # nothing, at its end


if __name__ == '__main__': serve(sys.argv[2]) if sys.argv[1] == 'serve' else stand_in(*sys.argv[1:])
