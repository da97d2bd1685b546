import json

import pytest

from engine.errors import Cancelled, DataError, ModelError, RequestError
from engine.evaluation.request import Figure
from engine.formats.canonical import write_pairs, write_tasks
from engine.jobs import evaluate
from engine.tasks import Choice, Code, Exact, Regex, Task
from engine.types import PreferencePair, Response, Span
from tests.engine.tiny_models import byte_tokenizer, write_model


class Listener:
    def __init__(self, stop_in=None):
        self.phases, self.messages, self.stop_in = [], [], stop_in

    def __call__(self, progress=None, chunk=None, message=None):
        assert chunk is None
        if progress is not None:
            self.phases.append((progress.phase, progress.done, progress.total))
            if progress.phase == self.stop_in:
                raise Cancelled("Stop.")
        if message is not None:
            self.messages.append(message)


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    tokenizer = byte_tokenizer()
    for seed, name in enumerate(("policy", "reference")):
        write_model(folder / name, "llama", tokenizer, seed)
    write_model(folder / "other", "llama", byte_tokenizer(bos=False))
    pairs = [
        PreferencePair(
            str(number),
            f"Say {number}.",
            Response("The sky is blue and the grass is green.", spans=()),
            Response("The sky is green", spans=(Span(11, 16, "wrong"),)),
            {"part": "ab"[number % 2]},
        )
        for number in range(6)
    ]
    write_pairs(folder / "rows.jsonl", pairs)
    never, colours = Exact(answers=["never"]), Choice(options=[" blue", " green"], right=0)
    tasks = [
        Task(key="1", prompt="A?", checker=Regex(pattern="^"), category="x", max_new_tokens=5),
        Task(key="2", prompt="B?", checker=never, kept=True, category="y", max_new_tokens=5),
        Task(key="3", prompt="The sky is", checker=colours, category="y"),
    ]
    write_tasks(folder / "tasks.jsonl", tasks)
    write_tasks(folder / "code.jsonl", [Task(key="1", prompt="x = 1", checker=Code(test="assert True"))])
    return folder


def asked(places, *, rows=True, suites=("tasks",), reference="reference", **numbers):
    reference = None if reference is None else {"path": str(places / reference)}
    return {
        "request": {
            "model": {"path": str(places / "policy")},
            "reference": reference,
            "samples": 2,
            **numbers,
        },
        "rows": str(places / "rows.jsonl") if rows else None,
        "suites": [{"name": name, "path": str(places / f"{name}.jsonl")} for name in suites],
        "allow_code": False,
    }


def test_an_evaluation_gives_every_figure_and_the_same_again(places):
    listener = Listener()

    result = evaluate.run(asked(places), listener)
    again = evaluate.run(asked(places), Listener())

    assert json.loads(json.dumps(result)) == result
    assert result["figures"] == again["figures"]
    figures = [Figure.model_validate(one) for one in result["figures"]]
    assert {one.metric for one in figures if not one.part} == {
        "success",
        "pair_accuracy",
        "implicit_accuracy",
        "held_out_loss",
        "kl",
        "auroc",
        "boundary_f1",
        "forgetting",
    }
    assert {one.part for one in figures if one.suite == "tasks"} == {"", "x", "y"}
    assert {one.part for one in figures if one.suite is None} == {"", "a", "b"}
    for one in figures:
        assert one.low is None or one.low <= one.value <= one.high
    kl = next(one for one in figures if one.metric == "kl")
    assert kl.value > 0
    phases = [phase for phase, _, _ in listener.phases]
    assert list(dict.fromkeys(phases)) == [
        "loading models",
        "checking the tokens",
        "checking the tasks",
        "reading the pairs",
        "answering `tasks`",
        "measuring the divergence",
    ]
    assert ("answering `tasks`", 6, 6) in listener.phases
    assert any("pair accuracy" in message for message in listener.messages)


def test_without_reference_and_rows_there_are_only_answers(places):
    result = evaluate.run(asked(places, rows=False, reference=None), Listener())

    assert {one["metric"] for one in result["figures"]} == {"success"}


def test_without_rows_the_divergence_is_measured_on_the_tasks(places):
    result = evaluate.run(asked(places, rows=False), Listener())

    assert {one["metric"] for one in result["figures"]} == {"success", "forgetting", "kl"}


def test_a_model_is_no_different_from_itself(places):
    result = evaluate.run(asked(places, reference="policy"), Listener())

    of_all = {one["metric"]: one for one in result["figures"] if not one["part"]}
    assert of_all["kl"]["value"] == 0
    assert of_all["forgetting"]["value"] == 0
    assert of_all["implicit_accuracy"]["value"] == 0.5
    assert of_all["success"]["value"] == of_all["success"]["reference"]


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        ({"rows": False, "suites": ()}, RequestError, "nothing to evaluate on"),
        ({"suites": ("tasks", "tasks")}, RequestError, "twice"),
        ({"suites": ("code",)}, RequestError, "REWARDSCOPE_ALLOW_CODE"),
        ({"suites": ("absent",)}, DataError, "cannot be read"),
        ({"reference": "other"}, ModelError, "different tokenizers"),
        ({"samples": 0}, RequestError, "samples"),
        ({"max_response_tokens": 3}, DataError, "6 rows cannot be evaluated"),
    ],
)
def test_what_cannot_be_evaluated_is_said_before_anything_is(places, change, error, reason):
    listener = Listener()

    with pytest.raises(error, match=reason):
        evaluate.run(asked(places, **change), listener)

    assert not any(phase.startswith(("reading the pairs", "answering")) for phase, _, _ in listener.phases)


def test_a_conversation_without_a_template_is_refused(places, tmp_path):
    turns = [{"role": "user", "content": "Hello"}]
    write_tasks(places / "chat.jsonl", [Task(key="hi", prompt=turns, checker=Regex(pattern="^"))])

    with pytest.raises(ModelError, match="`hi`"):
        evaluate.run(asked(places, suites=("chat",)), Listener())


def test_a_bad_row_of_a_suite_is_named(places):
    (places / "bad.jsonl").write_text('{"prompt": "x"}\n')

    with pytest.raises(DataError, match=r"`bad`.*line 1"):
        evaluate.run(asked(places, suites=("bad",)), Listener())


@pytest.mark.parametrize("phase", ["reading the pairs", "answering `tasks`", "measuring the divergence"])
def test_a_cancelled_evaluation_stops(places, phase):
    with pytest.raises(Cancelled):
        evaluate.run(asked(places), Listener(stop_in=phase))
