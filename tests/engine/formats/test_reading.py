"""Files and folders as people have them, whole and broken."""

from __future__ import annotations

import gzip
import io
import json
import random
import tempfile
import tracemalloc
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest
import zstandard

from engine.errors import DataError, RequestError, RowError
from engine.formats.reading import read
from engine.formats.streams import MAX_ROW_BYTES
from engine.types import Message, PreferencePair

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "p\n", "chosen": "naïve, yes", "rejected": "no", "rejected_spans": [[0, 2, "bug"]]},
    {"id": "b", "prompt": "", "chosen": None, "rejected": 'say "no"\n', "rejected_spans": None},
]
CSV = (
    "id,prompt,chosen,rejected,rejected_spans\r\n"
    'a,"p\n","naïve, yes",no,"[[0, 2, ""bug""]]"\r\n'
    'b,,,"say ""no""\n",\r\n'
)


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    span = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string())])
    columns = {name: [row.get(name) for row in rows] for name in rows[0]}
    columns["rejected_spans"] = [
        None
        if spans is None
        else [{"start": start, "end": end, "label": label} for start, end, label in spans]
        for spans in columns["rejected_spans"]
    ]
    types = {name: pa.string() for name in columns} | {"rejected_spans": pa.list_(span)}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pa.parquet.write_table(table(rows), sink)
    return sink.getvalue()


def arrow_stream(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table(rows).schema) as writer:
        writer.write_table(table(rows))
    return sink.getvalue()


def arrow_file(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table(rows).schema) as writer:
        writer.write_table(table(rows))
    return sink.getvalue()


EXPECTED = list(read(io.BytesIO(lines(ROWS))))
WAYS = {
    "jsonl": lines(ROWS),
    "jsonl with a byte order mark": b"\xef\xbb\xbf" + lines(ROWS),
    "jsonl with CRLF and blank lines": b"\r\n" + lines(ROWS).replace(b"\n", b"\r\n\r\n"),
    "jsonl without a last line break": lines(ROWS).rstrip(),
    "jsonl in gzip": gzip.compress(lines(ROWS)),
    "jsonl in zstd": zstandard.compress(lines(ROWS)),
    "jsonl in two zstd frames": zstandard.compress(lines(ROWS[:1])) + zstandard.compress(lines(ROWS[1:])),
    "a JSON array": json.dumps(ROWS, indent=2).encode(),
    "a JSON array with a byte order mark": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "csv": CSV.encode(),
    "csv with a byte order mark": b"\xef\xbb\xbf" + CSV.encode(),
    "csv in gzip": gzip.compress(CSV.encode()),
    "parquet": parquet(ROWS),
    "parquet in gzip": gzip.compress(parquet(ROWS)),
    "an arrow stream": arrow_stream(ROWS),
    "an arrow file": arrow_file(ROWS),
}


