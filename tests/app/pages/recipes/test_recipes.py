"""Recipes, evaluations, task suites, and runs side by side, as pages show them."""

from __future__ import annotations

import html
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from app.db.tables import JobStatus, Run, StoredTask, TaskSuite
from app.pages.parts.figures import cell_of, measured_on
from app.pages.parts.numbers import MINUS, MISSING
from app.pages.runs.compare import differences
from app.services.recipes import recipes
from app.services.runs import jobs, runs
from tests.app import factories, recipe_handlers, trained_runs
from tests.app.pages.test_pages import get


@pytest.fixture
def recipe_id(database, settings) -> int:
    """A recipe of RJS, sample- and segment-wise, whose first runs wait."""
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
        return recipes.submit(session, settings, world.body(name="sums & <segments>")).id


@pytest.fixture
def succeed(database, settings, tmp_path: Path) -> Callable[..., None]:
    """Does the queued runs of steps, as a worker would."""

    def do(*steps: str) -> None:
        for step in steps:
            with database.session() as session:
                recipe_handlers.succeed(session, settings, step, tmp_path)

    return do


ALL = (
    *("scorer", "scores", "rjs sample", "rjs segment", "rjs union"),
    *("evaluate base", "evaluate rjs sample", "evaluate rjs segment", "evaluate rjs union"),
)


def typed_in(page: str) -> dict[str, list[str]]:
    """What a browser would send of the form, as it was filled in by the server."""
    form = html.unescape(page.split('id="recipe"')[1].split("</form>")[0])
    typed: dict[str, list[str]] = {}
    for tag in re.findall(r"<input[^>]*>", form):
        name, value = (re.search(rf'{key}="([^"]*)"', tag) for key in ("name", "value"))
        is_box = 'type="checkbox"' in tag
        if name and (not is_box or " checked" in tag):
            typed.setdefault(name[1], []).append(value[1] if value else "on" if is_box else "")
    for name, entries in re.findall(r'<select name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', entries)
        typed[name] = [chosen[1] if chosen else ""]
    for name, text in re.findall(r'<textarea[^>]*name="([^"]+)"[^>]*>(.*?)</textarea>', form, re.DOTALL):
        typed[name] = [text.strip()]
    return typed


# --------------------------------------------------------------------------------------------------- recipes


def test_without_recipes_the_list_says_what_one_is(browser_client):
    page = get(browser_client, "/recipes")
    assert "Nothing is compared yet" in page
    assert "/recipes/new" in page


def test_the_form_previews_the_runs_that_it_makes(browser_client, database, settings):
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
        data = {
            "dataset_id": str(world.pairs.id),
            "model": "base",
            "methods": ["rjs"],
            "densities": ["sample", "segment"],
            "suite_ids": [str(world.suite.id)],
            "optimisation.steps": "50",
            "union": "true",
            "seeds": "0, 1",
        }
    page = get(browser_client, f"/recipes/new?dataset={data['dataset_id']}")
    assert f'<option value="{data["dataset_id"]}" selected>' in page
    told = browser_client.post("/recipes/preview", data=data).text
    assert "7 trainings, 1 scoring, 7 evaluations" in told
    assert "rjs segment, seed 1" in told
    answer = browser_client.post("/recipes/new", data=data)
    assert answer.status_code == 200
    assert "Granularities at equal steps" in answer.text
    with database.session() as session:
        (state,) = recipes.list_recipes(session).items
        assert state.recipe.request["optimisation"]["steps"] == 50
        assert state.recipe.request["seeds"] == [0, 1]


def test_a_recipe_that_cannot_be_keeps_what_was_typed(browser_client, database, settings):
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
        data = {
            "dataset_id": str(world.pairs.id),
            "model": "nobody/knows",
            "name": "mine",
            "densities": ["step"],
        }
    answer = browser_client.post("/recipes/new", data=data)
    assert answer.status_code == 422
    assert 'value="mine"' in answer.text
    assert re.search(r'value="step" checked', answer.text)
    assert "data-detail" in answer.text
    assert get(browser_client, "/recipes").count("/recipes/1") == 0


