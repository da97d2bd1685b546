import numpy as np
import pytest
import torch

from engine.evaluation.preferences import ErrorsFoundTally, PreferenceTally, read_pairs
from engine.requests import ScoreRequest, SourceRequest
from engine.scoring import Models
from engine.types import PreferencePair, Response, Span

REQUEST = ScoreRequest(sources=[SourceRequest(name="spans")])


def pair(key, chosen, rejected, part=None):
    sides = [None if text is None else Response(text) for text in (chosen, rejected)]
    return PreferencePair(key, "Tell me.", *sides, {} if part is None else {"part": part})


PAIRS = [
    pair("1", "The sky is blue", "The grass", "a"),
    pair("2", "two", "Two and two make four. It liked to sleep.", "b"),
    pair("3", "a small cat", None, "a"),
    pair("4", None, "the sun", "b"),
    pair("5", "fast fox", "fast fox", "b"),
]


def summed(loaded, text):
    ids = [*loaded.tokenizer("Tell me." + text)["input_ids"], loaded.tokenizer.eos_token_id]
    start = len(loaded.tokenizer("Tell me.")["input_ids"])
    logprobs = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logprobs[at - 1, ids[at]]) for at in range(start, len(ids))), len(ids) - start


def figures_of(tally):
    return {(one.metric, one.part): one for one in tally.figures(0.95)}


def test_accuracies_and_loss_are_those_of_whole_responses(policies):
    policy, reference = policies
    tally = PreferenceTally()
    for read in read_pairs(PAIRS, Models(policy=policy, reference=reference), REQUEST):
        tally.add(read)

    found = figures_of(tally)

    both = [one for one in PAIRS if one.chosen and one.rejected]
    of = {
        (loaded, one.key, side): summed(loaded, response.text)[0]
        for loaded in policies
        for one in PAIRS
        for side, response in one.sides()
    }
    chosen, rejected, chosen_reference, rejected_reference = (
        np.array([of[loaded, one.key, side] for one in both])
        for loaded in policies
        for side in ("chosen", "rejected")
    )
    wins = (np.sign(chosen - rejected) + 1) / 2
    gains = (np.sign((chosen - chosen_reference) - (rejected - rejected_reference)) + 1) / 2
    assert found["pair_accuracy", ""].value == pytest.approx(np.mean(wins))
    assert found["pair_accuracy", ""].count == 3
    assert found["implicit_accuracy", ""].value == pytest.approx(np.mean(gains))
    said = [summed(policy, one.chosen.text) for one in PAIRS if one.chosen]
    loss = found["held_out_loss", ""]
    assert loss.value == pytest.approx(-sum(s for s, _ in said) / sum(n for _, n in said), abs=1e-4)
    assert loss.count == sum(n for _, n in said)
    assert loss.reference is not None
    assert loss.low <= loss.value <= loss.high
    assert {part for _, part in found} == {"", "a", "b"}
    assert found["pair_accuracy", "a"].count == 1


def test_without_a_reference_there_is_no_implicit_accuracy(policies):
    tally, errors = PreferenceTally(), ErrorsFoundTally(0.1)
    for read in read_pairs(PAIRS, Models(policy=policies[0]), REQUEST):
        tally.add(read)
        errors.add(read)

    assert {one.metric for one in tally.figures(0.95)} == {"pair_accuracy", "held_out_loss"}
    assert all(one.reference is None for one in tally.figures(0.95))
    assert errors.figures(0.95) == []


def test_errors_are_found_where_the_implicit_reward_is_low(policies):
    policy, reference = policies
    tally = ErrorsFoundTally(0.1)
    text = "The grass is green. Two and two make four."
    plain = PreferencePair("1", "Tell me.", Response(text), Response(text, spans=(Span(0, 9, "wrong"),)))
    read = next(read_pairs([plain], Models(policy=policy, reference=reference), REQUEST))
    length = len(read.rejected.logprobs)
    wrong = np.array([start < 9 for start, _ in read.rejected.tokens.offsets])
    lower = np.where(wrong, read.rejected.reference_logprobs - 5, read.rejected.reference_logprobs + 5)

    tally.add(read._replace(rejected=read.rejected._replace(logprobs=lower.astype(np.float32))))

    found = figures_of(tally)
    assert found["auroc", ""].value == 1
    assert found["auroc", ""].count == length - 1  # The EOS has no characters to be labelled.
    assert found["boundary_f1", ""].value == 1
    assert found["boundary_f1", ""].count == 1


def test_rows_that_nobody_annotated_find_no_errors(policies):
    tally = ErrorsFoundTally(0.1)
    for read in read_pairs(PAIRS, Models(*policies), REQUEST):
        tally.add(read)

    assert tally.figures(0.95) == []
