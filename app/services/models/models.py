"""Models that were looked at and may be named in requests."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import exists, func, or_, select
from sqlalchemy.orm import Session

from app.db.tables import Job, JobStatus, Model, Run
from app.errors import Conflict, Forbidden, Invalid, NotFound, Problem
from app.services.names import MAX_NAME_CHARACTERS, clean_name
from app.services.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_limit
from app.services.roots import check_files, readable
from app.services.runs.folders import remove_model_with
from app.settings import Settings
from engine.errors import ModelError
from engine.model_files import ModelKind, files_of, inspect_model, same_tokens
from engine.places import is_there, place, resolved
from engine.types import ModelReference

ModelName = int | str
"""A registered model's id or name, or a path or hub name, which is registered on the way."""

ROLES = ("policy", "reference", "reward_model")
"""Where a scoring's request names a model; each is null or {"id", "path", ...}."""
USES = (*ROLES, "model", "scorer", "scorer_reference")
"""The same of any run's request."""
_KIND_WORDS = {"causal_lm": "a causal language model", "sequence_classifier": "a sequence classifier"}


def register(
    session: Session,
    settings: Settings,
    reference: ModelReference,
    *,
    name: str | None = None,
    origin: dict[str, Any] | None = None,
) -> Model:
    """The row of a model that can be loaded; the same path and content twice is the same row.

    Raises ModelError (what is missing), Forbidden (code of its own is asked for, but no setting trusts it),
    Conflict (name taken).
    """
    return add(session, _settled(reference, settings), name=name, origin=origin)


def add(
    session: Session,
    reference: ModelReference,
    *,
    name: str | None = None,
    origin: dict[str, Any] | None = None,
) -> Model:
    """As `register`, for a reference whose path is absolute and whose trust is settled."""
    info = inspect_model(reference)
    hold_names(session)
    known = session.scalar(
        select(Model).where(
            Model.path == reference.path,
            Model.revision.is_not_distinct_from(reference.revision),
            Model.fingerprint == info.fingerprint,
        )
    )
    if known is not None:
        return known
    model = Model(
        name=_chosen_name(session, name, reference.path),
        path=reference.path,
        revision=reference.revision,
        kind=info.kind,
        architecture=info.architecture,
        parameters=info.parameters,
        vocab_size=info.vocab_size,
        context=info.context,
        has_chat_template=info.has_chat_template,
        fingerprint=info.fingerprint,
        trust_remote_code=info.needs_remote_code,
        origin={**(origin or {}), **({"subfolder": reference.subfolder} if reference.subfolder else {})},
    )
    session.add(model)
    session.flush()
    return model


def hold_names(session: Session) -> None:
    """Nobody else adds a model before this transaction ends, so that a name that is free stays so."""
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended("rewardscope models", 0))))


def list_models(session: Session, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None) -> Page[Model]:
    """Models, newest first."""
    query = select(Model).order_by(Model.id.desc()).limit(page_limit(limit) + 1)
    if cursor is not None:
        query = query.where(Model.id < decode_cursor(cursor, [int])[0])
    found = list(session.scalars(query))
    return Page(found[:limit], encode_cursor(found[limit - 1].id) if len(found) > limit else None)


def get_model(session: Session, model_id: int) -> Model:
    """The model. Raises NotFound."""
    model = session.get(Model, model_id)
    if model is None:
        raise NotFound(f"There is no model {model_id}; register it, or choose one from the list of models.")
    return model


def find_model(session: Session, wanted: int | str) -> Model | None:
    """The model with this id, name or path, the newest where a path has several; None if there is none."""
    if isinstance(wanted, int):
        return session.get(Model, wanted)
    named = session.scalar(select(Model).where(Model.name == wanted))
    if named is not None:
        return named
    if wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
        return session.get(Model, int(wanted))
    paths = or_(Model.path == wanted, Model.path == _absolute(wanted))
    return session.scalar(select(Model).where(paths).order_by(Model.id.desc()).limit(1))


def delete_model(
    session: Session, model_id: int, *, settings: Settings | None = None, files: bool = False
) -> None:
    """Forgets the model; its files stay, unless `files` asks for their end too (with `settings`).

    Raises NotFound, Conflict while a job uses it, and Forbidden where files are not ours to remove.
    """
    model = get_model(session, model_id)
    for run in _active_runs(session):
        if any((run.request.get(role) or {}).get("id") == model_id for role in USES):
            raise Conflict(
                f"Run {run.id} uses the model `{model.name}`; cancel it, or wait until it is over, and "
                "delete the model then.",
                code="model_in_use",
            )
    if files:
        assert settings is not None, "the settings say which files are ours"
        remove_model_with(session, settings, model)
    session.delete(model)
    session.flush()


def reference_of(model: Model) -> ModelReference:
    """How the engine names the model."""
    return ModelReference(
        path=model.path,
        revision=model.revision,
        trust_remote_code=model.trust_remote_code,
        subfolder=model.origin.get("subfolder"),
    )


