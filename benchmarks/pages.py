"""What the pair page costs: bytes of HTML and milliseconds of server time.

    python benchmarks/pages.py [tokens a response ...]

First the view alone, aside from the query: what a moved control draws anew. Then the whole answer of the
application, with its queries. Budget for two responses of 2,000 tokens: 160 KB, and 5 ms for the view.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import support.answers
from sqlalchemy.orm import Session
from support.answers import analyse, scratch_database, signed_in

from app.db.tables import SourceStatistics
from app.pages.pairs.pairs import PairFragment
from app.pages.parts.looks import Look
from app.pages.parts.pair_view import ViewPanel, drawing_of, figures, legend, side_panel, view_data
from app.pages.parts.rendering import ENVIRONMENT, static_url
from app.pages.patterns.samples import Sample, token_offsets
from app.services.datasets import datasets
from app.services.pairs import pairs
from app.services.pairs.made_up import SOURCE, made_up_side
from app.services.runs import jobs
from app.services.scorings import scorings
from app.services.scorings.maps import Agreement, SideView
from engine.rules import SegmentationRule
from engine.segmentation.statistics import RewardStatistics
from engine.types import PreferencePair, Response, ScoredChunk

TEXT = 'The reward of a token says where the answer turns , and <b>bold</b> claims are "often" wrong .\n'
WORDS = TEXT.split(" ")
RULE = SegmentationRule()
LOOKS = {"rewards": Look(), "log-probabilities": Look(track="logprob"), "what differs": Look(diff=True)}


def response(tokens: int, side: str, seed: int) -> SideView:
    """A response of about `tokens` tokens."""
    text = " ".join(WORDS[index % len(WORDS)] for index in range(tokens))
    offsets = token_offsets(Sample("benchmark", text))[: tokens - 1]
    return made_up_side(text[: offsets[-1][1]], offsets, (), side, seed, RULE)  # type: ignore[arg-type]


def page(sides: list[SideView], look: Look) -> str:
    """The view, as a request draws it."""
    drawing = drawing_of(sides, SOURCE, RULE, look)
    panel = ViewPanel(
        sides=[side_panel(side, drawing) for side in sides],
        figures=figures(Agreement(0.5, 0.4, 0.3, 1.0, False)),
        warnings=[],
        legend=legend(sides, drawing),
        data=view_data(sides, drawing),
        tokens_url="/pairs/1/tokens?run=1&source=implicit",
        mask_view=False,
        track=drawing.track,
        is_sequential=drawing.colouring.is_sequential,
    )
    return ENVIRONMENT.get_template("pairs/_view.html").render(page=PairFragment(panel))


def measure(tokens: int, look: Look) -> SimpleNamespace:
    """Bytes and milliseconds of processor time for a pair of responses of `tokens` tokens."""
    sides = [response(tokens, "chosen", 1), response(tokens, "rejected", 2)]
    page(sides, look)
    taken = []
    for _ in range(30):
        started = time.process_time()
        html = page(sides, look)
        taken.append(1000 * (time.process_time() - started))
    sent = html.encode()
    return SimpleNamespace(
        bytes=len(sent), gzipped=len(gzip.compress(sent, 5)), median=statistics.median(taken), best=min(taken)
    )


def whole_pages(counts: Sequence[int]) -> None:
    """Stores a scored pair of each length and asks for its page."""
    with tempfile.TemporaryDirectory() as scratch, scratch_database(Path(scratch)) as database:
        with database.session() as session:
            asked = {f"2 x {tokens:6,} tokens": stored(session, tokens) for tokens in counts}
        analyse(database)
        with signed_in(Path(scratch), database) as client:
            every = {
                f"{name}, {what}": address.format(what=path)
                for name, address in asked.items()
                for what, path in {"page": "", "view": "/view", "numbers": "/tokens"}.items()
            }
            support.answers.measure(client, every, 40)


def stored(session: Session, tokens: int) -> str:
    """The address of a new pair, which a run has scored with every track."""
    sides = [response(tokens, "chosen", 1), response(tokens, "rejected", 2)]
    key = f"pair of {tokens}"
    pair = PreferencePair(key, "Where from?", *(Response(side.text) for side in sides))
    dataset = datasets.import_rows(session, [pair], name=key, origin={"kind": "upload"})
    request = {"dataset_name": dataset.name, "sources": [{"name": SOURCE}]}
    run = jobs.submit(session, kind="scoring", name=key, request=request)
    run.dataset_id = dataset.id
    rule = RULE.model_dump(mode="json")
    empty = RewardStatistics().to_dict()
    session.add(SourceStatistics(run_id=run.id, source=SOURCE, rule=rule, sketch=empty, final=False))
    session.flush()
    claim = jobs.claim(session, run.job.id, "benchmark")
    assert claim is not None
    maps = [replace(side.map, key=key) for side in sides]
    scorings.store(session, run, claim.attempt, ScoredChunk(0, 1, maps))
    jobs.finish(session, run.job.id, claim.attempt, scorings.finish(session, run, {}))
    pair_id = pairs.list_pairs(session, dataset.id).items[0].pair.id
    return f"/pairs/{pair_id}{{what}}?run={run.id}&source={SOURCE}"


if __name__ == "__main__":
    static_url("parts/theme.css")
    lengths = [int(word) for word in sys.argv[1:]] or [200, 2000, 10_000]
    for tokens in lengths:
        for name, look in LOOKS.items():
            cost = measure(tokens, look)
            print(
                f"2 x {tokens:6,} tokens, {name:17}: {cost.bytes / 1000:7.1f} KB HTML, "
                f"{cost.gzipped / 1000:6.1f} KB gzipped, "
                f"{cost.median:6.1f} ms median, {cost.best:6.1f} ms best"
            )
    print()
    whole_pages(lengths)
