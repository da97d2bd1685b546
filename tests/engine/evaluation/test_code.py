import os
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


def test_files_are_bounded_and_gone_afterwards(tmp_path):
    assert runs("import os\nassert os.listdir('.') == []\nopen('x', 'w').write('y')")
    assert not runs("open('x', 'wb').write(b'0' * 2**22)")
    place = tmp_path / "cwd"
    place.touch()
    place.chmod(0o666)
    tmp_path.chmod(0o777)
    runs(f"import os\nopen({str(place)!r}, 'w').write(os.getcwd())")
    if place.read_text():  # Where it runs as nobody, the folders above may be closed to it.
        assert not Path(place.read_text()).exists()


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


def test_code_does_not_see_the_worker_where_the_system_allows_that():
    hides = "import os\nassert os.getppid() == 0"
    if not runs(hides):
        pytest.skip("This machine grants no name spaces.")
    assert not runs(f"import os\nos.kill({os.getpid()}, 0)")
    assert not runs("import socket\nsocket.create_connection(('127.0.0.1', 1), 1)")


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
