"""Of a folder with several splits the one that is named is read, and never two together."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from engine.apart import inspect_apart, read_apart
from engine.errors import DataError, RequestError
from engine.formats.reading import read
from engine.types import PreferencePair


def written(folder: Path, *names: str) -> Path:
    """A folder with a row a file, whose prompt is the file's name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps({"id": name, "prompt": name, "chosen": "a", "rejected": "b"}))
    return folder


def prompts(folder: Path, split: str | None = None) -> list[str]:
    rows = list(read(folder, split=split))
    assert all(isinstance(row, PreferencePair) for row in rows)
    return [str(row.prompt) for row in rows if isinstance(row, PreferencePair)]


@pytest.mark.parametrize(
    ("names", "split", "expected"),
    [
        (("train-1.jsonl", "train-2.jsonl", "test.jsonl"), "train", ["train-1.jsonl", "train-2.jsonl"]),
        (("data/train/0.jsonl", "data/test/0.jsonl"), "test", ["data/test/0.jsonl"]),
        (("train/data-00000-of-00001.jsonl", "dev/0.jsonl"), "train", ["train/data-00000-of-00001.jsonl"]),
        (
            ("data/train_sft-00000-of-00001.jsonl", "data/train_prefs-00000-of-00001-4e1.jsonl"),
            "train_prefs",
            ["data/train_prefs-00000-of-00001-4e1.jsonl"],
        ),
    ],
)
def test_the_split_that_is_named_is_read(
    tmp_path: Path, names: tuple[str, ...], split: str, expected: list[str]
) -> None:
    folder = written(tmp_path, *names)

    assert prompts(folder, split) == expected
    assert [row.key for row in read_apart(folder, split=split) if isinstance(row, PreferencePair)] == expected
    assert inspect_apart(folder, split=split).rows == len(expected)
    with pytest.raises(DataError, match=r"several splits.*--split"):
        read(folder)


def test_a_split_that_is_not_there_is_refused_with_those_that_are(tmp_path: Path) -> None:
    folder = written(tmp_path, "train.jsonl", "test.jsonl")

    with pytest.raises(DataError, match="no split `dev`: it holds test, train"):
        read(folder, split="dev")
    with pytest.raises(DataError, match=r"no split `\.\./train`"):
        read(folder, split="../train")


def test_a_split_of_what_has_none_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path, "rows.jsonl")

    with pytest.raises(DataError, match="of no split"):
        read(folder, split="train")
    with pytest.raises(RequestError, match="is one file"):
        read(folder / "rows.jsonl", split="train")


def test_a_split_of_a_saved_dictionary_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "both"
    parts = {
        name: datasets.Dataset.from_list([{"prompt": name, "chosen": "a", "rejected": "b"}])
        for name in ("train", "test")
    }
    datasets.DatasetDict(parts).save_to_disk(folder)

    assert prompts(folder, "test") == ["test"]
    with pytest.raises(DataError, match=r"several splits \(train, test\)"):
        read(folder)
    with pytest.raises(DataError, match="no split `dev`"):
        read(folder, split="dev")