def test_a_recipe_shows_its_plan_and_what_waits_for_what(browser_client, recipe_id):
    page = get(browser_client, f"/recipes/{recipe_id}")
    assert "sums &amp; &lt;segments&gt;" in page
    assert "<b>0</b> of <b>9</b> runs done" in page
    assert "every 2s" in page
    assert re.search(
        r'badge waiting">waiting</span> <span>rjs segment</span>\s*<span[^>]*>needs scores', page
    )
    assert page.count('href="/runs/') >= 4


def test_the_table_tells_figures_intervals_and_the_difference_to_the_base(browser_client, recipe_id, succeed):
    succeed(*ALL)
    page = get(browser_client, f"/recipes/{recipe_id}")
    table = page.split('aria-label="Granularities at equal steps"')[1].split("</table>")[0]
    rows = {
        re.sub(r"<.*?>", "", name).strip(): rest
        for name, rest in re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table, re.S)
    }
    union = "sample + scorer data"
    assert list(rows) == ["base, untrained", "sample", "segment", union]
    assert "<b>50.0%</b>" in rows["base, untrained"]
    assert "<b>80.0%</b>" in rows["segment"]
    assert "40.0% to 90.0%" in rows["segment"]
    assert "+30.0 points better" in rows["segment"]
    assert "Every training makes 200 updates of 16" in page
    assert "every 2s" not in page


def test_the_data_set_says_whether_masking_helped_once_a_recipe_can_tell(
    browser_client, client, database, recipe_id, succeed
):
    with database.session() as session:
        dataset_id = recipes.get_recipe(session, recipe_id).recipe.request["dataset_id"]
    assert "Did masking help?" not in get(browser_client, f"/datasets/{dataset_id}")
    succeed(*ALL)
    (verdict,) = client.get(f"/api/v1/recipes/{recipe_id}").json()["verdicts"]
    assert (verdict["method"], verdict["suite"], verdict["answer"]) == ("rjs", "sums", "unclear")
    assert [one["density"] for one in verdict["masked"]] == ["segment"]
    for page in (
        get(browser_client, f"/datasets/{dataset_id}"),
        get(browser_client, f"/recipes/{recipe_id}"),
    ):
        assert "no clear difference" in page
        assert re.search(r"segment 80\.0%, against \d+\.\d% sample-wise", page)
    assert f'href="/recipes/{recipe_id}"' in get(browser_client, f"/datasets/{dataset_id}")


def test_a_later_recipe_that_cannot_tell_does_not_take_the_answer_away(
    browser_client, database, settings, recipe_id, succeed
):
    succeed(*ALL)
    with database.session() as session:
        body = recipes.body_of(recipes.get_recipe(session, recipe_id).recipe)
        dataset_id = body.dataset_id
        plain = {"name": "samples only", "densities": ["sample"], "union": False, "suite_ids": []}
        later = recipes.submit(session, settings, body.model_copy(update=plain)).id
        for step in recipes.get_recipe(session, later).runs.values():
            step.job.status = JobStatus.succeeded
        session.flush()
        assert recipes.get_recipe(session, later).status == "succeeded"
    assert f'href="/recipes/{recipe_id}"' in get(browser_client, f"/datasets/{dataset_id}")


def test_a_collapse_is_said_in_words(browser_client, recipe_id, succeed, monkeypatch):
    monkeypatch.setitem(recipe_handlers.SUCCESS, "segment", 0.3)
    succeed(*ALL)
    page = get(browser_client, f"/recipes/{recipe_id}")
    assert page.count("collapsed: success fell below the base by more than 2 points") == 1
    assert f"{MINUS}20.0 points worse" in page


