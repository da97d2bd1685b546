"""What an installation brings: one name, and processes of ours that take nothing from a user's packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.engine.tiny_models import write_model

ROOT = Path(__file__).parents[1]
ROWS = [
    {"id": str(n), "prompt": "Say a number.", "chosen": f"It is {n}.", "rejected": f"Is it {n}? No."}
    for n in range(8)
]
CONFIG = """
method: {name: dpo}
model: {path: MODEL}
rows: ROWS
optimisation: {steps: 2, batch_size: 4}
machine: {device: cpu}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the working tree by the build tool that pyproject names."""
    folder = tmp_path_factory.mktemp("wheel")
    script = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"  # PEP 517
    built = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return folder / built.stdout.split()[-1]


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel and its dependencies, but no checkout on its path.

    The folder of the dependencies is named in a .pth file, and such files in a folder so named are not read:
    that is how this checkout stays out.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin" / "python"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A user's project, with packages that are named as our rooms are and break whoever imports them."""
    for name in ("app", "engine", "web", "migrations"):
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text("raise SystemExit('not ours')\n")
    (tmp_path / "project" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    write_model(tmp_path / "project" / "model", "llama")
    write_model(tmp_path / "project" / "other", "llama", seed=1)
    return tmp_path / "project"


def run(python: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in a user's folder, which their PYTHONPATH names too."""
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(python), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


def test_the_wheel_brings_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"rewardscope"}
    rooms = {name.split("/")[2] for name in names if name.startswith("rewardscope/_server/")}
    assert rooms == {"app", "engine", "web", "migrations"}
    assert not [name for name in names if "__pycache__" in name]


def test_another_program_imports_the_client_and_none_of_our_rooms(installed: Path, tmp_path: Path) -> None:
    script = (
        "import sys, importlib.util\n"
        "from rewardscope import RewardScope, ServerRefused\n"
        "assert importlib.util.find_spec('app') is None and importlib.util.find_spec('engine') is None\n"
        "assert not {'pydantic', 'numpy', 'fastapi', 'torch'} & set(sys.modules)\n"
        "print(RewardScope.__module__)\n"
    )

    ran = run(installed, tmp_path, "-c", script)

    assert ran.stdout == "rewardscope.client\n", ran.stderr


def test_the_import_of_the_first_release_still_works_and_says_where_it_went(
    installed: Path, tmp_path: Path
) -> None:
    script = "from rewardscope.app.client.rewardscope import RewardScope; print(RewardScope.__module__)"

    ran = run(installed, tmp_path, "-W", "always", "-c", script)

    assert ran.stdout == "rewardscope.client\n", ran.stderr
    assert "from rewardscope import RewardScope" in ran.stderr


def test_scoring_takes_nothing_from_packages_of_the_user(installed: Path, theirs: Path) -> None:
    ran = run(
        installed, theirs, "-m", "rewardscope", "score", "rows.jsonl", "--policy", "model",
        "--reference", "other", "--out", "maps.jsonl",
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert len((theirs / "maps.jsonl").read_text().splitlines()) == 2 * len(ROWS)


def test_training_under_torchrun_takes_nothing_from_packages_of_the_user(
    installed: Path, theirs: Path
) -> None:
    config = CONFIG.replace("MODEL", str(theirs / "model")).replace("ROWS", str(theirs / "rows.jsonl"))
    (theirs / "config.yaml").write_text(config)

    ran = run(
        installed, theirs, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "rewardscope", "train", "config.yaml", "--out", "run", "--json",
    )  # fmt: skip

    assert ran.returncode == 0, ran.stderr
    assert list((theirs / "run").rglob("model.safetensors"))


def test_a_job_takes_nothing_from_packages_of_the_user(installed: Path, theirs: Path) -> None:
    request = {"policy": {"path": "model"}, "reference": {"path": "other"}, "sources": [{"name": "implicit"}]}
    script = (
        "import json, sys\n"
        "from rewardscope.launcher import enter; enter()\n"
        "from app.job_process import JobProcess\n"
        "from engine.jobs.protocol import Report\n"
        "process = JobProcess()\n"
        "process.start('score', json.loads(sys.argv[1]))\n"
        "while isinstance(said := process.poll(120), Report): process.answer()\n"
        "process.terminate()\n"
        "print(type(said).__name__)\n"
    )

    ran = run(installed, theirs, "-c", script, json.dumps({"pairs": ROWS[:2], "request": request}))

    assert ran.stdout == "Result\n", ran.stderr
