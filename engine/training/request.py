"""What a training may be told: method, mask, models, optimisation. Imports no torch, for the web process too.

Every field has a default that is meant to be right for whoever does not know better; None stands for a value
that is settled from the data or the model before training begins (see `settle`) and is stored settled.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from engine.fields import StrictModel as _Strict
from engine.rules import SegmentationRule
from engine.sources import SourceName
from engine.types import ModelReference

Density = Literal["sample", "step", "token", "segment"]
"""How finely a response is supervised: four segmenters of one pipeline (METHOD section 3)."""
DENSITIES: tuple[Density, ...] = ("sample", "step", "token", "segment")

MethodName = Literal["sft", "rjs", "dpo", "ppo", "grpo", "rloo", "reward_model", "scorer"]


# --------------------------------------------------------------------------------------------------- methods


class Sampling(_Strict):
    """How responses are drawn from the policy."""

    responses: int = Field(4, ge=1, le=256)
    """Responses to each prompt."""
    temperature: float = Field(1.0, gt=0)
    top_p: float = Field(1.0, gt=0, le=1)
    max_new_tokens: int = Field(256, ge=1)


class Sft(_Strict):
    """Likelihood of the chosen responses, every token."""

    name: Literal["sft"] = "sft"


class Rjs(_Strict):
    """Rejection sampling: likelihood of the kept tokens of the best response [paper].

    The best of sampled ones by the sequence reward, or, without `sampling`, the chosen one of each pair.
    """

    name: Literal["rjs"] = "rjs"
    sampling: Sampling | None = None


class Dpo(_Strict):
    """Preference loss on kept tokens. The three safeguards are on by default (METHOD section 8)."""

    name: Literal["dpo"] = "dpo"
    beta: float = Field(0.1, gt=0)
    preference: Literal["sigmoid", "ipo", "hinge", "cdpo", "robust"] = "sigmoid"
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    length_normalised: bool = False
    rejected_clip: float | None = Field(2.0, ge=0)
    """Nats; None for no clip."""
    sft_weight: float = Field(0.5, ge=0)
    masked_weight: float = Field(0.05, ge=0)

    @model_validator(mode="after")
    def _smoothing_has_a_loss(self) -> Dpo:
        if self.label_smoothing and self.preference not in ("cdpo", "robust"):
            raise ValueError(f"`{self.preference}` has no label smoothing; choose `cdpo` or `robust`.")
        return self


class Scorer(_Strict):
    """The clipped, anchored DPO whose implicit reward finds wrong tokens; frozen then, it gives masks."""

    name: Literal["scorer"] = "scorer"
    beta: float = Field(0.02, gt=0)
    """Small, so that every pair stays in the straight part of the loss [ours]."""
    rejected_clip: float = Field(4.0, ge=0)
    sft_weight: float = Field(0.05, ge=0)


class Ppo(_Strict):
    """Rollouts, GAE over dense rewards, a critic, the clipped surrogate on the mask."""

    name: Literal["ppo"] = "ppo"
    sampling: Sampling = Sampling()
    epochs: int = Field(2, ge=1)
    """Passes over each batch of rollouts."""
    minibatches: int = Field(2, ge=1)
    """Updates a pass."""
    clip: float = Field(0.2, gt=0)
    value_clip: float | None = Field(0.2, gt=0)
    value_weight: float = Field(0.5, ge=0)
    kl_coef: float = Field(0.05, ge=0)
    """Of the k1 estimate that is taken from every token's reward."""
    gamma: float = Field(1.0, gt=0, le=1)
    lambda_: float = Field(0.95, ge=0, le=1)
    whiten: bool = True
    dense: Literal["reward", "mask", "both"] = "reward"
    """Where the density enters: in r_t, in the surrogate's mask, or in both."""
    placing: Literal["ends", "spread"] = "ends"
    """A segment's reward stands at its last token, or evenly on its tokens."""


class Grpo(_Strict):
    """Advantages relative to the group of responses to one prompt (arXiv 2402.03300)."""

    name: Literal["grpo"] = "grpo"
    sampling: Sampling = Sampling(responses=8)
    updates: int = Field(1, ge=1)
    """Updates made of each batch of rollouts."""
    clip: float = Field(0.2, gt=0)
    kl_coef: float = Field(0.2, ge=0)
    """Of the k3 estimate, in the loss. With the usual 0.04 a policy finds what a scorer likes by mistake: in
    the lab within 20 updates [ours]."""
    scale: Literal["std", "none"] = "std"
    form: Literal["shaping", "mask"] = "shaping"
    """How the density enters: A_i + alpha (u_t - mean_t u), or A_i on agreeing segments only."""
    alpha: float = Field(1.0, ge=0)
    """Of the shaping form, in standard deviations of u over the batch."""


class Rloo(_Strict):
    """Advantages against the mean of the other responses of the group (arXiv 2402.14740)."""

    name: Literal["rloo"] = "rloo"
    sampling: Sampling = Sampling(responses=4)
    updates: int = Field(1, ge=1)
    clip: float = Field(0.2, gt=0)
    kl_coef: float = Field(0.2, ge=0)
    form: Literal["shaping", "mask"] = "shaping"
    alpha: float = Field(1.0, ge=0)


