"""The splits of a data set, such as train and test: how files tell theirs, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from engine.errors import DataError

SPLITS = ("train", "training", "test", "testing", "validation", "valid", "val", "dev", "eval")
"""What hubs call the parts of a data set, in names of files and folders."""
_SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}")
"""How a file is called that holds a part of a split: `train_sft-00000-of-00004.parquet`."""


def split_of(name: str) -> str | None:
    """The split that a file is of, by its folder, by how a shard is called, or by how its name begins."""
    path = Path(name.lower())
    if path.parent.name in SPLITS:
        return path.parent.name
    shard = _SHARD.match(path.name)
    if shard is not None:
        return shard[1]
    word = re.match("[a-z]*", path.name)
    return word[0] if word is not None and word[0] in SPLITS else None


def several_splits(folder: Path, splits: Sequence[str]) -> DataError:
    """The refusal of a folder of which nobody said which split is meant."""
    return DataError(
        f"`{folder}` holds several splits ({', '.join(splits)}), which are never read together; say which "
        f"one with split (in the command line --split {splits[0]})."
    )


def check_split(folder: Path, split: str, splits: Sequence[str]) -> None:
    """Raises DataError where a folder has no such split."""
    if split not in splits:
        there = f"it holds {', '.join(splits)}" if splits else "its files are of no split; name none"
        raise DataError(f"`{folder}` holds no split `{split}`: {there}.")
