"""A step of masked DPO (both models read, loss, backward) against peers: seconds, extra peak memory,
agreement.

    python benchmarks/training.py [--quick] [--threads 1] [--pairs 8]

Peers: a padded batch with all logits, as trainers do it without a fused head; and what TRL's DPO trainer
does, its fused head over a padded batch, where TRL is installed. Ours is read with the mask's safeguards and
with the entropies that a curve shows. Rounds are interleaved and medians taken: only ratios within one run
mean anything.
"""

from __future__ import annotations

import argparse
import copy
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scoring import SIZES, Size, build, draw_rows
from torch.nn.functional import logsigmoid

from engine.language_models import LoadedModel, use_fast_products_where_exact
from engine.ragged import Row
from engine.reading import read_tracks
from engine.training.losses.dpo import SideLogprobs, dpo_loss
from engine.training.trained_model import TrainedModel

BETA = 0.1


class Both(NamedTuple):
    """The policy that is trained and its frozen reference."""

    policy: LoadedModel
    reference: LoadedModel


Step = Callable[[Both, list[Row]], float]
"""Does the step and leaves gradients on the policy; the loss."""


def pair_of_models(size: Size) -> Both:
    policy = build(size)
    reference = copy.deepcopy(policy)
    policy.model.requires_grad_(True)
    return Both(policy, reference)


# ------------------------------------------------------------------------------------------------- contenders


def ours(both: Both, rows: list[Row], *, safeguards: bool = True) -> float:
    model = TrainedModel(both.policy)
    read = model(rows, entropies=safeguards)
    reference = read_tracks(both.reference, rows, 2**30, with_distribution=False)
    lengths = [len(branch) for row in rows for branch in row.branches]
    assert read.logprobs is not None
    policy = torch.split(read.logprobs, lengths)
    frozen = [torch.from_numpy(tracks.logprobs) for of_row in reference for tracks in of_row]
    sides = []
    for side in (0, 1):
        logprobs = torch.nn.utils.rnn.pad_sequence(policy[side::2], batch_first=True)
        of_reference = torch.nn.utils.rnn.pad_sequence(frozen[side::2], batch_first=True)
        complete = torch.arange(logprobs.shape[1]) < torch.tensor(lengths[side::2])[:, None]
        mask = complete & (torch.arange(logprobs.shape[1]) % 3 > 0) if safeguards else complete
        sides.append(SideLogprobs(logprobs, of_reference, mask, complete))
    plain = {} if safeguards else {"rejected_clip": None, "sft_weight": 0.0, "dropped_weight": 0.0}
    found = dpo_loss(*sides, beta=BETA, **plain)
    found.loss.backward()
    return float(found.loss.detach())


def ours_plain(both: Both, rows: list[Row]) -> float:
    return ours(both, rows, safeguards=False)


def padded(both: Both, rows: list[Row]) -> float:
    """All logits of a padded batch, chosen above rejected."""
    tokens, attends, responds = collated(rows)

    def logprobs(loaded: LoadedModel) -> torch.Tensor:
        logits = loaded.model(input_ids=tokens, attention_mask=attends, use_cache=False).logits[:, :-1]
        of_tokens = logits.float().log_softmax(-1).gather(-1, tokens[:, 1:, None])[..., 0]
        return (of_tokens * responds[:, 1:]).sum(1)

    return _loss(logprobs, both)


def trl_step() -> Step | None:
    """TRL's step; None where TRL is not installed."""
    try:
        from trl.trainer.utils import add_fused_lm_head
    except ImportError:
        return None

    def trl(both: Both, rows: list[Row]) -> float:
        tokens, attends, responds = collated(rows)
        labels = tokens.masked_fill(~responds, -100)
        for loaded in both:
            if not hasattr(loaded.model, "_has_fused_head"):
                add_fused_lm_head(loaded.model)
                loaded.model._has_fused_head = True

        def logprobs(loaded: LoadedModel) -> torch.Tensor:
            out = loaded.model(
                input_ids=tokens, attention_mask=attends, labels=labels, use_cache=False, fused_lm_head=True
            )
            return out.log_probs.sum(1)

        return _loss(logprobs, both)

    return trl


