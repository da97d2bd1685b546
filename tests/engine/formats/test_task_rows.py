import gzip
import io
import json

import pytest

from engine.errors import DataError, RowError
from engine.formats.canonical import write_tasks
from engine.formats.reading import read_suite, read_tasks
from engine.formats.rows import row_to_task
from engine.tasks import Choice, Code, Exact, Number, Regex, Task

OWN = {
    "key": "capital",
    "prompt": [{"role": "user", "content": "What is the capital of Peru?"}],
    "prefix": "It is",
    "stop": ["\n"],
    "checker": {"kind": "exact", "answers": ["Lima"], "prefix": True},
    "category": "geography",
    "kept": True,
    "max_new_tokens": 5,
}
CHOICE = {"kind": "choice", "options": ["a", "b"]}
EVERY_KIND = [
    Task(**OWN),
    Task(key="r", prompt="Say a date.", checker=Regex(pattern=r"\d{4}-\d\d-\d\d")),
    Task(key="n", prompt="6 times 7?", checker=Number(value=42)),
    Task(key="c", prompt="A cat is", checker=Choice(options=[" an animal", " a plant"], right=0)),
    Task(key="p", prompt="def f(x):\n", checker=Code(before="def f(x):\n", test="assert f(1) == 2")),
]


def read(text, **options):
    return list(read_tasks(io.BytesIO(text.encode()), **options))


def lines(*rows):
    return "\n".join(json.dumps(row) for row in rows)


def test_tasks_of_every_kind_are_read_back_as_they_were_written(tmp_path):
    path = tmp_path / "suite.jsonl"

    assert write_tasks(path, EVERY_KIND) == 5

    assert list(read_suite(path)) == EVERY_KIND
    assert list(read_tasks(path)) == EVERY_KIND


def test_rows_of_our_own_shape_take_names_and_defaults():
    (task,) = read(lines({"prompt": "2 + 2 =", "checker": {"kind": "number", "value": 4}}))

    assert task == Task(key="1", prompt="2 + 2 =", checker=Number(value=4))


@pytest.mark.parametrize(
    ("row", "checker"),
    [
        ({"checker": "exact", "answer": "Lima"}, Exact(answers=["Lima"])),
        (
            {"checker": "exact", "answers": ["a", "b"], "answer_is_prefix": True},
            Exact(answers=["a", "b"], prefix=True),
        ),
        ({"checker": "regex", "answer": "^Li"}, Regex(pattern="^Li")),
        ({"checker": "regex", "pattern": "^Li"}, Regex(pattern="^Li")),
        ({"checker": "number", "answer": "-1,234.5", "tolerance": 0.1}, Number(value=-1234.5, tolerance=0.1)),
        ({"checker": "number", "value": 3}, Number(value=3)),
        ({"checker": "choice", "options": ["x", "y"], "answer": "y"}, Choice(options=["x", "y"], right=1)),
        ({"checker": "code", "before": "", "test": "assert x"}, Code(test="assert x")),
        ({"answer": 42}, Number(value=42)),
        ({"answer": "42"}, Exact(answers=["42"])),
        ({"pattern": "a|b"}, Regex(pattern="a|b")),
        ({"answers": {"text": ["Lima", "lima"], "answer_start": [0, 1]}}, Exact(answers=["Lima", "lima"])),
    ],
)
def test_flat_rows_say_their_kind_or_show_it(row, checker):
    (task,) = read(lines({"prompt": "Well?", **row}))

    assert task.checker == checker
    assert task.prompt == "Well?"


def test_rows_of_gsm8k_ask_for_the_last_number():
    row = {"question": "Tom has 2 pens.\nAnd then?", "answer": "He has 2.\nThen <<2*600=1200>>.\n#### 1,200"}

    (task,) = read(lines(row))
    (chat,) = read(lines(row), chat=True)

    assert task.checker == Number(value=1200)
    assert task.prompt == "Question: Tom has 2 pens.\nAnd then?\nAnswer:"
    assert task.stop
    assert task.max_new_tokens == 400
    assert chat.prompt[0]["role"] == "user"


@pytest.mark.parametrize("answer", [2, "2", "C", "blue"])
def test_rows_of_mmlu_name_the_right_choice_in_any_way(answer):
    row = {
        "question": "The sky?",
        "choices": ["red", "green", "blue", "grey"],
        "answer": answer,
        "subject": "sky",
    }

    (task,) = read(lines(row))

    assert task.checker == Choice(options=[" red", " green", " blue", " grey"], right=2)
    assert task.prompt == "Question: The sky?\nAnswer:"
    assert task.category == "sky"


def test_rows_of_arc_and_hellaswag_are_choices():
    arc = {
        "id": "Mercury_1",
        "question": "Which?",
        "choices": {"text": ["one", "two"], "label": ["1", "2"]},
        "answerKey": "2",
    }
    hellaswag = {"ind": 7, "ctx": "A man sits", "endings": ["down.", "up."], "label": "0"}

    first, second = read(lines(arc, hellaswag))

    assert (first.key, first.checker) == ("Mercury_1", Choice(options=[" one", " two"], right=1))
    assert (second.key, second.prompt) == ("7", "A man sits")
    assert second.checker == Choice(options=[" down.", " up."], right=0)


