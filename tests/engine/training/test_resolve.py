"""What a request may leave open, what is refused before anything starts, and what a training will need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.errors import RequestError
from engine.model_files import inspect_model
from engine.training.checks import check_training
from engine.training.densities import DENSITIES
from engine.training.estimate import estimate
from engine.training.methods import METHODS
from engine.training.request import TrainingRequest
from engine.training.resolve import resolve, split
from engine.training.schedule import learning_rate_at
from engine.types import ModelReference
from tests.engine.tiny_models import write_model


def request(**fields: Any) -> TrainingRequest:
    return TrainingRequest.model_validate({"method": {"name": "dpo"}, "model": {"path": "policy"}} | fields)


def test_steps_are_one_pass_over_what_is_not_held_out() -> None:
    settled = resolve(request(), rows=1000, parameters=10**6)
    assert split(request(), 1000) == (950, 50)
    assert settled.optimisation.steps == 60  # 950 / 16, rounded up
    assert settled.keeping.checkpoint_every == 6
    assert settled.machine.threads == 1


def test_what_is_settled_stays_settled() -> None:
    once = resolve(request(scorer={"path": "scorer"}), rows=1000, parameters=10**6)
    assert resolve(once, rows=7, parameters=10**10) == once.model_copy(
        update={"machine": once.machine.model_copy(update={"threads": 1})}
    )


def test_larger_models_learn_with_smaller_steps_and_adapters_with_larger_ones() -> None:
    def rate(parameters: float, **fields: Any) -> float:
        found = resolve(request(**fields), rows=10, parameters=int(parameters)).optimisation.learning_rate
        assert found is not None
        return found

    assert rate(2e5) > rate(1e8) > rate(7e9) == rate(7e10)
    assert rate(7e9, lora={}) == pytest.approx(10 * rate(7e9))


@pytest.mark.parametrize(
    ("method", "metric"),
    [
        ({"name": "sft"}, "held_out/loss"),
        ({"name": "dpo"}, "held_out/accuracy"),
        ({"name": "ppo"}, "held_out/reward"),
        ({"name": "rjs"}, "held_out/loss"),
        ({"name": "rjs", "sampling": {}}, "held_out/reward"),
    ],
)
def test_the_best_checkpoint_is_told_by_a_metric_that_the_method_has(
    method: dict[str, Any], metric: str
) -> None:
    resolved = resolve(request(method=method, scorer={"path": "scorer"}), rows=10, parameters=10**6)
    assert resolved.keeping.best_by == metric


@pytest.mark.parametrize("density", DENSITIES)
def test_every_density_has_a_rule_for_every_source(density: Any) -> None:
    for source in ("implicit", "rm_prefix", "rm_increment", "spans", "external"):
        rule = METHODS["dpo"].rule_for(density, source)
        assert rule.segmenter.name == {"sample": "whole", "step": "clause", "segment": "hysteresis"}.get(
            density, "token"
        )
    assert METHODS["dpo"].rule_for(density, "implicit").baseline == "otsu"
    assert METHODS["rjs"].rule_for(density, "implicit").baseline == "median"


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_rates_rise_then_fall_and_stay_above_zero(schedule: Any) -> None:
    settled = resolve(
        request(optimisation={"steps": 100, "schedule": schedule, "warmup": 0.1, "learning_rate": 1.0}),
        rows=10,
        parameters=1,
    )
    rates = [learning_rate_at(update, settled.optimisation) for update in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (at + 1) for at in range(10)])
    assert max(rates) == 1.0
    assert min(rates) > 0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert (rates[-1] == 1.0) is (schedule == "constant")


REFUSED = [
    ({"supervision": {"density": "segment"}}, "needs token rewards for its mask"),
    ({"supervision": {"density": "segment"}, "scorer": {"path": "policy/"}}, "feeds on itself"),
    ({"method": {"name": "sft"}, "supervision": {"density": "token"}}, "choose `rjs`"),
    ({"method": {"name": "scorer"}, "supervision": {"density": "step"}}, "learns from whole responses"),
    ({"method": {"name": "ppo"}}, "name a reward model, or a frozen scorer"),
    (
        {"method": {"name": "grpo"}, "scorer": {"path": "s"}, "supervision": {"source": "spans"}},
        "samples its own",
    ),
    (
        {"method": {"name": "rloo", "sampling": {"responses": 1}}, "scorer": {"path": "s"}},
        "sample at least two",
    ),
    (
        {
            "method": {"name": "ppo", "minibatches": 9, "sampling": {"responses": 1}},
            "optimisation": {"batch_size": 8},
            "scorer": {"path": "s"},
        },
        "8 rollouts cannot be cut into 9 minibatches",
    ),
    ({"machine": {"processes": 4}, "optimisation": {"batch_size": 2}}, "cannot be shared by 4 processes"),
    (
        {"supervision": {"density": "segment", "source": "rm_prefix"}, "scorer": {"path": "s"}},
        "needs a reward model",
    ),
    ({"method": {"name": "reward_model"}, "supervision": {"density": "segment"}}, "knows no segments"),
]


@pytest.mark.parametrize(("fields", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_contradicts_itself_is_refused_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        check_training(request(**fields), has_rewards=False)


def test_stored_rewards_are_of_no_use_to_methods_that_sample() -> None:
    with pytest.raises(RequestError, match="A scoring run holds rewards of the data's responses"):
        check_training(request(method={"name": "ppo"}, scorer={"path": "s"}), has_rewards=True)


def test_masked_dpo_without_its_safeguards_is_warned_of() -> None:
    fields = {"supervision": {"density": "segment"}, "scorer": {"path": "s"}}
    assert check_training(request(**fields), has_rewards=False) == []
    plain = {"name": "dpo", "rejected_clip": None, "sft_weight": 0, "masked_weight": 0}
    (warning,) = check_training(request(**fields, method=plain), has_rewards=False)
    assert "can collapse" in warning
    assert check_training(request(method=plain), has_rewards=False) == []


def test_an_estimate_grows_with_what_costs_memory(tmp_path: Path) -> None:
    model = inspect_model(ModelReference(path=str(write_model(tmp_path / "m", "llama"))))

    def bytes_of(**fields: Any) -> Any:
        return estimate(resolve(request(**fields), rows=10, parameters=model.parameters), model, [model], 100)

    plain = bytes_of()
    assert plain.weights == 4 * model.parameters == plain.frozen
    assert plain.optimiser == 2 * plain.gradients
    assert bytes_of(lora={"rank": 1}).optimiser < plain.optimiser
    assert bytes_of(optimisation={"token_budget": 65_536}).activations > plain.activations
    again = bytes_of(optimisation={"activation_checkpointing": True})
    assert again.activations < plain.activations
    assert plain.total == sum(
        (plain.weights, plain.gradients, plain.optimiser, plain.activations, plain.frozen, plain.process)
    )


def test_a_rule_of_ones_own_gets_the_source_that_the_models_give() -> None:
    rule = {"segmenter": {"name": "token"}, "baseline": "median"}
    asked = request(supervision={"density": "segment", "rule": rule}, scorer={"path": "scorer"})

    resolved = resolve(asked, rows=100, parameters=1000).supervision

    assert resolved.source == "implicit"
    assert resolved.rule == asked.supervision.rule


def test_a_rule_that_sample_wise_training_would_not_need_is_refused_by_its_field() -> None:
    rule = {"segmenter": {"name": "token"}}
    asked = request(supervision={"density": "sample", "rule": rule}, scorer={"path": "scorer"})

    with pytest.raises(RequestError, match="counts every token, and the rule drops some") as refused:
        check_training(asked, has_rewards=False)

    assert refused.value.field == "supervision.rule"
