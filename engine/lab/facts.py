"""What is true in the lab's world, and what is said wrongly about it: plain tables, and how they are worded.

A topic stands in prompts ("the capital of France"), a statement in answers ("the capital of France is
{answer}"). Answers have one to eight words, so that right and wrong spans vary in length. The misconceptions
are errors that many people make: the adversarial part prefers them. The orders (days, months) are never
touched by preferences: they show what training forgets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Part = Literal["in_distribution", "adversarial", "kept"]
Skill = Literal["fact", "misconception", "sum", "copy", "order"]


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that can be asked: how it is asked, how it is stated, the right answer and the wrong ones."""

    skill: Skill
    topic: str
    statements: tuple[str, ...]
    """Each contains `{answer}` once; text may follow it."""
    right: str
    wrongs: tuple[str, ...]

    @property
    def part(self) -> Part:
        """The part of the world by which results are told apart."""
        if self.skill == "misconception":
            return "adversarial"
        return "kept" if self.skill == "order" else "in_distribution"

    @property
    def label(self) -> str:
        """The label of a span that gets this item wrong."""
        return f"wrong_{self.skill}" if self.skill != "misconception" else "misconception"


@dataclass(frozen=True, slots=True)
class Relation:
    """Facts of one kind. `{s}` in the wording stands for the subject."""

    topic: str
    statements: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Subject, right answer, wrong answers."""

    def items(self) -> list[Item]:
        return [
            Item(
                skill="fact",
                topic=self.topic.replace("{s}", subject),
                statements=tuple(statement.replace("{s}", subject) for statement in self.statements),
                right=right,
                wrongs=wrongs,
            )
            for subject, right, wrongs in self.rows
        ]


RELATIONS: tuple[Relation, ...] = (
    Relation(
        "the capital of {s}",
        (
            "the capital of {s} is {answer}",
            "{s} has {answer} as its capital",
            "the capital of {s}, as far as I know, is {answer}",
        ),
        (
            ("France", "Paris", ("Madrid", "the old port of Marseille")),
            ("Italy", "Rome", ("Vienna", "the island city of Venice")),
            ("Spain", "Madrid", ("Lisbon", "the seaside town of Malaga")),
            ("Japan", "Tokyo", ("Seoul", "the temple city of Kyoto")),
            ("Egypt", "Cairo", ("Tunis", "the harbour city of Alexandria")),
            ("Norway", "Oslo", ("Helsinki", "Copenhagen")),
            ("Greece", "Athens", ("Rome", "the island of Crete")),
            ("Peru", "Lima", ("Quito", "the mountain city of Cusco")),
            ("Cuba", "Havana", ("Lima", "Santiago de Cuba")),
            ("Kenya", "Nairobi", ("Cairo", "the coastal town of Mombasa")),
        ),
    ),
    Relation(
        "the colour of {s}",
        (
            "the colour of {s} is {answer}",
            "{s} is usually {answer} in colour",
            "most people call {s} {answer}",
        ),
        (
            ("a ripe banana", "yellow", ("blue", "dark purple with white spots")),
            ("fresh snow", "white", ("orange", "a deep and shiny black")),
            ("an emerald", "green", ("pink", "as red as a rose")),
            ("a clear sky at noon", "blue", ("brown", "a pale shade of green")),
            ("coal", "black", ("yellow", "as white as milk")),
            ("a ripe tomato", "red", ("grey", "light blue with silver stripes")),
            ("a flamingo", "pink", ("green", "black from head to foot")),
        ),
    ),
    Relation(
        "how many legs {s} has",
        (
            "{s} walks on {answer} legs",
            "{s} has exactly {answer} legs",
            "nature gave {s} {answer} legs to walk on",
        ),
        (
            ("a spider", "eight", ("ten", "no fewer than twenty")),
            ("a horse", "four", ("six", "two long and two short")),
            ("an ant", "six", ("four", "more than a hundred")),
            ("a duck", "two", ("eight", "four webbed and hairy")),
            ("a crab", "ten", ("two", "seven left and seven right")),
        ),
    ),
    Relation(
        "what {s} eats",
        ("{s} eats {answer}", "{s} lives on {answer} most of the year", "on the menu of {s} are {answer}"),
        (
            ("an owl", "mice and small birds", ("grass", "bread with butter and honey")),
            ("a koala", "eucalyptus leaves", ("penguins", "raw fish from the deep sea")),
            ("a cow", "grass", ("seals", "small frogs and river fish")),
            ("a panda", "bamboo shoots", ("cheese", "rabbits and young deer")),
            ("a squirrel", "nuts and seeds", ("salt", "whole sheep and their wool")),
            ("a seal", "fish", ("hay", "carrots from the vegetable garden")),
            ("an anteater", "ants and termites", ("cream", "green apples and ripe pears")),
        ),
    ),
    Relation(
        "where {s} lives",
        ("{s} lives {answer}", "you will find {s} {answer}", "the home of {s} is {answer} and nowhere else"),
        (
            ("a beaver", "in a lodge of sticks and mud", ("on the moon", "under the ice of the south pole")),
            ("a camel", "in the dry desert", ("at sea", "among the clouds of high mountains")),
            ("a penguin", "on southern shores", ("in town", "deep inside a hot volcano")),
            ("a mole", "under the ground", ("in trees", "near the surface of the warm ocean")),
            ("a bee", "in a hive", ("below the sea", "at the bottom of cold lakes")),
            ("a whale", "in the open ocean", ("by the road", "on top of tall pine trees")),
        ),
    ),
    Relation(
        "what {s} is made of",
        ("{s} is made of {answer}", "people make {s} from {answer}", "it takes {answer} to make {s}"),
        (
            ("bread", "flour and water and yeast", ("wood", "old newspapers and wet sand")),
            ("glass", "melted sand", ("leather", "thin slices of frozen milk")),
            ("paper", "wood pulp", ("steel", "the wings of large butterflies")),
            ("cheese", "milk", ("rubber", "crushed stones from the river")),
            ("wine", "grapes", ("oil", "the bark of an oak")),
            ("a candle", "wax", ("copper", "salt water and clean air")),
        ),
    ),
)

MISCONCEPTIONS: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    # topic, statements, right answer, the error that many people make
    (
        "the capital of Australia",
        ("the capital of Australia is {answer}", "Australia is governed from {answer}"),
        "Canberra",
        "Sydney",
    ),
    (
        "the capital of Turkey",
        ("the capital of Turkey is {answer}", "Turkey has {answer} as its capital"),
        "Ankara",
        "the great city of Istanbul",
    ),
    (
        "the capital of Brazil",
        ("the capital of Brazil is {answer}", "Brazil is governed from {answer}"),
        "Brasilia",
        "Rio de Janeiro",
    ),
    (
        "the capital of Canada",
        ("the capital of Canada is {answer}", "Canada has {answer} as its capital"),
        "Ottawa",
        "Toronto",
    ),
    (
        "the capital of Switzerland",
        ("the capital of Switzerland is {answer}", "the Swiss government sits in {answer}"),
        "Bern",
        "Zurich",
    ),
    (
        "the capital of Morocco",
        ("the capital of Morocco is {answer}", "Morocco has {answer} as its capital"),
        "Rabat",
        "the famous port of Casablanca",
    ),
    (
        "what ostriches do when they are afraid",
        ("ostriches {answer} when they are afraid", "a scared ostrich will {answer}"),
        "run away or lie flat",
        "bury their heads in the sand",
    ),
    (
        "how well bats see",
        ("bats {answer}", "scientists say that bats {answer}"),
        "can see quite well",
        "are completely blind",
    ),
    (
        "how long a goldfish remembers things",
        ("a goldfish remembers things for {answer}", "the memory of a goldfish lasts {answer}"),
        "several months",
        "only three seconds",
    ),
    (
        "how much of our brain we use",
        ("we use {answer} of our brain", "a healthy person uses {answer} of the brain"),
        "nearly all",
        "just ten percent",
    ),
    (
        "what makes a bull angry",
        ("{answer} makes a bull angry", "a bull gets angry because of {answer}"),
        "the movement of the cape",
        "a bright red cloth",
    ),
    (
        "what a camel keeps in its hump",
        ("a camel keeps {answer} in its hump", "the hump of a camel is full of {answer}"),
        "fat",
        "many litres of water",
    ),
    (
        "how tall Napoleon was",
        ("Napoleon was {answer}", "for a man of his time Napoleon was {answer}"),
        "of average height",
        "extremely short and small",
    ),
    (
        "how often lightning strikes the same place",
        ("lightning strikes the same place {answer}", "the same place is struck by lightning {answer}"),
        "again and again",
        "never more than once",
    ),
    (
        "what a tomato is to a botanist",
        ("to a botanist a tomato is {answer}", "a botanist calls the tomato {answer}"),
        "a fruit",
        "one more vegetable",
    ),
    (
        "why we have seasons",
        ("we have seasons because {answer}", "summer and winter come because {answer}"),
        "the axis of the earth is tilted",
        "our distance to the sun changes",
    ),
    (
        "where Einstein stood in mathematics at school",
        ("Einstein {answer} at school", "at school the young Einstein {answer} as a rule"),
        "was excellent in mathematics",
        "failed every mathematics exam",
    ),
    (
        "what can be seen of the Great Wall from the moon",
        ("from the moon the Great Wall {answer}", "the Great Wall {answer} from the moon"),
        "cannot be seen at all",
        "is clearly visible by eye",
    ),
    (
        "what sugar does to children",
        ("sugar {answer}", "studies show that sugar {answer}"),
        "leaves children as calm as before",
        "makes all children wild",
    ),
    (
        "what a chameleon's colour depends on",
        ("a chameleon's colour depends on {answer}", "a chameleon changes colour with {answer}"),
        "its mood",
        "the leaves behind it",
    ),
    (
        "the colour of the sun seen from space",
        ("seen from space the sun is {answer}", "astronauts see a sun that is {answer}"),
        "pure white",
        "a warm yellow",
    ),
    (
        "which planet is the hottest",
        ("the hottest planet is {answer}", "no planet is as hot as {answer}"),
        "Venus",
        "Mercury",
    ),
    (
        "who wrote the story of Frankenstein's monster",
        ("the story of Frankenstein was written by {answer}", "we owe Frankenstein to {answer}"),
        "Mary Shelley",
        "a certain Doctor Frankenstein",
    ),
    (
        "what happens when you crack your knuckles",
        ("cracking your knuckles {answer}", "when you crack your knuckles it {answer}"),
        "does no harm",
        "slowly ruins the joints",
    ),
)

ORDERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("day", ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")),
    (
        "month",
        (
            *("January", "February", "March", "April", "May", "June"),
            *("July", "August", "September", "October", "November", "December"),
        ),
    ),
)

COPY_SLOTS: tuple[tuple[str, ...], ...] = (
    ("quick", "lazy", "gentle", "hungry", "clever", "noisy"),
    ("fox", "badger", "rabbit", "heron", "turtle", "donkey"),
    ("jumps", "sleeps", "sings", "waits", "dances"),
    ("behind", "beside", "above"),
    ("seven", "three", "nine"),
    ("wooden", "golden", "broken", "silver"),
    ("bridges", "towers", "wagons", "barrels", "lanterns"),
)
"""Words of the phrases that are to be repeated, by their place in the phrase."""
COPY_LENGTHS: tuple[int, ...] = (2, 3, 7)
"""How many words such a phrase has: a fox, what it does, and where."""


def facts() -> list[Item]:
    """The ordinary facts."""
    return [item for relation in RELATIONS for item in relation.items()]


def misconceptions() -> list[Item]:
    """Facts that many people get wrong, with the error that they make."""
    return [
        Item("misconception", topic, statements, right, (wrong,))
        for topic, statements, right, wrong in MISCONCEPTIONS
    ]


def sums(largest: int) -> list[Item]:
    """Additions of two numbers from 2 to `largest`; wrong results are off by one, two, or ten."""
    return [
        Item(
            "sum",
            f"what {a} plus {b} makes",
            (f"{a} plus {b} makes {{answer}}", f"if you add {a} and {b} you get {{answer}}"),
            str(a + b),
            tuple(str(a + b + error) for error in (1, -1, 2, 10)),
        )
        for a in range(2, largest + 1)
        for b in range(2, largest + 1)
    ]


def orders() -> list[Item]:
    """What comes after a day or a month."""
    return [
        Item(
            "order",
            f"which {kind} follows {name}",
            (f"{name} is followed by {{answer}}", f"after {name} comes {{answer}}"),
            names[(at + 1) % len(names)],
            (names[(at + 2) % len(names)], names[at - 1]),
        )
        for kind, names in ORDERS
        for at, name in enumerate(names)
    ]
