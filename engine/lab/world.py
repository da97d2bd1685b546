"""The lab's world: prompts that ask several things, and answers whose errors are known to the character.

Everything is drawn from one seed. Clauses are joined with and without punctuation, and some contain commas of
their own, so that punctuation does not tell where an error begins. A chosen answer keeps some wrong clauses
and a rejected one some right clauses; in the adversarial part a share of the pairs (`conflict`) prefers a
common misconception. The scorer learns from a pool of other pairs, in which that share is smaller
(METHOD section 8: a scorer trained on heavily conflicting pairs is no better than a coin). [ours]
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from engine.lab.facts import COPY_LENGTHS, COPY_SLOTS, Item, Part, facts, misconceptions, orders, sums
from engine.tasks import Exact, Task
from engine.types import PreferencePair, Response, Span

CONFLICT: dict[str, tuple[float, float]] = {"mild": (0.40, 0.20), "heavy": (0.65, 0.30)}
"""Share of the adversarial pairs that prefer the misconception: in the pairs shown, in the scorer's pool."""

LONGEST_ANSWER = 20
"""Tokens after which an answer to a task is decided: any answer, and a token that ends its last word."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """The numbers that make a world. Shares and rates are probabilities."""

    seed: int = 0
    conflict: Literal["mild", "heavy"] = "heavy"
    pairs: int = 400
    """Conflicting pairs: what the dashboard shows, and what training is tried on."""
    pool_pairs: int = 3200
    """Pairs that the scorers learn from."""
    held_out_pairs: int = 100
    """Pairs drawn as `pairs` are, and given to nobody."""
    documents: int = 10_000
    """Noisy answers that the policy is pretrained on."""
    suite_tasks: int = 300
    fact_share: float = 0.85
    """Share of the facts of every kind that exist in this world: another seed, another world."""
    largest_summand: int = 5
    adversarial_share: float = 0.4
    """Share of the pairs that ask for something people get wrong."""
    clauses: tuple[int, ...] = (2, 3, 3, 4, 4, 5, 5, 9)
    """How many clauses an answer has: one of these."""
    pool_clauses: tuple[int, ...] = (1, 2, 2, 3)
    """The same for the scorers' pool, whose short answers say more plainly what was preferred."""
    policy_right: float = 0.60
    """How often a clause of the pretraining text is right: ordinary, of a misconception, of kept skills."""
    policy_right_adversarial: float = 0.40
    policy_right_kept: float = 0.85
    chosen_right: float = 0.85
    rejected_right: float = 0.40


@dataclass(frozen=True, slots=True)
class WorldClause:
    """A wording of an item, with the answer given; `wrong` holds code points [start, end) of the clause."""

    item: Item
    text: str
    wrong: tuple[int, int] | None


OPENINGS = ("", "", "", "well, ", "here is what I know: ", "happy to help: ", "let me see, ")
CLOSINGS = ("", "", "", " I hope that helps.", " That is all I know.", " Is there anything else?")
JOINTS = (", ", ". ", "; ", " and ", " and ", " while ", " and then ", ", and ", " but ")
PROMPT_FORMS = (
    "Tell me {}.",
    "Please explain {}.",
    "I would like to know {}.",
    "Can you say {}?",
    "Write down {}.",
)


