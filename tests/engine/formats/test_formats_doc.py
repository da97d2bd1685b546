"""What docs/formats.md shows is what the reader reads."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest

from engine.formats.maps import RECORD_FIELDS, MapWriter, read_maps
from engine.formats.reading import read, read_tasks
from engine.tasks import Task
from engine.types import Message, PreferencePair

DOC = Path(__file__).parents[3] / "docs" / "formats.md"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", DOC.read_text(), re.DOTALL)


def pairs(block: str) -> list[PreferencePair]:
    found = list(read(io.BytesIO(block.encode())))
    assert all(isinstance(pair, PreferencePair) for pair in found), found
    return [pair for pair in found if isinstance(pair, PreferencePair)]


def blocks(kind: str) -> list[str]:
    return [text for language, text in BLOCKS if language == kind]


@pytest.mark.parametrize("block", blocks("jsonl") + blocks("csv"))
def test_every_example_row_is_read(block: str) -> None:
    assert pairs(block)


def test_the_examples_mean_what_the_text_says() -> None:
    plain, spanned, conversations, called, single = map(pairs, blocks("jsonl"))
    assert called[0].prompt[0].others["tools"]
    assert called[0].chosen.text == "<think>\nEasy.\n</think>\n\n3."
    assert plain[0].key == "capital-1"
    sums, rewarded = spanned
    assert sums.chosen is not None
    assert sums.rejected is not None
    assert sums.chosen.spans is not None
    assert sums.rejected.spans is not None
    assert [span.value for span in (*sums.chosen.spans, *sums.rejected.spans)] == [1.0, -1.0, None]
    assert sums.rejected.text[2:3] == "👍"
    assert rewarded.rejected is not None
    assert rewarded.rejected.token_offsets == ((0, 1), (1, 2))
    assert {pair.prompt for pair in conversations} == {(Message("user", "Hi"),)}
    assert single[0].chosen is None


def test_every_example_task_is_read() -> None:
    ours, public = (list(read_tasks(io.BytesIO(block.encode()))) for block in blocks("ndjson"))
    assert [task.key for task in ours if isinstance(task, Task)] == list("abcde")
    kinds = [task.checker.kind for task in public if isinstance(task, Task)]
    assert kinds == ["number", "choice", "exact", "number"]


def test_the_example_map_is_a_record(tmp_path: Path) -> None:
    (block,) = blocks("json")
    record = json.loads(block)
    assert tuple(record) == RECORD_FIELDS
    for name in ("maps.jsonl", "maps.parquet"):
        with MapWriter(tmp_path / name) as writer:
            writer.write(record)
        assert list(read_maps(tmp_path / name)) == [record]
