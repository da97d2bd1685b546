"""Scores a file into a file, without a server: rows in, one line a response out.

Baselines and scales are those of the whole run, so the rows are scored into a compressed spool first, and cut
and written once every reward is known. Memory holds one chunk at a time, whatever the size of the file.
"""

from __future__ import annotations

import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import zstandard

from engine.default_rules import SAMPLE_RESPONSES, STATED, made_rule
from engine.errors import DataError, RowError, RowsRefused
from engine.evaluation.localisation import LocalisationTally, token_labels
from engine.formats.atomic import writing
from engine.formats.chosen_by import ChosenBy
from engine.formats.maps import MapWriter
from engine.formats.reading import read
from engine.jobs.protocol import ReportCallable
from engine.jobs.score import MOST_REFUSED, Tally, score_chunks, unscorable
from engine.kept import MaskFigures
from engine.masks import segment_response
from engine.requests import ScoreRequest
from engine.rules import SegmentationRule
from engine.scoring import Models, check_request, load_models
from engine.segmentation.statistics import RewardStatistics
from engine.sources import SOURCES
from engine.sources.registry import Need, brought_by
from engine.types import SIGN, PreferencePair, Progress, Response, RewardMap, Segmentation

Rows = Callable[[], Iterator[PreferencePair | RowError]]
"""Reads the rows of the file from their beginning."""


@dataclass
class SourceSummary:
    """What a source said of the whole run."""

    rule: SegmentationRule
    is_stated: bool
    """Whether somebody stated the rule; else it is made of the rewards (`settle`)."""
    reason: str = STATED
    statistics: RewardStatistics = field(default_factory=RewardStatistics)
    sample: list[np.ndarray] = field(default_factory=list)
    """Rewards of some responses."""
    localisation: LocalisationTally = field(default_factory=LocalisationTally)
    responses: int = 0
    tokens: int = 0
    pivots: int = 0
    kept: dict[str, int] = field(default_factory=lambda: {"chosen": 0, "rejected": 0})
    of: dict[str, int] = field(default_factory=lambda: {"chosen": 0, "rejected": 0})
    nothing_kept: int = 0

    def hear(self, rewards: np.ndarray) -> None:
        """Takes in the rewards of one response."""
        self.statistics.add(rewards)
        if len(self.sample) < SAMPLE_RESPONSES:
            self.sample.append(rewards)

    def settle(self) -> None:
        """Makes the rule of all rewards, where nobody stated one."""
        if not self.is_stated:
            self.rule, self.reason = made_rule(self.rule, self.statistics, self.sample)

    def figures(self) -> MaskFigures:
        """What the mask comes to."""
        kept = {side: self.kept[side] / self.of[side] if self.of[side] else None for side in self.of}
        return MaskFigures(
            kept["chosen"], kept["rejected"], self.tokens / self.pivots if self.pivots else None
        )

    def count(
        self, reward_map: RewardMap, rewards: np.ndarray, cut: Segmentation, response: Response
    ) -> None:
        """Adds one response, with its rewards by this source and how they were cut."""
        self.responses += 1
        self.tokens += reward_map.tokens
        self.pivots += len(cut.pivots)
        self.kept[reward_map.side] += int(cut.mask.sum())
        self.of[reward_map.side] += reward_map.tokens
        self.nothing_kept += not cut.counted or cut.fell_back
        if response.spans is not None:
            self.localisation.add(rewards, token_labels(response.spans, reward_map.offsets))

    def as_dict(self) -> dict[str, Any]:
        """The figures, None where there is none."""
        found = self.localisation.result()
        return {
            "rule": self.rule.model_dump(mode="json"),
            "reason": self.reason,
            **self.figures().as_dict(),
            "warnings": self.figures().warnings(),
            "tokens": self.tokens,
            "missing": self.tokens - self.statistics.count,
            "mean": _finite(self.statistics.mean),
            "std": _finite(self.statistics.std),
            "pivots_per_response": self.pivots / self.responses if self.responses else None,
            "nothing_kept": self.nothing_kept,
            "auroc": found.value,
            "auroc_low": found.low,
            "auroc_high": found.high,
            "wrong_tokens": self.localisation.wrong,
        }