class World:
    """Draws pairs, pretraining documents and tasks. Each is a stream of its own: more of one leaves the
    others as they were."""

    def __init__(self, settings: WorldSettings) -> None:
        self.settings = settings
        rng = self._stream("items")

        def existing(items: list[Item]) -> list[Item]:
            return sorted(rng.sample(items, round(len(items) * settings.fact_share)), key=lambda i: i.topic)

        self.facts = existing(facts())
        self.misconceptions = existing(misconceptions())
        self.sums = sums(settings.largest_summand)
        self.orders = orders()

    @cached_property
    def pairs(self) -> list[PreferencePair]:
        """The conflicting pairs."""
        shown, _ = CONFLICT[self.settings.conflict]
        return self._draw_pairs("pairs", self.settings.pairs, shown, self.settings.clauses)

    @cached_property
    def held_out_pairs(self) -> list[PreferencePair]:
        """Pairs like `pairs`, for evaluation only."""
        shown, _ = CONFLICT[self.settings.conflict]
        return self._draw_pairs("held-out", self.settings.held_out_pairs, shown, self.settings.clauses)

    @cached_property
    def pool(self) -> list[PreferencePair]:
        """The scorers' pairs, which prefer the misconception less often."""
        _, pool = CONFLICT[self.settings.conflict]
        return self._draw_pairs("pool", self.settings.pool_pairs, pool, self.settings.pool_clauses)

    def documents(self) -> list[tuple[str, str]]:
        """Prompts and noisy answers for pretraining, every part mixed in one answer."""
        rng = self._stream("documents")
        rates: dict[Part, float] = {
            "in_distribution": self.settings.policy_right,
            "adversarial": self.settings.policy_right_adversarial,
            "kept": self.settings.policy_right_kept,
        }
        documents = []
        for _ in range(self.settings.documents):
            count = rng.choices((1, 2, 3, 4, 8), (8, 8, 5, 2, 1))[0]
            items = self._mixed_items(rng, count)
            right = [rng.random() < rates[item.part] for item in items]
            documents.append((self._prompt(rng, items), self._response(rng, items, right).text))
        return documents

    def tasks(self) -> list[Task]:
        """The task suite: single questions of every part, in equal shares; the part is the category."""
        rng = self._stream("tasks")
        return [
            self._task(rng, f"task-{at + 1:04d}", ("in_distribution", "adversarial", "kept")[at % 3])
            for at in range(self.settings.suite_tasks)
        ]

    def _stream(self, name: str) -> random.Random:
        return random.Random(f"{self.settings.seed}/{name}")  # noqa: S311 - a world, not a secret

    def _task(self, rng: random.Random, key: str, part: Part) -> Task:
        if part == "adversarial":
            item = rng.choice(self.misconceptions)
        else:
            item = rng.choice(self.orders) if part == "kept" else self._ordinary(rng)
        stems = [statement.split("{answer}")[0].strip() for statement in item.statements]
        stem = rng.choice([stem for stem in stems if stem])
        return Task(
            key=key,
            prompt=self._prompt(rng, [item]),
            prefix=capitalised(stem),
            checker=Exact(answers=[item.right], prefix=True),
            category=part,
            kept=part == "kept",
            max_new_tokens=LONGEST_ANSWER,
        )

    def _draw_pairs(
        self, name: str, count: int, conflict: float, clauses: Sequence[int]
    ) -> list[PreferencePair]:
        rng = self._stream(name)
        return [self._pair(rng, f"{name}-{at + 1:04d}", conflict, rng.choice(clauses)) for at in range(count)]

    def _pair(self, rng: random.Random, key: str, conflict: float, clauses: int) -> PreferencePair:
        adversarial = rng.random() < self.settings.adversarial_share
        items = self._items(rng, clauses, misconceptions=(2 if clauses > 3 else 1) if adversarial else 0)
        prefers_error = adversarial and rng.random() < conflict
        chosen, rejected = self._verdicts(rng, items, prefers_error)
        style = _Style.draw(rng, len(items))
        return PreferencePair(
            key=key,
            prompt=self._prompt(rng, items),
            chosen=self._response(rng, items, chosen, style),
            rejected=self._response(rng, items, rejected, style if rng.random() < 0.7 else None),
            meta={
                "part": "adversarial" if adversarial else "in_distribution",
                "prefers_misconception": prefers_error,
                "skills": sorted({item.skill for item in items}),
                "chosen_right": sum(chosen),
                "rejected_right": sum(rejected),
                "clauses": len(items),
            },
        )

    def _verdicts(
        self, rng: random.Random, items: Sequence[Item], prefers_error: bool
    ) -> tuple[list[bool], list[bool]]:
        """Which clauses are right on each side: the chosen side has more right ordinary clauses, and the
        misconception where the pair prefers it."""
        while True:
            chosen = [rng.random() < self.settings.chosen_right for _ in items]
            rejected = [rng.random() < self.settings.rejected_right for _ in items]
            for at, item in enumerate(items):
                if item.part == "adversarial":
                    chosen[at], rejected[at] = not prefers_error, prefers_error
            ordinary = [at for at, item in enumerate(items) if item.part != "adversarial"]
            if not ordinary or sum(chosen[at] for at in ordinary) > sum(rejected[at] for at in ordinary):
                return chosen, rejected

    def _items(self, rng: random.Random, count: int, misconceptions: int) -> list[Item]:
        """Different items in a random order; at most one phrase to repeat."""
        items = {item.topic: item for item in rng.sample(self.misconceptions, misconceptions)}
        while len(items) < count:
            self._add(items, self._ordinary(rng))
        order = list(items.values())
        rng.shuffle(order)
        return order

    def _mixed_items(self, rng: random.Random, count: int) -> list[Item]:
        """Different items of every part, for pretraining; at most one phrase to repeat."""
        items: dict[str, Item] = {}
        while len(items) < count:
            draw = rng.random()
            if draw < 0.25:
                item = rng.choice(self.misconceptions)
            else:
                item = rng.choice(self.orders) if draw < 0.4 else self._ordinary(rng)
            self._add(items, item)
        return list(items.values())

    @staticmethod
    def _add(items: dict[str, Item], item: Item) -> None:
        if item.skill != "copy" or all(other.skill != "copy" for other in items.values()):
            items[item.topic] = item

    def _ordinary(self, rng: random.Random) -> Item:
        draw = rng.random()
        if draw < 0.5:
            return rng.choice(self.facts)
        return rng.choice(self.sums) if draw < 0.75 else copy_item(rng)

    def _prompt(self, rng: random.Random, items: Sequence[Item]) -> str:
        topics = [item.topic for item in items]
        listed = ", ".join(topics[:-1]) + " and " + topics[-1] if len(topics) > 1 else topics[0]
        return rng.choice(PROMPT_FORMS).format(listed)

    def _response(
        self,
        rng: random.Random,
        items: Sequence[Item],
        right: Sequence[bool],
        style: _Style | None = None,
    ) -> Response:
        style = style or _Style.draw(rng, len(items))
        clauses = [
            word(rng, item, is_right, wording)
            for item, is_right, wording in zip(items, right, style.wordings, strict=True)
        ]
        return join(clauses, style.opening, style.joints, style.closing)


