"""What the blocks of the docs tell people to type is what the command line and the API take."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest
import typer
import yaml
from typer.testing import CliRunner

from app.cli import app
from app.main import create_app
from app.settings import Settings
from engine.jobs.train_file import TrainingConfig, read_config
from tests.conftest import TOKEN

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """The blocks of a language on all pages: the page and the text, lines that go on joined."""
    for page in PAGES:
        for block in re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL):
            yield page.name, block


def commands(program: str) -> list[Any]:
    """What the pages tell to type of a program, its pipes and comments left out."""
    found = []
    for page, block in blocks("sh"):
        whole = re.sub(r"'[^']*'", lambda text: text[0].replace("\n", " "), block)
        for line in whole.splitlines():
            for part in line.split(" | "):
                words = shlex.split(part, comments=True)
                if words[:1] == [program]:
                    found.append(pytest.param(words[1:], id=f"{page}: {shlex.join(words[:4])[:60]}"))
    return found


def parse(words: list[str]) -> None:
    """Takes a command apart as if it would run. Raises a UsageError."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("rewardscope", list(words))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", commands("rewardscope"))
def test_every_command_of_the_pages_has_these_options(words: list[str]) -> None:
    parse(words)


def test_an_option_that_does_not_exist_is_found() -> None:
    with pytest.raises(Exception, match="No such option"):
        parse(["score", "pairs.jsonl", "--out", "maps.jsonl", "--no-such-option"])


def test_the_piped_example_of_the_readme_prints_a_mask() -> None:
    line = next(line for _, block in blocks("sh") for line in block.splitlines() if line.startswith("echo "))
    said, typed = (shlex.split(part, comments=True) for part in line.split(" | "))

    ran = CliRunner().invoke(app, typed[1:], input=said[1])

    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["mask"]


def test_the_file_of_the_training_page_is_a_training() -> None:
    (file,) = [yaml.safe_load(block) for _, block in blocks("yaml")]

    config = TrainingConfig.model_validate(file)

    assert config.supervision.density == "segment"


def test_what_the_pages_set_on_top_of_a_training_fits_it(tmp_path: Path) -> None:
    (file,) = [block for _, block in blocks("yaml")]
    (tmp_path / "config.yaml").write_text(file)
    lines = [line for _, block in blocks("sh") for line in block.splitlines() if " --set " in line]
    assert lines

    for line in lines:
        words = shlex.split(line, comments=True)
        read_config(
            tmp_path / "config.yaml", [value for word, value in itertools.pairwise(words) if word == "--set"]
        )


class Call(NamedTuple):
    """One request of the API's page."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: Any
    is_form: bool


def call_of(words: list[str]) -> Call:
    method, body, is_form, url = "GET", None, False, ""
    rest = iter(words)
    for word in rest:
        if word in ("-H", "-o"):
            next(rest)
        elif word == "-X":
            method = next(rest)
        elif word == "-F":
            is_form, method = True, "POST"
            next(rest)
        elif word == "--json":
            body = json.loads(next(rest))
            method = "POST" if method == "GET" else method
        elif not word.startswith("-"):
            url = word.replace("$PAIRS", "$URL/api/v1/datasets/1").removeprefix("$URL")
    parts = urlsplit(url)
    return Call(method, parts.path, parse_qsl(parts.query), body, is_form)


@pytest.fixture(scope="module")
def operations() -> dict[str, Any]:
    """The OpenAPI of the application, which needs no data base to say so."""
    settings = Settings(database_url="postgresql://nobody@localhost/none", token=TOKEN)
    found: dict[str, Any] = create_app(settings).openapi()
    return found


def operation_of(schema: dict[str, Any], call: Call) -> dict[str, Any]:
    for path, methods in schema["paths"].items():
        pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))
        if re.fullmatch(pattern, call.path) and call.method.lower() in methods:
            found: dict[str, Any] = methods[call.method.lower()]
            return found
    pytest.fail(f"there is no {call.method} {call.path}")


@pytest.mark.parametrize("words", commands("curl"))
def test_every_request_of_the_pages_is_one_that_the_api_takes(
    words: list[str], operations: dict[str, Any]
) -> None:
    call = call_of(words)
    operation = operation_of(operations, call)

    parameters = {one["name"]: one["schema"] for one in operation.get("parameters", [])}
    for name, value in call.query:
        assert name in parameters, f"no parameter `{name}`; there are {sorted(parameters)}"
        options = _options(operations, parameters[name])
        assert not options or value in options, f"`{name}` is one of {options}"
    if call.body is not None:
        model = _resolved(operations, operation["requestBody"]["content"]["application/json"]["schema"])
        assert set(model.get("required", ())) <= call.body.keys() <= model["properties"].keys()
    if call.is_form:
        assert "multipart/form-data" in operation["requestBody"]["content"]


def _resolved(schema: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in one:
        one = schema["components"]["schemas"][one["$ref"].rsplit("/", 1)[1]]
    return one


def _options(schema: dict[str, Any], one: dict[str, Any]) -> list[str]:
    """The values that a parameter is one of; empty where any will do."""
    one = _resolved(schema, one)
    kinds = one.get("anyOf", [one])
    if any("enum" not in _resolved(schema, kind) and kind.get("type") != "null" for kind in kinds):
        return []
    return [value for kind in kinds for value in _resolved(schema, kind).get("enum", [])]
