"""Records of reward maps, and the files that hold them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from engine.errors import DataError, RequestError, RowError
from engine.formats.maps import RECORD_FIELDS, MapWriter, map_record, read_maps, token_texts
from engine.types import RewardMap, Segment, Segmentation

TEXT = "é👍b"
OFFSETS = np.array([[0, 1], [1, 2], [1, 2], [2, 3], [3, 3]], dtype=np.int32)


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def reward_map(key: str = "a", **changes: object) -> RewardMap:
    fields: dict[str, object] = {
        "key": key,
        "side": "rejected",
        "token_ids": np.array([5, 6, 7, 8, 2], dtype=np.int32),
        "offsets": OFFSETS,
        "eos": "</s>",
        "prompt_tokens": 3,
        "truncated_prompt_tokens": 0,
        "rewards": {"implicit": floats(0.5, np.nan, -0.25, 1, 0)},
        "logprobs": floats(-1, -2, -np.inf, -0.5, -0.25),
    }
    return RewardMap(**{**fields, **changes})  # type: ignore[arg-type]


def segmentation() -> Segmentation:
    return Segmentation(
        scaled=floats(0.5, np.nan, -0.25, 1, 0),
        signal=np.array([1, 1, -1, 1, 1], dtype=np.int8),
        candidates=np.array([2], dtype=np.int32),
        pivots=np.array([2, 3], dtype=np.int32),
        segments=(
            Segment(0, 2, 1, 0.5, False),
            Segment(2, 3, -1, float("nan"), True),
            Segment(3, 5, 1, 0.5, False),
        ),
        mask=np.array([False, False, True, False, True]),
        weights=floats(0, 0, 1, 0, 1),
        baseline=0.0,
        scale=1.0,
        missing=1,
    )


def record(key: str = "a") -> dict[str, object]:
    return map_record(reward_map(key), {"implicit": segmentation()}, TEXT)


def test_a_record_has_exactly_the_promised_fields() -> None:
    assert record() == {
        "id": "a",
        "side": "rejected",
        "tokens": ["é", "👍", "", "b", "</s>"],
        "offsets": [[0, 1], [1, 2], [1, 2], [2, 3], [3, 3]],
        "logprobs": [-1.0, -2.0, None, -0.5, -0.25],
        "reference_logprobs": None,
        "entropies": None,
        "token_rewards": {"implicit": [0.5, None, -0.25, 1.0, 0.0]},
        "signal": {"implicit": [1, 1, -1, 1, 1]},
        "pivots": {"implicit": [2, 3]},
        "segments": {
            "implicit": [
                {"start": 0, "end": 2, "polarity": 1, "reward": 0.5},
                {"start": 2, "end": 3, "polarity": -1, "reward": None},
                {"start": 3, "end": 5, "polarity": 1, "reward": 0.5},
            ]
        },
        "mask": {"implicit": [False, False, True, False, True]},
    }
    assert tuple(record()) == RECORD_FIELDS
    assert json.loads(json.dumps(record(), allow_nan=False)) == record()


def test_tokens_join_to_the_response_and_its_eos() -> None:
    assert "".join(token_texts(TEXT, OFFSETS, "</s>")) == TEXT + "</s>"
    assert "".join(token_texts(TEXT, OFFSETS[:-1], None)) == TEXT


def test_a_response_without_eos_keeps_its_last_token() -> None:
    assert token_texts("ab", [[0, 1], [1, 2]], None) == ["a", "b"]


@pytest.mark.parametrize("name", ["maps.jsonl", "maps.jsonl.gz", "maps.jsonl.zst", "maps.parquet"])
def test_a_file_gives_back_its_records(tmp_path: Path, name: str) -> None:
    records = [record(str(number)) for number in range(1500)]
    with MapWriter(tmp_path / name) as writer:
        for number in range(1500):
            writer.add(reward_map(str(number)), {"implicit": segmentation()}, TEXT)
        assert not (tmp_path / name).exists()
    assert writer.responses == 1500
    assert list(read_maps(tmp_path / name)) == records
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_row_groups_of_parquet_are_bounded(tmp_path: Path) -> None:
    with MapWriter(tmp_path / "maps.parquet") as writer:
        for number in range(1500):
            writer.write(record(str(number)))
    metadata = pyarrow.parquet.read_metadata(tmp_path / "maps.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [1024, 476]


def test_a_source_that_one_response_lacks_is_null_in_parquet(tmp_path: Path) -> None:
    with MapWriter(tmp_path / "maps.parquet", sources=["implicit", "spans"]) as writer:
        writer.write(record())
    (found,) = read_maps(tmp_path / "maps.parquet")
    assert found["token_rewards"] == {"implicit": [0.5, None, -0.25, 1.0, 0.0], "spans": None}


def test_a_parquet_file_without_responses_still_has_its_columns(tmp_path: Path) -> None:
    with MapWriter(tmp_path / "maps.parquet", sources=["implicit"]):
        pass
    assert pyarrow.parquet.read_schema(tmp_path / "maps.parquet").names == list(RECORD_FIELDS)


@pytest.mark.parametrize("name", ["maps.jsonl", "maps.jsonl.zst", "maps.parquet"])
def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, name: str) -> None:
    def fail() -> None:
        with MapWriter(tmp_path / name) as writer:
            writer.write(record())
            raise ValueError("the model crashed")

    with pytest.raises(ValueError, match="the model crashed"):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_source_without_a_column_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(RequestError, match="name all sources"),
        MapWriter(tmp_path / "maps.parquet", sources=["spans"]) as writer,
    ):
        writer.write(record())
    assert not list(tmp_path.iterdir())


def test_parquet_without_a_source_is_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="needs a source"), MapWriter(tmp_path / "maps.parquet") as writer:
        writer.write({**record(), "token_rewards": {}})
    assert not list(tmp_path.iterdir())


def test_another_ending_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="must end in one of"):
        MapWriter(tmp_path / "maps.csv")


def test_a_file_that_holds_no_maps_is_told(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"id": "a", "side": "chosen"}\n')
    with pytest.raises(RowError, match="field `tokens`"):
        list(read_maps(tmp_path / "pairs.jsonl"))
    (tmp_path / "cut.jsonl").write_text('{"id": ')
    with pytest.raises(DataError, match="cut off"):
        list(read_maps(tmp_path / "cut.jsonl"))
