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

from rewardscope.app.pages.highlight import colouring_of
from rewardscope.app.pages.pair_view import ViewPanel, figures, legend, side_panel, view_data
from rewardscope.app.pages.pairs import PairFragment
from rewardscope.app.pages.rendering import ENVIRONMENT, static_url
from rewardscope.app.pages.samples import Sample, made_up_side, token_offsets
from rewardscope.app.services.maps import Agreement, SideView
from rewardscope.engine.types import SegmentationRule

TEXT = 'The reward of a token says where the answer turns , and <b>bold</b> claims are "often" wrong .\n'
WORDS = TEXT.split(" ")
RULE = SegmentationRule()


def response(tokens: int, side: str, seed: int) -> SideView:
    """A response of about `tokens` tokens."""
    text = " ".join(WORDS[index % len(WORDS)] for index in range(tokens))
    offsets = token_offsets(Sample("benchmark", text))[: tokens - 1]
    return made_up_side(text[: offsets[-1][1]], offsets, (), side, seed, RULE)  # type: ignore[arg-type]


def page(sides: list[SideView]) -> str:
    """The view, as a request draws it."""
    values = [side.segmentation.scaled for side in sides]
    colouring = colouring_of(values)
    panel = ViewPanel(
        sides=[side_panel(s, v, colouring, RULE, "scaled") for s, v in zip(sides, values, strict=True)],
        figures=figures(Agreement(0.5, 0.4, 0.3, 1.0, False)),
        warnings=[],
        legend=legend(sides, colouring, "scaled"),
        data=view_data(sides),
        tokens_url="/pairs/1/tokens?run=1&source=implicit",
        mask_view=False,
    )
    return ENVIRONMENT.get_template("pairs/_view.html").render(page=PairFragment(panel))


def measure(tokens: int) -> SimpleNamespace:
    """Bytes and milliseconds of processor time for a pair of responses of `tokens` tokens."""
    sides = [response(tokens, "chosen", 1), response(tokens, "rejected", 2)]
    page(sides)
    taken = []
    for _ in range(30):
        started = time.process_time()
        html = page(sides)
        taken.append(1000 * (time.process_time() - started))
    sent = html.encode()
    return SimpleNamespace(
        bytes=len(sent), gzipped=len(gzip.compress(sent, 5)), median=statistics.median(taken), best=min(taken)
    )


if __name__ == "__main__":
    static_url("theme.css")
    for tokens in [int(word) for word in sys.argv[1:]] or [200, 2000, 10_000]:
        cost = measure(tokens)
        print(
            f"2 x {tokens:6,} tokens: {cost.bytes / 1000:7.1f} KB HTML, "
            f"{cost.gzipped / 1000:6.1f} KB gzipped, "
            f"{cost.median:6.1f} ms median, {cost.best:6.1f} ms best"
        )
