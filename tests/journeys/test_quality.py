"""Every page there is, as a browser has it: axe finds nothing serious, nothing leaves the server, nothing is
wider than a phone, every place of the keyboard is seen. And twelve tabs of one live run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from sqlalchemy import select

from app.db.tables import Run, TaskSuite
from app.main import create_app
from app.services.pairs import pairs
from app.services.recipes import recipes
from app.services.runs import jobs, runs
from app.services.scorings import scores
from app.services.scorings.scores import ScoreTextRequest
from engine.formats.rows import row_to_pair
from engine.types import ScoredChunk, Span
from tests.app import factories, recipe_handlers, trained_runs

pytestmark = pytest.mark.browser

AXE = (Path(__file__).parents[1] / "vendor" / "axe-core-4.14.1" / "axe.min.js").read_text()

FINDINGS = """async (rules) => {
  const found = await axe.run(document, { resultTypes: ["violations"], ...(rules && { runOnly: rules }) });
  const shown = (nodes) => nodes.slice(0, 3).map((node) => node.html.slice(0, 160)).join(" | ");
  return found.violations
    .filter((each) => ["serious", "critical"].includes(each.impact))
    .map((each) => `${each.id}: ${shown(each.nodes)}`);
}"""
"""What axe says of a page that is serious or critical."""

SPILLS = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const spills = [...document.body.querySelectorAll("*")]
    .filter((part) => part.getBoundingClientRect().right > width + 1)
    .filter((part) => !part.closest(".scroll *, .log *, .bar nav *"));
  return ["wider", ...spills.slice(0, 4).map((part) => part.outerHTML.slice(0, 160))];
}"""
"""What makes a page wider than its window."""

TWICE = """() => {
  const ids = [...document.querySelectorAll("[id]")].map((part) => part.id);
  return [...new Set(ids.filter((id, place) => ids.indexOf(id) !== place))];
}"""
"""Names that two elements have: labels and links would lead to the first of them."""

VIOLATIONS = """globalThis.violations = [];
addEventListener("securitypolicyviolation", (event) => {
  violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});"""
"""Keeps what the content security policy refuses."""

FRAGMENTS = {
    *("activity", "start", "pair_view", "pair_tokens", "run_status", "run_rest", "recipe_status", "icon"),
    *("playground_waiting", "playground_view", "playground_tokens"),
    *("queue_state", "run_log", "news", "dataset_labels", "pair_labels", "pair_preview", "pair_export"),
    *("dataset_explorer", "token_map_step", "token_map_reading"),
}
"""Routes that answer parts of pages, files, or nothing."""

PAGES = {
    "home": ["/"],
    "dataset_new": ["/datasets/new"],
    "dataset": [
        "/datasets/{dataset}",
        "/datasets/{bare}",
        "/datasets/{dataset}?sort=margin&text=nothing+has+this",
    ],
    "score": ["/datasets/{bare}/score"],
    "pair": ["/pairs/{pair}", "/pairs/{bare_pair}", "/pairs/{pair}?view=mask"],
    "pair_reads": ["/pairs/{pair}/reads?run={scored}"],
    "compare": ["/runs/compare?ids={training}&ids={failed}", "/runs/compare?ids={evaluated}"],
    "runs": ["/runs", "/runs?status=failed", "/runs?name=nothing&dataset={dataset}"],
    "run": ["/runs/{training}", "/runs/{failed}", "/runs/{scored}", "/runs/{evaluated}", "/runs/{queued}"],
    "training_pairs": ["/runs/{training}/pairs"],
    "token_map": ["/runs/{training}/pairs/{pair}"],
    "queue": ["/queue"],
    "training_new": ["/trainings/new?dataset={dataset}&run={scored}", "/trainings/new?clone={training}"],
    "recipe_new": ["/recipes/new"],
    "recipes": ["/recipes"],
    "recipe": ["/recipes/{recipe}"],
    "evaluation_new": ["/evaluations/new"],
    "suites": ["/suites"],
    "suite": ["/suites/{suite}"],
    "models": ["/models"],
    "model": ["/models/{model}"],
    "playground": ["/playground"],
    "playground_run": ["/playground/{text}", "/playground/{waiting_text}"],
    "settings": ["/settings"],
    "login": ["/login"],
    "patterns": ["/patterns"],
}
"""Where every page is looked at; `{names}` are ids of `world`."""

REFUSED = ["/nowhere", "/runs/99999", "/datasets/99999"]
"""Addresses that answer by the page of an error."""


