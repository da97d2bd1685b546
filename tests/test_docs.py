"""What prose promises, a test reads."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.cli import app
from app.settings import Settings

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()

    documented = set(re.findall(r"`([A-Z_]+)`", text.split("## Settings")[1]))

    assert documented == {name.upper() for name in Settings.model_fields}


@pytest.mark.parametrize("script", ["write-house", "write-tables"])
def test_what_a_script_writes_is_up_to_date(script: str) -> None:
    checked = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, "--check"], capture_output=True, text=True
    )

    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md", "Dockerfile"])
def test_every_command_that_is_named_exists(page: str) -> None:
    named = set(re.findall(r"`?rewardscope ([a-z]+)", (ROOT / page).read_text()))

    assert named <= COMMANDS.keys()


@pytest.mark.parametrize("service", ["migrate", "web", "worker"])
def test_compose_runs_the_commands_of_the_readme(service: str) -> None:
    command = COMPOSE["services"][service]["command"]

    assert command[0] == "rewardscope"
    found = CliRunner().invoke(app, [*[word for word in command[1:] if word.isalpha()], "--help"])
    assert found.exit_code == 0, shlex.join(command)


def test_compose_migrates_before_anything_serves() -> None:
    for service in ("web", "worker"):
        waits_for = COMPOSE["services"][service]["depends_on"]["migrate"]["condition"]
        assert waits_for == "service_completed_successfully"


def test_the_web_image_has_no_torch() -> None:
    stages = (ROOT / "Dockerfile").read_text().split("FROM ")
    web = next(stage for stage in stages if stage.startswith("base AS web"))

    assert "torch" not in web
    assert "[engine]" not in web


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_picture_is_there_and_the_script_takes_it() -> None:
    script = runpy.run_path(str(ROOT / "scripts" / "take-pictures"))
    shown = {
        (page.parent / target).resolve()
        for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text())
    }

    assert {path.stem for path in shown} == script["PICTURES"].keys()
    assert shown == set((ROOT / "docs").glob("*.png"))
    assert sum(path.stat().st_size for path in shown) < 2_500_000


def test_the_example_of_the_api_answers_as_the_page_says(client: Any) -> None:
    request, answer = (
        json.loads(block)
        for block in re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), flags=re.DOTALL)
    )

    found = client.post("/api/v1/segmentations", json=request).json()

    assert {name: found[name] for name in ("signal", "candidates", "pivots", "mask")} == {
        name: answer[name] for name in ("signal", "candidates", "pivots", "mask")
    }
    for ours, theirs in zip(found["segments"], answer["segments"], strict=True):
        assert ours == pytest.approx(theirs)


def test_every_line_of_the_security_page_names_tests_that_exist() -> None:
    known = {
        name
        for page in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"def (test_\w+)", page.read_text())
    }
    text = (ROOT / "docs" / "security.md").read_text()

    named = set(re.findall(r"`(test_\w+)`", text))
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("|") and not line.startswith(("| threat", "|---"))
    ]

    assert named <= known, named - known
    assert all("`test_" in line for line in lines)
