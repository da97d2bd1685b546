from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from app.db.maps import pack, read_maps, unpack, write_chunk
from app.db.tables import Dataset, Pair, RewardTrack, Run, StoredMap
from engine.types import RewardMap

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([float("nan"), float("inf")])


def test_a_map_comes_back_as_it_went_in() -> None:
    original = a_map(tokens=300)
    back = there_and_back(original)
    assert (back.key, back.side, back.eos) == (original.key, original.side, original.eos)
    assert back.prompt_tokens == original.prompt_tokens
    assert back.truncated_prompt_tokens == original.truncated_prompt_tokens
    assert back.totals == original.totals
    np.testing.assert_array_equal(back.token_ids, original.token_ids)
    np.testing.assert_array_equal(back.offsets, original.offsets)
    np.testing.assert_array_equal(back.ranks, original.ranks)
    for name in ("logprobs", "reference_logprobs", "entropies"):
        np.testing.assert_allclose(getattr(back, name), getattr(original, name), rtol=2**-11)
    assert list(back.rewards) == list(original.rewards)
    np.testing.assert_allclose(back.rewards["implicit"], original.rewards["implicit"], rtol=2**-11)


@pytest.mark.parametrize("largest", [0, 254, 255, 256, 65_534, 65_535, 2**24 - 1, 2**24, 2**31 - 1])
def test_a_missing_rank_stays_missing_beside_any_other(largest: int) -> None:
    ranks = np.array([-1, largest, 0, -1], dtype=np.int32)
    np.testing.assert_array_equal(there_and_back(replace(a_map(tokens=4), ranks=ranks)).ranks, ranks)


def test_tracks_that_are_not_there_stay_away() -> None:
    original = replace(a_map(tokens=5), logprobs=None, reference_logprobs=None, entropies=None, ranks=None)
    back = there_and_back(original)
    assert (back.logprobs, back.reference_logprobs, back.entropies, back.ranks) == (None,) * 4


@given(st.lists(FLOATS, max_size=40))
def test_rewards_keep_eleven_bits_whatever_their_size(values: list[float]) -> None:
    rewards = np.array(values, dtype=np.float32)
    back = there_and_back(a_map(tokens=len(values), rewards=rewards)).rewards["implicit"]
    finite = rewards[np.isfinite(rewards)]
    largest = np.abs(finite).max(initial=0)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(rewards))
    np.testing.assert_array_equal(np.isinf(back), np.isinf(rewards))
    np.testing.assert_allclose(
        back[np.isfinite(rewards)], finite, rtol=2**-11, atol=largest * 2.0**-38 + 1e-38
    )


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 70_000)), max_size=30))
def test_offsets_come_back_even_where_tokens_share_a_code_point(steps: list[tuple[int, int]]) -> None:
    offsets, end = [], 0
    for gap, length in steps:
        start = max(0, end + gap)
        end = start + length
        offsets.append((start, end))
    original = replace(a_map(tokens=len(offsets)), offsets=np.array(offsets, dtype=np.int32).reshape(-1, 2))
    np.testing.assert_array_equal(there_and_back(original).offsets, original.offsets)


def test_a_blob_does_not_depend_on_the_chunk_it_came_in() -> None:
    small, large = a_map(tokens=20), a_map(tokens=50, seed=1)
    alone = unpack(pack([small])[0], small.key)
    together = unpack(pack([large, small])[1], small.key)
    np.testing.assert_array_equal(alone.offsets, together.offsets)
    np.testing.assert_array_equal(alone.rewards["implicit"], together.rewards["implicit"])
    np.testing.assert_array_equal(alone.token_ids, together.token_ids)


def test_a_token_takes_at_most_twelve_bytes() -> None:
    maps = [a_map(tokens=300, seed=seed) for seed in range(20)]
    stored = sum(
        sum(len(value) for value in row.columns.values() if isinstance(value, bytes))
        + sum(len(track.rewards) for track in row.tracks)
        for row in pack(maps)
    )
    assert stored / sum(one.tokens for one in maps) <= 12


def test_a_chunk_that_comes_twice_is_there_once(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=2)
    maps = [a_map(tokens=10, key=key, side=side) for key in pair_ids for side in ("chosen", "rejected")]
    write_chunk(session, run.id, pair_ids, maps)
    ids = write_chunk(session, run.id, pair_ids, maps)
    assert len(ids) == session.scalar(select(func.count()).select_from(StoredMap)) == 4
    assert session.scalar(select(func.count()).select_from(RewardTrack)) == 4


def test_a_stored_map_is_read_back(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=1)
    original = a_map(tokens=10, key="pair 0")
    write_chunk(session, run.id, pair_ids, [original])
    [view] = read_maps(session, run.id)
    assert (view.pair_id, view.text, view.map.key) == (pair_ids["pair 0"], "c", "pair 0")
    np.testing.assert_array_equal(view.map.token_ids, original.token_ids)
    np.testing.assert_array_equal(view.map.rewards["implicit"], there_and_back(original).rewards["implicit"])
    assert view.map.totals == original.totals


