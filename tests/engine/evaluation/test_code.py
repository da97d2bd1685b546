import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from engine.errors import RequestError
from engine.evaluation.code import check_code_allowed, fenced, passes_test
from engine.tasks import Code, Exact, Task


def runs(code, test="assert True", seconds=5.0):
    return passes_test(Code(test=test, seconds=seconds), code)


def test_code_that_does_what_the_test_wants_passes():
    assert runs("import math\ndef f(x):\n    return math.sqrt(x)", "assert f(4) == 2")
    assert runs('print("äöü 漢字" * 1000)')


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return 3",
        "def f(x:",
        "raise SystemExit(0)",
        "import os\nos._exit(0)",
        "import os, signal\nos.kill(os.getpid(), 9)",
        "1 / 0",
    ],
)
def test_code_that_fails_or_leaves_early_does_not_pass(code):
    assert not runs(code, "assert f(4) == 2")


def test_time_is_bounded():
    began = time.monotonic()

    assert not runs("while True: pass", seconds=0.5)
    assert not runs("import time\ntime.sleep(60)", seconds=0.5)
    assert time.monotonic() - began < 12


def test_memory_is_bounded():
    assert not runs("x = bytearray(3 * 2**30)")
    assert runs("x = bytearray(2**20)")


def test_files_are_bounded():
    assert runs("import os\nassert os.listdir('.') == []\nopen('x', 'w').write('y')")
    assert not runs("open('x', 'wb').write(b'0' * 2**22)")
    assert not runs("for n in range(20): open(str(n), 'wb').write(b'0' * 2**20)")
    assert not runs("for n in range(20_000): open(str(n), 'w').close()")


def test_the_environment_is_empty(monkeypatch):
    monkeypatch.setenv("REWARDSCOPE_SECRET", "x")

    assert runs("import os\nassert not [name for name in os.environ if name != 'LC_CTYPE'], os.environ")


def test_no_other_process_is_started():
    before = {process.pid for process in psutil.process_iter()}

    runs("import os\nif os.fork() == 0:\n    os.setsid()\n    import time\n    time.sleep(60)", seconds=2)

    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.pid not in before and any("sandbox.py" in part for part in process.info["cmdline"] or [])
    ]
    assert left == []


def test_code_sees_neither_processes_nor_the_network():
    assert runs("import os\nassert os.getppid() == 0")
    assert not runs(f"import os\nos.kill({os.getpid()}, 0)")
    assert not runs("import socket\nsocket.create_connection(('127.0.0.1', 1), 1)")
    assert not runs("open('/proc/self/environ')")


def test_code_sees_no_file_of_the_machine(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("x")
    tmp_path.chmod(0o755)

    assert runs("import ssl, sqlite3, decimal, asyncio, lzma")
    for place in (secret, Path(__file__), Path("/etc/passwd"), Path("/dev/null"), Path(pytest.__file__)):
        assert place.exists()
        assert not runs(f"open({str(place)!r})"), place
    assert runs("import os\nassert {'etc', 'proc', 'dev', 'old'}.isdisjoint(os.listdir('/'))")
    assert not runs("import os\nopen(os.__file__, 'a')")


NO_NAME_SPACES = (
    "echo 0 > /proc/sys/user/max_user_namespaces; "
    'exec setpriv --bounding-set=-all --inh-caps=-all -- "$0" "$@"'
)


def test_code_is_not_run_where_it_cannot_be_kept_apart(tmp_path):
    """In a process that may make no name spaces, as in a container without rights."""
    mark = tmp_path / "ran"
    test = f"open({str(mark)!r}, 'w')"
    program = (
        "from engine.errors import RequestError\n"
        "from engine.evaluation.code import check_code_allowed\n"
        "from engine.tasks import Code, Task\n"
        f"task = Task(key='1', prompt='x', checker=Code(test={test!r}))\n"
        "try:\n    check_code_allowed([task], True)\nexcept RequestError as error:\n    print(error)\n"
    )
    without = ["unshare", "--user", "--map-root-user", "sh", "-c", NO_NAME_SPACES]
    if shutil.which("unshare") is None or subprocess.run([*without, "true"]).returncode != 0:
        pytest.skip("Rights cannot be taken away here, for want of unshare and setpriv.")

    said = subprocess.run(
        [*without, sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert "so none is run" in said.stdout
    assert not mark.exists()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("plain", None),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("Look:\n```\nx = 1\ny = 2\n```\nand\n```\nz\n```", "x = 1\ny = 2\n"),
        ("```py\nx = 1", "x = 1\n"),
    ],
)
def test_the_first_fenced_block_is_the_code(answer, code):
    assert fenced(answer) == code


def test_code_is_refused_unless_it_was_allowed():
    runs_code = Task(key="1", prompt="x", checker=Code(test="assert x"))
    harmless = Task(key="2", prompt="x", checker=Exact(answers=["y"]))

    check_code_allowed([runs_code], True)
    check_code_allowed([harmless], False)
    with pytest.raises(RequestError, match="REWARDSCOPE_ALLOW_CODE"):
        check_code_allowed([harmless, runs_code], False)