def page_routes(settings, database) -> set[str]:
    """The names of the application's pages that can be opened, without `pages:`."""

    def all_of(routes):
        for route in routes:
            if isinstance(route, APIRoute):
                yield route
            elif hasattr(route, "original_router"):  # What FastAPI keeps of an included router.
                yield from all_of(route.original_router.routes)

    return {
        route.name.removeprefix("pages:")
        for route in all_of(create_app(settings, database).routes)
        if route.name.startswith("pages:") and "GET" in route.methods
    }


@dataclass
class World:
    """Addresses of every page, by the name of its route; several where a page has several looks."""

    pages: dict[str, list[str]] = field(default_factory=dict)


UGLY = (
    "Paris‑sur‑Seine is, certainly, the capital of France and it lies on a_very_long_unbroken_word_"
    + "x" * 60
)


@pytest.fixture
def world(database, settings, tmp_path: Path) -> World:
    """Something of everything: scored, trained, compared and evaluated, with texts that are hard to show."""
    words = UGLY.split()
    rows = [
        factories.preference_pair(
            number,
            " ".join(words[number:]),
            "مرحبا بالعالم 你好，世界 Rome <b>👍</b> and " + " ".join(words[: 8 - number]),
            spans={"rejected": [Span(0, 5, "wrong city", -1.0)]},
        )
        for number in range(6)
    ]
    with database.session() as session:
        base = trained_runs.make_base(session, settings)
        scored = factories.make_scored_run(session, settings, rows)
        pair = pairs.list_pairs(session, scored.dataset_id).items[0].pair
        bare = factories.make_dataset(session, 3, "bare " + "name" * 20)
        bare_pair = pairs.list_pairs(session, bare.id).items[0].pair
        masks = {"dataset_id": scored.dataset_id, "scoring_run_id": scored.id}
        masks["supervision"] = {"density": "segment"}
        training = trained_runs.make_training(session, settings, 400, **masks)
        trained_runs.go_on(session, training, trained_runs.begin(session, training), 120, entropy=1.5)
        failed = trained_runs.make_training(session, settings, 300, **masks)
        attempt = trained_runs.begin(session, failed)
        trained_runs.go_on(session, failed, attempt, 40)
        trained_runs.fail(session, failed, attempt, "The loss is NaN at step 41; lower the learning rate.")
        evaluated = trained_runs.evaluate(session, settings, "base", 0.7)
        queued = factories.make_run(session, settings, bare)
        suite = session.scalars(select(TaskSuite)).first()
        recipe_id = make_recipe(session, settings, recipe_handlers.World(bare, base, suite), tmp_path)
        text_id, waiting_id = (make_text(session, settings, scored=scored) for scored in (True, False))
        ids = {
            "dataset": scored.dataset_id,
            "bare": bare.id,
            "pair": pair.id,
            "bare_pair": bare_pair.id,
            "scored": scored.id,
            "training": training.id,
            "failed": failed.id,
            "evaluated": evaluated.id,
            "queued": queued.id,
            "suite": suite.id,
            "recipe": recipe_id,
            "model": base.id,
            "text": text_id,
            "waiting_text": waiting_id,
        }
    pages = {name: [address.format(**ids) for address in addresses] for name, addresses in PAGES.items()}
    return World(pages)


def make_text(session, settings, scored: bool) -> int:
    """A text in the playground; its id."""
    texts = {"prompt": "Where is <it>?", "chosen": "Surely in Paris.", "rejected": "In Rome or so."}
    body = ScoreTextRequest.model_validate(texts | {"policy": "policy", "reference": "reference"})
    run = scores.submit(session, settings, body)
    if scored:
        session.flush()
        run = runs.get_run(session, run.id)
        attempt = factories.claim(session, run)
        pair = row_to_pair(run.request["pairs"][0])
        names = [source["name"] for source in run.request["sources"]]
        maps = [
            factories.reward_map(pair, side, dict.fromkeys(names, factories.by_word_length(pair, side)))
            for side, _ in pair.sides()
        ]
        scores.store(session, run, attempt, ScoredChunk(0, 1, maps))
        jobs.finish(session, run.job.id, attempt, scores.finish(session, run, {}))
    return run.id


def make_recipe(session, settings, made: recipe_handlers.World, folder: Path) -> int:
    """A recipe that is half done: a training has curves, another has failed; its id."""
    recipe_id = recipes.submit(session, settings, made.body(name="sums & <segments>")).id
    for step in ("scorer", "scores", "rjs segment", "rjs sample", "evaluate base", "evaluate rjs segment"):
        session.flush()
        asked = select(Run).where(Run.recipe_id == recipe_id, Run.recipe_step == step)
        run = runs.get_run(session, session.scalars(asked).one().id)
        trains = step.startswith("rjs")
        attempt = trained_runs.begin(session, run) if trains else factories.claim(session, run)
        if trains:
            trained_runs.go_on(session, run, attempt, 30)
        if step == "rjs sample":
            trained_runs.fail(session, run, attempt, "The loss is NaN at step 31.")
        else:
            jobs.finish(session, run.job.id, attempt, recipe_handlers.leave(session, run, folder))
        recipes.after_run(session, settings, run.id)
    return recipe_id


