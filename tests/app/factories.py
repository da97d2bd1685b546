"""Small real things for tests of the application: pairs, reward maps, models, scored runs. No model
is loaded: a reward map has a token a word, and the rewards that the test says."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sqlalchemy.orm import Session

from app.db.tables import Dataset, Model, Run
from app.services.datasets import datasets
from app.services.models import models
from app.services.pairs import pairs
from app.services.runs import jobs
from app.services.scorings import scorings
from app.services.scorings.scorings import ScoringRequest
from app.settings import Settings
from engine.types import ModelReference, PreferencePair, Response, RewardMap, ScoredChunk, Side, Span

Rewards = Callable[[PreferencePair, Side], Sequence[float]]
"""The token rewards of a response: one a word, and one for the EOS."""


def preference_pair(
    number: int,
    chosen: str | None = "Paris is the capital.",
    rejected: str | None = "Rome is the capital.",
    *,
    prompt: str = "What is the capital of France?",
    spans: Mapping[Side, Sequence[Span]] | None = None,
) -> PreferencePair:
    """Pair `pair-<number>`."""
    spans = spans or {}

    def response(side: Side, text: str | None) -> Response | None:
        return None if text is None else Response(text, tuple(spans[side]) if side in spans else None)

    return PreferencePair(
        f"pair-{number}", prompt, response("chosen", chosen), response("rejected", rejected)
    )


def preference_pairs(count: int) -> list[PreferencePair]:
    """Pairs that tell each other apart by their prompts."""
    return [preference_pair(number, prompt=f"Question {number}?") for number in range(count)]


def make_dataset(
    session: Session, rows: Sequence[PreferencePair] | int = 3, name: str = "capitals"
) -> Dataset:
    """A stored data set."""
    rows = preference_pairs(rows) if isinstance(rows, int) else rows
    return datasets.import_rows(session, rows, name=name, origin={"kind": "upload"})


def make_model_folder(
    folder: Path, architecture: str = "LlamaForCausalLM", *, remote_code: bool = False
) -> Path:
    """Files that say they are a model of two weights, which nobody can load."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {
        "architectures": [architecture],
        "vocab_size": 16,
        "max_position_embeddings": 64,
        "num_labels": 1,
    }
    if remote_code:
        config["auto_map"] = {"AutoModelForCausalLM": "modeling.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    header = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    return folder


def make_model(
    session: Session, settings: Settings, name: str = "policy", architecture: str = "LlamaForCausalLM"
) -> Model:
    """A registered model."""
    folder = make_model_folder(settings.data_dir / "models" / name, architecture)
    return models.register(session, settings, ModelReference(path=str(folder)), name=name)


def make_run(
    session: Session, settings: Settings, dataset: Dataset, sources: Sequence[str] = ("implicit",)
) -> Run:
    """A queued scoring run with models for every source."""
    for name, architecture in (
        ("policy", "LlamaForCausalLM"),
        ("reference", "LlamaForCausalLM"),
        ("scorer", "LlamaForSequenceClassification"),
    ):
        if models.find_model(session, name) is None:
            make_model(session, settings, name, architecture)
    request = ScoringRequest.model_validate(
        {
            "dataset_id": dataset.id,
            "policy": "policy",
            "reference": "reference",
            "reward_model": "scorer",
            "sources": list(sources),
        }
    )
    return scorings.submit(session, settings, request)


def reward_map(
    pair: PreferencePair, side: Side, rewards: Mapping[str, Sequence[float]], **tracks: np.ndarray
) -> RewardMap:
    """A map with a token a word (its space in front), and an EOS."""
    response = dict(pair.sides())[side]
    spans = [match.span() for match in re.finditer(r"\s*\S+", response.text)]
    spans.append((len(response.text), len(response.text)))
    values = {source: np.array(track, dtype=np.float32) for source, track in rewards.items()}
    assert all(len(track) == len(spans) for track in values.values()), "a reward for each word and the EOS"
    return RewardMap(
        key=pair.key,
        side=side,
        token_ids=np.array([token_id(response.text[start:end]) for start, end in spans], dtype=np.int32),
        offsets=np.array(spans, dtype=np.int32),
        eos="</s>",
        prompt_tokens=5,
        truncated_prompt_tokens=0,
        rewards=values,
        totals={source: float(np.nansum(track)) for source, track in values.items()},
        **tracks,
    )


def token_id(word: str) -> int:
    """The same number for the same word, as a vocabulary has it."""
    return zlib.crc32(word.strip().encode()) % 50_000


def by_word_length(pair: PreferencePair, side: Side) -> list[float]:
    """Long words are good, short ones bad, and the EOS is nothing."""
    words = dict(pair.sides())[side].text.split()
    return [len(word) - 3.5 for word in words] + [0.0]


def claim(session: Session, run: Run) -> int:
    """Takes the run's job up; the attempt."""
    claimed = jobs.claim(session, run.job.id, "a worker")
    assert claimed is not None
    return claimed.attempt


def logprob_tracks(tokens: int) -> dict[str, np.ndarray]:
    """Log-probabilities of a policy and its reference, which differ from token to token."""
    steps = np.arange(tokens, dtype=np.float32)
    return {"logprobs": -0.25 * steps - 0.5, "reference_logprobs": 0.5 * (steps % 3) - 2.0}


def make_chunk(
    session: Session,
    run: Run,
    start: int,
    end: int,
    rewards: Rewards = by_word_length,
    *,
    logprobs: bool = False,
) -> ScoredChunk:
    """What a job would report of the pairs [start, end), with the same rewards for every source."""

    def tracks(row: PreferencePair, side: Side) -> dict[str, np.ndarray]:
        return logprob_tracks(len(rewards(row, side))) if logprobs else {}

    page = pairs.list_pairs(session, run.dataset_id or 0, limit=500)
    rows = [pairs.to_preference_pair(row.pair) for row in page.items if start <= row.pair.position < end]
    sources = [source["name"] for source in run.request["sources"]]
    maps = [
        reward_map(row, side, dict.fromkeys(sources, rewards(row, side)), **tracks(row, side))
        for row in rows
        for side, _ in row.sides()
    ]
    return ScoredChunk(start, len(rows), maps)


def score(
    session: Session,
    run: Run,
    rewards: Rewards = by_word_length,
    chunk_pairs: int = 2,
    *,
    logprobs: bool = False,
) -> None:
    """Does the whole run, as a worker would."""
    attempt = claim(session, run)
    total = run.job.total or 0
    for start in range(0, total, chunk_pairs):
        end = min(start + chunk_pairs, total)
        chunk = make_chunk(session, run, start, end, rewards, logprobs=logprobs)
        scorings.store(session, run, attempt, chunk)
    jobs.finish(session, run.job.id, attempt, scorings.finish(session, run, {"notes": []}))


def make_scored_run(
    session: Session,
    settings: Settings,
    rows: Sequence[PreferencePair] | int = 3,
    rewards: Rewards = by_word_length,
    sources: Sequence[str] = ("implicit",),
    *,
    logprobs: bool = False,
) -> Run:
    """A data set and a run that has scored it."""
    run = make_run(session, settings, make_dataset(session, rows), sources)
    score(session, run, rewards, logprobs=logprobs)
    return run