def test_rows_of_humaneval_are_a_beginning_and_a_test():
    row = {
        "task_id": "HumanEval/0",
        "prompt": "def inc(x):\n",
        "canonical_solution": "    return x + 1\n",
        "test": "def check(candidate):\n    assert candidate(1) == 2\n",
        "entry_point": "inc",
    }

    (task,) = read(lines(row))

    assert task.key == "HumanEval/0"
    assert task.checker == Code(before="def inc(x):\n", test=row["test"] + "\ncheck(inc)")
    assert "\ndef " in task.stop


def test_rows_of_mbpp_are_a_wish_and_assertions():
    row = {
        "task_id": 2,
        "text": "Add one.",
        "code": "...",
        "test_list": ["assert f(1) == 2"],
        "test_setup_code": "",
    }

    (task,) = read(lines(row))

    assert task.key == "2"
    assert task.checker == Code(before="", test="assert f(1) == 2")
    assert "Add one." in task.prompt
    assert "assert f(1) == 2" in task.prompt


def test_csv_json_parquet_and_compressed_files_are_read_by_their_content(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"question": "Up?", "answer": "sky"}, {"question": "Down, or up?", "answer": "earth"}]
    csv = 'question;answer\nUp?;sky\n"Down, or up?";earth\n'
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x")
    buffer = io.BytesIO(gzip.compress(lines(*rows).encode()))

    expected = read(lines(*rows))
    assert [task.checker.answers for task in expected] == [["sky"], ["earth"]]
    assert [task.prompt for task in read(csv)] == ["Up?", "Down, or up?"]
    assert read(json.dumps(rows, indent=1)) != []
    assert list(read_tasks(tmp_path / "x")) == expected
    assert list(read_tasks(buffer)) == expected


def test_cells_of_csv_hold_choices_as_json_or_as_columns():
    as_json = 'question,choices,answer\nWhich?,"[""a"", ""b""]",B\n'
    as_columns = "question,A,B,C,answer\nWhich?,a,b,c,B\n"

    assert read(as_json)[0].checker == Choice(options=[" a", " b"], right=1)
    assert read(as_columns)[0].checker == Choice(options=[" a", " b", " c"], right=1)


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"answer": "x"}, "prompt", "missing"),
        ({"prompt": "x"}, "answer", "missing"),
        ({"prompt": 3, "answer": "x"}, "prompt", "string"),
        ({"prompt": "x", "checker": "oracle", "answer": "y"}, "checker", "choose one of"),
        ({"prompt": "x", "checker": {"kind": "regex", "pattern": "("}}, "checker.pattern", "no regular"),
        ({"prompt": "x", "checker": {**CHOICE, "right": 2}}, "checker", "does not exist"),
        ({"prompt": "x", "checker": {"kind": "exact", "answer": "y"}}, "checker.answers", "required"),
        ({"prompt": "x", "checker": {"kind": "number", "value": 1}, "kep": True}, "kep", "not permitted"),
        ({"prompt": "x", "checker": "number", "answer": "many"}, "answer", "no number"),
        ({"prompt": "x", "options": ["a", "b"], "answer": "D"}, "answer", "none of the 2 options"),
        ({"prompt": [{"role": "user"}], "answer": "x"}, "prompt", "role"),
        ({"prompt": "x\0", "answer": "x"}, "prompt", "U+0000"),
        ({"prompt": "x", "answer": "y", "max_new_tokens": 0}, "max_new_tokens", "greater"),
        ({"prompt": "x", "answer": "y", "id": [1]}, "id", "no name"),
    ],
)  # fmt: skip
def test_a_bad_row_is_told_with_line_field_and_reason(row, field, reason):
    good = {"prompt": "fine", "answer": "fine"}

    first, error, last = read(lines(good, row, good))

    assert isinstance(error, RowError)
    assert (error.line, error.field) == (2, field)
    assert reason in error.reason
    assert [first.key, last.key] == ["1", "3"]


def test_lines_that_are_no_rows_are_refused_and_reading_goes_on():
    text = '{"prompt": "x", "answer": "y"}\nnonsense\n[1]\n{"prompt": "z", "answer": "y"}'

    found = read(text)

    assert [isinstance(one, RowError) for one in found] == [False, True, True, False]


def test_a_key_is_taken_once():
    row = {"id": "a", "prompt": "x", "answer": "y"}

    _, error = read(lines(row, row))

    assert (error.line, error.field) == (2, "key")
    assert "line 1" in error.reason


@pytest.mark.parametrize("text", ["", "  \n\n", "[]"])
def test_a_file_without_tasks_is_refused(text):
    with pytest.raises(DataError, match="at least one"):
        read(text)


def test_a_suite_with_a_bad_row_is_no_suite(tmp_path):
    path = tmp_path / "suite.jsonl"
    path.write_text('{"prompt": "x"}\n')

    with pytest.raises(RowError, match="line 1"):
        list(read_suite(path))


def test_a_row_by_itself_is_a_task():
    assert row_to_task({"prompt": "x", "answer": "y"}, 4).key == "4"


@pytest.mark.parametrize("column", ["system", "tools", "images"])
@pytest.mark.parametrize("checked", [{"answer": "y"}, {"checker": CHOICE | {"right": 0}}])
def test_what_the_policy_would_not_be_given_is_refused_by_name(column, checked):
    with pytest.raises(RowError, match="not given to the policy") as refusal:
        row_to_task({"prompt": "x", column: ["be brief"], **checked}, 4)

    assert refusal.value.field == column


@pytest.mark.parametrize("empty", [None, "", []])
def test_an_empty_column_of_that_name_is_no_reason_to_refuse_a_task(empty):
    assert row_to_task({"prompt": "x", "answer": "y", "tools": empty}, 4).prompt == "x"
