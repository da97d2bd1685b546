"""An idea is one file: what a module of somebody else registers is found in forms, API and command line, and
does its work. Each toy under `tests/toys` is such a module; it joins processes by their environment."""

from __future__ import annotations

import html
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from app.db.session import Database
from app.db.tables import WebhookDelivery
from app.pages.parts.kind_pages import KIND_PAGES
from app.services.pairs.pairs import list_pairs
from app.services.run_kinds import RUN_KINDS
from app.services.runs import jobs, runs, webhooks
from app.services.runs.webhooks import WebhookRequest
from app.settings import Settings
from app.worker import Worker
from tests.app import factories
from tests.conftest import TOKEN

ROOT = Path(__file__).parents[1]
PLUGINS = " ".join(
    (
        "sources=tests.toys.toy_source",
        "methods=tests.toys.toy_method",
        "segmenters=tests.toys.toy_segmenter",
        "run_kinds=tests.toys.toy_run_kind",
        "formats=tests.toys.toy_format",
        "rows=tests.toys.toy_rows",
    )
)
RUN_KIND = "tests.toys.toy_run_kind"
ModelFolder = Callable[..., Path]


def run(*arguments: object, **environment: str) -> str:
    """What `python -m ...` prints in a process that all toys join."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "REWARDSCOPE_PLUGINS": PLUGINS, "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def pages(database: Database, settings: Settings) -> Callable[..., dict[str, str]]:
    """What the application with all toys answers to addresses: `pages("/trainings/new", ...)`."""

    def answers(*paths: str) -> dict[str, str]:
        printed = run(
            "tests.toys.served",
            *paths,
            REWARDSCOPE_DATABASE_URL=settings.database_url or "",
            REWARDSCOPE_DATA_DIR=str(settings.data_dir),
            REWARDSCOPE_TOKEN=TOKEN,
        )
        found: dict[str, str] = json.loads(printed.splitlines()[-1])  # Before it stands the log.
        return found

    return answers


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file of two preference pairs."""
    file = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": "The sky is", "chosen": " blue and the grass is green.", "rejected": " green."},
        {"prompt": "Two and two", "chosen": " make four.", "rejected": " make a small cat."},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


# --------------------------------------------------------------------------------------------------- a source


def test_a_source_is_found_in_every_form_and_in_the_schema(
    database: Database, pages: Callable[..., dict[str, str]]
) -> None:
    with database.session() as session:
        score = f"/datasets/{factories.make_dataset(session).id}/score"
    found = pages(score, "/trainings/new", "/recipes/new", "/openapi.json")

    assert 'name="sources" value="toy_length"' in found[score]
    assert "Length says nothing of what is right." in found[score]
    for form in ("/trainings/new", "/recipes/new"):
        assert '<option value="toy_length">Length of the token</option>' in found[form]
    schemas = json.loads(found["/openapi.json"])["components"]["schemas"]
    assert schemas["SourceRequest"]["properties"]["name"]["enum"][-1] == "toy_length"


def test_a_source_scores_a_file(model_folder: ModelFolder, pairs: Path, tmp_path: Path) -> None:
    assert "toy_length" in run("rewardscope", "score", "--help")

    maps = tmp_path / "maps.jsonl"
    run("rewardscope", "score", pairs, "--policy", model_folder("llama"), "--out", maps)
    record = json.loads(maps.read_text().splitlines()[0])

    lengths = [end - start for start, end in record["offsets"]]
    assert record["token_rewards"] == {"toy_length": lengths}
    assert sum(lengths) == len(" blue and the grass is green.")


# --------------------------------------------------------------------------------------------------- a method


def test_a_method_is_found_in_every_form(pages: Callable[..., dict[str, str]]) -> None:
    found = pages("/trainings/new", "/recipes/new")
    for form in ("/trainings/new", "/recipes/new"):
        assert "Toy SimPO: preference loss without a reference" in found[form]
    assert "Target margin" in found["/trainings/new"]


def test_a_method_is_found_in_the_schema(pages: Callable[..., dict[str, str]]) -> None:
    schemas = json.loads(pages("/openapi.json")["/openapi.json"])["components"]["schemas"]

    assert "toy_simpo" in schemas["TrainingBody"]["properties"]["method"]["discriminator"]["mapping"]
    assert schemas["ToySimpo"]["properties"]["beta"]["default"] == 2.0


