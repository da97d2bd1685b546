import pytest
import torch

from engine.errors import Cancelled, RequestError
from engine.evaluation.answers import answers, given, likeliest_options
from engine.evaluation.success import success
from engine.evaluation.suites import suite_figures
from engine.evaluation.while_training import MOST_TASKS, SuiteEvaluation
from engine.formats.canonical import write_tasks
from engine.tasks import Choice, Code, Exact, Regex, Task
from tests.engine.tiny_models import CONTEXT

NUMBERS = {"temperature": 1.0, "top_p": 1.0, "seed": 3, "token_budget": 4096}
ANYTHING = Regex(pattern="^")


def task(key, checker=ANYTHING, **others):
    return Task(
        **{"key": key, "prompt": f"Question {key}?", "checker": checker, "max_new_tokens": 6, **others}
    )


def test_success_is_the_share_of_the_answers_that_are_right(policies):
    tasks = [task(str(number)) for number in range(6)]
    said = answers(policies[0], tasks, samples=4, **NUMBERS)
    right = [Exact(answers=[(row[0].strip() or "-"), (row[1].strip() or "-")]) for row in said]
    asked = [one.model_copy(update={"checker": checker}) for one, checker in zip(tasks, right, strict=True)]

    shares = success(policies[0], asked, samples=4, allow_code=False, **NUMBERS)

    for share, row, checker in zip(shares, said, right, strict=True):
        expected = [answer.strip().casefold() in [a.casefold() for a in checker.answers] for answer in row]
        assert share == sum(expected) / 4
    assert all(share >= 0.25 for share in shares)


def test_answers_depend_on_seed_and_task_alone(policies):
    tasks = [task(str(number), prompt="x" * number + "?") for number in range(5)]

    whole = answers(policies[0], tasks, samples=2, **NUMBERS)
    reverse = answers(policies[0], tasks[::-1], samples=3, **NUMBERS)[::-1]
    other_seed = answers(policies[0], tasks, samples=2, **{**NUMBERS, "seed": 4})

    assert whole == [row[:2] for row in reverse]
    assert whole != other_seed


def test_an_answer_goes_on_after_prompt_and_prefix(policies):
    loaded = policies[0]
    plain = task("1", prompt="The sky is blue", prefix=" and the grass")
    chat = task("2", prompt=[{"role": "user", "content": "Hello"}], prefix="Well,")

    first, second = given(loaded, [plain, chat])

    assert loaded.tokenizer.decode(first.ids) == "<s>The sky is blue and the grass"
    assert loaded.tokenizer.decode(second.ids).endswith("<|user|>Hello\n<|assistant|>Well,")


def test_a_prompt_that_leaves_no_room_is_cut_from_the_left(policies):
    long, short = given(policies[0], [task("1", prompt="y " * 400, prefix="the end"), task("2")])

    assert len(long.ids) == CONTEXT - 6
    assert long.cut_tokens > 0
    assert policies[0].tokenizer.decode(long.ids).endswith("the end")
    assert short.cut_tokens == 0
    assert len(answers(policies[0], [task("1", prompt="y " * 400)], samples=1, **NUMBERS)[0]) == 1


def test_a_choice_is_the_option_of_the_highest_mean_logprob(policies):
    loaded = policies[0]
    options = [" blue", " green and grey", " a", "42"]

    (found,) = likeliest_options(
        loaded, [task("1", Choice(options=options, right=0), prompt="The sky is")], 512
    )

    means = []
    prompt = loaded.tokenizer("The sky is")["input_ids"]
    for option in options:
        ids = loaded.tokenizer("The sky is" + option)["input_ids"]
        assert ids[: len(prompt)] == prompt
        logprobs = loaded.model(torch.tensor([ids])).logits[0].log_softmax(-1)
        means.append(
            sum(float(logprobs[at - 1, ids[at]]) for at in range(len(prompt), len(ids)))
            / (len(ids) - len(prompt))
        )
    assert found == max(range(4), key=means.__getitem__)


