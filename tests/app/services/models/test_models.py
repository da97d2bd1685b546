"""Models: looked at once, trusted only by the settings, kept while they are in use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from app.errors import Conflict, Forbidden, Invalid, NotFound
from app.services.models import models
from app.services.runs import jobs
from app.settings import Settings
from engine.errors import ModelError, UntrustedCodeError
from engine.types import ModelReference
from tests.app import factories


def test_a_folder_is_registered_by_what_its_files_say(
    session: Session, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = factories.make_model_folder(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    model = models.register(session, settings, ModelReference(path="tiny"))
    assert (model.name, model.path, model.kind) == ("tiny", str(folder), "causal_lm")
    assert (model.parameters, model.vocab_size, model.context) == (2, 16, 64)
    assert models.reference_of(model) == ModelReference(path=str(folder))


def test_the_same_files_are_one_model_and_changed_files_another(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    reference = ModelReference(path=str(factories.make_model_folder(tmp_path / "tiny")))
    first = models.register(session, settings, reference)
    assert models.register(session, settings, reference, name="another name") is first
    (tmp_path / "tiny" / "tokenizer.json").write_text('{"changed": true}')
    second = models.register(session, settings, reference)
    assert second is not first
    assert second.name == "tiny (2)"
    assert models.find_model(session, str(tmp_path / "tiny")) is second


def test_models_are_found_by_id_name_and_path(session: Session, settings: Settings) -> None:
    model = factories.make_model(session, settings, "policy")
    for wanted in (model.id, str(model.id), "policy", model.path):
        assert models.find_model(session, wanted) is model
    for unknown in (0, "0", "nobody", "9" * 30):
        assert models.find_model(session, unknown) is None
    with pytest.raises(NotFound):
        models.get_model(session, 0)
    assert [one.id for one in models.list_models(session).items] == [model.id]


def test_a_name_is_taken_once(session: Session, settings: Settings, tmp_path: Path) -> None:
    factories.make_model(session, settings, "policy")
    other = ModelReference(path=str(factories.make_model_folder(tmp_path / "other")))
    with pytest.raises(Conflict, match="already"):
        models.register(session, settings, other, name="policy")
    with pytest.raises(Invalid, match="printable"):
        models.register(session, settings, other, name="  ")


def test_code_runs_only_where_the_settings_say_so(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    folder = factories.make_model_folder(tmp_path / "own", remote_code=True)
    with pytest.raises(Forbidden, match="REWARDSCOPE_TRUSTED_MODELS"):
        models.register(session, settings, ModelReference(path=str(folder), trust_remote_code=True))
    with pytest.raises(UntrustedCodeError):
        models.register(session, settings, ModelReference(path=str(folder)))
    trusting = settings.model_copy(update={"trusted_models": (str(folder),)})
    model = models.register(session, trusting, ModelReference(path=str(folder)))
    assert models.reference_of(model).trust_remote_code


def test_a_folder_without_a_model_is_said(session: Session, settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json"):
        models.register(session, settings, ModelReference(path=str(tmp_path)))


def test_a_subfolder_is_part_of_a_folders_path(session: Session, settings: Settings, tmp_path: Path) -> None:
    folder = factories.make_model_folder(tmp_path / "all" / "tiny")
    model = models.register(session, settings, ModelReference(path=str(tmp_path / "all"), subfolder="tiny"))
    assert (model.path, model.name) == (str(folder), "tiny")


def test_a_model_in_use_is_not_forgotten(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session))
    model = models.find_model(session, "policy")
    assert model is not None
    with pytest.raises(Conflict, match=f"Run {run.id} uses the model"):
        models.delete_model(session, model.id)
    jobs.cancel(session, run.id)
    models.delete_model(session, model.id)
    assert models.find_model(session, "policy") is None


def test_models_that_are_read_together_have_one_tokenizer(
    session: Session, settings: Settings, model_folder: Callable[..., Path]
) -> None:
    base, other = (
        models.register(session, settings, ModelReference(path=str(folder)))
        for folder in (model_folder("llama"), model_folder("llama", bos=False))
    )
    models.check_same_tokens({"model": base, "reference": base, "scorer": None})
    with pytest.raises(Invalid, match="has another tokenizer") as refused:
        models.check_same_tokens({"model": base, "scorer_reference": other})
    assert [problem.loc for problem in refused.value.errors] == [("body", "scorer_reference")]