def test_a_method_trains_from_a_file(model_folder: ModelFolder, pairs: Path, tmp_path: Path) -> None:
    assert "toy_simpo" in run("rewardscope", "train", "--help")

    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "method": {"name": "toy_simpo", "target": 0.25},
                "model": str(model_folder("llama")),
                "rows": str(pairs),
                "data": {"held_out": 0.5},
                "optimisation": {"steps": 3, "batch_size": 1, "learning_rate": 1e-3},
            }
        )
    )
    result = json.loads(run("rewardscope", "train", config, "--out", tmp_path / "out", "--json"))

    assert result["steps"] == 3
    assert result["settled"]["request"]["keeping"]["best_by"] == "held_out/accuracy"
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert {"train/loss", "train/margin", "held_out/loss"} <= set().union(*lines)
    assert (Path(result["model"]) / "model.safetensors").exists()


# ------------------------------------------------------------------------------------------------ a segmenter

WORDS = {
    "segmenter": {"name": "toy_words", "words": 2},
    "token_rewards": [1.0, 1.0, -1.0, -1.0, 1.0],
    "text": "a b c d",
    "offsets": [[0, 1], [1, 3], [3, 5], [5, 7], [7, 7]],
}


def test_a_segmenter_is_found_in_the_rule_of_a_pair_and_in_the_schema(
    database: Database, settings: Settings, pages: Callable[..., dict[str, str]]
) -> None:
    with database.session() as session:
        scored = factories.make_scored_run(session, settings, factories.preference_pairs(1))
        pair = f"/pairs/{list_pairs(session, scored.dataset_id).items[0].pair.id}?run={scored.id}"
    cut = f"{pair}&segmenter=toy_words&words=3"
    found = pages(pair, cut, "/openapi.json")

    assert '<option value="toy_words">Words</option>' in found[pair]
    assert '<div class="field" data-of="toy_words" hidden><label for="words"' in found[pair]
    assert '<option value="toy_words" selected>Words</option>' in found[cut]
    assert '<div class="field" data-of="toy_words"><label for="words"' in found[cut]
    assert "segmenter=toy_words&amp;words=3" in found[cut]
    rule = json.loads(found["/openapi.json"])["components"]["schemas"]["SegmentationRule"]
    assert rule["properties"]["segmenter"]["discriminator"]["mapping"]["toy_words"].endswith("/Words")


