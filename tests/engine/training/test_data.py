"""Which rows a training uses: decided by keys and seed, disjoint by part, and no more than it will see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataError
from engine.formats.canonical import write_pairs
from engine.training.data import batch_of, choose_rows, count_usable, tokenise_pairs
from engine.training.resolve import resolve
from engine.training.trained_model import load
from engine.types import SIDES, PreferencePair, Response
from tests.engine.training.worlds import pairs, training, write_world


def _keys(chosen: list[PreferencePair]) -> list[str]:
    return [pair.key for pair in chosen]


def _settled(model: Path, rows: int, **fields: object):  # type: ignore[no-untyped-def]
    return resolve(training(model, **fields), rows=rows, parameters=1000)


def test_two_parts_of_the_data_share_no_row_whatever_the_seed(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    first = _settled(model, 24, data={"part": {"end": 0.5}})
    second = _settled(
        model, 24, data={"part": {"start": 0.5}}, optimisation={"steps": 6, "batch_size": 4, "seed": 7}
    )
    ours, theirs = choose_rows(rows, first), choose_rows(rows, second)
    mine = {*_keys(ours.trained), *_keys(ours.held_out)}
    other = {*_keys(theirs.trained), *_keys(theirs.held_out)}
    assert not mine & other
    assert len(mine | other) == 24


def test_the_same_rows_are_held_out_under_every_seed(tmp_path: Path) -> None:
    rows, model = write_world(tmp_path)
    looks = [
        choose_rows(rows, _settled(model, 24, optimisation={"steps": 6, "batch_size": 4, "seed": seed}))
        for seed in (0, 1)
    ]
    assert _keys(looks[0].held_out) == _keys(looks[1].held_out)
    assert len(looks[0].held_out) == 5  # a fifth of 24, rounded up
    assert _keys(looks[0].trained) != _keys(looks[1].trained)
    assert sorted(_keys(looks[0].trained)) == sorted(_keys(looks[1].trained))


def test_a_short_training_reads_no_more_rows_than_it_will_see(tmp_path: Path) -> None:
    rows = tmp_path / "many.jsonl"
    write_pairs(rows, pairs(3000))
    chosen = choose_rows(rows, _settled(tmp_path, 3000))
    assert len(chosen.trained) < 600
    assert chosen.usable == 3000


def test_rows_that_lack_a_side_are_counted_and_left_out(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    single = PreferencePair("alone", "The", Response(" sky."), None)
    write_pairs(rows, [*pairs(6), single])
    dpo = _settled(tmp_path, 6)
    assert count_usable(rows, dpo) == 6
    assert choose_rows(rows, dpo).useless == 1
    assert count_usable(rows, training(tmp_path, method={"name": "sft"})) == 7


def test_data_without_what_the_method_needs_are_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    write_pairs(rows, [PreferencePair(f"{at}", "The", None, Response(" sky.")) for at in range(3)])
    with pytest.raises(DataError, match="both a chosen and a rejected response, which `dpo`"):
        choose_rows(rows, _settled(tmp_path, 3))
    with pytest.raises(DataError, match="a chosen response, which `sft`"):
        choose_rows(rows, _settled(tmp_path, 3, method={"name": "sft"}))


def test_methods_that_sample_see_each_prompt_once(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    same = [PreferencePair(f"{at}", "The sky", Response(f" is {at}."), None) for at in range(5)]
    write_pairs(rows, [*same, *pairs(3)])
    grpo = training(tmp_path, method={"name": "grpo"}, scorer={"path": "elsewhere"})
    assert count_usable(rows, grpo) == 4


def test_every_epoch_sees_every_row_once_in_another_order() -> None:
    batches = [batch_of(update, 4, 10, seed=3) for update in range(5)]
    flat = np.concatenate(batches)
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10].tolist() != flat[10:].tolist()
    assert batch_of(2, 4, 10, seed=3) == batches[2]


def test_a_batch_may_be_larger_than_the_data() -> None:
    assert sorted(batch_of(0, 5, 2, seed=0)) == [0, 0, 0, 1, 1]


def test_pairs_that_are_too_long_are_left_out_by_name(tmp_path: Path) -> None:
    _, folder = write_world(tmp_path)
    request = training(folder, data={"max_response_tokens": 40})
    loaded = load(request.model, "causal_lm", device="cpu", dtype=_float32(), seed=0).loaded
    long = PreferencePair("long", "The", Response(" sky" * 100), Response(" no."))
    longer = PreferencePair("longer", "The", Response(" a."), Response(" sky" * 400))
    found = tokenise_pairs([*pairs(2), long, longer], loaded, request, sides=SIDES)
    assert found.too_long == ["long", "longer"]
    assert [one.key for one in found.pairs] == ["row 0", "row 1"]
    assert all(one.sides["chosen"].eos is not None for one in found.pairs)


def test_both_sides_continue_one_prompt(tmp_path: Path) -> None:
    _, folder = write_world(tmp_path)
    request = training(folder, data={"max_prompt_tokens": 5})
    loaded = load(request.model, "causal_lm", device="cpu", dtype=_float32(), seed=0).loaded
    found = tokenise_pairs(pairs(3), loaded, request, sides=SIDES)
    for one in found.pairs:
        assert len(one.prompt) == 5
        assert all(np.array_equal(side.prompt, one.prompt) for side in one.sides.values())


def _float32():  # type: ignore[no-untyped-def]
    import torch

    return torch.float32


@pytest.mark.parametrize("prompts", [1, 2, 5, 24])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_what_is_held_out_shares_no_prompt_with_what_is_trained(
    tmp_path: Path, prompts: int, share: float
) -> None:
    rows = tmp_path / "rows.jsonl"
    asked = [replace(pair, prompt=f"Question {at % prompts}:") for at, pair in enumerate(pairs(24))]
    write_pairs(rows, asked)
    seen: list[set[object]] = []
    for part in ({"end": 0.5}, {"start": 0.5}):
        request = _settled(tmp_path, 24, data={"part": part, "held_out": share})
        try:
            chosen = choose_rows(rows, request)
        except DataError:  # All rows of few prompts may lie in the other part.
            continue
        assert chosen.prompts == prompts
        assert bool(chosen.held_out) <= (share > 0)
        seen += [{pair.prompt for pair in chosen.trained}, {pair.prompt for pair in chosen.held_out}]
    assert seen
    assert sum(map(len, seen)) == len(set().union(*seen)) == prompts
