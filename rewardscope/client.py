"""A RewardScope server from Python: bring data, score it, follow the run, read what it found.

    with RewardScope("http://127.0.0.1:8321", token) as server:
        data = server.upload_dataset("pairs.jsonl")
        run = server.wait(server.submit_scoring(data["id"], policy="my/policy", reference="my/base"))
        for reward_map in server.maps(run.id):
            ...

Answers are the API's JSON, but for runs, which know whether they are over. A POST that creates work carries
an Idempotency-Key, so that it is sent again when the connection breaks and still does its work once.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx

from rewardscope.errors import RecipeNotSucceeded, RunNotSucceeded, ServerRefused

Json = dict[str, Any]
Side = Literal["chosen", "rejected"]
Answer = TypeVar("Answer")
TableFormat = Literal["jsonl", "csv", "parquet"]
OVER = frozenset({"succeeded", "failed", "crashed", "cancelled"})
TRIES = 3
FIRST_POLL_SECONDS = 0.1
LAST_POLL_SECONDS = 2.0
PAGE = 500


@dataclass(frozen=True, slots=True)
class RemoteRun:
    """A run as the server told of it."""

    id: int
    kind: str
    name: str
    dataset_id: int | None
    status: str
    """`queued`, `running`, `succeeded`, `failed`, `crashed` or `cancelled`."""
    phase: str
    done: int
    total: int | None
    unit: str
    eta_seconds: float | None
    error: Json | None
    """{code, detail} of a run that ended early."""
    raw: Json
    """All of the server's answer."""

    @property
    def is_over(self) -> bool:
        return self.status in OVER

    @classmethod
    def of(cls, raw: Json) -> RemoteRun:
        """The run that an answer describes."""
        job = raw["job"]
        return cls(
            id=raw["id"],
            kind=raw["kind"],
            name=raw["name"],
            dataset_id=raw["dataset_id"],
            status=job["status"],
            phase=job["phase"],
            done=job["done"],
            total=job["total"],
            unit=job["unit"],
            eta_seconds=job["eta_seconds"],
            error=job["error"],
            raw=raw,
        )


