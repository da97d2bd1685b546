"""The figure of the paper up to the token rewards: pairs and models in, reward maps out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from engine.errors import DataError, ModelError, RequestError
from engine.inspection.probe import probe_of
from engine.language_models import LoadedModel, load_policy, load_reward_model, memory_advice
from engine.ragged import Row
from engine.reading import Tracks, plan_of, read_tracks, read_values
from engine.requests import ScoreRequest
from engine.sources import SOURCES, Evidence, Source
from engine.sources.registry import COLUMNS, MODELS, Need
from engine.tokens import TokenisedResponse, align_values, fit, own_tokens, tokenise
from engine.types import PreferencePair, RewardMap

OUT_OF_MEMORY = (
    "ask for a smaller `token_budget`, fewer tokens a response (`max_response_tokens`), or a smaller model."
)


@dataclass(frozen=True)
class Models:
    """The models of a request, in memory."""

    policy: LoadedModel | None = None
    reference: LoadedModel | None = None
    reward_model: LoadedModel | None = None

    @property
    def of_tokens(self) -> LoadedModel | None:
        """The one whose tokenizer cuts the responses; None where they come with tokens of their own."""
        return self.policy or self.reference or self.reward_model

    def loaded(self) -> list[LoadedModel]:
        """Each model once."""
        named = (self.policy, self.reference, self.reward_model)
        return list(dict.fromkeys(one for one in named if one is not None))


def score(pairs: Sequence[PreferencePair], models: Models, request: ScoreRequest) -> list[RewardMap]:
    """A reward map of every response, in the order of the pairs, chosen before rejected.

    Raises DataError where a row cannot be scored, ResourceError where memory runs out.
    """
    with memory_advice(OUT_OF_MEMORY):
        responses = fitted(pairs, models, request)
        policy = tracks(models.policy, responses, request, with_distribution=True)
        same = models.reference is models.policy
        reference = policy if same else tracks(models.reference, responses, request, with_distribution=False)
        values = values_of(models, pairs, responses, request)
    if models.of_tokens is None:
        read = [brought(one, request, models) for one in responses]
        policy = [_track(one.get("policy_logprobs")) for one in read]
        reference = [_track(one.get("reference_logprobs")) for one in read]
    return [reward_map(*one, request) for one in zip(responses, policy, reference, values, strict=True)]


# ---------------------------------------------------------------------------------------- before any forward


def check_request(request: ScoreRequest, columns: Collection[Need] | None = None) -> None:
    """Raises RequestError where a source needs a model that the request does not name.

    `columns` are what the data bring. None: nobody knows, and they stand in for no model.
    """
    given = {name for name in MODELS if getattr(request, name) is not None}
    for source in request.sources:
        wanted = SOURCES[source.name]
        lacks = set(wanted.models) - given if columns is None else wanted.lacks({*given, *columns})
        absent = [model for model in MODELS if model in lacks]
        if absent:
            raise RequestError(
                f"The source `{source.name}` needs a {' and a '.join(absent)}; name "
                f"{'them' if len(absent) > 1 else 'it'}, or ask for another source."
            )
        if lacks:
            lacking = " and ".join(COLUMNS[need] for need in COLUMNS if need in lacks)
            raise RequestError(
                f"The source `{source.name}` needs {lacking}, which no row brings; ask for another source."
            )
    if not given and not any(_cuts_itself(SOURCES[source.name]) for source in request.sources):
        raise RequestError("Name a policy or a reward model: its tokenizer cuts the responses into tokens.")
    if len({source.name for source in request.sources}) < len(request.sources):
        raise RequestError("A source is asked for twice; name each source once.")


def _cuts_itself(source: Source) -> bool:
    """Whether what it reads of the data comes with tokens of its own."""
    return source.instead is not None or "token_rewards" in source.needs


def load_models(request: ScoreRequest) -> Models:
    """The models of a request that was checked, checked against one another. Raises ModelError."""
    where = {"device": request.device, "dtype": request.dtype}
    models = Models(
        policy=None if request.policy is None else load_policy(request.policy, **where),  # type: ignore[arg-type]
        reference=None if request.reference is None else load_policy(request.reference, **where),  # type: ignore[arg-type]
        reward_model=(
            None if request.reward_model is None else load_reward_model(request.reward_model, **where)  # type: ignore[arg-type]
        ),
    )
    if models.policy is not None and models.reference is not None:
        check_one_tokenizer(models.policy, models.reference)
    for loaded in models.loaded():
        plan_of(loaded)
    if models.reward_model is not None:
        probe_of(models.reward_model)
    return models


def check_one_tokenizer(policy: LoadedModel, reference: LoadedModel) -> None:
    """Policy and reference read the same token ids, so each token must have one id in both."""
    if policy is reference or reference in policy.same_tokens:
        return
    ours, theirs = policy.tokenizer.get_vocab(), reference.tokenizer.get_vocab()
    if any(theirs.get(token, index) != index for token, index in ours.items()) or not (
        ours.keys() <= theirs.keys() or theirs.keys() <= ours.keys()
    ):
        raise ModelError(
            f"The policy `{policy.info.path}` and the reference `{reference.info.path}` have different "
            "tokenizers, so that their log-probabilities cannot be compared token by token; use the model "
            "that the policy was trained from as its reference."
        )
    policy.same_tokens.add(reference)


def refusals(
    pairs: Sequence[PreferencePair], models: Models, request: ScoreRequest
) -> list[tuple[PreferencePair, DataError]]:
    """The pairs that `score` would refuse, with the reasons; runs the tokenizers and no model."""
    try:
        for one in fitted(pairs, models, request):
            evidence = evidence_of(one, **brought(one, request, models))
            for source in request.sources:
                if not SOURCES[source.name].models or models.of_tokens is None:
                    SOURCES[source.name].token_rewards(evidence)
        if models.reward_model is not None and models.reward_model is not models.of_tokens:
            _tokens_of(models.reward_model, pairs, request)
    except DataError as error:
        if len(pairs) == 1:
            return [(pairs[0], error)]
        return [refused for pair in pairs for refused in refusals([pair], models, request)]
    return []


# ----------------------------------------------------------------------------------------- reading the models


def fitted(pairs: Sequence[PreferencePair], models: Models, request: ScoreRequest) -> list[TokenisedResponse]:
    """The responses as tokens, with as much of their prompts as the contexts of the models leave."""
    if models.of_tokens is None:
        return own_tokens(pairs, request.max_response_tokens)
    tokenised = _tokens_of(models.of_tokens, pairs, request)
    readers = [one for one in (models.policy, models.reference) if one is not None]
    # A policy predicts the last token and need not read it; a reward model is asked after it.
    contexts = [one.info.context + 1 for one in readers if one.info.context is not None]
    if not readers:
        contexts = [one.info.context for one in models.loaded() if one.info.context is not None]
    context = min(contexts, default=None)
    responses = [fit(one, context, models.of_tokens.tokenizer.bos_token_id) for one in tokenised]
    check_ids(responses, readers or models.loaded())
    return responses


def tracks(
    loaded: LoadedModel | None,
    responses: Sequence[TokenisedResponse],
    request: ScoreRequest,
    *,
    with_distribution: bool,
) -> list[Tracks | None]:
    """What a policy says of every token of every response; None for each where there is no such model."""
    if loaded is None:
        return [None] * len(responses)
    grouped = _by_prompt(responses, request.token_budget)
    read = read_tracks(loaded, grouped.rows, request.token_budget, with_distribution=with_distribution)
    return [
        Tracks(*(None if each is None else _with_missing(each, len(one.ids)) for each in read[row][branch]))  # type: ignore[arg-type]
        for one, (row, branch) in zip(responses, grouped.places, strict=True)
    ]


def values_of(
    models: Models,
    pairs: Sequence[PreferencePair],
    responses: Sequence[TokenisedResponse],
    request: ScoreRequest,
) -> list[Float32[np.ndarray, " response+1"] | None]:
    """V_0 and V_t of every response, on the tokens of `responses`; None for each without a reward model."""
    loaded = models.reward_model
    if loaded is None:
        return [None] * len(responses)
    own = [
        fit(one, loaded.info.context, loaded.tokenizer.bos_token_id)
        for one in _tokens_of(loaded, pairs, request)
    ]
    check_ids(own, [loaded])
    grouped = _by_prompt(own, request.token_budget)
    read = read_values(loaded, grouped.rows, request.token_budget, grouped.closings)
    return [
        _on_tokens_of(one, theirs, _with_missing(read[row][branch], len(theirs.ids) + 1))
        for one, theirs, (row, branch) in zip(responses, own, grouped.places, strict=True)
    ]


def _tokens_of(
    loaded: LoadedModel, pairs: Sequence[PreferencePair], request: ScoreRequest
) -> list[TokenisedResponse]:
    return tokenise(
        pairs,
        loaded.tokenizer,
        append_eos=request.append_eos,
        max_response_tokens=request.max_response_tokens,
        judged=loaded.info.kind == "sequence_classifier",
        template_date=request.template_date,
    )


class _Grouped(NamedTuple):
    rows: list[Row]
    places: list[tuple[int, int]]
    """Row and branch of each response."""
    closings: list[list[np.ndarray]]
    """What is read after each branch of each row."""


def _by_prompt(responses: Iterable[TokenisedResponse], token_budget: int) -> _Grouped:
    """Rows of responses that continue the same prompt, each row within the token budget if it can be."""
    prompts: list[np.ndarray] = []
    branches: list[list[np.ndarray]] = []
    closings: list[list[np.ndarray]] = []
    used: list[int] = []
    open_row: dict[bytes, int] = {}
    places = []
    for one in responses:
        ids = one.ids[: one.seen]
        row = open_row.get(one.prompt.tobytes())
        if row is None or used[row] + len(ids) > token_budget:
            row = open_row[one.prompt.tobytes()] = len(prompts)
            prompts.append(one.prompt)
            branches.append([])
            closings.append([])
            used.append(len(one.prompt))
        places.append((row, len(branches[row])))
        branches[row].append(ids)
        closings[row].append(one.closing if one.seen == len(one.ids) else one.closing[:0])
        used[row] += len(ids) + len(one.closing)
    return _Grouped([Row(p, tuple(b)) for p, b in zip(prompts, branches, strict=True)], places, closings)


def _with_missing(seen: np.ndarray, length: int) -> np.ndarray:
    """The array, with what lies beyond the context missing: NaN, or -1 for ranks."""
    if len(seen) == length:
        return seen
    missing = np.nan if seen.dtype.kind == "f" else -1
    return np.concatenate([seen, np.full(length - len(seen), missing, seen.dtype)])


def _on_tokens_of(
    one: TokenisedResponse, theirs: TokenisedResponse, values: Float32[np.ndarray, " units+1"]
) -> Float32[np.ndarray, " response+1"]:
    if np.array_equal(one.ids, theirs.ids):
        return values
    return align_values(values, theirs.offsets, one.offsets)


def check_ids(responses: Iterable[TokenisedResponse], readers: Sequence[LoadedModel]) -> None:
    """Raises ModelError where a tokenizer makes tokens that a model has no embedding for."""
    smallest = min(readers, key=lambda loaded: loaded.vocab_size)
    for one in responses:
        highest = max(int(one.ids.max()), int(one.prompt.max(initial=0)))
        if highest >= smallest.vocab_size:
            raise ModelError(
                f"The tokenizer makes the token {highest} of row `{one.key}`, but `{smallest.info.path}` has "
                f"only {smallest.vocab_size} embeddings; use the tokenizer that belongs to the model."
            )


# ------------------------------------------------------------------------------------------- the reward map


def reward_map(
    one: TokenisedResponse,
    policy: Tracks | None,
    reference: Tracks | None,
    values: Float32[np.ndarray, " response+1"] | None,
    request: ScoreRequest,
) -> RewardMap:
    """Everything known of one response, with the token rewards of the sources that were asked for."""
    evidence = evidence_of(
        one,
        policy_logprobs=None if policy is None else policy.logprobs,
        reference_logprobs=None if reference is None else reference.logprobs,
        values=values,
        beta=request.beta,
    )
    sources = [SOURCES[source.name] for source in request.sources]
    rewards = {source.name: source.token_rewards(evidence) for source in sources}
    return one.mapped(
        rewards,
        {source.name: source.total(rewards[source.name]) for source in sources},
        logprobs=evidence.policy_logprobs,
        reference_logprobs=evidence.reference_logprobs,
        entropies=None if policy is None else policy.entropies,
        ranks=None if policy is None else policy.ranks,
    )


def brought(one: TokenisedResponse, request: ScoreRequest, models: Models) -> dict[str, Any]:
    """What the row itself says in place of the models of a request that names none, as fields of `Evidence`.

    Raises DataError where a source lives on it and the row does not bring it.
    """
    if models.of_tokens is not None:
        return {}
    response = one.response
    if response.logprobs is None or response.ref_logprobs is None:
        for source in request.sources:
            if SOURCES[source.name].instead == "logprobs":
                raise DataError(
                    f"{one.name} comes without `logprobs` and `ref_logprobs`, of which `{source.name}` is "
                    "made where no model is named; name a policy and a reference, or leave the source out."
                )
        return {}
    return {
        "policy_logprobs": np.array(response.logprobs, np.float32),
        "reference_logprobs": np.array(response.ref_logprobs, np.float32),
        "beta": request.beta,
    }


def _track(logprobs: Float32[np.ndarray, " response"] | None) -> Tracks | None:
    return None if logprobs is None else Tracks(logprobs, None, None)


def evidence_of(one: TokenisedResponse, **seen: Any) -> Evidence:
    """What sources see of a response, with the fields of `Evidence` that models were read for."""
    return Evidence(
        name=one.name,
        response=one.response,
        ids=one.ids,
        offsets=one.offsets,
        ends_with_eos=one.eos is not None,
        **seen,
    )