def test_choices_and_answers_keep_the_order_of_the_tasks(policies):
    choice = Choice(options=["a", "b"], right=0)
    tasks = [task("1", choice), task("2"), task("3", choice.model_copy(update={"right": 1})), task("4")]
    heard = []

    shares = success(policies[0], tasks, samples=2, allow_code=False, tick=heard.append, **NUMBERS)

    assert shares[1] == shares[3] == 1
    assert {shares[0], shares[2]} <= {0, 1}
    assert heard == [2, 4]


def test_temperature_zero_answers_once(policies):
    numbers = {**NUMBERS, "temperature": 0}

    once = success(policies[0], [task("1", Exact(answers=["x"]))], samples=4, allow_code=False, **numbers)

    assert once in ([0.0], [1.0])


def test_code_runs_where_it_is_allowed_and_is_refused_elsewhere(policies):
    passing = task("1", Code(before="'''", test="'''\nassert True"))
    failing = task("2", Code(before="'''", test="'''\nassert False"))

    shares = success(policies[0], [passing, failing], samples=1, allow_code=True, **NUMBERS)

    assert shares[1] == 0
    assert shares[0] == 1
    with pytest.raises(RequestError, match="REWARDSCOPE_ALLOW_CODE"):
        success(policies[0], [passing], samples=1, allow_code=False, **NUMBERS)


def test_what_a_tick_raises_passes_through(policies):
    def stop(done):
        raise Cancelled("Stop.")

    with pytest.raises(Cancelled):
        success(policies[0], [task("1")], samples=1, allow_code=False, tick=stop, **NUMBERS)


def test_figures_of_a_suite_tell_categories_and_what_was_forgotten():
    tasks = [
        task("1", category="a"),
        task("2", category="a", kept=True),
        task("3", category="b", kept=True),
        task("4", category="b"),
    ]

    figures = suite_figures("world", tasks, [1.0, 0.5, 0.0, 0.5], [0.0, 1.0, 0.5, 0.5], 0.95)

    values = {(one.metric, one.part): (one.value, one.reference, one.count) for one in figures}
    assert values == {
        ("success", ""): (0.5, 0.5, 4),
        ("success", "a"): (0.75, 0.5, 2),
        ("success", "b"): (0.25, 0.5, 2),
        ("forgetting", ""): (0.5, None, 2),
        ("forgetting", "a"): (0.5, None, 1),
        ("forgetting", "b"): (0.5, None, 1),
    }
    assert all(one.suite == "world" for one in figures)
    assert {one.metric for one in suite_figures("world", tasks, [1.0] * 4, None, 0.95)} == {"success"}


def test_a_look_gives_curves_of_suites_and_their_categories(policies, tmp_path):
    write_tasks(tmp_path / "a", [task("1", category="x"), task("2", Exact(answers=["-"]), category="y")])
    write_tasks(tmp_path / "b", [task(str(n), max_new_tokens=1) for n in range(MOST_TASKS + 50)])
    suites = {"A": tmp_path / "a", "B": tmp_path / "b"}
    evaluation = SuiteEvaluation(suites, seed=1, token_budget=4096, allow_code=False)

    figures = evaluation(policies[0])

    assert figures == evaluation(policies[0])
    assert set(figures) == {"suite/A/all", "suite/A/x", "suite/A/y", "suite/B/all"}
    assert figures["suite/A/x"] == figures["suite/B/all"] == 1


def test_a_look_refuses_code_that_nobody_allowed(tmp_path):
    write_tasks(tmp_path / "a", [task("1", Code(test="assert True"))])

    with pytest.raises(RequestError, match="REWARDSCOPE_ALLOW_CODE"):
        SuiteEvaluation({"A": tmp_path / "a"}, seed=1, token_budget=4096, allow_code=False)
