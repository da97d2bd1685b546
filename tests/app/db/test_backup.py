"""A backup is the whole data base, and a restore brings all of it back or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.db import migrate
from app.db.backup import backup, restore
from app.db.session import Database
from app.errors import Conflict, Invalid
from app.services.datasets import datasets
from app.services.runs import runs
from app.services.scorings import maps
from app.settings import Settings
from tests.app.factories import make_scored_run


def test_what_was_backed_up_comes_back(
    database: Database, settings: Settings, empty_database_url: str, tmp_path: Path
) -> None:
    with database.session() as session:
        run = make_scored_run(session, settings)
        before = maps.sources_of(session, run.id)
        rewards = [view.map.rewards["implicit"].tolist() for view in maps.list_maps(session, run.id).items]

    assert backup(database.url, tmp_path / "all.backup") > 0
    restore(empty_database_url, tmp_path / "all.backup")

    restored = Database.connect(empty_database_url)
    with restored.session() as session:
        assert runs.get_run(session, run.id).name == run.name
        assert maps.sources_of(session, run.id) == before
        found = [view.map.rewards["implicit"].tolist() for view in maps.list_maps(session, run.id).items]
        assert found == rewards
        assert datasets.get_dataset(session, run.dataset_id or 0).pair_count == 3
    restored.dispose()
    assert migrate.current(empty_database_url) == migrate.head()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".backup" and path.is_file()] == []


def test_a_backup_never_overwrites(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "mine"
    file.write_text("precious")
    with pytest.raises(Conflict, match="exists already"):
        backup(database.url, file)
    assert file.read_text() == "precious"


def test_a_data_base_that_holds_something_is_not_restored_into(database: Database, tmp_path: Path) -> None:
    backup(database.url, tmp_path / "all.backup")
    with pytest.raises(Conflict, match="not empty"):
        restore(database.url, tmp_path / "all.backup")


@pytest.mark.parametrize("content", [b"", b"no backup", b"PGDMP\x01\x0e"])
def test_a_file_that_is_no_backup_leaves_the_data_base_empty(
    empty_database_url: str, tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "broken"
    file.write_bytes(content)
    with pytest.raises(Invalid, match="no backup"):
        restore(empty_database_url, file)
    assert migrate.current(empty_database_url) is None