def score_file(
    source: Path,
    out: Path,
    request: ScoreRequest,
    report: ReportCallable,
    *,
    on_error: Literal["fail", "skip"] = "fail",
    chosen_by: str | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """Writes a record a response of `source` to `out` (.jsonl or .parquet), whole or not at all.

    chosen_by: which of single, scored responses are preferred. split: which split of a folder is read.

    Returns {"pairs", "responses", "skipped", "seconds", "notes", ..., "sources": {name: figures},
    "surprisal"}, the last of which is the AUROC of the policy's own log-probabilities, the floor for every
    source; None without a policy or labels.
    Raises RequestError (the rule), RowsRefused before anything is scored, and whatever scoring raises.
    """
    summaries: dict[str, SourceSummary] = {
        wanted.name: SourceSummary(wanted.rule or SOURCES[wanted.name].default_rule, wanted.rule is not None)
        for wanted in request.sources
    }
    writer = MapWriter(out, list(summaries))
    rows = partial(_rows, source, chosen_by, split)
    total, unread, columns = _check(rows, report, most=MOST_REFUSED if on_error == "fail" else None)
    if unread and on_error == "fail":
        raise _refusal(source, unread)
    check_request(request, columns)
    report(Progress("loading models", 0, None))
    models = load_models(request)
    unscored = _check_tokens(rows, total, models, request, report)
    if unscored and on_error == "fail":
        raise _refusal(source, list(unscored.values()))
    for reason in [*unread, *unscored.values()][:MOST_REFUSED]:
        report(message=f"Left out: {reason}")
    total -= len(unscored)
    with (
        writing(out),
        tempfile.TemporaryDirectory(prefix=".rewardscope-", dir=out.absolute().parent) as scratch,
    ):
        spool = Path(scratch) / "maps.zst"
        with zstandard.open(spool, "wb", cctx=zstandard.ZstdCompressor(level=1)) as stream:
            tally = Tally(total=total)
            pairs = tally.watched(_pairs(rows, unscored))
            _score(pairs, tally, models, request, summaries, stream, report)
        for summary in summaries.values():
            summary.settle()
        floor = LocalisationTally()
        with writer, zstandard.open(spool, "rb") as stream:
            _cut(stream, total, summaries, floor, writer, report)
    notes = tally.notes(models)
    for note in notes:
        report(message=note)
    return {
        **tally.result(),
        "notes": notes,
        "skipped": len(unread) + len(unscored),
        "out": str(out),
        "sources": {name: summary.as_dict() for name, summary in summaries.items()},
        "surprisal": floor.result().value,
    }


def _refusal(path: Path, rows: Sequence[DataError]) -> RowsRefused:
    many = f"{len(rows)} or more rows" if len(rows) >= MOST_REFUSED else f"{len(rows)} rows"
    some, them = ("1 row", "it") if len(rows) == 1 else (many, "them")
    return RowsRefused(
        f"{some} of `{path}` cannot be scored; mend {them}, or skip {them} with --on-error skip.", rows
    )


def _rows(source: Path, chosen_by: str | None, split: str | None) -> Iterator[PreferencePair | RowError]:
    return read(source, chosen_by=None if chosen_by is None else ChosenBy.parse(chosen_by), split=split)


def _check(
    read_rows: Rows, report: ReportCallable, *, most: int | None
) -> tuple[int, list[RowError], set[Need]]:
    """Reads the whole file once, so that a bad row at its end is told before an hour of scoring.

    Returns how many rows are good, the others, of which `most` stop it, and what the good ones bring.
    """
    rows, refused = 0, []
    columns: set[Need] = set()
    for row in read_rows():
        if isinstance(row, RowError):
            refused.append(row)
            if len(refused) == most:
                break
        else:
            rows += 1
            for _, response in row.sides():
                columns |= brought_by(response)
            if rows % 1000 == 0:
                report(Progress("reading the rows", rows, None, "pairs"))
    report(Progress("reading the rows", rows, rows, "pairs"))
    return rows, refused, columns


def _check_tokens(
    read_rows: Rows, total: int, models: Models, request: ScoreRequest, report: ReportCallable
) -> dict[str, DataError]:
    """Runs the tokenizers over every row, for the same reason: the refusals by key of the row."""
    found = unscorable(_pairs(read_rows), models, request, report, total=total)
    return {pair.key: error for pair, error in found}


def _pairs(read_rows: Rows, left_out: Container[str] = ()) -> Iterator[PreferencePair]:
    """The good rows but for those of the keys that are left out."""
    for row in read_rows():
        if not isinstance(row, RowError) and row.key not in left_out:
            yield row


def _remembered(pairs: Iterable[PreferencePair], seen: deque[PreferencePair]) -> Iterator[PreferencePair]:
    """The pairs, each put into `seen` until its chunk comes back."""
    for pair in pairs:
        seen.append(pair)
        yield pair


def _score(
    pairs: Iterable[PreferencePair],
    tally: Tally,
    models: Models,
    request: ScoreRequest,
    summaries: Mapping[str, SourceSummary],
    spool: IO[bytes],
    report: ReportCallable,
) -> None:
    seen: deque[PreferencePair] = deque()
    for chunk in score_chunks(_remembered(pairs, seen), models, request, report):
        scored = [seen.popleft() for _ in range(chunk.pairs)]
        for reward_map in chunk.maps:
            for name, rewards in reward_map.rewards.items():
                summaries[name].hear(rewards)
        pickle.dump((scored, chunk.maps), spool, protocol=pickle.HIGHEST_PROTOCOL)
        tally.add(chunk)
        report(Progress("scoring", chunk.end, tally.total, "pairs"), message=tally.speed_if_due())


def _cut(
    spool: IO[bytes],
    total: int,
    summaries: Mapping[str, SourceSummary],
    floor: LocalisationTally,
    writer: MapWriter,
    report: ReportCallable,
) -> None:
    done = 0
    while done < total:
        pairs, maps = pickle.load(spool)  # noqa: S301 - our own file, written a moment ago
        by_key = {pair.key: pair for pair in pairs}
        for reward_map in maps:
            response = getattr(by_key[reward_map.key], reward_map.side)
            cuts = {
                name: _segmented(reward_map, response, summary, name) for name, summary in summaries.items()
            }
            writer.add(reward_map, cuts, response.text)
            if response.spans is not None and reward_map.logprobs is not None:
                floor.add(reward_map.logprobs, token_labels(response.spans, reward_map.offsets))
            for name, cut in cuts.items():
                summaries[name].count(reward_map, reward_map.rewards[name], cut, response)
        done += len(pairs)
        report(Progress("cutting and writing", done, total, "pairs"))


def _segmented(
    reward_map: RewardMap, response: Response, summary: SourceSummary, source: str
) -> Segmentation:
    return segment_response(
        reward_map.rewards[source],
        SIGN[reward_map.side],
        summary.rule,
        summary.statistics,
        text=response.text,
        offsets=reward_map.offsets,
        entropies=reward_map.entropies,
        ends_with_eos=reward_map.ends_with_eos,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
