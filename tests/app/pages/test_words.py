"""The words of the field: pages, fields, curves and docs use them, and none of those that they replaced."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest

from app.pages.parts.training_curves import CHARTS
from app.services.pairs import pairs
from app.services.recipes import recipes
from app.services.recipes.requests import RecipeBody
from tests.app import trained_runs

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REPLACED = {
    r"Passes over the data": "Epochs",
    r"Passes over each batch": "PPO epochs",
    r"Updates a pass": "Minibatches",
    r"Responses to a prompt": "Group size",
    r"Compute activations again": "Activation checkpointing",
    r"Largest gradient": "Max grad norm",
    r"Clip of the ratio": "Clip range",
    r"Weight of the KL": "KL coefficient",
    r"(Weight|Loss) of the anchor": "SFT coefficient",
    r"Deviation of advantages": "Advantage std",
    r"Share of responses cut off": "Truncation rate",
    r"Numbers of the method": "Hyperparameters",
    r"Steps between looks": "Eval interval",
    r"Tried on|tried on": "Evaluation",
    r"\b[Dd]ensit(y|ies)\b": "Supervision granularity",
    r"\bBrings\b": "Annotations",
    r"\bunion\b": "sample + scorer data",
    r"Cut the whole run": "Apply rule to run",
    r"said by people": "human label",
}
"""Phrases that nobody of the field uses, and what stands in their place."""
STATES = {"works": "busy", "waits": "idle"}
"""The same of words that stand alone, as the state of a worker does."""


def old_words(text: str) -> list[str]:
    """The replaced phrases that a text has."""
    return [found[0] for phrase in REPLACED for found in re.finditer(phrase, text)]


def prose(markdown: str) -> str:
    """A page of the docs without code, in which the API's own names stand."""
    return re.sub(r"```.*?```|`[^`]*`", "", markdown, flags=re.DOTALL)


def read(page: str) -> str:
    """What a person reads of a page: its text, and the words of its attributes."""
    told = re.findall(r'\b(?:title|placeholder|aria-label|alt)="([^"]*)"', page)
    text = re.sub(r"<(script|style)\b.*?</\1>|<code>.*?</code>|<[^>]*>", "\n", page, flags=re.DOTALL)
    return html.unescape("\n".join([text, *told]))


@pytest.fixture
def addresses(database, settings) -> list[str]:
    """The main pages, with something on each."""
    with database.session() as session:
        training = trained_runs.make_training(session, settings, 30)
        attempt = trained_runs.begin(session, training)
        trained_runs.go_on(session, training, attempt, 10)
        suites = [trained_runs.make_suite(session)]
        body = RecipeBody(dataset_id=training.dataset_id, model="base", suite_ids=suites)
        recipe = recipes.submit(session, settings, body)
        (first, *_) = pairs.list_pairs(session, training.dataset_id).items
        return [
            *(
                "/",
                "/runs",
                "/queue",
                "/recipes",
                "/models",
                "/suites",
                "/playground",
                "/settings",
                "/patterns",
            ),
            *("/trainings/new", "/trainings/new?method=ppo", "/recipes/new", "/evaluations/new"),
            f"/datasets/{training.dataset_id}",
            f"/datasets/{training.dataset_id}/score",
            f"/pairs/{first.pair.id}",
            f"/runs/{training.id}",
            f"/recipes/{recipe.id}",
        ]


def test_the_main_pages_use_the_words_of_the_field(browser_client, addresses):
    for address in addresses:
        answer = browser_client.get(address)
        assert answer.status_code == 200, address
        shown = read(answer.text)
        assert old_words(shown) == [], address
        assert not STATES.keys() & {line.strip() for line in shown.splitlines()}, address


def test_curves_have_the_names_of_the_field():
    names = "\n".join(
        line for chart in CHARTS for line in (chart.title, *(one.label for one in chart.metrics))
    )
    assert old_words(names) == []


def test_the_openapi_uses_the_words_of_the_field(client):
    def told(schema):
        if isinstance(schema, dict):
            yield from (schema[key] for key in ("title", "description") if isinstance(schema.get(key), str))
            schema = list(schema.values())
        if isinstance(schema, list):
            for inner in schema:
                yield from told(inner)

    bodies = client.get("/openapi.json").json()["components"]["schemas"]
    titles = {
        field.get("title", "") for body in bodies.values() for field in body.get("properties", {}).values()
    }
    assert {"Epochs", "Clip range", "KL coefficient", "Group size", "Supervision granularity"} <= titles
    for name, body in bodies.items():
        if name.endswith(("Body", "Request")):
            assert old_words(prose("\n".join(told(body)))) == [], name


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name != "house.md"], ids=lambda page: page.name
)
def test_the_docs_use_the_words_of_the_field(page):
    """But for the page that is written from docstrings, which speak of code."""
    assert old_words(prose(page.read_text())) == []
