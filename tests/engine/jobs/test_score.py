import numpy as np
import pytest

from engine.errors import Cancelled, DataError, RequestError
from engine.formats.canonical import write_pairs
from engine.formats.pairs import pair_to_row
from engine.jobs.score import run, score_chunks
from engine.jobs.score_file import score_file
from engine.language_models import forget_models
from engine.requests import ScoreRequest
from engine.scoring import load_models
from engine.types import Message, PreferencePair, Response
from tests.engine.chat_templates import tokenizer_of
from tests.engine.tiny_models import write_model

PAIRS = [
    PreferencePair(f"row-{n}", "The sky is " * n, Response(" blue." * (n + 1)), Response(" green."))
    for n in range(7)
]


@pytest.fixture(autouse=True, scope="module")
def _no_models_left_over():
    yield
    forget_models()


@pytest.fixture
def request_body(model_folder):
    return {
        "policy": {"path": str(model_folder("llama"))},
        "reference": {"path": str(model_folder("llama", seed=1))},
        "sources": [{"name": "implicit"}],
        "device": "cpu",
        "chunk_pairs": 3,
    }


class Reports:
    """What a job reported; asks it to stop after `most` chunks."""

    def __init__(self, most=None):
        self.most, self.chunks, self.progress, self.messages = most, [], [], []

    def __call__(self, progress=None, chunk=None, message=None):
        if chunk is not None:
            self.chunks.append(chunk)
            self.progress.append(progress)
        if message is not None:
            self.messages.append(message)
        if self.most is not None and len(self.chunks) >= self.most:
            raise Cancelled("Stop.")


def test_all_rows_are_scored_in_order_a_chunk_at_a_time(request_body, tmp_path):
    write_pairs(tmp_path / "rows.jsonl", PAIRS)
    reports = Reports()
    result = run(
        {"request": request_body, "rows": str(tmp_path / "rows.jsonl"), "start": 0, "total": 7}, reports
    )
    assert [(chunk.start, chunk.pairs) for chunk in reports.chunks] == [(0, 3), (3, 3), (6, 1)]
    assert [one.key for chunk in reports.chunks for one in chunk.maps][::2] == [pair.key for pair in PAIRS]
    assert [(one.done, one.total) for one in reports.progress] == [(3, 7), (6, 7), (7, 7)]
    tokens = sum(one.tokens for chunk in reports.chunks for one in chunk.maps)
    assert {"pairs": 7, "responses": 14, "tokens": tokens, "notes": []}.items() <= result.items()
    assert any("LlamaForCausalLM" in message and "cpu in float32" in message for message in reports.messages)


def test_a_restart_goes_on_after_the_last_chunk(request_body, tmp_path):
    write_pairs(tmp_path / "rows.jsonl", PAIRS)
    job = {"request": request_body, "rows": str(tmp_path / "rows.jsonl"), "start": 0, "total": 7}
    first, second, whole = Reports(most=1), Reports(), Reports()
    with pytest.raises(Cancelled):
        run(job, first)
    run(job | {"start": first.chunks[-1].end}, second)
    run(job, whole)
    restarted = [one for chunk in first.chunks + second.chunks for one in chunk.maps]
    for one, two in zip(restarted, [one for chunk in whole.chunks for one in chunk.maps], strict=True):
        assert (one.key, one.side) == (two.key, two.side)
        np.testing.assert_allclose(one.logprobs, two.logprobs, atol=1e-5)


def test_a_few_rows_may_come_with_the_request(request_body):
    reports = Reports()
    result = run({"request": request_body, "pairs": [pair_to_row(pair) for pair in PAIRS[:2]]}, reports)
    assert result["responses"] == 4
    assert [one.key for one in reports.chunks[0].maps] == ["row-0", "row-0", "row-1", "row-1"]


def test_a_job_without_rows_or_with_a_wrong_request_is_refused(request_body):
    with pytest.raises(RequestError, match="`rows`"):
        run({"request": request_body}, Reports())
    with pytest.raises(RequestError, match="field `beta`"):
        run({"request": request_body | {"beta": -1}, "pairs": []}, Reports())
    with pytest.raises(RequestError, match="needs a reward_model"):
        run({"request": request_body | {"sources": [{"name": "rm_prefix"}]}, "pairs": []}, Reports())


def test_a_row_that_cannot_be_scored_stops_the_job_by_name(request_body):
    with pytest.raises(DataError, match="row `row-6`"):
        run(
            {
                "request": request_body | {"max_response_tokens": 10},
                "pairs": [pair_to_row(PAIRS[0]), pair_to_row(PAIRS[6])],
            },
            Reports(),
        )


def test_all_rows_that_cannot_be_scored_are_named_before_any_is(request_body, tmp_path):
    file = tmp_path / "rows.jsonl"
    write_pairs(file, PAIRS)
    reports = Reports()
    with pytest.raises(DataError, match="rows cannot be scored; the log names them"):
        run({"request": request_body | {"max_response_tokens": 4}, "rows": str(file), "total": 7}, reports)
    assert reports.chunks == []
    named = [message for message in reports.messages if "row `row-" in message]
    assert len(named) > 1


def test_what_was_cut_is_told(request_body):
    long = PreferencePair("long", "sun " * 400, Response("cat"), Response("sun " * 400))
    result = run({"request": request_body, "pairs": [pair_to_row(long)]}, Reports())
    assert any("cut from the left" in note for note in result["notes"])
    assert any("longer than the context" in note for note in result["notes"])


def test_a_stream_reads_no_further_than_its_chunk(request_body):
    taken = []

    def rows():
        for pair in PAIRS:
            taken.append(pair.key)
            yield pair

    asked = ScoreRequest.model_validate(request_body)
    stream = score_chunks(rows(), load_models(asked), asked)
    assert next(stream).pairs == 3
    assert len(taken) == 3


def test_identical_sides_and_tools_that_no_template_reads_are_told_of(tmp_path):
    folder = write_model(tmp_path / "chat", "llama", tokenizer_of("chatml"))
    asked = (Message("user", "2 + 2?", {"tools": [{"name": "add"}]}),)
    write_pairs(
        tmp_path / "rows.jsonl",
        [
            PreferencePair("same", asked, Response("4"), Response("4")),
            PreferencePair("other", asked, Response("4"), Response("5")),
        ],
    )
    job = {"policy": {"path": str(folder)}, "reference": {"path": str(folder)}, "device": "cpu"}
    request = ScoreRequest.model_validate(job | {"sources": [{"name": "implicit"}]})

    result = run(
        {"request": request.model_dump(mode="json"), "rows": str(tmp_path / "rows.jsonl")}, Reports()
    )
    of_file = score_file(tmp_path / "rows.jsonl", tmp_path / "maps.jsonl", request, Reports())

    assert (
        result["notes"]
        == of_file["notes"]
        == [
            "Chosen and rejected say the same in 1 pair, which prefers nothing.",
            f"The chat template of `{folder}` ignores `tools`: 2 conversations bring them.",
        ]
    )
