"""SFT and rejection sampling on the data's responses: likelihood of chosen tokens, all or kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.training.loops.offline import (
    OfflineLoop,
    PairExample,
    by_side,
    entropy_sums,
    mask_sums,
    row_of,
    side_batch,
)
from engine.training.losses.rjs import rjs_loss
from engine.training.masked import masked_sum
from engine.training.method_loop import PartLoss, Shard, Sums
from engine.training.trained_model import TrainedModel


class LikelihoodLoop(OfflineLoop):
    """`sft` where every token counts, `rjs` with a mask; y* is the chosen response [paper]."""

    def totals(self, examples: Sequence[PairExample]) -> dict[str, float]:
        return {"kept": float(sum(one.pair.sides["chosen"].mask.sum() for one in examples))}

    def loss(
        self, model: TrainedModel, examples: Sequence[PairExample], totals: Mapping[str, float]
    ) -> PartLoss:
        read = model([row_of(one.pair) for one in examples], entropies=True)
        assert read.logprobs is not None
        logprobs = by_side(read.logprobs, examples)["chosen"]
        chosen = side_batch(examples, "chosen", logprobs.device)
        loss = rjs_loss(logprobs, chosen.mask, totals["kept"])
        complete = float(masked_sum(logprobs.detach(), chosen.completion).sum())
        sums: Sums = {"train/nll": (-complete, float(chosen.completion.sum()))}
        return PartLoss(loss, sums | mask_sums(examples) | entropy_sums(read.entropies, examples))

    def evaluate(self, model: TrainedModel, shard: Shard) -> Sums:
        """Negative log-likelihood of the held-out chosen responses, all tokens, nats a token."""
        pairs = shard.take(self.data.held_out)
        read = model.read_quietly(
            [row_of(pair) for pair in pairs], self.data.request.optimisation.token_budget
        )
        total, count = 0.0, 0.0
        for pair, tracks in zip(pairs, read, strict=True):
            completion = pair.sides["chosen"].completion
            total -= float(tracks[0]["logprobs"][completion].sum(dtype="float64"))
            count += float(completion.sum())
        return {"held_out/loss": (total, count)} if self.data.held_out else {}
