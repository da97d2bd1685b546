"""The process in which model-written code runs; started as a script, never imported by the product.

Gives away what it can before the code starts: network, other processes and the user's identity where the
system allows that, memory, processor time, file size and open files always. What the code prints goes
nowhere. Standard library alone: it runs under `python -I`.
"""

import ctypes
import json
import os
import pathlib
import resource
import signal
import sys
import types
from typing import NoReturn

MEMORY_BYTES = 2**30
FILE_BYTES = 2**20
OPEN_FILES = 32
NOBODY = 65534

_NEW_USER, _NEW_NETWORK, _NEW_PROCESSES, _NEW_IPC = 0x10000000, 0x40000000, 0x20000000, 0x08000000
_SET_NO_NEW_PRIVILEGES, _SET_DEATH_SIGNAL = 38, 1
_CAPABILITIES_VERSION = 0x20080522


def main() -> None:
    """Runs the program that stands on standard input, and says on a pipe that it came to its end."""
    answer = int(sys.argv[1])
    order = json.load(sys.stdin)
    system = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if system is not None:
        _leave(system)
    child = os.fork()
    if child:
        _wait(child, order["seconds"] + 1)
    _become_nobody()
    if system is not None:
        system.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        system.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        system.capset((ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)())
    _limit(order["seconds"])
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(order["program"], "<answer>", "exec"), module.__dict__)  # noqa: S102 - what it is for
    os.write(answer, order["word"].encode())
    os._exit(0)


def _leave(system: ctypes.CDLL) -> None:
    """Leaves the network, and makes the next child one that sees no other process, where this user may."""
    apart = _NEW_NETWORK | _NEW_PROCESSES | _NEW_IPC
    if system.unshare(apart) != 0:
        system.unshare(apart | _NEW_USER)


def _wait(child: int, seconds: float) -> NoReturn:
    """Ends with the child, which is killed when its time is over.

    The child cannot escape: where it is the first process of its name space, all that it started dies with
    it; where it is not, it may not start any.
    """
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    os.waitpid(child, 0)
    os._exit(0)


def _become_nobody() -> None:
    """Gives up being root, where that leaves the standard library readable."""
    if os.getuid() != 0:
        return
    try:
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
        library = pathlib.Path(os.__file__)
        library.open("rb").close()
        next(library.parent.iterdir())
    except OSError:
        os.seteuid(0)
        os.setegid(0)
        return
    os.seteuid(0)
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _limit(seconds: float) -> None:
    cpu = int(seconds) + 1
    for what, most in (
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        allowed = resource.getrlimit(what)[1]
        bound = most if allowed == resource.RLIM_INFINITY else min(most, allowed)
        resource.setrlimit(what, (bound, bound))


if __name__ == "__main__":
    main()
