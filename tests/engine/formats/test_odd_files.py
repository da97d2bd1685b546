"""Files as people have them: what is in them is read as it is, or one sentence says why not."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import DataError, RowError
from engine.formats.reading import read

ROW = {"prompt": "p", "chosen": "a", "rejected": "b"}
CELL = st.text(st.sampled_from('ab,"\r\n é;'), min_size=1, max_size=12)


def rows(content, name="rows.jsonl"):
    return list(read(io.BytesIO(content), name=name))


@settings(deadline=None)
@given(CELL, CELL, st.sampled_from(["\r\n", "\n"]))
def test_a_cell_keeps_its_line_breaks(chosen, rejected, ending):
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator=ending, quoting=csv.QUOTE_ALL)
    writer.writerows([["prompt", "chosen", "rejected"], ["p", chosen, rejected], ["q", "a", "b"]])
    first, second = rows(file.getvalue().encode(), "rows.csv")
    assert [one.text for _, one in first.sides()] == [chosen, rejected]
    assert second.prompt == "q"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("name", ["rows.csv", "rows.jsonl", "rows.json"])
def test_utf_16_is_told_of(encoding, name):
    with pytest.raises(DataError, match=rf"`{name}` is UTF-16 \(line 1\); save it as UTF-8"):
        rows(json.dumps(ROW).encode(encoding), name)


def test_lines_that_end_in_carriage_returns_alone_are_told_of():
    with pytest.raises(DataError, match="carriage return alone"):
        rows(b"prompt,chosen,rejected\rp,a,b\rq,c,d\r", "rows.csv")


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("name", ["data", "rows", "train"])
def test_rows_within_one_object_are_told_of(indent, name):
    with pytest.raises(DataError, match=f"rows in `{name}`"):
        rows(json.dumps({name: [ROW, ROW]}, indent=indent).encode(), "rows.json")


def test_an_object_that_names_something_twice_is_refused():
    twice = '{"prompt": "p", "chosen": "a", "chosen": "b", "rejected": "c"}'
    for content in (twice, f"[{twice}]"):
        (error,) = rows(content.encode(), "rows.json")
        assert isinstance(error, RowError)
        assert error.line == 1
        assert "names `chosen` twice" in error.reason


def table(tmp_path, name, **columns):
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(columns), file)
    return file


def test_a_date_beyond_the_calendar_refuses_its_row_alone(tmp_path):
    days = pa.array([0, 10_000_000], pa.int32()).cast(pa.date32())
    file = table(tmp_path, "d.parquet", prompt=["p", "q"], chosen=["a", "b"], when=days)
    first, second = read(file)
    assert first.meta == {"when": "1970-01-01"}
    assert (second.line, second.field) == (2, "when")
    assert "outside the years 1 to 9999" in second.reason


def test_a_column_that_is_there_twice_is_told_of(tmp_path):
    file = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 3, names=["prompt", "chosen", "chosen"]), file)
    with pytest.raises(DataError, match="`chosen` is there twice"):
        list(read(file))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet"),
        ("data/train-0.parquet", "data/validation-0.parquet"),
        ("data/train/0.parquet", "data/test/0.parquet"),
        ("train/0.parquet", "test/0.parquet"),
    ],
)
def test_splits_are_never_read_together(tmp_path, names):
    files = [table(tmp_path, name, prompt=[name], chosen=["a"]) for name in names]
    with pytest.raises(DataError, match="several splits"):
        read(tmp_path)
    files[1].unlink()
    assert len(list(read(tmp_path))) == 1


def test_shards_of_one_split_are_read_together(tmp_path):
    for name in ("train-0-of-2.parquet", "train-1-of-2.parquet"):
        table(tmp_path, name, prompt=[name], chosen=["a"])
    assert len(list(read(tmp_path))) == 2