class RewardScope:
    """One server. Raises ServerRefused for what it refuses, httpx.TransportError where it is away."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/api/v1/",
            headers={"Authorization": f"Bearer {token}"},
            timeout=timeout_seconds,
            transport=transport,
        )

    @classmethod
    def from_environment(cls) -> RewardScope:
        """The server that REWARDSCOPE_URL and REWARDSCOPE_TOKEN name. Raises KeyError without them."""
        return cls(os.environ["REWARDSCOPE_URL"], os.environ["REWARDSCOPE_TOKEN"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # ------------------------------------------------------------------------------------------- what goes in

    def upload_dataset(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        on_error: Literal["fail", "skip"] = "fail",
        chosen_by: str | None = None,
    ) -> Json:
        """Brings a file of preference pairs in; returns the data set.

        `chosen_by` says which of single, scored responses are preferred: a column (`reward`), or one with a
        threshold (`reward>0.5`).
        """
        given = {"on_error": on_error, "name": name, "chosen_by": chosen_by}
        form = {field: value for field, value in given.items() if value is not None}
        return self._post("datasets", data=form, file=Path(path))

    def preview_dataset(self, path: str | Path, *, chosen_by: str | None = None) -> Json:
        """What `upload_dataset` would read of the same file, with its first rows; nothing is stored."""
        form = {} if chosen_by is None else {"chosen_by": chosen_by}
        return self._post("datasets/preview", data=form, file=Path(path))

    def import_folder(
        self,
        folder: str,
        *,
        name: str | None = None,
        on_error: Literal["fail", "skip"] = "fail",
        chosen_by: str | None = None,
        split: str | None = None,
    ) -> Json:
        """Brings in what lies in a folder that the server can read, of which `split` names a split; returns
        the data set."""
        given = {"name": name, "on_error": on_error, "chosen_by": chosen_by, "split": split}
        asked = {"folder": folder, **{field: value for field, value in given.items() if value is not None}}
        return self._post("datasets", json=asked)

    def register_model(self, path: str, *, revision: str | None = None, name: str | None = None) -> Json:
        """Makes a model known by name: a folder that the server can read, or a name on a hub."""
        return self._post("models", json={"path": path, "revision": revision, "name": name})

    def import_suite(self, path: str | Path, *, name: str | None = None) -> Json:
        """Brings a file of tasks in; returns the task suite, the one that is there where it is the same."""
        return self._post("task-suites", data={} if name is None else {"name": name}, file=Path(path))

    def load_demo(self) -> RemoteRun:
        """Asks for the demo; returns the run that brings it."""
        return RemoteRun.of(self._post("demo"))

    # ------------------------------------------------------------------------------------------------ scoring

    def submit_scoring(
        self,
        dataset_id: int,
        *,
        policy: int | str | None = None,
        reference: int | str | None = None,
        reward_model: int | str | None = None,
        sources: Sequence[str | Mapping[str, Any]] | None = None,
        name: str | None = None,
        **numbers: Any,
    ) -> RemoteRun:
        """Queues the scoring of a data set; `numbers` are further fields of the request, such as `beta`."""
        body = {
            "dataset_id": dataset_id,
            "policy": policy,
            "reference": reference,
            "reward_model": reward_model,
            "sources": None if sources is None else list(sources),
            "name": name,
            **numbers,
        }
        return RemoteRun.of(self._post("scorings", json=body))

    def score(
        self,
        prompt: str | Sequence[Mapping[str, str]],
        *,
        chosen: str | None = None,
        rejected: str | None = None,
        policy: int | str | None = None,
        reference: int | str | None = None,
        reward_model: int | str | None = None,
        wait_seconds: float | None = None,
        **numbers: Any,
    ) -> list[Json]:
        """Scores one or two responses now; returns a reward map each, as `rewardscope score` writes them.

        Raises RunNotSucceeded, and TimeoutError after `wait_seconds`.
        """
        body = {
            "prompt": prompt if isinstance(prompt, str) else list(prompt),
            "chosen": chosen,
            "rejected": rejected,
            "policy": policy,
            "reference": reference,
            "reward_model": reward_model,
            **numbers,
        }
        answer = self._post("scores", json=body)
        if "maps" not in answer:  # 202: the server did not want to wait any longer, so we do
            answer = self.wait(answer["id"], timeout_seconds=wait_seconds).raw["result"]
        maps: list[Json] = answer["maps"]
        return maps

    def segment(
        self, token_rewards: Sequence[float | None], *, sign: Literal[1, -1] = 1, **rule: Any
    ) -> Json:
        """Cuts and masks one response by a rule (`segmenter`, `baseline`, `scale`, ...); stores nothing."""
        return self._post("segmentations", json={"token_rewards": list(token_rewards), "sign": sign, **rule})

    # -------------------------------------------------------------------------------- evaluations and recipes

    def submit_evaluation(
        self,
        model: int | str,
        *,
        reference: int | str | None = None,
        dataset_id: int | None = None,
        suite_ids: Sequence[int] = (),
        name: str | None = None,
        **numbers: Any,
    ) -> RemoteRun:
        """Queues the evaluation of a model; `numbers` are further fields, such as `samples`."""
        body = {
            "model": model,
            "reference": reference,
            "dataset_id": dataset_id,
            "suite_ids": list(suite_ids),
            "name": name,
            **numbers,
        }
        return RemoteRun.of(self._post("evaluations", json=body))

    def figures(self, *, model_ids: Sequence[int] = (), run_ids: Sequence[int] = ()) -> Iterator[Json]:
        """Figures of evaluations that succeeded, of some models or runs or of all, the newest first."""
        return self._list("evaluations", model_id=list(model_ids), run_id=list(run_ids))

    def submit_recipe(self, dataset_id: int, model: int | str, **fields: Any) -> Json:
        """Queues a recipe; `fields` are further ones of the request, such as `methods` or `suite_ids`."""
        return self._post("recipes", json={"dataset_id": dataset_id, "model": model, **fields})

    def preview_recipe(self, dataset_id: int, model: int | str, **fields: Any) -> Json:
        """The steps that a recipe would make, and what to know of it."""
        return self._post("recipes/preview", json={"dataset_id": dataset_id, "model": model, **fields})

    def recipe(self, recipe_id: int) -> Json:
        """A recipe with its steps and its table as they are now."""
        return self._get(f"recipes/{recipe_id}")

    def recipes(self) -> Iterator[Json]:
        """Recipes, newest first."""
        return self._list("recipes")

    def cancel_recipe(self, recipe_id: int) -> Json:
        """Asks every run of the recipe to stop."""
        return self._post(f"recipes/{recipe_id}/cancel")

    def retry_recipe(self, recipe_id: int) -> Json:
        """Does again what did not succeed."""
        return self._post(f"recipes/{recipe_id}/retry")

    def wait_for_recipe(
        self,
        recipe_id: int,
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[Json], None] | None = None,
    ) -> Json:
        """The recipe once all of it succeeded. Raises RecipeNotSucceeded, and TimeoutError when the time is
        over."""
        for current in self._repeatedly(lambda: self.recipe(recipe_id), timeout_seconds):
            if on_progress is not None:
                on_progress(current)
            if current["status"] == "succeeded":
                return current
            if current["is_over"]:
                reasons = [f"{step['name']}: {step['reason']}" for step in current["steps"] if step["reason"]]
                raise RecipeNotSucceeded(recipe_id, current["status"], reasons)
        raise TimeoutError(
            f"Recipe {recipe_id} is not over after {timeout_seconds} s; it goes on without us."
        )

    # ----------------------------------------------------------------------------------------------- training

    def submit_training(
        self,
        dataset_id: int,
        *,
        model: int | str,
        method: str | Mapping[str, Any],
        density: str | None = None,
        scoring_run: RemoteRun | int | None = None,
        name: str | None = None,
        **fields: Any,
    ) -> RemoteRun:
        """Queues a training; `fields` are further ones of the request, such as `optimisation={"steps": 100}`.

        `method` is a name, or {"name": ..., ...} with its numbers. Raises ServerRefused where the request is
        wrong, before anything starts.
        """
        body = _training(dataset_id, model, method, density, scoring_run, name, fields)
        return RemoteRun.of(self._post("trainings", json=body))

    def preview_training(
        self,
        dataset_id: int,
        *,
        model: int | str,
        method: str | Mapping[str, Any],
        density: str | None = None,
        scoring_run: RemoteRun | int | None = None,
        name: str | None = None,
        **fields: Any,
    ) -> Json:
        """What `submit_training` would do: rows, steps, memory, what the mask keeps, warnings."""
        body = _training(dataset_id, model, method, density, scoring_run, name, fields)
        return self._post("trainings/preview", json=body)

    def metrics(
        self,
        run_id: int,
        names: Sequence[str] | None = None,
        *,
        since: int | None = None,
        until: int | None = None,
        max_points: int | None = None,
    ) -> dict[str, Json]:
        """Curves of a run by name: {"steps", "values", "points", "binned"}, of later steps than `since`."""
        wanted = None if names is None else ",".join(names)
        found = self._get(
            f"runs/{run_id}/metrics", names=wanted, since=since, until=until, max_points=max_points
        )
        series: dict[str, Json] = found["series"]
        return series

    def checkpoints(self, run_id: int) -> list[Json]:
        """Checkpoints of a training that are on disk, oldest first."""
        found: list[Json] = self._request("GET", f"runs/{run_id}/checkpoints").json()
        return found

    def clone_run(self, run_id: int, **changes: Any) -> RemoteRun:
        """Asks for the same scoring, training or evaluation once more, with some fields changed."""
        found = self._get(f"runs/{run_id}/clone")
        return RemoteRun.of(
            self._post(found["address"].removeprefix("/api/v1/"), json=found["body"] | changes)
        )

    def download_model(self, model_id: int, path: str | Path) -> Path:
        """Writes a model that a training made into a tar file; the file appears once it is whole."""
        return self._stream(f"models/{model_id}/download", Path(path))

    # --------------------------------------------------------------------------------------------------- runs

    def run(self, run_id: int) -> RemoteRun:
        """One run."""
        return RemoteRun.of(self._get(f"runs/{run_id}"))

    def runs(self, *, kind: str | None = None, status: str | None = None) -> Iterator[RemoteRun]:
        """Runs, newest first."""
        return (RemoteRun.of(raw) for raw in self._list("runs", kind=kind, status=status))

    def wait(
        self,
        run: RemoteRun | int,
        *,
        timeout_seconds: float | None = None,
        on_progress: Callable[[RemoteRun], None] | None = None,
    ) -> RemoteRun:
        """The run once it succeeded. Raises RunNotSucceeded, and TimeoutError when the time is over."""
        run_id = run if isinstance(run, int) else run.id
        for current in self._repeatedly(lambda: self.run(run_id), timeout_seconds):
            if on_progress is not None:
                on_progress(current)
            if current.status == "succeeded":
                return current
            if current.is_over:
                raise RunNotSucceeded(run_id, current.status, (current.error or {}).get("detail", ""))
        raise TimeoutError(f"Run {run_id} is not over after {timeout_seconds} s; it goes on without us.")

    def cancel(self, run_id: int) -> RemoteRun:
        """Asks the run to stop."""
        return RemoteRun.of(self._post(f"runs/{run_id}/cancel"))

    def retry(self, run_id: int) -> RemoteRun:
        """Queues a run again that did not succeed."""
        return RemoteRun.of(self._post(f"runs/{run_id}/retry"))

    def delete_run(self, run_id: int) -> None:
        """Removes a run with all it left."""
        self._request("DELETE", f"runs/{run_id}")

    def logs(self, run_id: int, *, follow: bool = False) -> Iterator[Json]:
        """What the run's job said, line by line; with `follow` until the run is over."""
        since, pause = 0, FIRST_POLL_SECONDS
        while True:
            page = self._get(f"runs/{run_id}/logs", since=since)
            yield from page["data"]
            since = page["since"]
            if page["data"]:
                pause = FIRST_POLL_SECONDS
                continue
            if not follow or page["is_over"]:
                return
            time.sleep(pause)
            pause = min(2 * pause, LAST_POLL_SECONDS)

    # ------------------------------------------------------------------------------------------ what is found

    def suites(self) -> Iterator[Json]:
        """Task suites, newest first."""
        return self._list("task-suites")

    def datasets(self) -> Iterator[Json]:
        """Data sets, newest first."""
        return self._list("datasets")

    def models(self) -> Iterator[Json]:
        """Models, newest first."""
        return self._list("models")

    def pairs(self, dataset_id: int, **query: Any) -> Iterator[Json]:
        """Pairs of a data set; `query` sorts and filters, such as `run_id=1, sort="conflict"`."""
        return self._list(f"datasets/{dataset_id}/pairs", **query)

    def sources(self, run_id: int) -> list[Json]:
        """The sources of a run with their rules and numbers."""
        found: list[Json] = self._request("GET", f"runs/{run_id}/sources").json()
        return found

    def maps(self, run_id: int) -> Iterator[Json]:
        """Reward maps of a run, in the order of its rows."""
        return self._list(f"runs/{run_id}/maps")

    def records(self, run_id: int) -> Iterator[Json]:
        """Reward maps of a run that succeeded, cut by its rules: tokens, token rewards, signal, pivots,
        segments and mask by source, as `rewardscope score` writes them."""
        return self._list(f"runs/{run_id}/records")

    def map(self, run_id: int, pair_id: int, side: Side) -> Json:
        """One reward map."""
        return self._get(f"runs/{run_id}/maps/{pair_id}/{side}")

    def segments(self, run_id: int, **query: Any) -> Iterator[Json]:
        """Segments of a run by reward, the most negative first."""
        return self._list(f"runs/{run_id}/segments", **query)

    def download(self, what: str, path: str | Path, kind: TableFormat = "jsonl") -> Path:
        """Writes a whole list, such as `runs/1/records`, into a file; the file appears once it is whole."""
        return self._stream(what, Path(path), format=kind)

    # ----------------------------------------------------------------------------------------------- the wire

    def _stream(self, what: str, target: Path, **query: str) -> Path:
        """Writes an answer into a file that appears once it is whole."""
        beside = target.with_name(f".{target.name}-{uuid.uuid4().hex[:8]}")
        try:
            with self._http.stream("GET", what, params=query) as answer, beside.open("wb") as file:
                if answer.is_error:
                    answer.read()
                    raise ServerRefused.of(answer)
                for chunk in answer.iter_bytes():
                    file.write(chunk)
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        return target

    def _repeatedly(self, ask: Callable[[], Answer], timeout_seconds: float | None) -> Iterator[Answer]:
        """The answer again and again, less and less often, until the time is over."""
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        pause = FIRST_POLL_SECONDS
        while True:
            yield ask()
            if deadline is not None and time.monotonic() + pause > deadline:
                return
            time.sleep(pause)
            pause = min(1.5 * pause, LAST_POLL_SECONDS)

    def _list(self, path: str, **query: Any) -> Iterator[Json]:
        """Every row of a list, page by page."""
        cursor: str | None = None
        while True:
            page = self._get(path, limit=PAGE, cursor=cursor, **query)
            yield from page["data"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _get(self, path: str, **query: Any) -> Json:
        given = {name: value for name, value in query.items() if value is not None}
        answer: Json = self._request("GET", path, params=given).json()
        return answer

    def _post(
        self, path: str, *, json: Any = None, data: Mapping[str, Any] | None = None, file: Path | None = None
    ) -> Json:
        """Sends work once, however often the connection breaks meanwhile."""
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        for attempt in range(1, TRIES + 1):
            try:
                with ExitStack() as stack:
                    files = (
                        None if file is None else {"file": (file.name, stack.enter_context(file.open("rb")))}
                    )
                    answer: Json = self._request(
                        "POST", path, json=json, data=data, files=files, headers=headers
                    ).json()
                    return answer
            except httpx.TransportError:
                if attempt == TRIES:
                    raise
                time.sleep(0.2 * attempt)
        raise AssertionError("the last attempt returns or raises")

    def _request(self, method: str, path: str, **parts: Any) -> httpx.Response:
        answer = self._http.request(method, path, **parts)
        if answer.is_error:
            raise ServerRefused.of(answer)
        return answer


def _training(
    dataset_id: int,
    model: int | str,
    method: str | Mapping[str, Any],
    density: str | None,
    scoring_run: RemoteRun | int | None,
    name: str | None,
    fields: Mapping[str, Any],
) -> Json:
    """The body of a training."""
    body = {
        "dataset_id": dataset_id,
        "model": model,
        "method": {"name": method} if isinstance(method, str) else dict(method),
        "scoring_run_id": scoring_run.id if isinstance(scoring_run, RemoteRun) else scoring_run,
        "name": name,
        **fields,
    }
    if density is not None:
        body["supervision"] = {**fields.get("supervision", {}), "density": density}
    return body