def test_a_map_has_all_its_sources_and_no_total_where_it_has_none(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=1)
    rewards = {name: np.arange(4, dtype=np.float32) + index for index, name in enumerate("abc")}
    original = replace(a_map(tokens=4), rewards=rewards, totals={"b": 2.0})
    write_chunk(session, run.id, pair_ids, [original])
    [view] = read_maps(session, run.id)
    assert {name: values.tolist() for name, values in view.map.rewards.items()} == {
        name: values.tolist() for name, values in rewards.items()
    }
    assert view.map.totals == {"b": 2.0}


def test_a_map_without_rewards_is_read_back(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=1)
    write_chunk(session, run.id, pair_ids, [replace(a_map(tokens=4), rewards={}, totals={})])
    [view] = read_maps(session, run.id)
    assert view.map.rewards == view.map.totals == {}


def test_maps_are_read_in_order_and_page_by_page(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=100)
    sides = ("rejected", "chosen")
    maps = [
        a_map(tokens=i % 7, seed=i, key=key, side=side) for i, key in enumerate(pair_ids) for side in sides
    ]
    write_chunk(session, run.id, pair_ids, maps)
    in_order = [(pair_id, side) for pair_id in pair_ids.values() for side in sorted(sides)]
    assert [(view.pair_id, view.map.side) for view in read_maps(session, run.id)] == in_order
    page = read_maps(session, run.id, after=in_order[2], limit=3)
    assert [(view.pair_id, view.map.side) for view in page] == in_order[3:6]
    [one] = read_maps(session, run.id, pair_id=pair_ids["pair 9"], side="rejected")
    assert (one.map.key, one.map.side) == ("pair 9", "rejected")
    for view in (one, *page):
        original = next(it for it in maps if (it.key, it.side) == (view.map.key, view.map.side))
        np.testing.assert_array_equal(view.map.offsets, original.offsets)


def test_an_error_of_the_driver_is_one_of_sqlalchemy(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=1)
    with pytest.raises(IntegrityError):
        write_chunk(session, run.id + 1, pair_ids, [a_map(tokens=3)])


def test_a_map_of_an_unknown_pair_is_refused(session: Session) -> None:
    run, pair_ids = a_run(session, pairs=1)
    with pytest.raises(KeyError):
        write_chunk(session, run.id, pair_ids, [a_map(tokens=3, key="somebody else's")])


def a_map(
    *,
    tokens: int,
    seed: int = 0,
    key: str = "pair 0",
    side: str = "chosen",
    rewards: np.ndarray | None = None,
) -> RewardMap:
    """A map as a language model makes it, with the tokens' usual lengths and ranks."""
    random = np.random.default_rng(seed)
    ends = np.cumsum(random.integers(1, 8, tokens))
    offsets = np.stack([np.concatenate([[0], ends])[:-1], ends], axis=1) if tokens else np.zeros((0, 2))
    logprobs = -random.exponential(1.5, tokens).astype(np.float32)
    reference = logprobs - random.normal(0, 0.1, tokens).astype(np.float32)
    return RewardMap(
        key=key,
        side=side,
        token_ids=random.integers(0, 50_000, tokens, dtype=np.int32),
        offsets=offsets.astype(np.int32),
        eos="</s>",
        prompt_tokens=17,
        truncated_prompt_tokens=2,
        rewards={"implicit": 0.1 * (logprobs - reference) if rewards is None else rewards},
        logprobs=logprobs,
        reference_logprobs=reference,
        entropies=random.exponential(1.0, tokens).astype(np.float32),
        ranks=np.minimum(random.geometric(0.4, tokens) - 1, 40_000).astype(np.int32),
        totals={"implicit": 1.25},
    )


def there_and_back(original: RewardMap) -> RewardMap:
    return unpack(pack([original])[0], original.key)


def a_run(session: Session, *, pairs: int) -> tuple[Run, dict[str, int]]:
    """A run on a data set of so many pairs, and the ids of the pairs by their keys."""
    dataset = Dataset(
        name="d",
        origin={},
        content_hash="",
        pair_count=pairs,
        response_count=pairs,
        annotated=False,
        has_token_rewards=False,
    )
    session.add(dataset)
    session.flush()
    rows = [
        Pair(dataset_id=dataset.id, position=i, key=f"pair {i}", prompt="p", chosen="c") for i in range(pairs)
    ]
    run = Run(kind="scoring", name="r", request={}, dataset_id=dataset.id)
    session.add_all([run, *rows])
    session.flush()
    return run, {row.key: row.id for row in rows}
