"""Forms and pages of trainings: what is proposed, previewed, refused beside its field, and shown of a run."""

from __future__ import annotations

import html
import re

import pytest

from app.db.tables import Model
from app.services.runs import runs
from tests.app import factories, trained_runs
from tests.app.pages.test_pages import get


@pytest.fixture
def scored(database, settings) -> tuple[int, int]:
    """A scored data set and its run, and a model to train."""
    with database.session() as session:
        trained_runs.make_base(session, settings)
        run = factories.make_scored_run(session, settings, 5)
        return run.dataset_id, run.id


def typed(dataset_id: int, run_id: int, **fields: str) -> dict[str, str]:
    return {
        "dataset_id": str(dataset_id),
        "method.name": "dpo",
        "model": "base",
        "supervision.density": "segment",
        "scoring_run_id": str(run_id),
    } | {name.replace("__", "."): value for name, value in fields.items()}


def field(page: str, name: str) -> str:
    """The element that belongs to a field, with all that stands in it."""
    ident = "field-" + re.sub(r"[^a-z0-9]", "-", name)
    start = page.index(f'<label for="{ident}"')
    end = page.find('<div class="field', start)
    return page[start : end if end > 0 else len(page)]


# ------------------------------------------------------------------------------------------------- the form


def test_the_form_begins_with_the_data_set_and_its_newest_masks(browser_client, scored):
    dataset_id, run_id = scored
    page = get(browser_client, f"/trainings/new?dataset={dataset_id}")
    assert f'<option value="{dataset_id}" selected>' in page
    assert f'<option value="{run_id}" selected>' in page
    assert 'value="reference"' in field(page, "model"), "the base of the scoring is proposed"
    assert 'placeholder="16"' in field(page, "optimisation.batch_size")


def test_home_data_sets_and_models_lead_to_training_in_one_click(browser_client, scored):
    assert "/trainings/new" in get(browser_client, "/")
    assert "/recipes/new" in get(browser_client, "/")
    page = get(browser_client, f"/datasets/{scored[0]}")
    assert f"/trainings/new?dataset={scored[0]}" in page
    assert f"/recipes/new?dataset={scored[0]}" in page
    assert "/trainings/new" in get(browser_client, "/models")


def test_fields_say_which_methods_have_them(browser_client, scored):
    page = get(browser_client, "/trainings/new?method=ppo")
    assert re.search(r'data-methods="ppo">\s*<label for="field-ppo-gamma"', page)
    assert re.search(r'data-methods="dpo" data-other>\s*<label for="field-dpo-beta"', page), (
        "hidden with a script"
    )
    assert "Only for ppo." in field(page, "ppo.gamma")


def test_the_preview_tells_steps_kept_tokens_and_memory(browser_client, scored):
    answer = browser_client.post("/trainings/preview", data=typed(*scored, optimisation__steps="123"))
    assert "<dt>Steps</dt><dd><b>123</b></dd>" in answer.text
    assert re.search(r"Kept of chosen</dt><dd><svg.*?\d+%", answer.text)
    assert "Memory, about" in answer.text
    assert "segmenter hysteresis" in answer.text


def test_the_preview_of_a_density_is_another(browser_client, scored):
    token = browser_client.post("/trainings/preview", data=typed(*scored, supervision__density="token"))
    asked = typed(*scored, supervision__density="sample")
    refused = browser_client.post("/trainings/preview", data=asked)
    del asked["scoring_run_id"]
    sample = browser_client.post("/trainings/preview", data=asked)
    assert "segmenter token" in token.text
    assert "Nothing reads token rewards in sample-wise DPO" in refused.text
    assert "Steps" in sample.text


def test_a_preview_of_nothing_invites_and_one_of_nonsense_says_why(browser_client, scored):
    assert "Choose a data set and a model" in browser_client.post("/trainings/preview", data={}).text
    told = browser_client.post("/trainings/preview", data=typed(*scored, model="/no/such/folder"))
    assert told.status_code == 200
    assert "data-detail" in told.text


def test_a_preview_registers_no_model(browser_client, database, scored, tmp_path):
    folder = factories.make_model_folder(tmp_path / "looked-at")
    (folder / "generation_config.json").write_text("{}")
    answer = browser_client.post("/trainings/preview", data=typed(*scored, model=str(folder)))
    assert "Memory, about" in answer.text
    with database.session() as session:
        assert session.query(Model).filter(Model.path == str(folder)).count() == 0


