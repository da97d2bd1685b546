"""Bringing one's own data: a file with a bad row is refused with its line, the mended one becomes a table."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from app.services.datasets import datasets

pytestmark = pytest.mark.browser


def test_from_a_file_to_its_table(watched, server, database, tmp_path):
    good = {"prompt": "Where?", "chosen": "In Paris.", "rejected": "In Rome."}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(good) + "\n" + '{"prompt": "cut o\n')
    page = watched.page
    page.goto(server.token_url)
    page.get_by_role("link", name="Bring your own data").click()
    page.get_by_label("File").set_input_files(path)
    page.get_by_role("button", name="Bring it in").click()
    page.get_by_text("Nothing was imported").wait_for()
    cells = page.get_by_role("table", name="Rows that cannot be used").locator("tbody td")
    expect(cells.first).to_have_text("2")
    assert "JSON" in cells.last.inner_text()
    with database.session() as session:
        assert datasets.list_datasets(session).items == []
    # A refused form is an answer of 422, which the browser notes on its console.
    watched.faults[:] = [fault for fault in watched.faults if "422" not in fault]
    path.write_text(json.dumps(good) + "\n")
    page.get_by_label("File").set_input_files(path)
    page.get_by_role("button", name="Bring it in").click()
    page.get_by_role("heading", name="mine").wait_for()
    page.get_by_text("Not scored yet").wait_for()
    page.locator("tbody th[scope=row] a").first.click()
    page.get_by_text("In Paris.").wait_for()


@pytest.mark.parametrize("scripted", [True, False])
def test_a_file_is_looked_at_and_brought_in_without_being_sent_again(
    chromium, server, database, tmp_path, scripted
):
    rows = [
        {"prompt": "Where?", "chosen": "In <b>Paris</b>.", "rejected": "In Rome.", "colour": "blue"},
        {"prompt": "When?", "chosen": "Now.", "rejected": "Now."},
    ]
    path = tmp_path / "seen.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"prompt": "cut o\n')
    context = chromium.new_context(java_script_enabled=scripted)
    page = context.new_page()
    page.goto(server.token_url)
    page.goto(f"{server.url}/datasets/new")
    page.get_by_label("File").set_input_files(path)
    page.get_by_role("button", name="Preview").click()
    page.get_by_role("heading", name="Preview").wait_for()
    expect(page.get_by_text("1 row would be refused.")).to_be_visible()
    expect(page.get_by_text("say the same in 1 pair")).to_be_visible()
    expect(page.get_by_text("Nothing reads colour")).to_be_visible()
    expect(page.get_by_text("In <b>Paris</b>.")).to_be_visible()
    with database.session() as session:
        assert datasets.list_datasets(session).items == []
    page.get_by_label("is left out and listed").check()
    page.get_by_role("button", name="Bring it in").click()
    page.get_by_role("heading", name="seen").wait_for()
    with database.session() as session:
        (found,) = datasets.list_datasets(session).items
        assert (found.pair_count, found.skipped_count) == (2, 1)
    context.close()
