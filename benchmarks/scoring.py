"""Scoring against peers and against the limit: seconds, fraction of the limit, extra peak memory.

    python benchmarks/scoring.py [--quick] [--threads 1]

Log-probabilities of every response token of policy-sized random models, by: one plain forward a response,
padded batches with all logits, TRL's `compute_ref_log_probs` where TRL is installed, and ours. Rounds are
interleaved and medians taken, for on a shared machine only ratios within one run mean anything.

Limit: 2 x parameters x tokens that must be seen (a prompt once, the head at response positions only), over
the rate of matrix products measured in the same rounds.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from engine.language_models import LoadedModel, use_fast_products_where_exact
from engine.ragged import Row
from engine.reading import read_tracks


class Size(NamedTuple):
    width: int
    layers: int
    vocab: int


SIZES = {"14M": Size(320, 6, 8_000), "50M": Size(512, 10, 16_000)}
BATCH_ROWS = 8
"""Responses in a padded batch, as trainers choose it."""


def build(size: Size) -> LoadedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=size.vocab, hidden_size=size.width, num_hidden_layers=size.layers,
        num_attention_heads=size.width // 64, intermediate_size=size.width * 4,
        max_position_embeddings=2048, tie_word_embeddings=False, pad_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval().requires_grad_(False)
    info: Any = SimpleNamespace(path="random", architecture="LlamaForCausalLM", kind="causal_lm")
    return LoadedModel(info, model, None, torch.device("cpu"), torch.float32)


def draw_rows(pairs: int, vocab: int) -> list[Row]:
    """Prompts and responses as long as those of preference data: log-normal, around 100 and 80 tokens."""
    draw = np.random.default_rng(0)

    def ids(mean: float) -> np.ndarray:
        length = int(np.clip(draw.lognormal(np.log(mean), 0.6), 8, 600))
        return draw.integers(0, vocab, length).astype(np.int32)

    return [Row(ids(100), (ids(80), ids(80))) for _ in range(pairs)]


def sequences(rows: list[Row]) -> list[tuple[np.ndarray, int]]:
    return [
        (np.concatenate([row.prompt, branch]), len(row.prompt)) for row in rows for branch in row.branches
    ]


# ------------------------------------------------------------------------------------------------- contenders


@torch.inference_mode()
def ours(loaded: LoadedModel, rows: list[Row]) -> list[np.ndarray]:
    return [one.logprobs for read in read_tracks(loaded, rows, 8192) for one in read]


@torch.inference_mode()
def ours_without_distribution(loaded: LoadedModel, rows: list[Row]) -> list[np.ndarray]:
    read = read_tracks(loaded, rows, 8192, with_distribution=False)
    return [one.logprobs for branches in read for one in branches]


@torch.inference_mode()
def plain(loaded: LoadedModel, rows: list[Row]) -> list[np.ndarray]:
    """One forward pass a response, all logits."""
    found = []
    for ids, prompt in sequences(rows):
        tokens = torch.from_numpy(ids.astype(np.int64))
        logits = loaded.model(input_ids=tokens[None], use_cache=False).logits[0, prompt - 1 : -1]
        found.append(torch.log_softmax(logits, -1).gather(1, tokens[prompt:, None])[:, 0].numpy())
    return found


class Padded(NamedTuple):
    """A batch as trainers collate it: (rows, longest)."""

    tokens: torch.Tensor
    attends: torch.Tensor
    """1 where a token is no padding."""
    is_response: torch.Tensor
    """True at tokens of the response."""


def collated(rows: list[Row]) -> Iterator[Padded]:
    """Batches of BATCH_ROWS responses in the order of the data."""
    every = sequences(rows)
    for start in range(0, len(every), BATCH_ROWS):
        batch = every[start : start + BATCH_ROWS]
        shape = len(batch), max(len(ids) for ids, _ in batch)
        tokens, attends = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        is_response = torch.zeros(shape, dtype=torch.bool)
        for index, (ids, prompt) in enumerate(batch):
            tokens[index, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
            attends[index, : len(ids)] = 1
            is_response[index, prompt : len(ids)] = True
        yield Padded(tokens, attends, is_response)


def of_responses(batch: Padded, logprobs: torch.Tensor) -> list[np.ndarray]:
    """(rows, longest - 1) log-probabilities of next tokens -> those of the response of each row."""
    chosen = batch.is_response[:, 1:]
    return [row[which].numpy() for row, which in zip(logprobs, chosen, strict=True)]


@torch.inference_mode()
def padded(loaded: LoadedModel, rows: list[Row]) -> list[np.ndarray]:
    """Padded batches, all logits: what a plain trainer does."""
    found = []
    for batch in collated(rows):
        logits = loaded.model(input_ids=batch.tokens, attention_mask=batch.attends, use_cache=False).logits
        logprobs = torch.log_softmax(logits[:, :-1], -1).gather(2, batch.tokens[:, 1:, None])[..., 0]
        found += of_responses(batch, logprobs)
    return found


def trl_pass() -> Callable[[LoadedModel, list[Row]], list[np.ndarray]] | None:
    """What TRL's DPO trainer does in `compute_ref_log_probs`: its fused head over padded batches, on whatever
    device the model is. None where TRL is not installed."""
    try:
        from trl.trainer.utils import add_fused_lm_head
    except ImportError:
        return None

    @torch.no_grad()
    def trl(loaded: LoadedModel, rows: list[Row]) -> list[np.ndarray]:
        if not hasattr(loaded.model, "_has_fused_head"):
            add_fused_lm_head(loaded.model)
            loaded.model._has_fused_head = True
        found = []
        for batch in collated(rows):
            labels = batch.tokens.masked_fill(~batch.is_response, -100)
            out = loaded.model(
                input_ids=batch.tokens,
                attention_mask=batch.attends,
                labels=labels,
                use_cache=False,
                fused_lm_head=True,
            )
            found += of_responses(batch, out.log_probs)
        return found

    return trl


# -------------------------------------------------------------------------------------------------- the limit


def needed_operations(loaded: LoadedModel, rows: list[Row]) -> float:
    """Multiplications and additions that no way of computing can leave out."""
    config = loaded.model.config
    embedding = config.vocab_size * config.hidden_size
    body = sum(p.numel() for p in loaded.model.parameters()) - 2 * embedding
    seen = sum(row.tokens - len(row.branches) for row in rows)
    predicted = sum(len(branch) for row in rows for branch in row.branches)
    attention = 0
    for row in rows:
        prompt = len(row.prompt)
        attended = prompt**2 / 2 + sum(len(b) * (prompt + len(b) / 2) for b in row.branches)
        attention += 4 * config.num_hidden_layers * config.hidden_size * attended
    return 2.0 * body * seen + 2.0 * embedding * predicted + attention


class MatrixProduct:
    """The rate of float32 products of the shapes that the model consists of."""

    def __init__(self, size: Size) -> None:
        self.left, self.right = torch.randn(2048, size.width), torch.randn(size.width, size.width * 4)
        self.operations = 2.0 * 2048 * size.width * size.width * 4

    def seconds(self) -> float:
        began = time.perf_counter()
        for _ in range(8):
            self.left @ self.right
        return (time.perf_counter() - began) / 8


# ------------------------------------------------------------------------------- measuring


def measure(size: Size, pairs: int, rounds: int) -> None:
    loaded, rows = build(size), draw_rows(pairs, size.vocab)
    contenders: dict[str, Callable[[LoadedModel, list[Row]], list[np.ndarray]]] = {
        "plain forward a response": plain,
        f"padded batches of {BATCH_ROWS}": padded,
    }
    if (trl := trl_pass()) is not None:
        contenders["TRL"] = trl
    contenders |= {"ours, logprobs": ours_without_distribution, "ours, + entropy, rank": ours}
    product = MatrixProduct(size)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    products: list[float] = []
    results: dict[str, list[np.ndarray]] = {}
    for number in range(rounds + 1):  # The first round warms up.
        for name, contender in contenders.items():
            rate = product.seconds()
            began = time.perf_counter()
            results[name] = contender(loaded, rows)
            if number:
                seconds[name].append(time.perf_counter() - began)
                products.append(rate)
    rate = product.operations / statistics.median(products)
    limit = needed_operations(loaded, rows) / rate
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    best = medians["ours, + entropy, rank"]
    responses = sum(len(row.branches) for row in rows)
    print(f"{responses} responses, {sum(len(b) for row in rows for b in row.branches)} tokens; products at "
          f"{rate / 1e9:.0f} GFLOP/s, limit {limit:.2f} s; {torch.get_num_threads()} threads")  # fmt: skip
    print(f"{'':28}{'seconds':>9}{'ours is':>9}{'of limit':>10}{'extra MiB':>11}{'error':>10}")
    exact = np.concatenate(results["plain forward a response"])
    for name, median in medians.items():
        error = float(np.abs(np.concatenate(results[name]) - exact).max())
        extra = extra_memory(size, pairs, name)
        print(f"{name:28}{median:9.2f}{median / best:8.2f}x{limit / median:10.2f}{extra:11.0f}{error:10.1e}")


def extra_memory(size: Size, pairs: int, name: str) -> float:
    """MiB that one pass adds to the peak of a fresh process."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (size, pairs, name))


def _peak(size: Size, pairs: int, name: str) -> float:
    torch.set_num_threads(1)
    loaded, rows = build(size), draw_rows(pairs, size.vocab)
    contenders = {
        "plain forward a response": plain,
        "TRL": trl_pass(),
        "ours, logprobs": ours_without_distribution,
        "ours, + entropy, rank": ours,
    }
    contender = contenders.get(name, padded)
    assert contender is not None
    ours(loaded, [Row(rows[0].prompt[:8], (rows[0].branches[0][:8],))])  # What any first pass needs.
    Path("/proc/self/clear_refs").write_text("5")  # Resets the peak, which a child inherits.
    before = _peak_kib()
    contender(loaded, rows)
    return (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    """The largest resident size so far (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Scoring against peers and against the limit.")
    parser.add_argument("--quick", action="store_true", help="few rows, three rounds, the small model")
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    use_fast_products_where_exact()
    for name, size in list(SIZES.items())[: 1 if arguments.quick else None]:
        print(f"\n{name}: width {size.width}, {size.layers} layers, vocabulary {size.vocab}")
        measure(size, *((12, 3) if arguments.quick else (32, 5)))


if __name__ == "__main__":
    main()
