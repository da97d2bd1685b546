"""The process in which model-written code runs; started as a script, never imported by the product.

Before the code starts it moves into name spaces of its own: no network, no other process, and a root of its
own that holds the standard library, the system's shared libraries (both read-only) and an empty folder in
memory, nothing else of the machine. Where the system refuses any of that, the code is not run: the pipe
says why. Memory, processor time, file size and open files are bounded, and the code is nobody without
rights. What it prints goes nowhere. Standard library alone: it runs under `python -I`.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import sysconfig
import types
from pathlib import Path
from typing import NoReturn

MEMORY_BYTES = 2**30
FOLDER_BYTES = 16 * 2**20
"""What all files together may hold."""
FILE_BYTES = 2**20
OPEN_FILES = 32
NOBODY = 65534

_NEW_FILES, _NEW_NAME, _NEW_IPC = 0x00020000, 0x04000000, 0x08000000
_NEW_USER, _NEW_PROCESSES, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEVICES, _NO_PROGRAMS = 1, 2, 4, 8
_REMOUNT, _BIND, _RECURSIVE, _PRIVATE, _DETACH = 32, 4096, 16384, 1 << 18, 2
_SET_NO_NEW_PRIVILEGES, _SET_DEATH_SIGNAL = 38, 1
_CAPABILITIES_VERSION = 0x20080522


def main() -> None:
    """Runs the program that stands on standard input, and says on a pipe that it came to its end; without a
    program it only tries whether it could."""
    answer = int(sys.argv[1])
    order = json.load(sys.stdin)
    try:
        system = ctypes.CDLL(None, use_errno=True)
        _leave(system, order["folder"])
    except (OSError, AttributeError) as error:
        os.write(answer, f"refused: {getattr(error, 'strerror', None) or error}".encode())
        os._exit(0)
    child = os.fork()
    if child:
        _wait(child, order["seconds"] + 1)
    system.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    system.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    system.capset((ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0), (ctypes.c_uint32 * 6)())
    _limit(order["seconds"])
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    exec(compile(order["program"], "<answer>", "exec"), module.__dict__)  # noqa: S102 - what it is for
    os.write(answer, order["word"].encode())
    os._exit(0)


def _leave(system: ctypes.CDLL, folder: str) -> None:
    """Leaves the machine's network, processes and files. Raises OSError where the system refuses."""
    apart = _NEW_FILES | _NEW_NAME | _NEW_IPC | _NEW_PROCESSES | _NEW_NETWORK
    if system.unshare(apart) != 0:
        user, group = os.getuid(), os.getgid()
        _check(system.unshare(apart | _NEW_USER), "a user name space")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            Path(f"/proc/self/{name}").write_text(text)

    def mount(source: str, target: str, kind: str, flags: int, data: str | None = None) -> None:
        words = [None if word is None else word.encode() for word in (source, target, kind, data)]
        _check(system.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3]), f"mount {target}")

    mount("none", "/", "", _RECURSIVE | _PRIVATE)
    safe = _NO_SUID | _NO_DEVICES
    mount("tmpfs", folder, "tmpfs", safe | _NO_PROGRAMS, f"size={FOLDER_BYTES},nr_inodes=4096,mode=0755")
    root = Path(folder)
    for source in _libraries():
        target = root / source.relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        mount(str(source), str(target), "", _BIND)
        mount("none", str(target), "", _REMOUNT | _BIND | _READ_ONLY | safe)
    for link in map(Path, ("/lib", "/lib64", "/usr/lib64")):
        if link.is_symlink():
            (root / link.relative_to("/")).symlink_to(link.readlink())
    library = Path(os.__file__).parent
    for packages in (library / "site-packages", library / "dist-packages"):
        if packages.is_dir():
            mount("tmpfs", f"{folder}{packages}", "tmpfs", safe | _READ_ONLY, "size=4k,mode=0755")
    (root / "old").mkdir()
    (root / "code").mkdir()
    (root / "code").chmod(0o777)
    _check(system.pivot_root(folder.encode(), f"{folder}/old".encode()), "a root of its own")
    os.chdir("/")
    _check(system.umount2(b"/old", _DETACH), "leaving the machine's files")
    Path("/old").rmdir()
    os.chdir("/code")


def _libraries() -> list[Path]:
    """The folders that Python's own modules are imported from, and those of shared libraries."""
    found: list[Path] = []
    compiled = sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix})
    for name in (sysconfig.get_path("stdlib"), compiled, "/lib", "/lib64", "/usr/lib"):
        folder = Path(name)
        inside = any(folder.is_relative_to(one) for one in found)
        if folder.is_dir() and not folder.is_symlink() and not inside:
            found.append(folder)
    return found


def _check(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _wait(child: int, seconds: float) -> NoReturn:
    """Ends with the child, which is killed when its time is over, and with it all that it started: it is the
    first process of its name space."""
    signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    os.waitpid(child, 0)
    os._exit(0)


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
