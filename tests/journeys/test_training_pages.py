"""What a person sees of a training in a browser: curves that draw and go on, a zoom that brings raw points,
a form whose preview follows, a table that fills."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from app.services.recipes import recipes
from app.services.runs import runs
from tests.app import factories, recipe_handlers, trained_runs

pytestmark = pytest.mark.browser

INK = """(chart) => {
  const canvas = chart.querySelector("canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let drawn = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (data[i + 3] > 200 && data[i] < 120 && data[i + 2] > 120) drawn += 1;
  }
  return drawn;
}"""
"""How many pixels of a chart's canvas have the colour of its first line."""


@pytest.fixture
def begun(database, settings) -> tuple[int, int]:
    """A training of 400 updates that has made 40 of them, and its attempt."""
    with database.session() as session:
        run = trained_runs.make_training(session, settings, 400)
        attempt = trained_runs.begin(session, run)
        trained_runs.go_on(session, run, attempt, 40)
        return run.id, attempt


def chart(page, title: str):
    return page.locator(f"[data-chart='{title}']")


def type_steps(page, first: int, last: int) -> None:
    """Asks for a range by its fields, as somebody types."""
    for label, step in (("From step", first), ("To step", last)):
        page.get_by_label(label).press("ControlOrMeta+a")
        page.get_by_label(label).press_sequentially(str(step))
    page.get_by_label("To step").press("Enter")


def last_loss(page) -> str:
    return chart(page, "Loss").locator(".item b").first.inner_text()


def test_curves_draw_go_on_and_stay_when_the_run_is_over(watched, server, database, begun):
    run_id, attempt = begun
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/runs/{run_id}")
    chart(page, "Loss").locator("canvas").wait_for()
    assert last_loss(page) == f"{trained_runs.loss(40):.4g}".rstrip("0")
    assert chart(page, "Loss").evaluate(INK) > 50
    page.evaluate("document.querySelector('[data-chart=Loss] canvas').dataset.mark = 'kept'")
    heights = page.evaluate("document.querySelector('[data-chart=Loss]').offsetHeight")

    with database.session() as session:
        run = runs.get_run(session, run_id)
        trained_runs.go_on(session, run, attempt, 90, entropy=1.5)
    page.wait_for_function("() => document.querySelector('[data-curves]').curves.extent()[1] === 90")
    assert last_loss(page) == f"{trained_runs.loss(90):.4g}".rstrip("0")
    chart(page, "Entropy").wait_for()
    page.get_by_text("90 of 400 steps").wait_for()
    assert page.evaluate("document.querySelector('[data-chart=Loss]').offsetHeight") == heights

    with database.session() as session:
        run = runs.get_run(session, run_id)
        trained_runs.fail(session, run, attempt, "The loss is NaN at step 91; lower the learning rate.")
    page.get_by_text("It stopped after step 90 of 400.").wait_for()
    page.get_by_role("button", name="Resume").wait_for()
    assert page.evaluate("document.querySelector('[data-chart=Loss] canvas').dataset.mark") == "kept"
    page.wait_for_function("() => document.querySelector('[data-state]').textContent === ''")