@pytest.mark.parametrize("content", WAYS.values(), ids=WAYS.keys())
def test_every_format_is_recognised_by_its_content(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    assert list(read(io.BytesIO(content))) == EXPECTED
    assert list(read(tmp_path / "file")) == EXPECTED


class Pipe(io.RawIOBase):
    """A stream that cannot go back."""

    def __init__(self, content: bytes) -> None:
        self._rest = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._rest.readinto(buffer)


@pytest.mark.parametrize("way", ["jsonl", "csv", "parquet"])
def test_streams_are_read_wherever_they_stand_and_stay_open(way: str) -> None:
    assert list(read(cast(BinaryIO, Pipe(WAYS[way])))) == EXPECTED
    with tempfile.SpooledTemporaryFile() as upload:
        upload.write(WAYS[way])
        assert list(read(cast(BinaryIO, upload), name=f"mine.{way}")) == EXPECTED
        assert not upload.closed


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_csv_may_have_other_delimiters(delimiter: str) -> None:
    content = f"prompt{delimiter}chosen{delimiter}rejected\na, b{delimiter}c; d{delimiter}e\n"
    if delimiter == ";":
        content = content.replace("c; d", '"c; d"')
    (pair,) = read(io.BytesIO(content.encode()), name="x.csv")
    assert isinstance(pair, PreferencePair)
    assert (pair.prompt, pair.chosen and pair.chosen.text) == ("a, b", "c; d")


def test_csv_holds_conversations_as_json_and_brackets_as_text() -> None:
    content = (
        'prompt,chosen,rejected\n"[{""role"": ""user"", ""content"": ""Hi""}]",Hello!,What?\n[1],[x],[]\n'
    )
    first, second = read(io.BytesIO(content.encode()))
    assert isinstance(first, PreferencePair)
    assert first.prompt == (Message("user", "Hi"),)
    assert isinstance(second, PreferencePair)
    assert (second.prompt, second.sides()[0][1].text, second.sides()[1][1].text) == ("[1]", "[x]", "[]")


def test_csv_labels_are_words_or_digits() -> None:
    content = "prompt,response,label\n,a,True\n,b,0\n,c,maybe\n"
    first, second, third = read(io.BytesIO(content.encode()))
    assert isinstance(first, PreferencePair)
    assert first.chosen is not None
    assert isinstance(second, PreferencePair)
    assert second.rejected is not None
    assert isinstance(third, RowError)
    assert (third.line, third.field) == (4, "label")


def test_times_of_parquet_become_text() -> None:
    sink = io.BytesIO()
    times = pa.array([1_700_000_000_123_456_789], pa.timestamp("ns"))
    pa.parquet.write_table(pa.table({"prompt": [""], "chosen": ["a"], "rejected": ["b"], "at": times}), sink)
    (pair,) = read(sink)
    assert isinstance(pair, PreferencePair)
    assert datetime.fromisoformat(pair.meta["at"]).microsecond == 123_456


# ------------------------------------------------------------------------------------------- broken rows


def errors(content: bytes, name: str | None = None, format: str = "auto") -> list[RowError]:
    return [row for row in read(io.BytesIO(content), format, name) if isinstance(row, RowError)]


GOOD = b'{"prompt": "", "chosen": "a", "rejected": "b"}\n'


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (b"{oops}\n", "not JSON"),
        (b"[1]\n", "no object"),
        (b'{"chosen": NaN}\n', "use null"),
        (b'{"chosen": -Infinity}\n', "use null"),
        (b'{"chosen": "\xff"}\n', "not UTF-8"),
        (b'{"prompt": "", "chosen": "\\ud800"}\n', "surrogate"),
        (b'{"prompt": "", "chosen": "\\u0000"}\n', "U+0000"),
        (b'{"a": ' + b"[" * 200_000 + b"\n", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}\n", "cannot be read"),
        (b'{"prompt": "", "chosen": "a", "chosen_token_rewards": [1e999]}\n', "infinite"),
        (b'{"prompt": "", "chosen": "' + b"x" * MAX_ROW_BYTES + b'"}\n', "larger than 4 MiB"),
        (b'{"prompt": "", "chosen": ""}\n', "empty"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_read(bad: bytes, words: str) -> None:
    found = list(read(io.BytesIO(GOOD + b"\n" + bad + GOOD)))
    assert [isinstance(row, PreferencePair) for row in found] == [True, False, True]
    error = found[1]
    assert isinstance(error, RowError)
    assert error.line == 3
    assert words in error.reason
    assert error.reason.endswith(".")


def test_a_file_cut_off_in_its_last_line_is_told() -> None:
    (error,) = errors(GOOD + GOOD[:20])
    assert error.line == 2
    assert "cut off" in error.reason


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
@pytest.mark.parametrize("damage", [lambda data: data[:-5], lambda data: data[:-9] + b"123456789"])
def test_damaged_compression_is_told(compress: Any, damage: Any) -> None:
    noise = random.Random(0)
    rows = b"".join(GOOD.replace(b'"b"', b'"%032x"' % noise.getrandbits(128)) for _ in range(5000))
    found = errors(damage(compress(rows)))
    assert found
    assert "compressed data end early" in found[-1].reason


def test_a_key_may_not_come_twice() -> None:
    content = b'{"id": "x", "prompt": "", "chosen": "a"}\n'
    (error,) = errors(content + GOOD + content)
    assert (error.line, error.field) == (3, "id")
    assert "`x` is taken by line 1" in error.reason


def test_rows_without_a_key_are_numbered_and_cannot_collide_silently() -> None:
    found = list(read(io.BytesIO(b"\n" + GOOD + b'{"id": 1, "prompt": "", "chosen": "a"}\n' + GOOD)))
    assert [row.key if isinstance(row, PreferencePair) else row.line for row in found] == ["1", 3, "3"]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b'[{"chosen": NaN}]', 1, "use null"),
        (b'[\n{"prompt": "", "chosen": "a"},\n3]', 3, "no object"),
        (b'[{"prompt": "", "chosen": "a"}\n{}]', 2, "`,` is expected"),
        (b'[{"prompt": "",\n "chosen": "a"}, {"prompt"', 2, "cut off"),
        (b'[{"prompt": "", "chosen": "a"}', 1, "is expected"),
        (b'[{"prompt": "", "chosen": "a"}] x', 1, "follows its end"),
        (b'[{"prompt": "", "chosen": "\xff"}]', 1, "not UTF-8"),
        (b'["' + b"x" * 3 * MAX_ROW_BYTES + b'"]', 1, "larger than"),
        (b"[{}, " + b"[" * 200_000, 1, "nested too deeply"),
    ],
)
def test_a_broken_array_is_told_where_it_breaks(content: bytes, line: int, words: str) -> None:
    found = errors(content)
    assert (found[-1].line, words in found[-1].reason) == (line, True), found


