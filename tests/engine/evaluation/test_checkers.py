import time

import pytest

from engine.evaluation.checkers import last_number, passes
from engine.tasks import Choice, Code, Exact, Number, Regex, Task


def task(checker, **others):
    return Task(key="1", prompt="?", checker=checker, **others)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("The answer is 42.", 42),
        ("1,234", 1234),
        ("It costs $5", 5),
        ("-3.5", -3.5),
        ("\u22127 degrees", -7),
        ("-$5 and $-6", -6),
        ("10-5", 5),
        ("10 - 4 = 6", 6),
        ("0.5 or .25", 0.25),
        ("1,2", 2),
        ("1,2345", 2345),
        ("1,234,567.89 dollars", 1234567.89),
        ("2e3", 2000),
        ("5kg", 5),
        ("50%", 50),
        ("first 7, then 3/4", 7),
        ("3 / 4", None),
        ("13/4", None),
        ("x2 and v1", None),
        ("3.", 3),
        ("\\boxed{12}", 12),
        ("#### 1,000", 1000),
        ("no number", None),
        ("", None),
    ],
)
def test_the_last_number_of_a_text(text, number):
    assert last_number(text) == number


def test_a_number_is_right_within_its_tolerance():
    assert passes(task(Number(value=3)), "Two and two make 3.0")
    assert not passes(task(Number(value=3)), "3.1")
    assert passes(task(Number(value=3, tolerance=0.2)), "3.1")
    assert not passes(task(Number(value=3)), "three")


def test_an_exact_answer_is_all_of_it_but_for_case_and_space():
    exact = task(Exact(answers=["Lima", "the city of Lima"]))

    assert passes(exact, " lima\n")
    assert passes(exact, "The City of LIMA")
    assert not passes(exact, "Lima, of course")
    assert not passes(exact, "")


def test_a_prefix_may_go_on_but_not_within_a_word():
    prefix = task(Exact(answers=["7"], prefix=True))

    assert passes(prefix, " 7.")
    assert passes(prefix, "7 and that is all")
    assert not passes(prefix, "75")
    assert not passes(prefix, "It is 7")
    assert passes(task(Exact(answers=["$"], prefix=True)), "$5")


def test_an_answer_ends_before_the_first_stop():
    stopped = task(Exact(answers=["Lima"]), stop=["\n", "Question"])

    assert passes(stopped, "Lima\nQuestion: what else?")
    assert not passes(stopped, "Not Lima")


def test_a_pattern_is_searched():
    assert passes(task(Regex(pattern=r"\b(yes|yeah)\b")), "well, yeah!")
    assert not passes(task(Regex(pattern=r"^yes")), "well, yes")


def test_a_pattern_that_takes_for_ever_is_given_up_and_counts_as_wrong():
    began = time.monotonic()

    assert not passes(task(Regex(pattern=r"(a|a)*b")), "a" * 60)
    assert time.monotonic() - began < 5


def test_a_choice_has_no_answer():
    with pytest.raises(ValueError, match="log-probabilities"):
        passes(task(Choice(options=["a", "b"], right=0)), "a")


def test_code_is_taken_from_its_fence_or_up_to_the_next_definition():
    inc = task(Code(before="def inc(x):\n", test="assert inc(1) == 2"), stop=["\ndef "])
    whole = "Here it is:\n```python\n\ndef inc(x):\n    return x + 1\n```\nHave fun with def inc!"

    assert passes(inc, "    return x + 1\n\ndef broken(:\n")
    assert passes(task(Code(before="", test="assert inc(1) == 2"), stop=["\ndef "]), whole)
    assert not passes(inc, "    return x + 2\n")