def _loss(logprobs: Callable[[LoadedModel], torch.Tensor], both: Both) -> float:
    policy = logprobs(both.policy)
    with torch.no_grad():
        reference = logprobs(both.reference)
    chosen, rejected = (policy - reference).chunk(2)
    loss = -logsigmoid(BETA * (chosen - rejected)).mean()
    loss.backward()
    return float(loss.detach())


def collated(rows: list[Row]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, attention mask and response mask of one padded batch, all chosen before all rejected."""
    whole = [
        (np.concatenate([row.prompt, row.branches[side]]), len(row.prompt)) for side in (0, 1) for row in rows
    ]
    longest = max(len(ids) for ids, _ in whole)
    tokens = torch.zeros(len(whole), longest, dtype=torch.long)
    attends, responds = (
        torch.zeros(len(whole), longest, dtype=torch.long),
        torch.zeros(len(whole), longest, dtype=torch.bool),
    )
    for at, (ids, prompt) in enumerate(whole):
        tokens[at, : len(ids)] = torch.from_numpy(ids.astype(np.int64))
        attends[at, : len(ids)] = 1
        responds[at, prompt : len(ids)] = True
    return tokens, attends, responds


def contenders() -> dict[str, Step]:
    found: dict[str, Step] = {"padded, all logits": padded}
    if (trl := trl_step()) is not None:
        found["TRL, fused head"] = trl
    return found | {"ours, no mask": ours_plain, "ours, masked": ours}


# ------------------------------------------------------------------------------------------------ measurement


def measure(size: Size, pairs: int, rounds: int) -> None:
    both, rows = pair_of_models(size), draw_rows(pairs, size.vocab)
    seconds: dict[str, list[float]] = {name: [] for name in contenders()}
    losses, gradients = {}, {}
    for turn in range(rounds + 1):
        for name, step in contenders().items():
            both.policy.model.zero_grad(set_to_none=True)
            began = time.perf_counter()
            losses[name] = step(both, rows)
            if turn:  # The first round warms up.
                seconds[name].append(time.perf_counter() - began)
            gradients[name] = both.policy.model.get_output_embeddings().weight.grad.clone()
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    best = medians["ours, masked"]
    print(f"{pairs} pairs, {sum(row.tokens for row in rows)} tokens; {torch.get_num_threads()} threads")
    print(f"{'':24}{'seconds':>9}{'ours is':>9}{'extra MiB':>11}{'loss off by':>13}{'gradient':>10}")
    exact = gradients["padded, all logits"]
    for name, median in medians.items():
        same = name != "ours, masked"
        off = f"{abs(losses[name] - losses['padded, all logits']):.1e}" if same else ""
        apart = f"{float((gradients[name] - exact).abs().max() / exact.abs().max()):.1e}" if same else ""
        extra = extra_memory(size, pairs, name)
        print(f"{name:24}{median:9.2f}{median / best:8.2f}x{extra:11.0f}{off:>13}{apart:>10}")


def extra_memory(size: Size, pairs: int, name: str) -> float:
    """MiB that one step adds to the peak of a fresh process, gradients included."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (size, pairs, name))


def _peak(size: Size, pairs: int, name: str) -> float:
    torch.set_num_threads(1)
    both, rows = pair_of_models(size), draw_rows(pairs, size.vocab)
    small = [Row(rows[0].prompt[:8], (rows[0].branches[0][:8], rows[0].branches[1][:8]))]
    contenders()[name](both, small)  # What any first step needs; it leaves gradients for the next.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kib()
    contenders()[name](both, rows)
    return (_peak_kib() - before) / 1024


def _peak_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small model, three rounds")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--pairs", type=int, default=8)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    use_fast_products_where_exact()
    for name, size in list(SIZES.items())[: 1 if options.quick else None]:
        print(f"\n{name}: width {size.width}, {size.layers} layers, vocabulary {size.vocab}")
        measure(size, options.pairs, 3)


if __name__ == "__main__":
    main()
