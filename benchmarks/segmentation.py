"""Tokens a second of cutting: pivots, change points, and a whole run under a moved threshold.

Run by hand: `python benchmarks/segmentation.py`. Every figure is the median of interleaved rounds in one
process on one thread, so that what else the machine does falls on all alike; only ratios mean something.
"""

from __future__ import annotations

import argparse
import statistics as medians
import time
from collections.abc import Callable

import numpy as np
import ruptures

from engine.masks import segment_run, warm_up
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.changepoint import change_points
from engine.segmentation.segmenters.hysteresis import Hysteresis, follow
from engine.segmentation.statistics import RewardStatistics

DELTA = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--responses", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=128, help="mean length of a response")
    options = parser.parse_args()
    warm_up()
    rewards, starts = run_of(options.responses, options.tokens)
    print(f"{options.responses} responses, {len(rewards)} tokens, {options.rounds} interleaved rounds\n")
    pivots_table(rewards, starts, options.rounds)
    change_points_table(options.rounds)
    moved_threshold(rewards, starts, options.rounds)


def run_of(responses: int, tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """A run of token rewards that wander: segments of some ten tokens with noise on them."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(tokens // 2, tokens * 3 // 2 + 1, responses)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    levels = np.repeat(rng.normal(0, 1, starts[-1] // 10 + 1), 10)[: starts[-1]]
    return (levels + rng.normal(0, 0.5, starts[-1])).astype(np.float32), starts


def pivots_table(rewards: np.ndarray, starts: np.ndarray, rounds: int) -> None:
    few = int(starts[len(starts) // 20])
    some, some_starts = rewards[:few], starts[: len(starts) // 20 + 1]
    signal, cuts = np.empty(len(rewards), np.int8), np.empty(len(rewards), np.bool_)
    baselines = np.zeros(len(starts) - 1)

    def ours() -> None:
        follow(rewards, starts, baselines, 1.0, np.float32(DELTA), signal, cuts)

    ways: dict[str, tuple[Callable[[], object], int]] = {
        "Python loop": (lambda: python_pivots(some, some_starts), few),
        "NumPy": (lambda: numpy_pivots(rewards, starts), len(rewards)),
        "ours": (ours, len(rewards)),
        "limit: one read": (lambda: rewards.sum(), len(rewards)),
    }
    ours()
    expected = np.flatnonzero(cuts)
    assert np.array_equal(np.flatnonzero(numpy_pivots(rewards, starts)), expected)
    assert python_pivots(some, some_starts) == expected[expected < few].tolist()
    table("Signal and pivots", rates(ways, rounds), "NumPy", "hold: ours >= 100 M tokens/s")


def python_pivots(rewards: np.ndarray, starts: np.ndarray) -> list[int]:
    """Segment starts by a plain loop over the floats."""
    found, values = [], rewards.tolist()
    for a, b in zip(starts.tolist(), starts[1:].tolist(), strict=False):
        state = next((1 if s > 0 else -1 for s in values[a:b] if abs(s) > DELTA), 0)
        found.append(a)
        for t in range(a, b):
            after = 1 if values[t] > DELTA else -1 if values[t] < -DELTA else state
            if after != state:
                found.append(t)
            state = after
    return found


def numpy_pivots(rewards: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """True at segment starts, without a loop: the last sign outside the band is carried forward."""
    sign = np.where(rewards > DELTA, 1, np.where(rewards < -DELTA, -1, 0)).astype(np.int8)
    positions = np.arange(len(rewards))
    row_start = np.repeat(starts[:-1], np.diff(starts))
    last = np.maximum.accumulate(np.where(sign != 0, positions, row_start))
    signal = sign[last]
    before = np.concatenate([[np.int8(0)], signal[:-1]])
    cuts = (signal != before) & (before != 0)
    cuts[starts[:-1]] = True
    return np.asarray(cuts)


def change_points_table(rounds: int) -> None:
    for tokens, curves in ((128, 1200), (512, 300), (2000, 80)):
        rng = np.random.default_rng(tokens)
        steps = [
            np.repeat(rng.normal(0, 2, tokens // 20 + 1), 20)[:tokens] + rng.normal(0, 1, tokens)
            for _ in range(curves)
        ]
        penalty = 2 * np.log(tokens)

        def ours(curves: list[np.ndarray] = steps, penalty: float = penalty) -> list[list[int]]:
            return [change_points(curve, penalty, 1).tolist() for curve in curves]

        def kernel(curves: list[np.ndarray] = steps, penalty: float = penalty) -> list[list[int]]:
            detector = ruptures.KernelCPD(kernel="linear", min_size=1, jump=1)
            return [detector.fit(curve.reshape(-1, 1)).predict(pen=penalty)[:-1] for curve in curves]

        def pelt(curves: list[np.ndarray] = steps[:1], penalty: float = penalty) -> list[list[int]]:
            detector = ruptures.Pelt(model="l2", min_size=1, jump=1)
            return [detector.fit(curve).predict(pen=penalty)[:-1] for curve in curves]

        found = ours()
        assert found == kernel()
        assert found[:1] == pelt()
        ways = {
            "ruptures Pelt": (pelt, tokens),
            "ruptures KernelCPD": (kernel, tokens * curves),
            "ours": (ours, tokens * curves),
        }
        title = f"Change points, {tokens} tokens a response"
        table(title, rates(ways, 3 * rounds), "ruptures KernelCPD", "hold: ours >= 1.5 x KernelCPD")


def moved_threshold(rewards: np.ndarray, starts: np.ndarray, rounds: int) -> None:
    statistics = RewardStatistics()
    began = time.perf_counter()
    statistics.add(rewards)
    print(f"Statistics of the run: {len(rewards) / (time.perf_counter() - began) / 1e6:.1f} M tokens/s\n")
    signs = np.where(np.arange(len(starts) - 1) % 2 == 0, 1, -1).astype(np.int8)
    seconds: dict[str, list[float]] = {}
    for turn in range(rounds):
        for name, fields in {
            "hysteresis": {},
            "min_len 3": {"segmenter": {"name": "hysteresis", "delta": 0.3 + turn / 100, "min_len": 3}},
            "std, otsu": {"scale": "std", "baseline": "otsu"},
            "soft weights": {"soft_tau": 0.5},
        }.items():
            base = {"segmenter": Hysteresis(delta=0.2 + turn / 100), **fields}
            rule = SegmentationRule.model_validate(base)
            began = time.perf_counter()
            segment_run(rewards, starts, signs, rule, statistics)
            seconds.setdefault(name, []).append(time.perf_counter() - began)
    print(f"{len(starts) - 1} responses cut and masked again under a moved threshold; hold: < 1 s")
    for name, times in seconds.items():
        taken = medians.median(times)
        print(f"  {name:<20} {taken:6.3f} s   {len(rewards) / taken / 1e6:7.1f} M tokens/s")


def rates(ways: dict[str, tuple[Callable[[], object], int]], rounds: int) -> dict[str, float]:
    """Tokens a second, median over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, _) in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: tokens / medians.median(seconds[name]) for name, (_, tokens) in ways.items()}


def table(title: str, rates: dict[str, float], peer: str, hold: str) -> None:
    print(f"{title} ({hold})")
    for name, rate in rates.items():
        print(f"  {name:<20} {rate / 1e6:9.3f} M tokens/s   {rate / rates[peer]:7.2f} x {peer}")
    print()


if __name__ == "__main__":
    main()
