"""What of the server's disk requests may name."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.errors import Forbidden, Invalid
from app.services.datasets import datasets
from app.services.evaluations import task_suites
from app.services.models import models
from app.services.roots import readable, roots_of
from app.settings import Settings
from engine.errors import ModelError
from engine.types import ModelReference
from tests.app import factories

ROW = '{"prompt": "Hi", "chosen": "Hello.", "rejected": "No."}\n'


@pytest.fixture
def limited(settings: Settings, tmp_path: Path) -> Settings:
    """A server that reads data and models from two folders alone."""
    for name in ("rows", "models"):
        (tmp_path / name).mkdir()
    roots = {"data_roots": (tmp_path / "rows",), "model_roots": (tmp_path / "models",)}
    return settings.model_copy(update=roots)


def test_any_folder_will_do_where_only_this_machine_reaches_the_server(settings: Settings) -> None:
    assert roots_of(settings, "data") is None
    elsewhere = settings.model_copy(update={"host": "0.0.0.0"})
    assert roots_of(elsewhere, "data") == (settings.data_dir.resolve(), settings.runs_dir.resolve())


def test_what_lies_inside_the_roots_is_read(session: Session, limited: Settings, tmp_path: Path) -> None:
    (tmp_path / "rows" / "pairs.jsonl").write_text(ROW)
    folder = factories.make_model_folder(tmp_path / "models" / "tiny")

    dataset = datasets.import_folder(session, tmp_path / "rows", settings=limited)
    model = models.register(session, limited, ModelReference(path=str(folder)))

    assert dataset.pair_count == 1
    assert model.path == str(folder)


@pytest.mark.parametrize("name", ["there.jsonl", "not-there.jsonl"])
def test_outside_the_roots_nothing_is_said_of_what_lies_there(
    session: Session, limited: Settings, tmp_path: Path, name: str
) -> None:
    (tmp_path / "there.jsonl").write_text(ROW)
    place = tmp_path / name

    for refused in (
        lambda: datasets.import_folder(session, place, settings=limited),
        lambda: task_suites.import_path(session, place, settings=limited),
        lambda: models.register(session, limited, ModelReference(path=str(place))),
        lambda: datasets.import_folder(session, tmp_path / "rows" / ".." / name, settings=limited),
    ):
        with pytest.raises(Forbidden, match="_ROOTS") as refusal:
            refused()
        assert "exist" not in str(refusal.value)


def test_links_lead_out_of_no_root(session: Session, limited: Settings, tmp_path: Path) -> None:
    (tmp_path / "secret.jsonl").write_text(ROW)
    (tmp_path / "rows" / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    folder = factories.make_model_folder(tmp_path / "models" / "tiny")
    (folder / "config.json").rename(tmp_path / "config.json")
    (folder / "config.json").symlink_to(tmp_path / "config.json")

    for place in (tmp_path / "rows", tmp_path / "rows" / "link.jsonl"):
        with pytest.raises(Forbidden):
            datasets.import_folder(session, place, settings=limited)
    with pytest.raises(Forbidden):
        models.register(session, limited, ModelReference(path=str(folder)))


def test_chat_templates_beside_the_model_lead_out_of_no_root_either(
    session: Session, limited: Settings, tmp_path: Path
) -> None:
    folder = factories.make_model_folder(tmp_path / "models" / "tiny")
    (tmp_path / "secret.jinja").write_text("secret")
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tools.jinja").symlink_to(tmp_path / "secret.jinja")

    with pytest.raises(Forbidden):
        models.register(session, limited, ModelReference(path=str(folder)))


@pytest.mark.timeout(20)
def test_devices_and_pipes_are_refused_and_never_opened(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.jsonl"))
        for place in ("/dev/ptmx", "/dev/zero", tmp_path / "pipe.jsonl", tmp_path / "socket.jsonl"):
            with pytest.raises(Invalid, match="device, a pipe or a socket"):
                datasets.import_folder(session, place, settings=settings)
            with pytest.raises(Invalid, match="device, a pipe or a socket"):
                models.register(session, settings, ModelReference(path=str(place)))
    folder = factories.make_model_folder(tmp_path / "tiny")
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(Invalid, match="no plain file"):
        models.register(session, settings, ModelReference(path=str(folder)))


def test_a_path_that_can_be_none_is_a_sentence(settings: Settings) -> None:
    for written in ("/a\0b", "/" + "x" * 5000, "~nobody-has-this-name/x"):
        with pytest.raises(Invalid):
            readable(settings, "data", written, field="folder")


def test_an_index_names_no_weights_elsewhere(session: Session, settings: Settings, tmp_path: Path) -> None:
    folder = factories.make_model_folder(tmp_path / "tiny")
    (folder / "model.safetensors").rename(tmp_path / "model.safetensors")
    index = '{"weight_map": {"a": "../model.safetensors"}}'
    (folder / "model.safetensors.index.json").write_text(index)

    with pytest.raises(ModelError, match="outside its folder"):
        models.register(session, settings, ModelReference(path=str(folder)))