def test_a_long_array_is_read_through_a_small_window() -> None:
    rows = [{"prompt": "p" * 1000, "chosen": f"{number}\n", "rejected": "b"} for number in range(2000)]
    found = list(read(io.BytesIO(json.dumps(rows).encode())))
    assert [row.sides()[0][1].text for row in found if isinstance(row, PreferencePair)] == [
        f"{number}\n" for number in range(2000)
    ]


def test_csv_rows_are_numbered_by_the_line_where_they_start() -> None:
    content = b'prompt,chosen,rejected\n"two\nlines",a,b\nonly,two\n,"a"x,b\n,\xff,b\n,ok,fine\n,"open,b\n'
    found = list(read(io.BytesIO(content)))
    assert [row.line for row in found if isinstance(row, RowError)] == [4, 5, 6, 8]
    reasons = [row.reason for row in found if isinstance(row, RowError)]
    for reason, words in zip(
        reasons, ["2 cells", "no CSV", "not UTF-8", "close every quoted cell"], strict=True
    ):
        assert words in reason
    assert sum(isinstance(row, PreferencePair) for row in found) == 2


def test_csv_json_cells_are_checked() -> None:
    (error,) = errors(b"prompt,chosen,chosen_spans\n,a,[oops\n")
    assert error.field == "chosen_spans"


# ------------------------------------------------------------------------------------------- broken files


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"", None, "is empty"),
        (b"\n\n", "x.jsonl", "holds no rows"),
        (b"[]", None, "holds no rows"),
        (b"prompt,chosen,rejected\n", None, "holds no rows"),
        (b"Dear all,\nthis is a letter.", None, "neither JSONL"),
        (b"\x89PNG\r\n\x1a\n", "x.png", "neither JSONL"),
        (b"a,b\n1,2\n", "x.csv", "add a header"),
        (b"prompt,chosen,chosen\na,b,c\n", "x.csv", "twice"),
        (b"not parquet", "x.parquet", "no parquet file inside"),
        (parquet(ROWS)[:-20], "x.parquet", "damaged or cut off"),
        (arrow_file(ROWS)[:-20], None, "damaged or cut off"),
        (arrow_stream(ROWS)[:300], None, "damaged or cut off"),
    ],
)
def test_a_file_that_is_none_is_refused_with_a_sentence(content: bytes, name: str | None, words: str) -> None:
    with pytest.raises(DataError, match=words):
        list(read(io.BytesIO(content), name=name))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="check the name"):
        read(tmp_path / "no.jsonl")


