"""What the blocks of the docs tell people to type is what the command line and the API take."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from starlette.testclient import TestClient
from typer.testing import CliRunner

from app.cli import app
from app.main import create_app
from app.settings import Settings
from app.worker import Worker
from engine.formats.canonical import write_pairs
from engine.jobs.train_file import TrainingConfig, read_config
from tests.conftest import TOKEN
from tests.engine.training import worlds

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
    form: list[str]
    """Fields of a form, `name=value` or `name=@file`; empty: no form is sent."""


def call_of(words: list[str]) -> Call:
    method, body, form, url = "GET", None, list[str](), ""
    rest = iter(words)
    for word in rest:
        if word in ("-H", "-o"):
            next(rest)
        elif word == "-X":
            method = next(rest)
        elif word == "-F":
            method = "POST"
            form.append(next(rest))
        elif word == "--json":
            body = json.loads(next(rest))
            method = "POST" if method == "GET" else method
        elif not word.startswith("-"):
            url = word.replace("$PAIRS", "$URL/api/v1/datasets/1").removeprefix("$URL")
    parts = urlsplit(url)
    return Call(method, parts.path, parse_qsl(parts.query), body, form)


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
    if call.form:
        assert "multipart/form-data" in operation["requestBody"]["content"]


class World:
    """A server with a worker, and what stands in it for the numbers and names that the API's page writes."""

    def __init__(self, client: TestClient, worker: Worker, folders: Mapping[str, Path]) -> None:
        self.client, self.worker, self.folders = client, worker, folders
        self.ids: dict[str, Any] = {}
        """By a word of an address: the newest thing of its kind."""
        for name in ("base", "tuned"):
            self.sent("models", {"path": str(folders[name]), "name": name})

    def sent(self, door: str, body: Any = None, **parts: Any) -> Any:
        answer = self.client.post(f"/api/v1/{door}", json=body, **parts)
        assert answer.status_code < 400, (door, answer.text)
        return answer.json()

    def done(self, run_id: int) -> Any:
        """The run, after all that is queued was worked off."""
        while self.worker.run_once():
            pass
        run = self.client.get(f"/api/v1/runs/{run_id}").json()
        assert run["job"]["status"] == "succeeded", run["job"]
        return run

    def prepare(self, call: Call) -> None:
        """Brings about what the page's words around a request presuppose."""
        match call.path.split("/")[3:]:
            case ["runs", _, "retry"]:
                again = self.client.get(f"/api/v1/runs/{self.ids['trainings']}/clone").json()
                self.ids["runs"] = self.sent(again["address"].removeprefix("/api/v1/"), again["body"])["id"]
                self.sent(f"runs/{self.ids['runs']}/cancel")
            case ["runs", _, "clone"]:
                self.ids["runs"] = self.ids["trainings"]
            case ["recipes", _, "retry"]:
                self.sent(f"recipes/{self.ids['recipes']}/cancel")
            case ["runs", _, "priority"]:
                body = {"dataset_id": self.ids["datasets"], "reward_model": "judge"}
                self.ids["runs"] = self.sent("scorings", body)["id"]

    def ask(self, call: Call) -> Any:
        self.prepare(call)
        path = re.sub(r"(?<=/)([a-z-]+)/\d+", lambda found: f"{found[1]}/{self.ids[found[1]]}", call.path)
        query = [(name, self._value(name, value)) for name, value in call.query]
        if not call.form:
            return self.client.request(call.method, path, params=query, json=self._body(call.body))
        fields = dict(field.split("=", 1) for field in call.form)
        name = fields.pop("file").removeprefix("@")
        with (self.folders["files"] / name).open("rb") as file:
            return self.client.post(path, data=fields, files={"file": (name, file)})

    def remember(self, call: Call, found: Any) -> None:
        """Takes note of what a request made, and works off what the next ones ask about."""
        match call.path.split("/")[3:]:
            case ["datasets"]:
                self.ids["datasets"] = found["id"]
                pairs = self.client.get(f"/api/v1/datasets/{found['id']}/pairs").json()["data"]
                self.ids["pairs"] = self.ids["token-maps"] = pairs[0]["id"]
            case ["scorings" | "trainings" as kind]:
                self.ids["runs"] = self.ids[kind] = found["id"]
                result = self.done(found["id"])["result"]
                self.ids["models"] = result.get("model_id", self.ids.get("models"))
            case ["trainings", _, "token-maps"]:
                self.done(found["id"])
            case ["task-suites" | "recipes" | "webhooks" | "models" as kind] if call.method == "POST":
                self.ids[kind] = found["id"]

    def _value(self, name: str, value: str) -> str:
        kinds = {"run": "scorings", "run_id": "scorings", "model_id": "models"}
        return str(self.ids[kinds[name]]) if name in kinds else value

    def _body(self, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        stands_for = {
            "dataset_id": lambda _: self.ids["datasets"],
            "scoring_run_id": lambda _: self.ids["scorings"],
            "suite_ids": lambda _: [self.ids["task-suites"]],
            "pair_ids": lambda _: [self.ids["pairs"]],
            "path": lambda path: str(self.folders[path.removeprefix("/models/")]),
            "url": lambda _: "http://127.0.0.1:9/hook",
        }
        return {name: stands_for.get(name, lambda one: one)(value) for name, value in body.items()}


@pytest.fixture
def folders(tmp_path: Path, model_folder: Any) -> dict[str, Path]:
    """What the pages call models and files: tiny ones."""
    found = {"files": tmp_path, "judge": tmp_path / "judge"}
    shutil.copytree(model_folder("reward", 3), found["judge"])
    for seed, name in enumerate(("policy", "reference", "base", "tuned")):
        found[name] = tmp_path / name
        shutil.copytree(model_folder("llama", seed), found[name])
    told = {"part": "adversarial", "skill": "sums"}
    write_pairs(tmp_path / "pairs.jsonl", [replace(pair, meta=told) for pair in worlds.pairs(12)])
    tasks = [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(2)]
    for name in ("gsm8k.jsonl", "questions.jsonl"):
        (tmp_path / name).write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return found


def test_the_requests_of_the_page_of_the_api_work_one_after_the_other(
    client: TestClient, worker: Worker, folders: dict[str, Path]
) -> None:
    world = World(client, worker, folders)
    calls = [call_of(one.values[0]) for one in commands("curl") if str(one.id).startswith("api.md")]
    assert len(calls) > 40

    for call in calls:
        answer = world.ask(call)
        assert answer.status_code < 400, (call, answer.text)
        if answer.headers.get("content-type") == "application/json":
            world.remember(call, answer.json())


def test_the_commands_of_the_readme_make_files_of_files(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = folders["files"]
    monkeypatch.chdir(here)
    named = {"my-policy": "policy", "my-base": "base", "my-reward-model": "judge", "my-scorer": "policy"}
    for name, folder in named.items():
        (here / name).symlink_to(folders[folder])
    rows = [json.loads(line) for line in (here / "pairs.jsonl").read_text().splitlines()]
    columns = pa.schema([(name, pa.string()) for name in ("prompt", "chosen", "rejected")])
    pq.write_table(pa.Table.from_pylist(rows, columns), here / "pairs.parquet")
    (config,) = [block for _, block in blocks("yaml")]
    (here / "config.yaml").write_text(config)
    lines = [one.values[0] for one in commands("rewardscope") if str(one.id).startswith("README.md")]

    for words in [words for words in lines if words[0] in ("score", "train")]:
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, (words, ran.output)

    assert (here / "maps.jsonl").stat().st_size > 0
    assert pq.read_table(here / "maps.parquet").num_rows == 24
    assert (here / "run" / "final" / "model.safetensors").exists()


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