def test_every_page_has_a_case(settings, database):
    routes = page_routes(settings, database)
    assert routes - FRAGMENTS == PAGES.keys()
    assert routes >= FRAGMENTS


def test_every_page_is_sound_in_both_themes_and_on_a_phone(watched, server, world):
    page = watched.page
    page.add_init_script(VIOLATIONS)
    page.goto(server.token_url)
    found: dict[str, list[str]] = {}
    for address in [*(address for addresses in world.pages.values() for address in addresses), *REFUSED]:
        page.goto(server.url + address)
        found[f"{address}, policy"] = page.evaluate("violations")
        if address != "/patterns":  # Which shows the same parts several times.
            found[f"{address}, ids"] = page.evaluate(TWICE)
        page.evaluate(AXE)
        found[f"{address}, light"] = page.evaluate(FINDINGS, None)
        page.emulate_media(color_scheme="dark")
        found[f"{address}, dark"] = page.evaluate(FINDINGS, ["color-contrast"])
        page.set_viewport_size({"width": 390, "height": 844})
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        found[f"{address}, narrow"] = page.evaluate(SPILLS)
        found[f"{address}, keys"] = page.evaluate(FINDINGS, ["scrollable-region-focusable"])
        assert page.title().endswith(" · RewardScope"), address
        page.set_viewport_size({"width": 1440, "height": 900})
        page.emulate_media(color_scheme="light")
    # What is refused on purpose is an answer of 404, which the browser notes on its console.
    watched.faults[:] = [fault for fault in watched.faults if "404" not in fault]
    told = [f"{where}: {each}" for where, whats in found.items() for each in whats]
    assert not told, "\n".join(told)


def test_twelve_tabs_of_one_run_stay_live(watched, server, database, settings):
    with database.session() as session:
        run = trained_runs.make_training(session, settings, 400)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 40)
        run_id = run.id
    watched.page.context.set_default_timeout(60_000)  # Twelve tabs, a server and a browser share few cores.
    watched.page.goto(server.token_url)
    tabs = [watched.page, *(watched.page.context.new_page() for _ in range(11))]
    for tab in tabs:
        tab.on("console", lambda told: watched.faults.append(told.text) if told.type == "error" else None)
        tab.goto(f"{server.url}/runs/{run_id}")
        tab.get_by_text("40 of 400 steps").wait_for()
    with database.session() as session:
        trained_runs.go_on(session, runs.get_run(session, run_id), attempt, 90)
    for tab in tabs:
        tab.bring_to_front()  # Tabs that nobody sees rest, and are live again once somebody does.
        tab.get_by_text("90 of 400 steps").wait_for()
        tab.wait_for_function("() => document.querySelector('[data-curves]').curves.extent()[1] === 90")
    other = watched.page.context.new_page()
    other.goto(f"{server.url}/runs")
    other.get_by_role("heading", name="Runs").wait_for()


FOCUS = """() => {
  const part = document.activeElement;
  if (part === document.body) return null;
  const style = getComputedStyle(part);
  const box = part.getBoundingClientRect();
  const rings = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
  const neighbour = part.nextElementSibling && getComputedStyle(part.nextElementSibling);
  const told = rings || (neighbour && neighbour.outlineStyle !== "none");
  return { told: Boolean(told), seen: box.width > 0 && box.height > 0, html: part.outerHTML.slice(0, 160) };
}"""
"""What has the focus, and whether anybody can see that."""


@pytest.mark.parametrize("name", ["home", "dataset", "pair", "run", "training_new"])
def test_keys_reach_everything_and_everybody_sees_where_they_are(watched, server, world, name):
    page = watched.page
    page.goto(server.token_url)
    page.goto(server.url + world.pages[name][0])
    page.keyboard.press("Tab")
    assert "Skip to the content" in page.evaluate(FOCUS)["html"]
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    unseen, stops = [], 0
    while True:
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if focus is None or "Skip to the content" in focus["html"]:
            break
        stops += 1
        assert stops < 600, "the focus does not leave the page"
        if not (focus["told"] and focus["seen"]):
            unseen.append(focus["html"])
    assert stops > 3
    assert unseen == []
