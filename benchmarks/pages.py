"""What the pair page costs: bytes of HTML and milliseconds of server time aside from the query.

    python benchmarks/pages.py [tokens a response ...]

Budget for two responses of 2,000 tokens: 160 KB and 5 ms.
"""

from __future__ import annotations

import gzip
import statistics
import sys
import time
from types import SimpleNamespace

from rewardscope.app.pages.looks import Look
from rewardscope.app.pages.pair_view import ViewPanel, drawing_of, figures, legend, side_panel, view_data
from rewardscope.app.pages.pairs import PairFragment
from rewardscope.app.pages.rendering import ENVIRONMENT, static_url
from rewardscope.app.pages.samples import SOURCE, Sample, made_up_side, token_offsets
from rewardscope.app.services.maps import Agreement, SideView
from rewardscope.engine.types import SegmentationRule

TEXT = 'The reward of a token says where the answer turns , and <b>bold</b> claims are "often" wrong .\n'
WORDS = TEXT.split(" ")
RULE = SegmentationRule()
LOOKS = {"rewards": Look(), "log-probabilities": Look(lane="logprob"), "what differs": Look(diff=True)}


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
        lane=drawing.lane,
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


if __name__ == "__main__":
    static_url("theme.css")
    for tokens in [int(word) for word in sys.argv[1:]] or [200, 2000, 10_000]:
        for name, look in LOOKS.items():
            cost = measure(tokens, look)
            print(
                f"2 x {tokens:6,} tokens, {name:17}: {cost.bytes / 1000:7.1f} KB HTML, "
                f"{cost.gzipped / 1000:6.1f} KB gzipped, "
                f"{cost.median:6.1f} ms median, {cost.best:6.1f} ms best"
            )