def test_an_unknown_format_is_told() -> None:
    with pytest.raises(RequestError, match="choose one of auto, jsonl"):
        read(io.BytesIO(GOOD), "xml")


# ------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize("below", ["", "data"])
def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path, below: str) -> None:
    folder = tmp_path / below
    folder.mkdir(exist_ok=True)
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS[1:])))
    (folder / "a.jsonl").write_bytes(lines(ROWS[:1]))
    (folder / "README.md").write_text("words")
    (folder / ".hidden.jsonl").write_text("{")
    assert list(read(tmp_path)) == EXPECTED


def test_errors_in_a_folder_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"id": "x", "prompt": "", "chosen": "a"}\n')
    (tmp_path / "b.jsonl").write_bytes(b'oops\n{"id": "x", "prompt": "", "chosen": "a"}\n{"id": "y"}\n')
    found = [row for row in read(tmp_path) if isinstance(row, RowError)]
    assert [error.line for error in found] == [1, 2, 3]
    assert all("(In `b.jsonl`.)" in error.reason for error in found)
    assert "row 1 of the folder" in found[1].reason


def saved(folder: Path, rows: list[dict[str, Any]]) -> None:
    folder.mkdir()
    (folder / "data-00000-of-00001.arrow").write_bytes(arrow_stream(rows))
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")


def test_a_saved_data_set_is_read(tmp_path: Path) -> None:
    saved(tmp_path / "one", ROWS)
    assert list(read(tmp_path / "one")) == EXPECTED


def test_of_several_splits_one_must_be_named(tmp_path: Path) -> None:
    saved(tmp_path / "train", ROWS)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert list(read(tmp_path)) == EXPECTED
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match="several splits"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "holds no JSONL"),
        ({"a.jsonl": "{}", "b.csv": ""}, "several kinds"),
        ({"state.json": "{}"}, "names no files"),
        ({"state.json": "oops"}, "cannot be read"),
        ({"state.json": '{"_data_files": [{"filename": "../secret"}]}'}, "has no file"),
        ({"dataset_dict.json": "{}"}, "no splits"),
    ],
)
def test_a_folder_that_is_unclear_is_refused(tmp_path: Path, files: dict[str, str], words: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=words):
        list(read(tmp_path))


def test_what_datasets_saves_is_read(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    rows = [{**row, "rejected_spans": None} for row in ROWS]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"), num_shards=2)
    assert [row.key for row in read(tmp_path / "saved") if isinstance(row, PreferencePair)] == ["a", "b"]


# ------------------------------------------------------------------------------------------------- memory


class Endless(io.RawIOBase):
    """The same row `count` times, made as it is read."""

    def __init__(self, count: int) -> None:
        self._row = b'{"prompt": "' + b"p" * 2000 + b'", "chosen": "a", "rejected": "b"}\n'
        self._size = count * len(self._row)
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._size - self._position)
        start = self._position % len(self._row)
        repeated = self._row * (count // len(self._row) + 2)
        buffer[:count] = repeated[start : start + count]
        self._position += count
        return count


def consume(rows: Iterator[PreferencePair | RowError]) -> int:
    return sum(1 for _ in rows)


def test_memory_does_not_grow_with_the_file() -> None:
    tracemalloc.start()
    try:
        count = consume(read(cast(BinaryIO, io.BufferedReader(Endless(5000)))))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 5000
    assert peak < 3_000_000  # The file has 10 MB.
