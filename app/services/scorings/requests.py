"""What a scoring may be told, and what that resolves to: registered models, sources with rules, numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date
from typing import Any, Literal

from pydantic import Field
from sqlalchemy.orm import Session

from app.db.tables import Model
from app.errors import Invalid, Problem
from app.services.models.models import ROLES, ModelName, choose, record_of, recorded_reference
from app.settings import Settings
from engine.fields import StrictModel, shown
from engine.model_files import ModelKind
from engine.requests import ScoreRequest, SourceRequest
from engine.sources import SourceName
from engine.sources.registry import COLUMNS, SOURCES, default_sources, need_in_words

_KINDS: Mapping[str, ModelKind] = {
    "policy": "causal_lm",
    "reference": "causal_lm",
    "reward_model": "sequence_classifier",
}
_NUMBERS = ("beta", "device", "dtype", "token_budget", "max_response_tokens", "append_eos")

_LATER_NUMBERS = ("chunk_pairs", "template_date")
"""What not every resolved request has."""


class ScoringNumbers(StrictModel):
    """Models, sources and numbers of any scoring; the defaults are the engine's."""

    policy: ModelName | None = Field(None, title="Policy", json_schema_extra=shown(blank="none"))
    """The aligned model: a registered model, a folder, or a name on the hub."""
    reference: ModelName | None = Field(None, title="Reference model", json_schema_extra=shown(blank="none"))
    """The model that the policy started from."""
    reward_model: ModelName | None = Field(None, title="Reward model", json_schema_extra=shown(blank="none"))
    """A sequence classifier that values responses."""
    sources: list[SourceName | SourceRequest] | None = Field(
        None,
        min_length=1,
        title="Sources of token rewards",
        json_schema_extra=shown(blank="every source that models and data allow"),
    )
    """What token rewards are read from, each by its name or with a rule of its own."""
    beta: float = Field(0.1, gt=0, title="Beta")
    """Scale of the implicit reward: beta * (log policy - log reference)."""
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", title="Device")
    """`cpu`, `mps`, `cuda`, `cuda:1`, or `auto`: as the worker's settings say."""
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", title="Precision", json_schema_extra=shown(words={"auto": "bfloat16 on a GPU, else float32"})
    )
    """Of the weights; the head and all sums stay float32."""
    token_budget: int = Field(8192, ge=256, title="Token budget")
    """Tokens in one forward pass: less memory, and no other result."""
    max_response_tokens: int = Field(
        16_384, ge=1, title="Max response length", json_schema_extra=shown(unit="tokens")
    )
    """A row with a longer response fails the run, and is named."""
    append_eos: bool = Field(True, title="Score the EOS")
    """Whether the response is scored with its EOS token, as training sees it."""
    template_date: date | None = Field(
        None, title="Date in the chat template", json_schema_extra=shown(blank="the day it is submitted")
    )
    """What a chat template that writes today's date takes for it."""


def find_models(session: Session, settings: Settings, request: ScoringNumbers) -> dict[str, Model | None]:
    """The models of the request by their roles; those named by a path are registered.

    Raises Invalid (no such model, or one that does not fit its role), ModelError, Forbidden.
    """
    return {role: _model(session, settings, role, getattr(request, role)) for role in ROLES}


def resolve(
    request: ScoringNumbers, models: Mapping[str, Model | None], columns: Collection[str]
) -> dict[str, Any]:
    """The request as a run keeps it: models as {"id", "path", ...} or null, each source with its rule.

    `made_rules` names the sources of which nobody stated a rule: theirs is the source's own until all rewards
    are known, of which it is made then.
    `columns` are what the data bring of what sources need. Raises Invalid (a source without what it needs).
    """
    given = {role for role, model in models.items() if model is not None}
    if not given and not {"token_rewards", "logprobs"} & set(columns):
        raise Invalid(
            "Name a policy or a reward model: its tokenizer cuts the responses into tokens. Only data that "
            "bring token rewards, or log-probabilities of both models, with tokens of their own need none.",
            errors=[Problem(("body", "policy"), "name a policy or a reward model")],
        )
    sources = _sources(request, given | set(columns))
    return {
        **{role: None if model is None else record_of(model) for role, model in models.items()},
        "sources": [_with_rule(source).model_dump(mode="json") for source in sources],
        "made_rules": [source.name for source in sources if source.rule is None],
        **{name: getattr(request, name) for name in _NUMBERS},
        "template_date": (request.template_date or date.today()).isoformat(),
    }


def score_request(resolved: dict[str, Any]) -> dict[str, Any]:
    """The engine's `ScoreRequest`, as plain JSON, of a request that was resolved."""
    references = {role: recorded_reference(resolved[role]) for role in ROLES}
    numbers = {name: resolved[name] for name in (*_NUMBERS, *_LATER_NUMBERS) if name in resolved}
    request = ScoreRequest.model_validate({**references, **numbers, "sources": resolved["sources"]})
    return request.model_dump(mode="json")


def _model(session: Session, settings: Settings, role: str, wanted: ModelName | None) -> Model | None:
    return None if wanted is None else choose(session, settings, wanted, role, _KINDS[role])


def _sources(request: ScoringNumbers, given: set[str]) -> list[SourceRequest]:
    if request.sources is None:
        names = default_sources(given)
        if not names:
            raise Invalid(
                "Nothing can be scored with what is given: name a reference beside the policy, or a reward "
                "model, or bring data with labelled spans or token rewards.",
                errors=[Problem(("body", "sources"), "no source has what it needs")],
            )
        return [SourceRequest(name=name) for name in names]
    wanted = [
        source if isinstance(source, SourceRequest) else SourceRequest(name=source)
        for source in request.sources
    ]
    problems = [*_unmet(wanted, given), *_repeated(wanted)]
    if problems:
        raise Invalid(f"Some sources cannot be computed: {problems[0].msg}", errors=problems)
    return wanted


def _unmet(wanted: list[SourceRequest], given: set[str]) -> list[Problem]:
    problems = []
    for place, source in enumerate(wanted):
        missing = sorted(SOURCES[source.name].lacks(given))
        if missing:
            needs = " and ".join(need_in_words(need) if need in COLUMNS else f"`{need}`" for need in missing)
            problems.append(Problem(("body", "sources", place), f"`{source.name}` needs {needs}."))
        segmenter = source.rule.segmenter.kind if source.rule is not None else None
        if segmenter is not None and segmenter.reads_entropies and "policy" not in given:
            problem = f"The `{segmenter.name}` segmenter needs `policy`."
            problems.append(Problem(("body", "sources", place), problem))
    return problems


def _repeated(wanted: list[SourceRequest]) -> list[Problem]:
    names = [source.name for source in wanted]
    return [
        Problem(("body", "sources", place), f"`{name}` is asked for twice; name each source once.")
        for place, name in enumerate(names)
        if name in names[:place]
    ]


def _with_rule(source: SourceRequest) -> SourceRequest:
    return source if source.rule else SourceRequest(name=source.name, rule=SOURCES[source.name].default_rule)