def test_a_refresh_brings_new_trainings_to_the_curves_without_drawing_them_anew(
    browser_client, recipe_id, succeed
):
    before = browser_client.get(f"/recipes/{recipe_id}/status").text
    assert "data-curves" not in before
    named = json.loads(re.search(r'data-runs-of="curves">(.*?)</script>', before)[1])
    assert [run["name"] for run in named] == ["rjs sample", "rjs sample + scorer data"]
    succeed("scorer", "scores")
    after = browser_client.get(f"/recipes/{recipe_id}/status").text
    named = json.loads(re.search(r'data-runs-of="curves">(.*?)</script>', after)[1])
    assert [run["name"] for run in named] == ["rjs sample", "rjs segment", "rjs sample + scorer data"]
    assert after.strip() in get(browser_client, f"/recipes/{recipe_id}")


def test_a_recipe_is_cancelled_retried_and_forgotten(browser_client, recipe_id):
    cancelled = browser_client.post(f"/recipes/{recipe_id}/cancel").text
    assert "Retry what failed" in cancelled
    assert "every 2s" not in cancelled
    assert "Cancel</button>" in browser_client.post(f"/recipes/{recipe_id}/retry").text
    browser_client.post(f"/recipes/{recipe_id}/cancel")
    assert browser_client.post(f"/recipes/{recipe_id}/delete").status_code == 200
    assert get(browser_client, f"/recipes/{recipe_id}", 404)


def test_a_clone_asks_for_the_same_recipe_until_it_is_changed(browser_client, database, settings):
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
        body = world.body(name="first", seeds=[3, 4], densities=["segment"], scorer_share=0.25)
        first = recipes.submit(session, settings, body).id
        plain = recipes.body_of(recipes.get_recipe(session, first).recipe)
    assert f'href="/recipes/new?clone={first}"' in get(browser_client, f"/recipes/{first}")
    form = get(browser_client, f"/recipes/new?clone={first}")
    assert "have no fields here" not in form
    typed = typed_in(form)
    typed["name"] = "second"
    answer = browser_client.post("/recipes/new", data=typed, follow_redirects=False)
    assert answer.status_code == 303, answer.text
    with database.session() as session:
        second = recipes.body_of(
            recipes.get_recipe(session, int(answer.headers["Location"].split("/")[-1])).recipe
        )
    assert second.model_dump() == plain.model_dump() | {"name": "second", "model": "base"}


def test_a_clone_says_which_numbers_the_form_has_no_fields_for(browser_client, database, settings):
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
        numbers = {"confidence": 0.9}
        body = world.body(methods=[{"name": "rjs"}, {"name": "dpo", "beta": 0.3}], evaluation=numbers)
        recipe_id = recipes.submit(session, settings, body).id
    assert "no fields for dpo.beta, evaluation.confidence, which" in get(
        browser_client, f"/recipes/new?clone={recipe_id}"
    )


def test_a_step_that_failed_says_why_and_what_it_blocks(browser_client, recipe_id, database):
    with database.session() as session:
        run = session.scalars(select(Run).where(Run.recipe_step == "scorer")).one()
        attempt = factories.claim(session, runs.get_run(session, run.id))
        error = {"code": "diverged", "detail": "The loss is NaN at step 7."}
        jobs.fail(session, run.job.id, attempt, JobStatus.failed, error)
    page = get(browser_client, f"/recipes/{recipe_id}")
    assert "scorer: The loss is NaN at step 7." in page
    assert "It needs `scorer`, which is failed." in page


# ----------------------------------------------------------------------------------------------- evaluations


def test_an_evaluation_is_asked_for_and_leads_to_its_run(browser_client, database, settings):
    with database.session() as session:
        trained_runs.make_base(session, settings)
        suite_id = trained_runs.make_suite(session)
    page = get(browser_client, "/evaluations/new?model=base")
    assert 'name="model" id="field-model" value="base"' in page
    answer = browser_client.post("/evaluations/new", data={"model": "base", "suite_ids": [str(suite_id)]})
    assert "evaluation of" in answer.text
    assert "waits for a worker" in answer.text


