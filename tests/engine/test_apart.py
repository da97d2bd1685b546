"""Files of strangers are read in a process of their own: they crash, fill and hold up nothing else."""

import gzip
import io
import itertools
import json
import struct
import time

import psutil
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
import pytest
import zstandard

from engine import apart
from engine.apart import inspect_apart, read_apart, read_tasks_apart
from engine.errors import DataError, RowError
from engine.formats.chosen_by import ChosenBy
from engine.formats.reading import read
from engine.inspection.rows import inspect_rows

ROWS = [
    {
        "id": "a",
        "prompt": "x",
        "chosen": "y 空",
        "rejected": "z",
        "chosen_spans": [[0, 1, "wrong"]],
        "colour": 1,
    },
    {"prompt": [{"role": "user", "content": "x"}], "chosen": "y", "rejected": "z"},
    {"prompt": "x", "chosen": ""},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def parquet(table):
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def arrow_beyond_its_buffer():
    """An Arrow file of a kilobyte whose offsets point two gigabytes beyond its text."""
    table = pa.table({"prompt": ["a"] * 3, "chosen": ["b" * 5] * 3, "rejected": ["c"] * 3})
    file = io.BytesIO()
    with ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    raw = bytearray(file.getvalue())
    at = raw.index(struct.pack("<4i", 0, 5, 10, 15))
    raw[at + 4 : at + 16] = struct.pack("<3i", 5, 2**30, 2**31 - 1)
    return bytes(raw)


def repeated_dictionary():
    """A Parquet file of kilobytes that holds gigabytes of text."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 200_000, pa.int32()), pa.array(["x" * 20_000]))
    return parquet(pa.table({"prompt": text, "chosen": text, "rejected": text}))


HOSTILE = {
    "offsets beyond the buffer": ("a.arrow", arrow_beyond_its_buffer, "crash|damaged|cannot be read"),
    "a dictionary of gigabytes": ("a.parquet", repeated_dictionary, "unpacks to more than|memory"),
    "one row of gigabytes": (
        "a.jsonl.zst",
        lambda: zstandard.compress(b'{"prompt":"' + b"a" * 2**31 + b'"}'),
        "memory|larger than",
    ),
    "a torn parquet": ("a.parquet", lambda: repeated_dictionary()[:-40], "cannot be read|damaged|no Parquet"),
}


def first_error(rows):
    for row in rows:
        if isinstance(row, RowError):
            raise row


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(120)
def test_a_hostile_file_is_refused_with_a_sentence_and_costs_this_process_nothing(name):
    called, make, says = HOSTILE[name]
    content = make()
    before = psutil.Process().memory_info().rss

    with pytest.raises((DataError, RowError), match=says):
        first_error(read_apart(io.BytesIO(content), called))

    assert psutil.Process().memory_info().rss - before < 200 * 2**20


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, lambda content: content * 4000])
def test_rows_are_those_that_are_read_here(pack):
    content = pack(LINES)
    expected = list(itertools.islice(read(io.BytesIO(content), name="x.jsonl"), 2))

    found = list(itertools.islice(read_apart(io.BytesIO(content), "x.jsonl"), 3))

    assert found[:2] == expected
    assert isinstance(found[2], RowError)
    assert found[2].line == 3


def test_a_folder_is_read_apart_too(tmp_path):
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(LINES))

    assert [type(one) for one in read_apart(tmp_path)] == [type(one) for one in read(tmp_path)]


def test_an_inspection_says_the_same():
    content = gzip.compress(LINES)

    ours, theirs = (look(io.BytesIO(content), name="x.jsonl.gz") for look in (inspect_apart, inspect_rows))

    assert ours.as_row() == theirs.as_row()


def test_what_a_rule_left_out_is_counted_on_this_side():
    rows = [{"prompt": prompt, "response": prompt, "reward": 1} for prompt in "abc"]
    rows += [{"prompt": "a", "response": "z", "reward": 0}]
    rule = ChosenBy.parse("reward")
    content = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())

    (pair,) = read_apart(io.BytesIO(content), "x.jsonl.gz", rule)

    assert (pair.chosen.text, pair.rejected.text, rule.singles) == ("a", "z", 2)


def test_tasks_are_read_apart():
    content = gzip.compress(b'{"prompt": "x", "answer": "y"}\n{"prompt": "z"}\n')

    task, error = read_tasks_apart(io.BytesIO(content))

    assert task.prompt == "x"
    assert isinstance(error, RowError)


def test_a_refusal_of_the_whole_keeps_its_words():
    with pytest.raises(DataError, match="UTF-16"):
        list(read_apart(io.BytesIO(gzip.compress("{}".encode("utf-16"))), "x.jsonl.gz"))


def test_the_reader_ends_with_whoever_listens():
    rows = read_apart(io.BytesIO(LINES * 100_000), "x.jsonl")
    next(rows)
    children = psutil.Process().children()

    rows.close()

    deadline = time.monotonic() + 5
    while any(child.is_running() and child.status() != "zombie" for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_reader_is_told_no_secret(monkeypatch):
    monkeypatch.setenv("REWARDSCOPE_TOKEN", "x")

    assert not any("TOKEN" in name or "DATABASE" in name for name in apart._ENVIRONMENT)