def choose(session: Session, settings: Settings, wanted: ModelName, role: str, *kinds: ModelKind) -> Model:
    """The model of one of `kinds` that a request names in `role`, its field; one that is named by a path is
    registered.

    Raises Invalid (no such model, one that cannot be used, or one of another kind), Forbidden.
    """
    model = find_model(session, wanted)
    if model is None and isinstance(wanted, int):
        raise Invalid(
            f"There is no model {wanted}; register it, or choose one from the list of models.",
            errors=[Problem(("body", role), "is no registered model")],
        )
    if model is None:
        try:
            model = register(session, settings, ModelReference.model_validate({"path": wanted}))
        except ModelError as error:
            # The same failure with its field, which the files of a model know nothing of.
            raise Invalid(
                str(error), code=error.code, errors=[Problem(("body", role), str(error))]
            ) from error
    if model.kind not in kinds:
        needed = " or ".join(_KIND_WORDS[kind] for kind in kinds)
        raise Invalid(
            f"`{model.name}` is {_KIND_WORDS[model.kind]}, but as {role.replace('_', ' ')} {needed} is "
            "needed; name another model.",
            errors=[Problem(("body", role), f"must be {needed}")],
        )
    return model


def record_of(model: Model) -> dict[str, Any]:
    """What a run keeps of a model, so that it can be repeated after the model was forgotten."""
    return {
        "id": model.id,
        "name": model.name,
        "fingerprint": model.fingerprint,
        **reference_of(model).model_dump(mode="json"),
    }


def recorded_reference(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How the engine names the model of such a record."""
    return None if record is None else {name: record[name] for name in ModelReference.model_fields}


def name_again(session: Session, record: Mapping[str, Any] | None) -> ModelName | None:
    """How a new request names the model of such a record: by its id, or by its path where it was forgotten
    since, by which it is registered again."""
    if record is None:
        return None
    return int(record["id"]) if session.get(Model, record["id"]) else str(record["path"])


def check_same_tokens(models: Mapping[str, Model | None]) -> None:
    """Raises Invalid, naming the field, where models by their roles do not give each token the same id.

    What the files do not tell is let pass: the engine compares what it has loaded.
    """
    (first_role, first), *others = [(role, model) for role, model in models.items() if model is not None]
    for role, model in others:
        if same_tokens(reference_of(first), reference_of(model)) is False:
            raise Invalid(
                f"As {role.replace('_', ' ')}, `{model.name}` has another tokenizer than `{first.name}`, the "
                f"{first_role.replace('_', ' ')}; name a model with the same one.",
                code="other_tokenizer",
                errors=[Problem(("body", role), f"must have the tokenizer of {first_role}")],
            )


def _settled(reference: ModelReference, settings: Settings) -> ModelReference:
    """The reference with its folder as an absolute path, for workers that stand elsewhere, and with the trust
    that the settings give, whatever the request says. Raises Forbidden, Invalid (not plain files)."""
    path = _absolute(reference.path)
    trusted = any(path == _absolute(name) for name in settings.trusted_models)
    if reference.trust_remote_code and not trusted:
        raise Forbidden(
            f"The model `{reference.path}` may not run code of its own; an administrator can allow it by "
            "adding it to REWARDSCOPE_TRUSTED_MODELS.",
            code="untrusted_code",
        )
    subfolder = reference.subfolder
    if Path(path).is_absolute():
        folder = readable(settings, "model", Path(path, subfolder or ""), field="path", missing=True)
        check_files(settings, "model", files_of(folder), field="path")
        path, subfolder = str(folder), None
    return ModelReference(
        path=path, revision=reference.revision, trust_remote_code=trusted, subfolder=subfolder
    )


def _absolute(path: str) -> str:
    """A folder's absolute path; a name on a hub stays as it is."""
    folder = place(path)
    is_folder = folder.is_absolute() or is_there(folder)
    return str(resolved(folder)) if is_folder else path


def free_name(session: Session, stem: str) -> str:
    """`stem`, or where that is taken `stem (2)` and so on."""
    return next(name for name in numbered(stem) if not _is_taken(session, name))


def numbered(stem: str) -> Iterator[str]:
    """stem, stem (2), stem (3) ..."""
    yield stem
    yield from (f"{stem} ({number})" for number in itertools.count(2))


def _chosen_name(session: Session, wanted: str | None, path: str) -> str:
    """The name asked for, or one made of the path, numbered where taken. Raises Invalid and Conflict."""
    if wanted is None:
        stem = (path if not Path(path).is_absolute() else Path(path).name)[:MAX_NAME_CHARACTERS] or "model"
        return free_name(session, stem)
    name = clean_name(wanted, "A model")
    if _is_taken(session, name):
        raise Conflict(
            f"There is a model `{name}` already; choose another name.",
            code="name_taken",
            errors=[Problem(("body", "name"), "is taken")],
        )
    return name


def _is_taken(session: Session, name: str) -> bool:
    return bool(session.scalar(select(exists().where(Model.name == name))))


def _active_runs(session: Session) -> list[Run]:
    active = Job.status.in_((JobStatus.queued, JobStatus.running))
    return list(session.scalars(select(Run).join(Job).where(active)))
