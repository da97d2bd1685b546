"""Data sets over the API: uploads whole or not at all, lists and files, and doing a POST once."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

PATH = "/api/v1/datasets"
ROWS = [
    {"id": "a", "prompt": "1 + 1?", "chosen": "2", "rejected": "3"},
    {"id": "b", "prompt": "2 + 2?", "chosen": "4", "rejected": "=5"},
    {"id": "c", "prompt": "3 + 3?", "chosen": "6 \U0001f600", "rejected": "7"},
]


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def upload(client: TestClient, content: bytes, *, key: str | None = None, **form: str) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(PATH, files={"file": ("sums.jsonl", content)}, data=form, headers=headers)


@pytest.fixture
def dataset_id(client: TestClient) -> int:
    answer = upload(client, lines(*ROWS), name="sums")
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["id"]
    return number


def test_an_upload_becomes_a_data_set(client: TestClient) -> None:
    answer = upload(client, lines(*ROWS))
    assert answer.status_code == 201
    found = answer.json()
    assert answer.headers["location"] == f"{PATH}/{found['id']}"
    assert (found["name"], found["pair_count"], found["response_count"]) == ("sums", 3, 6)
    assert client.get(answer.headers["location"]).json() == found


def test_a_folder_of_the_server_becomes_a_data_set(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(lines(*ROWS))
    answer = client.post(PATH, json={"folder": str(tmp_path), "name": "mine"})
    assert answer.status_code == 201, answer.text
    assert answer.json()["pair_count"] == 3


@pytest.mark.parametrize(
    "content",
    [
        lines(*ROWS)[:-10],
        lines(ROWS[0], {"prompt": 1, "chosen": "a", "rejected": "b"}),
        lines(ROWS[0], {**ROWS[1], "chosen": ""}),
        lines(ROWS[0], ["no", "object"]),
        lines(ROWS[0], {**ROWS[1], "chosen_token_reward": [1, 2], "chosen_token_offsets": [[0, 1]]}),
        b'{"id": "a", "prompt": "x", "chosen": "y\\u0000", "rejected": "z"}\n',
        b"",
        b"\xff\xfe\x00garbage",
        b"PAR1 is no parquet file",
    ],
    ids=["truncated", "type", "empty", "array", "length", "nul", "nothing", "bytes", "parquet"],
)
def test_bad_data_is_refused_whole(client: TestClient, content: bytes) -> None:
    answer = upload(client, content)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]
    assert client.get(PATH).json()["data"] == []


def test_a_bad_row_is_named_with_its_line(client: TestClient) -> None:
    answer = upload(client, lines(ROWS[0], {"id": "x", "prompt": 1, "chosen": "a", "rejected": "b"}))
    assert answer.json()["errors"][0]["loc"][:2] == ["line", 2]


def test_bad_rows_are_left_out_where_that_was_asked_for(client: TestClient) -> None:
    answer = upload(client, lines(ROWS[0], {"prompt": 1}), on_error="skip")
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["pair_count"], found["skipped_count"]) == (1, 1)
    assert found["skipped_rows"][0]["line"] == 2


def test_a_form_without_a_file_says_so(client: TestClient) -> None:
    answer = client.post(PATH, files={"name": (None, "x")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", "file"]


@pytest.mark.parametrize("form", [{"on_error": "maybe"}, {"unknown": "x"}, {"name": "x" * 201}])
def test_a_form_field_that_is_wrong_is_named(client: TestClient, form: dict[str, str]) -> None:
    answer = upload(client, lines(*ROWS), **form)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["loc"] == ["body", next(iter(form))]


def test_another_kind_of_body_is_refused(client: TestClient) -> None:
    answer = client.post(PATH, content=b"x", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert answer.json()["code"] == "unsupported_media_type"


def test_a_broken_form_is_refused(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post(PATH, content=b"--y\r\n", headers=headers).status_code in (400, 422)


@pytest.mark.parametrize("body", ['{"folder": NaN}', "{", '{"folder": ""}', '{"folder": "a\\u0000"}', "[]"])
def test_a_bad_folder_request_is_refused(client: TestClient, body: str) -> None:
    answer = client.post(PATH, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422


def test_a_name_that_is_taken_is_a_conflict(client: TestClient, dataset_id: int) -> None:
    answer = upload(client, lines(*ROWS), name="sums")
    assert answer.status_code == 409
    assert answer.json()["code"] == "name_taken"


def test_the_same_key_and_upload_gets_the_first_answer(client: TestClient) -> None:
    first = upload(client, lines(*ROWS), key="k1")
    again = upload(client, lines(*ROWS), key="k1")
    assert again.status_code == first.status_code == 201
    assert again.json() == first.json()
    assert again.headers["location"] == first.headers["location"]
    assert len(client.get(PATH).json()["data"]) == 1


def test_the_same_key_with_another_upload_is_refused(client: TestClient) -> None:
    upload(client, lines(*ROWS), key="k1")
    answer = upload(client, lines(ROWS[0]), key="k1")
    assert answer.status_code == 422
    assert answer.json()["code"] == "idempotency_key_reused"


def test_a_failure_leaves_the_key_free(client: TestClient) -> None:
    assert upload(client, b"nonsense", key="k1").status_code == 422
    assert upload(client, lines(*ROWS), key="k1").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_that_is_none_is_refused(client: TestClient, key: str) -> None:
    assert upload(client, lines(*ROWS), key=key).status_code == 422


def test_a_list_is_read_page_by_page(client: TestClient) -> None:
    for name in "abcde":
        upload(client, lines(ROWS[0]), name=name)
    names, cursor = [], None
    while True:
        page = client.get(PATH, params={"limit": 2} | ({} if cursor is None else {"cursor": cursor})).json()
        assert len(page["data"]) <= 2
        names += [row["name"] for row in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert names == list("edcba")


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 501}, {"cursor": "nonsense"}, {"format": "xml"}])
def test_a_page_that_cannot_be_is_refused(client: TestClient, query: dict[str, str]) -> None:
    assert client.get(PATH, params=query).status_code == 422


def test_pairs_come_as_they_were_brought(client: TestClient, dataset_id: int) -> None:
    found = client.get(f"{PATH}/{dataset_id}/pairs").json()["data"]
    assert [(row["key"], row["chosen"]) for row in found] == [("a", "2"), ("b", "4"), ("c", "6 \U0001f600")]
    assert found[0]["score"] is None


def test_pairs_are_found_by_their_words(client: TestClient, dataset_id: int) -> None:
    found = client.get(f"{PATH}/{dataset_id}/pairs", params={"query": "2 + 2"}).json()["data"]
    assert [row["key"] for row in found] == ["b"]


def test_sorting_by_a_number_needs_a_run(client: TestClient, dataset_id: int) -> None:
    assert client.get(f"{PATH}/{dataset_id}/pairs", params={"sort": "conflict"}).status_code == 422


def test_pairs_come_as_json_lines(client: TestClient, dataset_id: int) -> None:
    answer = client.get(f"{PATH}/{dataset_id}/pairs", params={"format": "jsonl", "limit": 1})
    assert answer.headers["content-type"] == "application/jsonl"
    assert f'filename="pairs-{dataset_id}.jsonl"' in answer.headers["content-disposition"]
    assert [json.loads(line)["key"] for line in answer.text.splitlines()] == ["a", "b", "c"]


def test_pairs_come_as_csv_in_which_no_cell_is_a_formula(client: TestClient, dataset_id: int) -> None:
    answer = client.get(f"{PATH}/{dataset_id}/pairs", params={"format": "csv"})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["key"] for row in rows] == ["a", "b", "c"]
    assert rows[1]["rejected"] == "'=5"
    assert rows[2]["chosen"] == "6 \U0001f600"


def test_pairs_come_as_parquet(client: TestClient, dataset_id: int) -> None:
    answer = client.get(f"{PATH}/{dataset_id}/pairs", params={"format": "parquet"})
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column("key").to_pylist() == ["a", "b", "c"]
    assert table.column("rejected").to_pylist()[1] == "=5"
    assert table.column("position").to_pylist() == [0, 1, 2]


def test_an_empty_list_is_a_whole_file_too(client: TestClient) -> None:
    answer = client.get(PATH, params={"format": "parquet"})
    assert pq.read_table(io.BytesIO(answer.content)).num_rows == 0


def test_what_is_wrong_with_a_file_is_said_before_it_begins(client: TestClient) -> None:
    answer = client.get(f"{PATH}/1/pairs", params={"format": "jsonl"})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_deleted_data_set_is_gone(client: TestClient, dataset_id: int) -> None:
    answer = client.delete(f"{PATH}/{dataset_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.get(f"{PATH}/{dataset_id}").status_code == 404
    assert client.delete(f"{PATH}/{dataset_id}").status_code == 404


@pytest.mark.parametrize(
    ("number", "status"), [("0", 422), ("x", 422), (str(2**63), 422), (str(2**63 - 1), 404)]
)
def test_a_number_that_is_no_data_set_is_refused(client: TestClient, number: str, status: int) -> None:
    assert client.get(f"{PATH}/{number}").status_code == status


def test_a_preview_tells_what_would_be_read_and_stores_nothing(client: TestClient, tmp_path: Path) -> None:
    rows = lines(*ROWS, {"prompt": "x", "chosen": ""}, {**ROWS[0], "id": "d", "colour": "blue"})
    (tmp_path / "rows.jsonl").write_bytes(rows)

    sent = client.post(f"{PATH}/preview", files={"file": ("sums.jsonl", rows)})
    named = client.post(f"{PATH}/preview", json={"folder": str(tmp_path / "rows.jsonl")})

    assert sent.status_code == named.status_code == 200, sent.text
    assert sent.json() == named.json()
    found = sent.json()
    assert (found["rows"], found["pairs"], found["refused"]) == (5, 4, 1)
    assert found["columns_left"] == ["colour"]
    assert found["refusals"][0]["line"] == 4
    assert client.get(PATH).json()["data"] == []


def test_of_a_folder_with_several_splits_the_one_that_is_named_is_brought_in(
    client: TestClient, tmp_path: Path
) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines(*ROWS))
    (tmp_path / "test.jsonl").write_bytes(lines(ROWS[0]))
    asked = {"folder": str(tmp_path), "split": "test"}

    unclear = client.post(PATH, json={"folder": str(tmp_path)})
    previewed = client.post(f"{PATH}/preview", json=asked)
    answer = client.post(PATH, json=asked)
    of_file = upload(client, lines(*ROWS), split="test")

    assert unclear.status_code == 422
    assert "several splits (test, train)" in unclear.json()["detail"]
    assert previewed.json()["rows"] == answer.json()["pair_count"] == 1
    assert answer.json()["origin"]["split"] == "test"
    assert of_file.status_code == 422


def test_scored_responses_are_brought_in_by_a_rule_that_is_kept(client: TestClient) -> None:
    rows = lines(
        *({"prompt": "1 + 1?", "response": text, "reward": reward} for text, reward in (("2", 1), ("3", 0))),
        {"prompt": "2 + 2?", "response": "4", "reward": 1},
    )

    refused = upload(client, rows)
    previewed = client.post(
        f"{PATH}/preview", files={"file": ("x.jsonl", rows)}, data={"chosen_by": "reward"}
    )
    paired = upload(client, rows, chosen_by="reward", name="paired")
    labelled = upload(client, rows, chosen_by="reward>0.5", name="labelled")
    no_rule = upload(client, rows, chosen_by=">1", name="no rule")

    assert refused.status_code == 422
    assert "chosen_by" in refused.json()["errors"][0]["msg"]
    assert (previewed.json()["pairs"], previewed.json()["rows"]) == (1, 1)
    assert (paired.json()["pair_count"], paired.json()["response_count"]) == (1, 2)
    assert paired.json()["origin"]["chosen_by"] == "reward"
    assert "Left out: 1 prompt with a single response" in paired.json()["origin"]["left_out"][0]
    assert (labelled.json()["pair_count"], labelled.json()["response_count"]) == (3, 3)
    assert no_rule.status_code == 422