@dataclass(frozen=True, slots=True)
class _Style:
    """How an answer is put into words, apart from what it says."""

    opening: str
    joints: tuple[str, ...]
    closing: str
    wordings: tuple[float, ...]
    """One number in [0, 1) a clause, that picks among the item's statements."""

    @classmethod
    def draw(cls, rng: random.Random, clauses: int) -> _Style:
        return cls(
            opening=rng.choice(OPENINGS),
            joints=tuple(rng.choice(JOINTS) for _ in range(clauses - 1)),
            closing=rng.choice(CLOSINGS),
            wordings=tuple(rng.random() for _ in range(clauses)),
        )


def copy_item(rng: random.Random) -> Item:
    """A phrase that is to be repeated; each wrong repetition changes one to four neighbouring words."""
    length = rng.choice(COPY_LENGTHS)
    words = [rng.choice(slot) for slot in COPY_SLOTS[:length]]
    wrongs = []
    for _ in range(3):
        changed = rng.randint(1, min(4, length))
        start = rng.randint(0, length - changed)
        wrong = [
            rng.choice([w for w in COPY_SLOTS[at] if w != said]) if start <= at < start + changed else said
            for at, said in enumerate(words)
        ]
        wrongs.append(" ".join(wrong))
    phrase = " ".join(words)
    return Item(
        "copy",
        f'the words "{phrase}"',
        ("the words are {answer}", "you said {answer}", "I repeat: {answer}"),
        phrase,
        tuple(wrongs),
    )


def word(rng: random.Random, item: Item, right: bool, wording: float) -> WorldClause:
    """The item as a clause; a wrong one blames the answer, or of a repeated phrase the changed words."""
    statement = item.statements[int(wording * len(item.statements))]
    answer = item.right if right else rng.choice(item.wrongs)
    text = statement.replace("{answer}", answer)
    if right:
        return WorldClause(item, text, None)
    at = statement.index("{answer}")
    start, end = changed_words(item.right, answer) if item.skill == "copy" else (0, len(answer))
    return WorldClause(item, text, (at + start, at + end))


def changed_words(said: str, repeated: str) -> tuple[int, int]:
    """Code points [start, end) of `repeated` from its first to its last word that was not said."""
    words = repeated.split(" ")
    differing = [at for at, (a, b) in enumerate(zip(said.split(" "), words, strict=True)) if a != b]
    start = sum(len(w) + 1 for w in words[: differing[0]])
    return start, len(" ".join(words[: differing[-1] + 1]))


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def join(clauses: Sequence[WorldClause], opening: str, joints: Sequence[str], closing: str) -> Response:
    """Clauses as one answer, with the errors' spans moved to where they now stand."""
    text = opening
    spans = []
    for clause, joint in zip(clauses, ["", *joints], strict=True):
        text += joint
        begins = not text or text.endswith(". ")
        if clause.wrong is not None:
            start, end = clause.wrong
            spans.append(Span(len(text) + start, len(text) + end, clause.item.label, -1.0))
        text += capitalised(clause.text) if begins else clause.text
    text = capitalised(text) + "." + closing
    return Response(text, spans=tuple(spans))
