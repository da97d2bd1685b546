"""The fields of a training: what each is called, what it is good for, and what holds where it is blank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from app.pages.parts.form_fields import FieldGroup, FormField, words
from engine.sources import SOURCES
from engine.training.method import Sampling
from engine.training.methods.dpo import Dpo
from engine.training.methods.grpo import Grpo
from engine.training.methods.ppo import Ppo
from engine.training.methods.reward_model import RewardModel
from engine.training.methods.rjs import Rjs
from engine.training.methods.rloo import Rloo
from engine.training.methods.scorer import Scorer
from engine.training.methods.sft import Sft
from engine.training.request import Data, Keeping, Lora, Machine, Optimisation

METHODS = {
    "dpo": "DPO: preference loss on kept tokens",
    "rjs": "RJS: rejection sampling, likelihood of the best response's kept tokens",
    "ppo": "PPO: rollouts with dense rewards, a critic",
    "grpo": "GRPO: advantages relative to a group of rollouts",
    "rloo": "RLOO: advantages against the other rollouts",
    "scorer": "Scorer: learns which tokens are wrong, and gives masks",
    "reward_model": "Reward model: Bradley-Terry on pairs",
    "sft": "SFT: likelihood of every chosen token",
}
DENSITIES = {
    "segment": "segment: cut where the reward turns",
    "step": "step: cut at punctuation",
    "token": "token: each by itself",
    "sample": "sample: the whole response",
}
CLASSES: dict[str, type[BaseModel]] = {
    "sft": Sft,
    "rjs": Rjs,
    "dpo": Dpo,
    "scorer": Scorer,
    "ppo": Ppo,
    "grpo": Grpo,
    "rloo": Rloo,
    "reward_model": RewardModel,
    "optimisation": Optimisation,
    "data": Data,
    "lora": Lora,
    "keeping": Keeping,
    "machine": Machine,
}
MASKED = "dpo rjs ppo grpo rloo reward_model"
OFFLINE = "dpo rjs"
SAMPLING = "rjs ppo grpo rloo"
REWARDED = "dpo rjs ppo grpo rloo"
SCHEDULES = (
    ("cosine", "cosine, down to zero"),
    ("linear", "linear, down to zero"),
    ("constant", "constant"),
)
PRECISIONS = (
    ("auto", "bfloat16 on a GPU, else float32"),
    ("float32", "float32"),
    ("bfloat16", "bfloat16"),
)
ALL_LAYERS = "all-linear"
Choices = Sequence[tuple[str, str]]


def number(name: str, label: str, hint: str = "", *, whole: bool = False, **more: Any) -> FormField:
    """A field for a number, which tells its default."""
    field = FormField(
        name, label, "number", hint, step="1" if whole else "any", low="0" if whole else "", **more
    )
    if field.placeholder:
        return field
    return replace(field, placeholder=default_of(name))


def default_of(name: str) -> str:
    """What holds where the field is blank; '' where the data or the model decide."""
    part, *path = name.split(".")
    if part not in CLASSES:
        return ""
    found: Any = Sampling() if name.startswith("rjs.sampling.") else CLASSES[part]()
    for step in path[1:] if name.startswith("rjs.sampling.") else path:
        found = getattr(found, step)
    if isinstance(found, bool) or found is None:
        return ""
    return f"{found:g}" if isinstance(found, float) else str(found)


def what_group(datasets: Choices, scoring_runs: Choices) -> FieldGroup:
    """What is trained, on what, and what of it counts."""
    sources = [("", "as the models and the scoring run say"), *((s.name, s.title) for s in SOURCES.values())]
    return FieldGroup(
        "What is learned",
        (
            FormField("dataset_id", "Data set", "select", choices=tuple(datasets), is_required=True),
            FormField("method.name", "Method", "select", choices=tuple(METHODS.items()), is_required=True),
            FormField(
                "model",
                "Model",
                hint="What is trained: a registered model, a folder, or a name on the hub.",
                listed="causal-models",
                is_required=True,
            ),
            FormField(
                "supervision.density",
                "Density",
                "select",
                "How finely responses are supervised: what contradicts the preference is masked.",
                MASKED,
                choices=tuple(DENSITIES.items()),
            ),
            FormField(
                "scoring_run_id",
                "Masks from a scoring run",
                "select",
                "Its stored rewards make the masks, which are those that the pages of its pairs show.",
                OFFLINE,
                choices=(("", "none: from the models below"), *scoring_runs),
            ),
            FormField(
                "scorer",
                "Scorer",
                hint="A frozen policy whose implicit reward makes the masks as training goes; never the "
                "trained model itself.",
                methods=REWARDED,
                listed="causal-models",
            ),
            FormField(
                "reward_model",
                "Reward model",
                hint="A frozen sequence classifier: rewards responses that are sampled, and their tokens.",
                methods=REWARDED,
                listed="reward-models",
            ),
            FormField(
                "reference",
                "Reference",
                hint="Frozen, for log-ratios and KL.",
                placeholder="the model as it was",
                listed="causal-models",
            ),
            FormField(
                "supervision.source",
                "Source of token rewards",
                "select",
                methods=REWARDED,
                choices=tuple(sources),
            ),
        ),
        is_open=True,
    )


def length_group() -> FieldGroup:
    """How long and how fast."""
    return FieldGroup(
        "How long",
        (
            number("optimisation.steps", "Steps", "Updates of the weights.", whole=True),
            number(
                "optimisation.epochs",
                "Passes over the data",
                "Where steps are blank.",
                placeholder="1",
            ),
            number("optimisation.batch_size", "Batch", "Pairs or prompts an update.", whole=True),
            number(
                "optimisation.learning_rate",
                "Learning rate",
                "Made of method and model size, if blank.",
                placeholder="by model size",
            ),
            number("optimisation.seed", "Seed", whole=True),
        ),
        is_open=True,
    )


def name_group(suites: Choices) -> FieldGroup:
    """What it is tried on, and its name."""
    return FieldGroup(
        "Tried on",
        (
            FormField(
                "suite_ids",
                "Task suites",
                "checks",
                "Tried every few steps while the model learns.",
                choices=tuple(suites),
            ),
            FormField("name", "Name", placeholder="made of data set, method and density"),
        ),
        is_open=True,
    )


def method_group() -> FieldGroup:
    """The numbers of each method."""
    return FieldGroup("Numbers of the method", (*_dpo(), *_scorer(), *_sampling(), *_policy(), *_others()))


def _dpo() -> tuple[FormField, ...]:
    none = "Keeps masked training from collapsing; `none` for no clip."
    forms = (
        ("sigmoid", "sigmoid: DPO"),
        ("ipo", "IPO"),
        ("hinge", "hinge: SLiC"),
        ("cdpo", "cDPO"),
        ("robust", "robust"),
    )
    return (
        number("dpo.beta", "Beta", "How strongly preferences pull.", methods="dpo"),
        FormField("dpo.preference", "Preference loss", "select", methods="dpo", choices=forms),
        number("dpo.label_smoothing", "Label smoothing", "For cDPO and robust.", methods="dpo"),
        FormField(
            "dpo.rejected_clip",
            "Clip of rejected tokens, nats",
            "text",
            none,
            "dpo",
            placeholder=default_of("dpo.rejected_clip"),
            may_be_none=True,
        ),
        number("dpo.sft_weight", "Weight of the anchor", "Likelihood of kept chosen tokens.", methods="dpo"),
        number("dpo.masked_weight", "Weight on masked tokens", "Holds them where they were.", methods="dpo"),
        FormField("dpo.length_normalised", "Divide by length", "check", methods="dpo"),
    )


def _scorer() -> tuple[FormField, ...]:
    return (
        number("scorer.beta", "Beta", "Small, so that every pair keeps teaching.", methods="scorer"),
        number("scorer.rejected_clip", "Clip of rejected tokens, nats", methods="scorer"),
        number("scorer.sft_weight", "Weight of the anchor", methods="scorer"),
    )


def _sampling() -> tuple[FormField, ...]:
    switch = FormField(
        "rjs.sampling?",
        "Sample responses",
        "switch",
        "And keep the best by the reward model; else the chosen ones of the data.",
        "rjs",
    )
    fields = [switch]
    for method in SAMPLING.split():
        fields += [
            number(f"{method}.sampling.responses", "Responses to a prompt", whole=True, methods=method),
            number(f"{method}.sampling.temperature", "Temperature", methods=method),
            number(f"{method}.sampling.top_p", "Top p", methods=method),
            number(
                f"{method}.sampling.max_new_tokens", "Longest response, tokens", whole=True, methods=method
            ),
        ]
    return tuple(fields)


def _policy() -> tuple[FormField, ...]:
    forms = (("shaping", "shaping: added to the advantage"), ("mask", "mask: agreeing segments only"))
    dense = (("reward", "in the reward"), ("mask", "in the mask"), ("both", "in both"))
    placing = (("ends", "at the segment's last token"), ("spread", "evenly on its tokens"))
    fields = [
        FormField("ppo.dense", "Where the density enters", "select", methods="ppo", choices=dense),
        FormField("ppo.placing", "A segment's reward stands", "select", methods="ppo", choices=placing),
        number("ppo.epochs", "Passes over each batch of rollouts", whole=True, methods="ppo"),
        number("ppo.minibatches", "Updates a pass", whole=True, methods="ppo"),
    ]
    for method in ("grpo", "rloo"):
        fields += [
            FormField(f"{method}.form", "How the density enters", "select", methods=method, choices=forms),
            number(f"{method}.alpha", "Weight of the shaping", methods=method),
            number(f"{method}.updates", "Updates of each batch of rollouts", whole=True, methods=method),
        ]
    for method in ("ppo", "grpo", "rloo"):
        fields += [
            number(f"{method}.clip", "Clip of the ratio", methods=method),
            number(f"{method}.kl_coef", "Weight of the KL", methods=method),
        ]
    return tuple(fields)


def _others() -> tuple[FormField, ...]:
    scales = (("std", "the group's deviation"), ("none", "nothing"))
    readings = (
        ("last", "the last token"),
        ("sum", "the sum of all tokens"),
        ("segment", "the mean of segment ends"),
    )
    return (
        FormField("grpo.scale", "Advantages divided by", "select", methods="grpo", choices=scales),
        FormField(
            "ppo.value_clip",
            "Clip of the values",
            methods="ppo",
            placeholder=default_of("ppo.value_clip"),
            may_be_none=True,
        ),
        number("ppo.value_weight", "Weight of the value loss", methods="ppo"),
        number("ppo.gamma", "Discount", methods="ppo"),
        number("ppo.lambda_", "Lambda of GAE", methods="ppo"),
        FormField("ppo.whiten", "Whiten advantages", "check", methods="ppo"),
        FormField(
            "reward_model.reading", "Reward read at", "select", methods="reward_model", choices=readings
        ),
        number("reward_model.centre", "Weight of the centring", methods="reward_model"),
    )


def optimisation_group() -> FieldGroup:
    """How weights move, beyond length and rate."""
    return FieldGroup(
        "Optimisation and budgets",
        (
            FormField("optimisation.schedule", "Schedule", "select", choices=SCHEDULES),
            number("optimisation.warmup", "Warm-up", "Share of the steps."),
            number("optimisation.weight_decay", "Weight decay"),
            FormField("optimisation.adam_betas", "Adam's betas", "json", placeholder="[0.9, 0.98]"),
            number("optimisation.max_gradient_norm", "Largest gradient norm"),
            FormField("optimisation.precision", "Precision", "select", choices=PRECISIONS),
            number(
                "optimisation.token_budget",
                "Tokens in one pass",
                "Less memory; changes no result.",
                whole=True,
            ),
            FormField(
                "optimisation.activation_checkpointing",
                "Compute activations again",
                "check",
                "Less memory, a third more time.",
            ),
        ),
    )


def lora_group() -> FieldGroup:
    """Adapters instead of all weights."""
    return FieldGroup(
        "Adapters (LoRA)",
        (
            FormField("lora?", "Train adapters instead of all weights", "switch", "Far less memory."),
            number("lora.rank", "Rank", whole=True),
            number("lora.alpha", "Alpha"),
            number("lora.dropout", "Dropout"),
            FormField(
                "lora.targets",
                "Layers",
                "text",
                "`all-linear`, or their names with commas between.",
                placeholder="all-linear",
            ),
        ),
    )


def data_group(datasets: Choices = ()) -> FieldGroup:
    """Which rows, and how much of each."""
    extra = (
        FormField(
            "extra_dataset_ids",
            "Further data sets",
            "checks",
            "Their rows are trained on as well.",
            choices=tuple(datasets),
        ),
    )
    return FieldGroup(
        "Rows",
        (
            number("data.held_out", "Held out", "Share of the rows, for held-out loss and accuracy."),
            number("data.part.start", "Part of the rows, from", "Of a seeded order, from 0 to 1."),
            number("data.part.end", "to"),
            number(
                "data.max_prompt_tokens",
                "Longest prompt, tokens",
                "A longer one loses its left end.",
                whole=True,
                placeholder="what the context leaves",
            ),
            number(
                "data.max_response_tokens",
                "Longest response, tokens",
                "A pair with a longer one is left out.",
                whole=True,
            ),
            *(extra if datasets else ()),
        ),
    )


def keeping_group() -> FieldGroup:
    """Checkpoints, and where it runs."""
    return FieldGroup(
        "Checkpoints and machine",
        (
            number(
                "keeping.checkpoint_every",
                "Steps between checkpoints",
                whole=True,
                placeholder="about ten in a run",
            ),
            number("keeping.keep", "Latest checkpoints kept", "Beside the best one.", whole=True),
            number(
                "keeping.evaluate_every",
                "Steps between looks",
                "At held-out rows and task suites.",
                whole=True,
                placeholder="about ten in a run",
            ),
            FormField("keeping.best_by", "Best by", placeholder="the method's own metric"),
            FormField("machine.device", "Device", placeholder="auto"),
            number("machine.processes", "Processes", "One a GPU.", whole=True),
            number(
                "machine.threads",
                "Threads of a process",
                "Part of the result: another number rounds otherwise.",
                whole=True,
                placeholder="by model size",
            ),
        ),
    )


def rule_group() -> FieldGroup:
    """The cut, for who wants another than the density's."""
    rule = FormField(
        "supervision.rule",
        "Rule of the cut, as JSON",
        "area",
        "Instead of the density's own; the page of a pair tries rules out.",
        placeholder="that of the density",
    )
    scorer_reference = FormField(
        "scorer_reference",
        "Reference of the scorer",
        hint="What the scorer was trained from.",
        placeholder="the reference",
        listed="causal-models",
    )
    return FieldGroup(
        "The mask", (replace(scorer_reference, methods=REWARDED), replace(rule, methods=MASKED))
    )


def name_layers(body: dict[str, Any]) -> None:
    """Makes a list of the layers that were typed with commas between, in a body that has adapters."""
    adapters = body.get("lora") or {}
    if adapters.get("targets", ALL_LAYERS) != ALL_LAYERS:
        adapters["targets"] = words(adapters["targets"])


OPEN = tuple(group.title for group in (what_group((), ()), length_group(), name_group(())) if group.is_open)
"""Titles of the groups that are never folded."""