class RewardModel(_Strict):
    """Bradley-Terry on the last token, on the sum of token outputs, or on the mean of segment ends."""

    name: Literal["reward_model"] = "reward_model"
    reading: Literal["last", "sum", "segment"] = "last"
    centre: float = Field(0.01, ge=0)
    """Weight of the squared mean output over a pair, which gives the rewards a zero [ours]."""


Method = Annotated[Sft | Rjs | Dpo | Scorer | Ppo | Grpo | Rloo | RewardModel, Field(discriminator="name")]
ON_POLICY = ("ppo", "grpo", "rloo")
"""Methods that learn from what the policy itself says now; they need a frozen model that rewards it."""


# ------------------------------------------------------------------------------- mask, data, optimisation


class Supervision(_Strict):
    """What of each response counts: where token rewards come from, and how they are cut."""

    density: Density = "segment"
    source: SourceName | None = None
    """None: the scoring run's first, or the first that the scorer or the reward model serves."""
    rule: SegmentationRule | None = None
    """None: the density's rule for this source and method (see `densities`)."""


class DataPart(_Strict):
    """Rows whose place in a seeded order of all rows, from 0 to 1, lies in [start, end)."""

    start: float = Field(0.0, ge=0, le=1)
    end: float = Field(1.0, ge=0, le=1)

    @model_validator(mode="after")
    def _holds_something(self) -> DataPart:
        if self.end <= self.start:
            raise ValueError("A part of the data ends after it starts.")
        return self


class Data(_Strict):
    """Which rows, and how much of each."""

    part: DataPart = DataPart()
    held_out: float = Field(0.05, ge=0, le=0.5)
    """Share of the rows that is never trained on, for held-out loss and accuracy."""
    max_prompt_tokens: int | None = Field(None, ge=1)
    """A longer prompt loses its left end. None: whatever the context leaves."""
    max_response_tokens: int = Field(4096, ge=1)
    """A pair with a longer response is left out, counted and told."""


class Optimisation(_Strict):
    """How weights move."""

    steps: int | None = Field(None, ge=1)
    """Optimiser updates. None: as many as `epochs` makes."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the data. Both None: one pass."""
    batch_size: int = Field(16, ge=1)
    """Pairs, responses or prompts an update, over all processes."""
    learning_rate: float | None = Field(None, gt=0)
    """None: made of method and model size (see `settle`)."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: float = Field(0.05, ge=0, le=1)
    """Share of the steps."""
    weight_decay: float = Field(0.0, ge=0)
    adam_betas: tuple[float, float] = (0.9, 0.98)
    max_gradient_norm: float = Field(1.0, gt=0)
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the products; weights, head and sums stay float32. `auto`: bfloat16 on a GPU."""
    token_budget: int = Field(8192, ge=256)
    """Tokens in one forward and backward pass: splits a batch, and changes no result."""
    activation_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_length(self) -> Optimisation:
        if self.steps is not None and self.epochs is not None:
            raise ValueError("Give `steps` or `epochs`, not both.")
        return self


class Lora(_Strict):
    """Low-rank adapters (arXiv 2106.09685) instead of all weights; without them it is the reference."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: Literal["all-linear"] | list[str] = "all-linear"


class Keeping(_Strict):
    """Checkpoints and looks at the held-out rows."""

    checkpoint_every: int | None = Field(None, ge=1)
    """Steps. None: about ten in a run."""
    keep: int = Field(2, ge=1)
    """How many of the latest stay, beside the best."""
    best_by: str | None = None
    """A held-out metric, such as `held_out/accuracy`. None: the method's own."""
    evaluate_every: int | None = Field(None, ge=1)
    """Steps between two looks at held-out rows and the task suite. None: about ten in a run."""


class Machine(_Strict):
    """Where it runs."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    processes: int = Field(1, ge=1, le=64)
    """On one machine: one a GPU. Several machines: start the command line under torchrun."""
    threads: int | None = Field(None, ge=1)
    """Of each process on a CPU. None: one for models below 20 million parameters, else all. The number is
    part of the result: another one rounds otherwise."""


class TrainingNumbers(_Strict):
    """All of a training but the data and the models."""

    method: Method
    supervision: Supervision = Supervision(density="sample")
    data: Data = Data()
    optimisation: Optimisation = Optimisation()
    lora: Lora | None = None
    keeping: Keeping = Keeping()
    machine: Machine = Machine()


class TrainingRequest(TrainingNumbers):
    """A training as the engine does it. Rows, stored rewards and the run's folder travel beside it."""

    model: ModelReference
    """What is trained; where `method` is `reward_model`, a causal LM whose body it takes, or a classifier."""
    reference: ModelReference | None = None
    """Frozen, for log-ratios and KL. None: the model as it was before training."""
    scorer: ModelReference | None = None
    """Frozen policy that token rewards are read from: `implicit` compares it with `scorer_reference`."""
    scorer_reference: ModelReference | None = None
    """None: `reference`, or the model as it was."""
    reward_model: ModelReference | None = None
    """Frozen sequence classifier that token rewards are read from, and the sequence reward."""