def test_a_zoom_brings_the_raw_points_of_its_range(watched, server, database, settings):
    with database.session() as session:
        run = trained_runs.make_training(session, settings, 9000)
        trained_runs.go_on(session, run, trained_runs.begin(session, run), 9000)
        run_id = run.id
    page = watched.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.token_url)
    page.goto(f"{server.url}/runs/{run_id}")
    note = chart(page, "Loss").locator(".note")
    chart(page, "Loss").get_by_text("binned: ").wait_for()
    assert re.search(r"binned: 2.00\d of 9.001 points shown", note.inner_text())

    box = chart(page, "Loss").locator(".u-over").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 60, steps=5)
    page.mouse.up()
    chart(page, "Loss").get_by_text("points of this range").wait_for()
    (address,) = [url for url in asked if "until=" in url]
    since, until = (int(re.search(rf"{name}=(\d+)", address)[1]) for name in ("since", "until"))
    expect(note).to_have_text(f"all {until - since} points of this range")
    assert abs(since - 4500) < 100
    low, high = page.evaluate("document.querySelector('[data-curves]').curves.limits()")
    assert (low, high) == (since + 1, until)
    kept = chart(page, "Kept tokens")
    assert re.sub(r"\D", "", kept.locator(".note").inner_text()) == str(2 * (until - since))

    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 60)
    page.locator("[data-state]", has_text="step 4").wait_for()
    step = int(re.sub(r"\D", "", page.locator("[data-state]").inner_text()))
    shown = float(last_loss(page))
    assert abs(shown - trained_runs.loss(step)) < 0.02

    chart(page, "Loss").locator(".u-over").dblclick()
    chart(page, "Loss").get_by_text("binned: ").wait_for()
    type_steps(page, 100, 200)
    page.wait_for_function("() => String(document.querySelector('[data-curves]').curves.range) === '100,200'")
    page.get_by_role("button", name="All steps").click()
    chart(page, "Loss").get_by_text("binned: ").wait_for()


def test_charts_say_what_is_drawn_and_runs_are_compared_once_some_are_ticked(
    watched, server, database, settings
):
    with database.session() as session:
        data: dict[str, object] = {}
        for name in ("one", "two"):
            run = trained_runs.make_training(session, settings, 100, name=name, **data)
            data = {"dataset_id": run.dataset_id, "supervision": {"density": "sample"}}
            trained_runs.go_on(session, run, trained_runs.begin(session, run), 100)
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/runs")
    compare = page.get_by_role("button", name="Compare the ticked")
    expect(compare).to_be_disabled()
    page.get_by_label("Compare one").check()
    page.get_by_label("Compare two").check()
    # Refreshes, which come as long as a run goes on, leave the ticks.
    with page.expect_response("**/runs"):
        pass
    expect(page.locator("#compare :checked")).to_have_count(2)
    compare.click()
    loss = chart(page, "Loss: train")
    loss.locator("canvas").wait_for()

    # The legend tells the last value that is drawn, and fields never say another range.
    last = page.locator("[data-chart='Loss: train'] .item b")
    expect(last.first).to_have_text(f"{trained_runs.loss(100):.4g}".rstrip("0"))
    type_steps(page, 50, 20)
    expect(page.get_by_label("From step")).to_have_value("20")
    expect(page.get_by_label("To step")).to_have_value("50")
    expect(last.first).to_have_text(f"{trained_runs.loss(50):.4g}".rstrip("0"))
    type_steps(page, 5000, 9000)  # Beyond the end: what is left of it is drawn, and said.
    expect(page.get_by_label("From step")).to_have_value("50")
    expect(page.get_by_label("To step")).to_have_value("100")

    for name in ("one", "two"):
        page.get_by_role("checkbox", name=name).uncheck()
    expect(loss).not_to_be_visible()
    page.get_by_role("checkbox", name="one").check()
    expect(loss).to_be_visible()


def test_the_form_follows_the_method_and_its_preview_what_is_typed(watched, server, database, settings):
    with database.session() as session:
        trained_runs.make_base(session, settings)
        dataset_id = factories.make_scored_run(session, settings, 6).dataset_id
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/datasets/{dataset_id}")
    page.get_by_role("link", name="Train", exact=True).click()
    preview = page.locator("#preview")
    page.get_by_label("Model", exact=True).fill("base")
    page.get_by_label("Batch size", exact=True).focus()
    preview.get_by_text("Cut by segmenter hysteresis").wait_for()
    page.get_by_label("Supervision granularity", exact=True).select_option("token")
    preview.get_by_text("Cut by segmenter token").wait_for()
    page.get_by_label("Steps", exact=True).fill("321")
    page.get_by_label("Batch size", exact=True).focus()
    preview.get_by_text("321").wait_for()

    page.get_by_text("Hyperparameters").click()
    expect(page.get_by_label("Rejected clip").first).to_be_visible()
    page.get_by_label("Method", exact=True).select_option("ppo")
    expect(page.get_by_label("Rejected clip").first).not_to_be_visible()
    expect(page.get_by_label("Gamma")).to_be_visible()
    expect(page.get_by_label("Masks from a scoring run")).not_to_be_visible()
    preview.get_by_text("name a reward model").wait_for()

    page.get_by_label("Method", exact=True).select_option("dpo")
    page.get_by_label("Beta", exact=True).first.fill("0.2")
    page.get_by_role("button", name="Train").click()
    page.get_by_text("waits for a worker").wait_for()
    assert "321" in page.locator("#run-status").inner_text() or page.get_by_text("321").count()