def test_an_evaluation_of_nothing_is_refused_beside_its_field(browser_client, database, settings):
    with database.session() as session:
        trained_runs.make_base(session, settings)
    answer = browser_client.post("/evaluations/new", data={"model": "base", "samples": "9"})
    assert answer.status_code == 422
    assert "Name a data set or a task suite." in answer.text
    assert 'value="9"' in answer.text


def test_figures_stand_with_their_intervals_and_what_they_are_compared_with(
    browser_client, database, settings
):
    with database.session() as session:
        trained_runs.make_base(session, settings)
        run = trained_runs.evaluate(session, settings, "base", 0.75)
        run_id, model_id = run.id, run.request["model"]["id"]
    page = get(browser_client, f"/runs/{run_id}")
    assert "<b>75.0%</b>" in page
    assert "65.0% to 85.0%" in page
    assert "+25.0 points better" in page
    assert "<b>0.0823</b>" in page
    assert f"/evaluations/new?clone={run_id}" in page
    assert f'href="/runs/{run_id}"' in get(browser_client, f"/models/{model_id}")
    assert 'value="base"' in get(browser_client, f"/evaluations/new?clone={run_id}")


def test_a_figure_tells_its_change_by_sign_and_word():
    assert cell_of("success", 0.5, None, None, 0.0001).change == "±0"
    assert cell_of("success", 0.5, None, None, -0.1).tone == "worse"
    assert cell_of("held_out_loss", 1.5, None, None, -0.1).tone == "better"
    assert cell_of("kl", 0.2, None, None, 0.1).tone == ""
    assert cell_of("success", None, None, None, None).value == MISSING


def test_a_figure_says_what_it_was_measured_on():
    assert measured_on("success", "sums", "") == "sums"
    assert measured_on("success", "sums", "easy") == "sums, easy"
    assert measured_on("pair_accuracy", None, "") == "pairs"
    assert measured_on("kl", None, "") == "its own answers"


# ----------------------------------------------------------------------------------------------- task suites


def test_a_task_suite_is_brought_in_shown_and_deleted(browser_client, database):
    rows = [
        {"key": "a<b>", "prompt": "1 + 1 = ", "checker": {"kind": "number", "value": 2}, "category": "sums"},
        {"key": "c", "prompt": "Say it.", "checker": {"kind": "choice", "options": ["x", "y"], "right": 1}},
    ]
    file = io.BytesIO("\n".join(map(json.dumps, rows)).encode())
    page = browser_client.post("/suites", files={"file": ("my-suite.jsonl", file)}).text
    assert "<h1>my-suite</h1>" in page
    assert "a&lt;b&gt;" in page
    assert "ends in the number 2" in page
    assert "prefers y of x | y" in page
    assert "my-suite" in get(browser_client, "/suites")
    assert "my-suite (2 tasks)" in get(browser_client, "/evaluations/new")
    action = re.search(r'action="(/suites/\d+/delete)"', page)[1]
    assert "No task suite yet" in browser_client.post(action).text
    with database.session() as session:
        assert session.query(TaskSuite).count() == 0
        assert session.query(StoredTask).count() == 0


def test_a_task_suite_that_cannot_be_used_shows_its_rows(browser_client):
    file = io.BytesIO(b'{"prompt": "1 + 1 = "}\n')
    answer = browser_client.post("/suites", files={"file": ("bad.jsonl", file)}, data={"name": "mine"})
    assert answer.status_code == 422
    assert "data-detail" in answer.text
    assert 'value="mine"' in answer.text
    assert browser_client.post("/suites", data={}).status_code == 422


# -------------------------------------------------------------------------------------------------- compare


