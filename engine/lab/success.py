"""How often a policy answers the task suite rightly: expected success at temperature 1, not sampled."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from engine.lab.models import Encoded, logprobs, pad
from engine.tasks import Exact, Task

_BATCH = 64


def success_probabilities(
    policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task]
) -> list[float]:
    """For every task the probability that the policy goes on with the right answer after the prefix."""
    rows = [_encoded(tokenizer, task) for task in tasks]
    result = []
    for start in range(0, len(rows), _BATCH):
        with torch.no_grad():
            result += logprobs(policy, pad(rows[start : start + _BATCH])).sum(-1).exp().tolist()
    return result


def success_by_part(
    policy: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, tasks: Sequence[Task]
) -> dict[str, float]:
    """The mean probability of the right answer, for each part of the world."""
    by_part: dict[str, list[float]] = defaultdict(list)
    for task, probability in zip(tasks, success_probabilities(policy, tokenizer, tasks), strict=True):
        by_part[task.category].append(probability)
    return {part: sum(values) / len(values) for part, values in by_part.items()}


def _encoded(tokenizer: PreTrainedTokenizerFast, task: Task) -> Encoded:
    """Prompt and prefix as what is given, the right answer as what counts."""
    assert isinstance(task.checker, Exact)
    prefix = tokenizer(task.prefix, add_special_tokens=False)["input_ids"]
    given = tokenizer(task.prompt)["input_ids"] + prefix
    answer = tokenizer(" " + task.checker.answers[0], add_special_tokens=False)["input_ids"]
    return Encoded(ids=(*given, *answer), prompt_tokens=len(given), offsets=())