def test_the_table_of_a_recipe_fills_while_one_looks_on(watched, server, database, settings, tmp_path: Path):
    with database.session() as session:
        world = recipe_handlers.make_world(session, settings)
        recipe_id = recipes.submit(session, settings, world.body()).id
    page = watched.page
    page.goto(server.token_url)
    page.goto(f"{server.url}/recipes/{recipe_id}")
    page.get_by_text("0 of 9 runs done").wait_for()
    table = page.get_by_label("Granularities at equal steps")
    expect(table).not_to_contain_text("80.0%")
    steps = ("scorer", "scores", "rjs segment", "evaluate base", "evaluate rjs segment")
    for step in steps:
        with database.session() as session:
            made = 30 if step == "rjs segment" else 0
            recipe_handlers.succeed(session, settings, step, tmp_path, made)
    page.get_by_text("5 of 9 runs done").wait_for()
    row = table.get_by_role("row", name=re.compile("^segment"))
    expect(row).to_contain_text("80.0%")
    expect(row).to_contain_text("+30.0 points better")
    chart(page, "Loss: train").locator("canvas").wait_for()
    page.get_by_role("checkbox", name="rjs segment").uncheck()
    assert chart(page, "Loss: train").locator(".item").count() == 0
    page.get_by_role("checkbox", name="rjs segment").check()
    assert chart(page, "Loss: train").locator(".item").count() == 1

    # Once sample-wise training is there to be compared with, the question has an answer, on the data set too.
    for step in ("rjs sample", "rjs union", "evaluate rjs sample", "evaluate rjs union"):
        with database.session() as session:
            recipe_handlers.succeed(session, settings, step, tmp_path)
    page.get_by_text("9 of 9 runs done").wait_for()
    page.locator(".verdicts", has_text="no clear difference").wait_for()
    page.locator(".facts").get_by_role("link").click()
    page.get_by_role("heading", name="Did masking help?").wait_for()
    expect(page.locator(".verdicts")).to_contain_text("segment 80.0%, against 60.0% sample-wise")


def test_every_new_page_keeps_to_this_server(watched, server, database, settings, begun):
    page = watched.page
    page.goto(server.token_url)
    with database.session() as session:
        suite_id = trained_runs.make_suite(session)
    paths = (
        "/trainings/new",
        "/recipes",
        "/recipes/new",
        "/evaluations/new",
        "/suites",
        f"/suites/{suite_id}",
    )
    for path in (*paths, "/patterns", f"/runs/compare?ids={begun[0]}"):
        page.goto(server.url + path)
        page.wait_for_timeout(300)
        assert page.title().endswith("RewardScope")


def test_a_training_can_be_read_without_javascript(chromium, server, begun):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(server.token_url)
    page.goto(f"{server.url}/runs/{begun[0]}")
    row = page.get_by_label("Curves").get_by_role("row", name=re.compile("^Loss, train"))
    assert f"{trained_runs.loss(40):.4f}" in row.inner_text()
    assert row.locator("svg.spark").bounding_box()["width"] > 50
    page.goto(f"{server.url}/trainings/new?clone={begun[0]}")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview")).to_contain_text("Kept of chosen")
    assert "Only for ppo." in page.content()
    context.close()