def test_a_segmenter_cuts_what_the_command_line_and_the_api_are_given(
    pages: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    asked = run("rewardscope", "score", "--help")
    assert "toy_words" in asked
    assert "--words" in asked

    body = tmp_path / "body.json"
    body.write_text(json.dumps(WORDS))
    expected = [(0, 2), (2, 5)]
    for answer in (
        run("rewardscope", "segment", body, "--json"),
        *pages(f"/api/v1/segmentations@{body}").values(),
    ):
        segments = json.loads(answer)["segments"]
        assert [(one["start"], one["end"]) for one in segments] == expected


def test_a_file_is_scored_and_cut_by_a_segmenter(
    model_folder: ModelFolder, pairs: Path, tmp_path: Path
) -> None:
    maps, model = tmp_path / "maps.jsonl", model_folder("llama")
    options = ("--source", "toy_length", "--segmenter", "toy_words", "--words", "3")
    run("rewardscope", "score", pairs, "--policy", model, *options, "--out", maps)
    record = json.loads(maps.read_text().splitlines()[0])
    starts = [record["offsets"][segment["start"]][0] for segment in record["segments"]["toy_length"]]
    assert starts == [0, len(" blue and the")]


# ------------------------------------------------------------------------------------------------- a run kind


def submit_run(database: Database, kind: str) -> int:
    with database.session() as session:
        request = {"number": 21, "secret": "nobody reads this", "unit": "apples"}
        return jobs.submit(session, kind=kind, name="double 21", request=request).id


@pytest.fixture
def toy_run_kind() -> Iterator[None]:
    """The run kind of a file of somebody else's, which is gone after the test."""
    importlib.import_module(RUN_KIND)
    yield
    for registry in (RUN_KINDS, KIND_PAGES):
        for name in [name for name in registry if name.endswith("doubling")]:
            del registry._items[name]  # type: ignore[attr-defined]
    del sys.modules[RUN_KIND]


@pytest.mark.usefixtures("toy_run_kind")
def test_a_run_kind_of_one_file_is_done_by_the_worker(worker: Worker, database: Database) -> None:
    run_id = submit_run(database, "doubling")
    assert worker.run_once()
    with database.session() as session:
        run = runs.get_run(session, run_id)
        assert (run.job.status, run.result) == ("succeeded", {"doubled": 42})
        assert [line.message for line in jobs.logs(session, run_id)] == ["doubling 21"]


@pytest.mark.usefixtures("toy_run_kind")
def test_its_page_shows_its_word_its_facts_and_where_its_result_is(
    worker: Worker, database: Database, client: TestClient
) -> None:
    run_id = submit_run(database, "doubling")
    assert "Double it again" not in client.get(f"/runs/{run_id}").text
    worker.run_once()
    page = html.unescape(client.get(f"/runs/{run_id}").text)
    assert "<span>doubling of a number</span>" in page
    assert "<dt>doubled</dt><dd>42</dd>" in page
    assert "<dt>unit</dt><dd>apples</dd>" in page
    assert "nobody reads this" not in page
    assert 'href="/playground">Double it again</a>' in page
    assert "doubling of a number" in client.get("/runs").text


@pytest.mark.usefixtures("toy_run_kind")
def test_it_is_cloned_with_the_body_of_its_own(database: Database, client: TestClient) -> None:
    run_id = submit_run(database, "doubling")
    answer = client.get(f"/api/v1/runs/{run_id}/clone")
    assert answer.json() == {"address": "/api/v1/doublings", "body": {"number": 21}}


@pytest.mark.usefixtures("toy_run_kind")
def test_webhooks_report_it_as_it_declares(worker: Worker, database: Database) -> None:
    with database.session() as session:
        request = WebhookRequest(url="http://127.0.0.1:9/hook", statuses=["succeeded"])
        webhooks.register(session, request, ["127.0.0.1"])
    reported, quiet = submit_run(database, "doubling"), submit_run(database, "quiet_doubling")
    while worker.run_once():
        pass
    with database.session() as session:
        assert runs.get_run(session, quiet).job.status == "succeeded"
        assert list(session.scalars(select(WebhookDelivery.run_id))) == [reported]


def test_it_is_listed_in_filters_and_in_the_schema(pages: Callable[..., dict[str, str]]) -> None:
    found = pages("/openapi.json", "/runs?kind=doubling")
    parameters = json.loads(found["/openapi.json"])["paths"]["/api/v1/runs"]["get"]["parameters"]
    kinds = next(one for one in parameters if one["name"] == "kind")["schema"]["anyOf"][0]["enum"]
    assert {"doubling", "scoring", "training"} <= set(kinds)
    for kind in kinds:
        assert f'<option value="{kind}"' in found["/runs?kind=doubling"]
    assert '<option value="doubling" selected>doubling of a number</option>' in found["/runs?kind=doubling"]


# --------------------------------------------------------------------------------------------------- a format

TOY = "toy\nThe sky is =>  blue. <>  green.\nTwo and two =>  make four. <>  make a cat.\n"


def test_a_file_type_is_found_in_forms_listings_and_the_schema(pages: Callable[..., dict[str, str]]) -> None:
    found = pages("/datasets/new", "/suites", "/openapi.json")

    for form in ("/datasets/new", "/suites"):
        assert ".arrow,.toy,.gz,.zst" in found[form]
        assert "JSONL, JSON, CSV, Parquet, Arrow or Toy with" in found[form]
    paths = json.loads(found["/openapi.json"])["paths"]
    for path in ("/api/v1/datasets", "/api/v1/task-suites"):
        form = paths[path]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
        assert "Arrow or Toy" in form["properties"]["file"]["description"]
    assert "Arrow or Toy" in " ".join(run("rewardscope", "score", "--help").split())
    listed = run("rewardscope", "formats")
    assert "A line `toy`, and under it a pair a line." in listed
    assert "`question`, `good` and `bad`, all text." in listed


def test_a_file_of_the_type_is_imported_and_scored(
    pages: Callable[..., dict[str, str]], model_folder: ModelFolder, tmp_path: Path
) -> None:
    file = tmp_path / "skies.toy"
    file.write_text(TOY)
    address = f"/api/v1/datasets@{file}"

    dataset = json.loads(pages(address)[address])
    assert (dataset["name"], dataset["pair_count"]) == ("skies", 2)

    maps = tmp_path / "maps.jsonl"
    run(
        "rewardscope",
        "score",
        file,
        "--policy",
        model_folder("llama"),
        "--source",
        "toy_length",
        "--out",
        maps,
    )
    records = [json.loads(line) for line in maps.read_text().splitlines()]
    assert [record["side"] for record in records] == ["chosen", "rejected"] * 2
    assert "".join(records[0]["tokens"]).startswith(" blue.")


def test_rows_of_the_format_are_pairs_in_every_file(
    pages: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    lines, table = tmp_path / "lines.jsonl", tmp_path / "table.csv"
    lines.write_text('{"question": "1 + 1?", "good": "2", "bad": "3"}\n{"prompt": "", "chosen": "a"}\n')
    table.write_text("bad;question;good\n3;1 + 1?;2\n")
    addresses = [f"/api/v1/datasets@{file}" for file in (lines, table)]

    found = pages(*addresses)

    assert [json.loads(found[address])["pair_count"] for address in addresses] == [2, 1]
