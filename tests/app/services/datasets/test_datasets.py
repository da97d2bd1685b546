"""Data sets: whole or not at all, with every bad row named."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import Dataset, Pair
from app.errors import Conflict, Invalid, NotFound, Problem, StorageFull
from app.services.datasets import datasets
from app.services.runs import jobs
from app.settings import Settings
from engine.formats.canonical import read_pairs
from engine.types import Message, PreferencePair, Response, Span
from tests.app import factories

GOOD = {"prompt": "Hi", "chosen": "Hello there.", "rejected": "No."}
BAD = {"prompt": "Hi", "chosen": "", "rejected": "No."}


def upload(*rows: object) -> io.BytesIO:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return io.BytesIO("\n".join(lines).encode())


def count_pairs(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(Pair)) or 0


def test_an_upload_becomes_a_data_set(session: Session, settings: Settings) -> None:
    dataset = datasets.import_file(session, upload(GOOD, GOOD), "greetings.jsonl", settings=settings)
    assert (dataset.name, dataset.pair_count, dataset.response_count) == ("greetings", 2, 4)
    assert dataset.origin == {"kind": "upload", "filename": "greetings.jsonl"}
    assert [pair.key for pair in session.scalars(select(Pair).order_by(Pair.position))] == ["1", "2"]


def test_a_bad_row_refuses_the_whole_upload(session: Session, settings: Settings) -> None:
    with pytest.raises(Invalid) as refused:
        datasets.import_file(session, upload(GOOD, BAD, GOOD), "greetings.jsonl", settings=settings)
    assert refused.value.errors == (
        Problem(("line", 2, "chosen"), "`chosen` is empty; write the response, or null where there is none."),
    )
    assert count_pairs(session) == 0
    assert session.scalar(select(func.count()).select_from(Dataset)) == 0


def test_a_truncated_last_line_is_named(session: Session, settings: Settings) -> None:
    with pytest.raises(Invalid) as refused:
        datasets.import_file(session, upload(GOOD, '{"prompt": "H'), "cut.jsonl", settings=settings)
    assert refused.value.errors[0].loc == ("line", 2)


def test_no_more_than_a_hundred_errors_are_told(session: Session, settings: Settings) -> None:
    with pytest.raises(Invalid) as refused:
        datasets.import_file(session, upload(*[BAD] * 500), "bad.jsonl", settings=settings)
    assert len(refused.value.errors) == 100
    assert refused.value.detail.startswith("100 or more rows cannot be used, the first on line 1, field")


def test_bad_rows_can_be_skipped_and_stay_as_notes(session: Session, settings: Settings) -> None:
    rows = upload(GOOD, BAD, GOOD)
    dataset = datasets.import_file(session, rows, "greetings.jsonl", settings=settings, on_error="skip")
    assert (dataset.pair_count, dataset.skipped_count) == (2, 1)
    assert dataset.skipped_rows[0]["line"] == 2
    positions = session.scalars(select(Pair.position).order_by(Pair.position))
    assert list(positions) == [0, 1]


def test_an_upload_of_bad_rows_alone_is_no_data_set(session: Session, settings: Settings) -> None:
    with pytest.raises(Invalid, match="No row can be used"):
        datasets.import_file(session, upload(BAD), "bad.jsonl", settings=settings, on_error="skip")
    assert session.scalar(select(func.count()).select_from(Dataset)) == 0


def test_a_name_is_taken_once(session: Session) -> None:
    factories.make_dataset(session, name="capitals")
    with pytest.raises(Conflict, match="already"):
        factories.make_dataset(session, name=" capitals ")


def test_the_same_rows_under_another_name_have_the_same_hash(session: Session) -> None:
    first, second = factories.make_dataset(session, name="one"), factories.make_dataset(session, name="two")
    assert first.content_hash == second.content_hash
    assert first.content_hash != factories.make_dataset(session, 2, name="three").content_hash


def test_a_key_that_comes_twice_is_refused(session: Session) -> None:
    with pytest.raises(Invalid, match="same key"):
        factories.make_dataset(session, [factories.preference_pair(1), factories.preference_pair(1)])
    assert count_pairs(session) == 0


def test_an_import_that_dies_leaves_nothing(database: Database) -> None:
    def rows() -> object:
        yield factories.preference_pair(1)
        raise OSError("the disk is gone")

    with database.session() as session, pytest.raises(OSError, match="gone"):
        datasets.import_rows(session, rows(), name="half", origin={"kind": "upload"})  # type: ignore[arg-type]
    with database.session() as session:
        assert count_pairs(session) == 0
        assert session.scalar(select(func.count()).select_from(Dataset)) == 0


def test_a_folder_is_read_where_the_server_sees_it(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.jsonl").write_text(json.dumps(GOOD))
    dataset = datasets.import_folder(session, folder, settings=settings)
    assert (dataset.name, dataset.origin) == ("rows", {"kind": "folder", "path": str(folder)})


def test_a_folder_that_is_not_there_is_a_clear_error(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    with pytest.raises(Invalid, match="does not exist on the server"):
        datasets.import_folder(session, tmp_path / "nowhere", settings=settings)


def test_a_full_disk_takes_no_upload(session: Session, settings: Settings) -> None:
    crowded = settings.model_copy(update={"min_free_disk_mib": 2**40})
    with pytest.raises(StorageFull, match="make room"):
        datasets.import_file(session, upload(GOOD), "greetings.jsonl", settings=crowded)


def test_rows_come_out_as_they_went_in(session: Session, tmp_path: Path) -> None:
    rich = PreferencePair(
        "rich \t\\ key",
        (Message("system", "Be brief.\n"), Message("user", "Hé\\N 👋🏽")),
        Response(
            "Oui.\t\\.\n",
            (Span(0, 3, "error"), Span(0, 2, "odd", None)),
            (0.5, float("nan")),
            ((0, 3), (3, 4)),
        ),
        Response("Non", ()),
        {"source": {"page": 3, "tags": ["a", None]}},
    )
    bare = PreferencePair("bare", "", None, Response("only rejected"))
    dataset = factories.make_dataset(session, [rich, bare])
    assert (dataset.annotated, dataset.has_token_rewards, dataset.response_count) == (True, True, 3)
    assert datasets.write_rows(session, dataset.id, tmp_path / "rows.jsonl") == 2
    found = list(read_pairs(tmp_path / "rows.jsonl"))
    assert repr(found) == repr([rich, bare])  # as NaN equals nothing, not even itself
    assert datasets.write_rows(session, dataset.id, tmp_path / "later.jsonl", start=1) == 1
    assert list(read_pairs(tmp_path / "later.jsonl")) == [bare]


def test_data_sets_are_listed_newest_first_and_in_pages(session: Session) -> None:
    ids = [factories.make_dataset(session, 1, name=f"set {number}").id for number in range(5)]
    first = datasets.list_datasets(session, limit=3)
    second = datasets.list_datasets(session, limit=3, cursor=first.next_cursor)
    assert [dataset.id for dataset in first.items + second.items] == ids[::-1]
    assert second.next_cursor is None


def test_a_data_set_that_a_job_works_on_is_not_deleted(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session))
    with pytest.raises(Conflict, match=f"Run {run.id} works on"):
        datasets.delete_dataset(session, run.dataset_id or 0)
    jobs.cancel(session, run.id)
    datasets.delete_dataset(session, run.dataset_id or 0)
    assert count_pairs(session) == 0
    with pytest.raises(NotFound):
        datasets.get_dataset(session, run.dataset_id or 0)


def test_pairs_whose_sides_say_the_same_are_counted(session: Session, settings: Settings) -> None:
    same = {**GOOD, "rejected": GOOD["chosen"]}
    dataset = datasets.import_file(session, upload(GOOD, same, same), "greetings.jsonl", settings=settings)
    assert dataset.origin["identical_sides"] == 2


def test_what_a_conversation_brings_is_stored_and_written_out_again(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    row = {
        "tools": [{"type": "function", "function": {"name": "add"}}],
        "prompt": [{"role": "user", "content": "1 + 2?", "name": "Mira"}],
        "chosen": [{"role": "assistant", "content": "3.", "reasoning_content": "Easy."}],
        "rejected": [{"role": "assistant", "content": "4."}],
    }
    dataset = datasets.import_file(session, upload(row), "sums.jsonl", settings=settings)
    datasets.write_rows(session, dataset.id, tmp_path / "rows.jsonl")
    (pair,) = read_pairs(tmp_path / "rows.jsonl")
    assert pair.prompt == (Message("user", "1 + 2?", {"name": "Mira", "tools": row["tools"]}),)
    assert pair.chosen is not None
    assert pair.chosen.turns == (Message("assistant", "3.", {"reasoning_content": "Easy."}),)