def test_without_javascript_a_button_previews_on_the_same_page(browser_client, scored):
    answer = browser_client.post("/trainings/new", data=typed(*scored, action="preview"))
    assert answer.status_code == 200
    assert "Kept of chosen" in answer.text
    assert 'value="base"' in field(answer.text, "model")


def test_a_submitted_training_leads_to_its_run(browser_client, scored):
    answer = browser_client.post("/trainings/new", data=typed(*scored, optimisation__steps="7"))
    assert answer.status_code == 200
    assert "waits for a worker" in answer.text
    assert "training: dpo, segment-wise" in answer.text
    assert "The curves begin with the first step." in answer.text


def test_a_fault_stands_beside_its_field_and_nothing_is_lost(browser_client, database, scored):
    data = typed(*scored, dpo__beta="-1", optimisation__batch_size="16", name="my name", lora__rank="8")
    answer = browser_client.post("/trainings/new", data={**data, "lora?": "true", "ppo.gamma": "0.5"})
    assert answer.status_code == 422
    assert 'class="wrong" role="alert">' in field(answer.text, "dpo.beta")
    assert 'aria-invalid="true"' in field(answer.text, "dpo.beta")
    assert 'value="-1"' in field(answer.text, "dpo.beta")
    assert '<details class="group" data-methods' in answer.text
    assert re.search(r'<details class="group"[^>]* open><summary>Hyperparameters', answer.text)
    assert 'value="my name"' in field(answer.text, "name")
    assert 'value="8"' in field(answer.text, "lora.rank")
    assert "checked" in field(answer.text, "lora?")
    assert 'value="0.5"' in field(answer.text, "ppo.gamma"), "of the methods that are not chosen, too"
    with database.session() as session:
        assert runs.list_runs(session, kind="training").items == []


def test_what_contradicts_itself_is_refused_with_the_reason(browser_client, scored):
    data = typed(*scored) | {"method.name": "ppo"}
    answer = browser_client.post("/trainings/new", data=data)
    assert answer.status_code == 422
    assert "scoring" in html.unescape(answer.text).split("data-detail>")[1]


def test_a_rule_that_is_no_json_is_refused_beside_its_field(browser_client, scored):
    answer = browser_client.post("/trainings/new", data=typed(*scored, supervision__rule="{oops"))
    assert answer.status_code == 422
    assert "Is no JSON." in field(answer.text, "supervision.rule")


def test_none_switches_a_number_off(browser_client, database, scored):
    browser_client.post("/trainings/new", data=typed(*scored, dpo__rejected_clip="none", dpo__beta="0.3"))
    with database.session() as session:
        (run,) = runs.list_runs(session, kind="training").items
        assert run.request["method"]["rejected_clip"] is None
        assert run.request["method"]["beta"] == 0.3


def test_every_method_can_be_asked_for(browser_client, database, scored):
    dataset_id, _ = scored
    extra = {"scorer": "policy"}
    for method in ("sft", "rjs", "dpo", "scorer", "ppo", "grpo", "rloo", "reward_model"):
        data = typed(dataset_id, 0) | {"method.name": method, "supervision.density": "sample"}
        data |= extra if method in ("ppo", "grpo", "rloo") else {}
        del data["scoring_run_id"]
        answer = browser_client.post("/trainings/new", data=data)
        assert answer.status_code == 200, (method, re.findall(r"data-detail>([^<]*)", answer.text))
    with database.session() as session:
        found = runs.list_runs(session, kind="training").items
        assert {run.request["method"]["name"] for run in found} >= {"sft", "ppo", "reward_model"}
        assert len(found) == 8


def test_a_clone_fills_the_form_with_all_of_its_request(browser_client, database, settings):
    with database.session() as session:
        lora = {"rank": 4, "targets": ["q_proj", "v_proj"]}
        run = trained_runs.make_training(
            session, settings, 33, lora=lora, method={"name": "dpo", "rejected_clip": None, "beta": 0.25}
        )
        run_id, request = run.id, dict(run.request)
    page = get(browser_client, f"/trainings/new?clone={run_id}")
    assert f"run {run_id}</a>; change what should differ" in page
    sent = {
        name: [html.unescape(value)]
        for name, value in re.findall(r'<input name="([^"]+)"[^>]* value="([^"]*)"', page)
    }
    for name, rest in re.findall(r'<select name="([^"]+)"(.*?)</select>', page, re.S):
        sent[name] = re.findall(r'<option value="([^"]*)" selected', rest)
    for name, value in re.findall(
        r'<input type="checkbox" name="([^"]+)"[^>]* value="([^"]*)" checked', page
    ):
        sent.setdefault(name, []).append(value)
    sent["cloned_from"] = [str(run_id)]
    answer = browser_client.post("/trainings/new", data=sent)
    assert answer.status_code == 200, re.findall(r"data-detail>([^<]*)", answer.text)
    assert "cloned from" in answer.text
    with database.session() as session:
        again = runs.list_runs(session, kind="training").items[0]
        assert again.cloned_from == run_id
        assert {**again.request, "folder": ""} == {**request, "folder": ""}