def test_runs_stand_side_by_side_by_what_differs(browser_client, database, settings):
    with database.session() as session:
        first = trained_runs.make_training(session, settings, 100)
        second = trained_runs.make_training(
            session, settings, 200, dataset_id=first.dataset_id, supervision={"density": "sample"}
        )
        ids = f"{first.id},{second.id}"
    page = get(browser_client, f"/runs/compare?ids={ids}")
    table = page.split('aria-label="Differences of the requests"')[1]
    rows = dict(re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', table))
    assert re.findall("<td>(.*?)</td>", rows["optimisation / steps"]) == ["100", "200"]
    assert re.findall("<td>(.*?)</td>", rows["supervision / density"]) == ["segment", "sample"]
    assert "optimisation / batch size" not in rows
    assert '"compares":true' in page
    assert "None of these was evaluated yet." in page
    assert 'name="ids"' in get(browser_client, "/runs")


def test_the_figures_of_a_trained_model_stand_under_its_training(browser_client, database, settings):
    with database.session() as session:
        run = trained_runs.make_training(session, settings, 10)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 10)
        trained_runs.finish(session, run, attempt)
        name = run.result["model_name"]
        trained_runs.evaluate(session, settings, name, 0.75)
        base = trained_runs.evaluate(session, settings, "base", 0.5)
        ids = f"{base.id},{run.id}"
    page = get(browser_client, f"/runs/compare?ids={ids}")
    table = page.split('aria-label="Figures side by side"')[1].split("</table>")[0]
    assert "<b>50.0%</b>" in table
    assert "<b>75.0%</b>" in table
    assert "+25.0 points better" in table


@pytest.mark.parametrize(("query", "status"), [("", 422), ("ids=x", 422), ("ids=999", 404)])
def test_what_cannot_be_compared_is_said(browser_client, query, status):
    assert "data-detail" in get(browser_client, f"/runs/compare?{query}", status)


def test_values_differ_where_any_of_the_requests_says_otherwise():
    found = differences([{"a": {"b": 1}, "c": 2}, {"a": {"b": 3}, "c": 2}, None, {"c": 2}])
    assert [(one.name, one.values) for one in found] == [("a / b", ["1", "3", MISSING, MISSING])]


# ----------------------------------------------------------------------------------------------- everywhere


def test_new_pages_have_titles_and_no_inline_style_or_script(browser_client, database, settings, recipe_id):
    with database.session() as session:
        asked = recipes.get_recipe(session, recipe_id).recipe.request
        run = trained_runs.make_training(
            session, settings, dataset_id=asked["dataset_id"], supervision={"density": "sample"}
        )
        trained_runs.go_on(session, run, trained_runs.begin(session, run), 20)
        evaluation = trained_runs.evaluate(session, settings, "base", 0.5)
        paths = [f"/runs/{run.id}", f"/runs/{evaluation.id}", f"/runs/compare?ids={run.id},{evaluation.id}"]
        paths += [f"/suites/{session.scalars(select(TaskSuite.id)).first()}"]
        paths += [f"/models/{run.request['model']['id']}", f"/trainings/new?clone={run.id}"]
    paths += [
        "/trainings/new",
        "/recipes/new",
        "/recipes",
        f"/recipes/{recipe_id}",
        "/evaluations/new",
        "/suites",
    ]
    for path in paths:
        page = get(browser_client, path)
        assert re.search(r"<title>[^<]+ · RewardScope</title>", page), path
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|javascript:", page), path
        scripts = re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>", page)
        assert all("application/json" in attributes for attributes in scripts), path
        ids = re.findall(r'\sid="([^"]+)"', page)
        assert len(ids) == len(set(ids)), path
        labelled = set(re.findall(r'<label for="([^"]+)"', page))
        assert labelled <= set(ids), path


@pytest.mark.parametrize(
    "path", ["/recipes/9", "/recipes/9/status", "/models/9", "/suites/9", "/runs/9/rest"]
)
def test_what_does_not_exist_is_a_page_that_says_so(browser_client, path):
    assert "data-detail" in get(browser_client, path, 404)
