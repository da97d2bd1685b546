"""A data set is looked at before it is brought in, and sent once."""

from __future__ import annotations

import os
import re
from pathlib import Path

from starlette.testclient import TestClient

from app.services.datasets import previews
from app.settings import Settings

ROWS = b'{"prompt": "x", "chosen": "<b>good</b>", "rejected": "bad", "colour": "blue"}\n{"chosen": ""}\n'


def preview(client: TestClient) -> str:
    answer = client.post("/datasets/preview", files={"file": ("sums.jsonl", ROWS)})
    assert answer.status_code == 200, answer.text
    return answer.text


def ticket_of(page: str) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def test_a_preview_shows_rows_and_what_is_left_and_stores_nothing(browser_client: TestClient) -> None:
    page = preview(browser_client)

    assert "&lt;b&gt;good" in page
    assert "colour" in page
    assert "1 row would be refused." in page
    assert browser_client.get("/api/v1/datasets").json()["data"] == []


def test_the_file_of_a_preview_is_brought_in_without_being_sent_again(browser_client: TestClient) -> None:
    form = {"ticket": ticket_of(preview(browser_client)), "on_error": "skip", "name": "seen"}

    answer = browser_client.post("/datasets", data=form, follow_redirects=False)
    again = browser_client.post("/datasets", data={**form, "name": "again"}, follow_redirects=False)

    assert answer.status_code == 303
    assert [one["name"] for one in browser_client.get("/api/v1/datasets").json()["data"]] == ["seen"]
    assert again.status_code == 404
    assert "send it again" in again.text


def test_a_ticket_is_no_path(browser_client: TestClient, settings: Settings) -> None:
    for ticket in ("../postgres", "x" * 22, "/etc"):
        answer = browser_client.post("/datasets", data={"ticket": ticket}, follow_redirects=False)
        assert answer.status_code == 404


def test_files_that_nobody_brought_in_are_swept(browser_client: TestClient, settings: Settings) -> None:
    old = settings.data_dir / "previews" / ticket_of(preview(browser_client))
    os.utime(old, (0, 0))

    preview(browser_client)

    assert not old.exists()
    assert len(list(Path(old.parent).iterdir())) == 1
    assert previews.KEPT_SECONDS >= 600


def test_a_file_that_cannot_be_read_shows_the_form_again(browser_client: TestClient) -> None:
    answer = browser_client.post("/datasets/preview", files={"file": ("x.jsonl", b"")})

    assert answer.status_code >= 400
    assert "is empty" in answer.text


def test_a_split_of_a_folder_is_looked_at_and_brought_in(browser_client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b'{"prompt": "learn", "chosen": "a", "rejected": "b"}\n')
    (tmp_path / "test.jsonl").write_bytes(b'{"prompt": "asked", "chosen": "a", "rejected": "b"}\n')
    form = {"folder": str(tmp_path), "split": "test"}

    unclear = browser_client.post("/datasets/preview", data={**form, "split": ""})
    page = browser_client.post("/datasets/preview", data=form).text
    answer = browser_client.post("/datasets", data=form, follow_redirects=False)
    of_file = browser_client.post("/datasets", data={"split": "test"}, files={"file": ("sums.jsonl", ROWS)})

    assert "several splits" in unclear.text
    assert "asked" in page
    assert 'name="split" value="test"' in page
    assert "learn" not in page
    assert "split test" in browser_client.get(answer.headers["location"]).text
    assert "A file has no splits" in of_file.text