# -------------------------------------------------------------------------------------------------- the run


@pytest.fixture
def begun(database, settings) -> tuple[int, int]:
    """A training that has made 40 of 100 updates, and its attempt."""
    with database.session() as session:
        run = trained_runs.make_training(session, settings)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 40)
        return run.id, attempt


def test_the_page_of_a_training_shows_progress_curves_checkpoints_and_configuration(browser_client, begun):
    page = get(browser_client, f"/runs/{begun[0]}")
    assert "<b>40</b> of <b>100</b> steps" in page
    assert f'"metrics":"/api/v1/runs/{begun[0]}/metrics"' in page
    assert 'aria-label="Checkpoints"' in page
    assert "★ best" in page
    assert "<dt>torch</dt><dd>2.9.0</dd>" in page
    assert "data hash" in page
    assert "Loss, held out" in page


def test_without_javascript_curves_are_small_pictures_with_last_values(browser_client, begun):
    page = get(browser_client, f"/runs/{begun[0]}")
    plain = page.split("<noscript>")[1].split("</noscript>")[0]
    assert '<svg class="spark"' in plain
    assert f"{trained_runs.loss(40):.4f}" in plain
    assert "style=" not in plain


def test_a_refresh_of_the_status_leaves_the_curves_alone(browser_client, begun, database):
    run_id, attempt = begun
    fragment = browser_client.get(f"/runs/{run_id}/status")
    assert "data-curves" not in fragment.text
    assert fragment.text.strip() in get(browser_client, f"/runs/{run_id}")
    rest = browser_client.get(f"/runs/{run_id}/rest")
    assert "Step 40." in rest.text
    assert rest.text.strip() in get(browser_client, f"/runs/{run_id}")
    with database.session() as session:
        trained_runs.fail(session, runs.get_run(session, run_id), attempt, "The loss is NaN at step 41.")
    over = browser_client.get(f"/runs/{run_id}/status")
    assert "HX-Refresh" not in over.headers
    assert "every 1s" not in over.text
    assert "every 2s" not in browser_client.get(f"/runs/{run_id}/rest").text


def test_a_failed_training_says_where_it_stopped_and_what_is_kept(browser_client, begun, database):
    run_id, attempt = begun
    with database.session() as session:
        run = runs.get_run(session, run_id)
        trained_runs.fail(session, run, attempt, "The loss is NaN at step 41; lower the learning rate.")
    page = get(browser_client, f"/runs/{run_id}")
    assert "The loss is NaN at step 41; lower the learning rate." in page
    assert "It stopped after step 40 of 100." in page
    assert "The last good checkpoint, of step 40, is kept" in page
    assert ">Resume</button>" in page
    assert f"/trainings/new?clone={run_id}" in page


def test_a_training_that_succeeded_leads_to_its_model_and_back(browser_client, begun, database, settings):
    run_id, attempt = begun
    with database.session() as session:
        run = runs.get_run(session, run_id)
        trained_runs.go_on(session, run, attempt, 100)
        model_id = trained_runs.finish(session, run, attempt)
    page = get(browser_client, f"/runs/{run_id}")
    assert f'href="/models/{model_id}">Open the model' in page
    assert "2 pairs were too long." in page
    model = get(browser_client, f"/models/{model_id}")
    assert f'href="/runs/{run_id}"' in model
    assert f"/api/v1/models/{model_id}/download" in model
    assert "It was not evaluated yet." in model


def test_a_long_curve_says_how_much_of_it_the_picture_holds(browser_client, database, settings):
    with database.session() as session:
        run = trained_runs.make_training(session, settings, 5000)
        trained_runs.go_on(session, run, trained_runs.begin(session, run), 5000)
        run_id = run.id
    page = get(browser_client, f"/runs/{run_id}")
    plain = page.split("<noscript>")[1]
    assert len(re.findall(r"L", plain.split("<path vector-effect")[1].split("/>")[0])) < 200
