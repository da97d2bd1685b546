"""The world is drawn from its seed, and every span holds exactly the words that are wrong."""

from __future__ import annotations

import random

import pytest

from engine.lab.facts import facts, misconceptions, orders, sums
from engine.lab.world import World, WorldSettings, changed_words, copy_item, word
from engine.types import PreferencePair, Response


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldSettings(pairs=300, pool_pairs=200, documents=200, suite_tasks=90))


def wrong_words(response: Response) -> list[str]:
    assert response.spans is not None
    return [response.text[span.start : span.end] for span in response.spans]


def responses(pairs: list[PreferencePair]) -> list[Response]:
    return [response for pair in pairs for _, response in pair.sides()]


def test_the_same_seed_draws_the_same_world(world: World) -> None:
    again = World(world.settings)
    assert again.pairs == world.pairs
    assert again.documents() == world.documents()
    assert again.tasks() == world.tasks()


def test_another_seed_draws_another_world(world: World) -> None:
    assert World(WorldSettings(seed=1, pairs=300)).pairs != world.pairs


def test_more_pretraining_text_leaves_the_pairs_as_they_were(world: World) -> None:
    assert World(WorldSettings(pairs=300, documents=7)).pairs == world.pairs


def test_every_span_holds_a_wrong_answer_and_nothing_else(world: World) -> None:
    answers = {
        wrong.lower() for item in facts() + misconceptions() + orders() + sums(5) for wrong in item.wrongs
    }
    for response in responses(world.pairs):
        assert response.spans is not None
        for span, words in zip(response.spans, wrong_words(response), strict=True):
            assert span.value == -1.0
            if span.label == "wrong_copy":
                assert words == words.strip()
            else:
                assert words.lower() in answers


def test_no_wrong_answer_is_left_unmarked(world: World) -> None:
    for item in misconceptions():
        for response in responses(world.pairs):
            marked = [text.lower() for text in wrong_words(response)]
            if response.text.lower().count(item.wrongs[0].lower()) == 1 and len(item.wrongs[0].split()) > 2:
                assert item.wrongs[0].lower() in marked


def test_spans_vary_from_one_word_to_many(world: World) -> None:
    lengths = {len(words.split()) for response in responses(world.pairs) for words in wrong_words(response)}
    assert {1, 2, 3, 4, 5} <= lengths


def test_answers_vary_from_short_to_long(world: World) -> None:
    lengths = [len(response.text.split()) for response in responses(world.pairs)]
    assert min(lengths) < 20
    assert max(lengths) > 70


def test_punctuation_does_not_tell_where_errors_begin(world: World) -> None:
    after_punctuation = clauses = 0
    for response in responses(world.pairs):
        for span in response.spans or ():
            clauses += 1
            after_punctuation += response.text[: span.start].rstrip()[-1:] in ",;.:"
    assert after_punctuation / clauses < 0.2


def test_chosen_answers_keep_errors_and_rejected_ones_right_clauses(world: World) -> None:
    assert any(pair.chosen is not None and pair.chosen.spans for pair in world.pairs)
    assert any(pair.meta["rejected_right"] > 0 for pair in world.pairs)


@pytest.mark.parametrize(("conflict", "shown", "pool"), [("mild", 0.40, 0.20), ("heavy", 0.65, 0.30)])
def test_the_misconception_is_preferred_as_often_as_the_conflict_says(
    conflict: str, shown: float, pool: float
) -> None:
    world = World(WorldSettings(conflict=conflict, pairs=2000, pool_pairs=2000))  # type: ignore[arg-type]
    for pairs, share in ((world.pairs, shown), (world.pool, pool)):
        prefers = [pair.meta["prefers_misconception"] for pair in pairs if pair.meta["part"] == "adversarial"]
        assert sum(prefers) / len(prefers) == pytest.approx(share, abs=0.05)


def test_kept_skills_are_in_no_pair(world: World) -> None:
    topics = [item.topic for item in orders()]
    assert not [pair for pair in world.pairs + world.pool for topic in topics if topic in pair.prompt]


def test_pairs_of_different_streams_share_no_key(world: World) -> None:
    keys = [pair.key for pair in world.pairs + world.pool + world.held_out_pairs]
    assert len(set(keys)) == len(keys)


def test_a_wrong_repetition_blames_only_the_changed_words() -> None:
    assert changed_words("quick fox jumps", "quick hen jumps") == (6, 9)
    assert changed_words("quick fox jumps behind", "lazy fox sings behind") == (0, 14)
    rng = random.Random(3)
    item = copy_item(rng)
    clause = word(rng, item, right=False, wording=0.0)
    assert clause.wrong is not None
    assert clause.text[slice(*clause.wrong)] not in item.right


def test_the_suite_holds_every_part_in_equal_shares(world: World) -> None:
    parts = [task.category for task in world.tasks()]
    assert {part: parts.count(part) for part in set(parts)} == {
        "in_distribution": 30,
        "adversarial": 30,
        "kept": 30,
    }
    assert all(task.prefix for task in world.tasks())
    assert all(task.kept is (task.category == "kept") for task in world.tasks())
    assert len({task.key for task in world.tasks()}) == 90
