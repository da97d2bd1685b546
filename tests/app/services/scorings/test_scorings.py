"""Scoring a data set: refused at once or stored chunk by chunk, and cut whole in the end."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.session import Database
from app.db.tables import Job, PairScore, Run, SourceStatistics, StoredMap, StoredSegment
from app.errors import Conflict, Invalid, NotFound, StorageFull
from app.services.datasets import datasets
from app.services.models import models
from app.services.runs import jobs
from app.services.scorings import maps, scorings
from app.services.scorings.scorings import ScoringRequest
from app.settings import Settings
from engine.errors import ModelError
from engine.formats.canonical import read_pairs
from engine.requests import ScoreRequest
from engine.rules import SegmentationRule
from engine.segmentation.segmenters.fixed import Fixed
from engine.segmentation.segmenters.hysteresis import Hysteresis
from engine.segmentation.segmenters.sentence import Sentence
from engine.segmentation.segmenters.step import Step
from engine.segmentation.segmenters.token import Token
from engine.segmentation.segmenters.whole import Whole
from engine.segmentation.statistics import RewardStatistics
from engine.types import PreferencePair, Side, Span
from tests.app import factories


def count(session: Session, table: type) -> int:
    return session.scalar(select(func.count()).select_from(table)) or 0


def noisy(pair: PreferencePair, side: Side) -> list[float]:
    """Rewards that differ from pair to pair, some of them missing."""
    dice = np.random.default_rng(sum(map(ord, pair.key + side)))
    rewards = dice.normal(size=len(dict(pair.sides())[side].text.split()) + 1)
    rewards[dice.random(len(rewards)) < 0.2] = np.nan
    return [float(reward) for reward in rewards]


def test_a_submitted_scoring_states_everything_it_will_do(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session), ["implicit", "rm_increment"])
    assert run.name == "capitals: implicit, rm_increment"
    assert (run.job.status, run.job.total) == ("queued", 3)
    assert run.request["policy"]["name"] == "policy"
    assert Path(run.request["policy"]["path"]).is_absolute()
    assert [source["rule"]["baseline"] for source in run.request["sources"]] == ["otsu", "zero"]
    rules = session.scalars(select(SourceStatistics.rule).order_by(SourceStatistics.source))
    assert list(rules) == [source["rule"] for source in run.request["sources"]]


def test_sources_are_chosen_by_what_there_is(session: Session, settings: Settings) -> None:
    spans = {"chosen": [Span(0, 5, "error")]}
    dataset = factories.make_dataset(session, [factories.preference_pair(1, spans=spans)])  # type: ignore[arg-type]
    factories.make_model(session, settings, "policy")
    request = ScoringRequest(dataset_id=dataset.id, policy="policy", reference="policy")
    run = scorings.submit(session, settings, request)
    assert [source["name"] for source in run.request["sources"]] == ["implicit", "spans"]


def test_a_path_is_registered_on_the_way(session: Session, settings: Settings, tmp_path: Path) -> None:
    folder = factories.make_model_folder(tmp_path / "fresh")
    dataset = factories.make_dataset(session)
    request = ScoringRequest(dataset_id=dataset.id, policy=str(folder), reference=str(folder))
    run = scorings.submit(session, settings, request)
    model = models.find_model(session, "fresh")
    assert model is not None
    assert run.request["policy"]["id"] == run.request["reference"]["id"] == model.id


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"sources": ["implicit"], "policy": "policy"}, "`implicit` needs `reference`."),
        ({"sources": ["rm_prefix"], "policy": "policy"}, "`rm_prefix` needs `reward_model`."),
        ({"sources": ["spans"], "policy": "policy"}, "`spans` needs labelled spans in the data."),
        ({"sources": ["external"], "policy": "policy"}, "`external` needs token rewards in the data."),
        ({"policy": "policy"}, "name a reference beside the policy"),
        ({}, "Name a policy or a reward model"),
        ({"policy": "scorer"}, "is a sequence classifier, but as policy a causal language model is needed"),
        ({"reward_model": "policy"}, "is a causal language model, but as reward model a sequence classifier"),
        ({"policy": 999_999}, "There is no model 999999"),
        ({"sources": ["rm_prefix", "rm_prefix"], "reward_model": "scorer"}, "is asked for twice"),
        (
            {
                "sources": [{"name": "rm_prefix", "rule": {"segmenter": {"name": "entropy"}}}],
                "reward_model": "scorer",
            },
            "The `entropy` segmenter needs `policy`.",
        ),
    ],
)
def test_a_request_that_cannot_be_done_is_refused_before_anything_is_stored(
    session: Session, settings: Settings, asked: dict[str, object], sentence: str
) -> None:
    factories.make_model(session, settings, "policy")
    factories.make_model(session, settings, "scorer", "LlamaForSequenceClassification")
    dataset = factories.make_dataset(session)
    request = ScoringRequest.model_validate({"dataset_id": dataset.id, **asked})
    with pytest.raises(Invalid, match=sentence):
        scorings.submit(session, settings, request)
    assert count(session, Run) == 0


def test_an_unknown_model_data_set_or_a_full_disk_is_said_at_once(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    dataset = factories.make_dataset(session)
    request = ScoringRequest(dataset_id=dataset.id, policy=str(tmp_path / "nowhere"))
    with pytest.raises(Invalid, match="does not exist") as refused:
        scorings.submit(session, settings, request)
    assert refused.value.code == ModelError.code
    assert [problem.loc for problem in refused.value.errors] == [("body", "policy")]
    with pytest.raises(NotFound):
        scorings.submit(session, settings, request.model_copy(update={"dataset_id": 0}))
    with pytest.raises(StorageFull):
        scorings.submit(session, settings.model_copy(update={"min_free_disk_mib": 2**40}), request)


def test_the_job_gets_all_rows_and_where_to_begin(
    session: Session, settings: Settings, tmp_path: Path
) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session, 3))
    attempt = factories.claim(session, run)
    scorings.store(session, run, attempt, factories.make_chunk(session, run, 0, 2))
    request = scorings.prepare(session, run, tmp_path)
    assert (request["start"], request["total"]) == (2, 3)
    assert [pair.key for pair in read_pairs(Path(request["rows"]))] == ["pair-0", "pair-1", "pair-2"]
    asked = ScoreRequest.model_validate(request["request"])
    assert asked.policy is not None
    assert asked.policy.path == run.request["policy"]["path"]
    assert asked.sources[0].rule is not None


def test_a_chunk_is_stored_once(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session, 4))
    attempt = factories.claim(session, run)
    chunk = factories.make_chunk(session, run, 0, 2)
    for _ in range(2):
        scorings.store(session, run, attempt, chunk)
    assert count(session, StoredMap) == 4
    assert session.scalar(select(Job.resume_from)) == 2
    statistics = session.scalars(select(SourceStatistics)).one()
    assert statistics.sketch["count"] == 4 * 5
    assert not statistics.final
    assert count(session, PairScore) == 2
    with pytest.raises(ValueError, match="never stored"):
        scorings.store(session, run, attempt, factories.make_chunk(session, run, 3, 4))


def test_a_worker_that_lost_the_job_stores_nothing(database: Database, settings: Settings) -> None:
    with database.session() as session:
        run = factories.make_run(session, settings, factories.make_dataset(session, 2))
        attempt = factories.claim(session, run)
    with pytest.raises(jobs.LostJob), database.session() as session:
        scorings.store(session, run, attempt - 1, factories.make_chunk(session, run, 0, 2))
    with database.session() as session:
        assert count(session, StoredMap) == 0


def plain_conflict_mass(view: maps.CutPair) -> float:
    """Share of |reward| in segments that speak against the preference, segment by segment."""
    masses = [
        (abs(one.reward) * (one.end - one.start), one.polarity * (1 if side.side == "chosen" else -1) < 0)
        for side in view.sides
        for one in side.segmentation.segments
        if one.reward == one.reward
    ]
    total = sum(mass for mass, _ in masses)
    return sum(mass for mass, against in masses if against) / total if total else 0.0


@pytest.mark.parametrize(
    "rule",
    [
        SegmentationRule(baseline="otsu", scale="std"),
        SegmentationRule(segmenter=Hysteresis(delta=0.1), baseline="median", scale="std", soft_tau=0.5),
        SegmentationRule(segmenter=Whole()),
        SegmentationRule(segmenter=Token(), polarity="reward", neutral="drop", eos="inherit"),
        SegmentationRule(segmenter=Fixed(length=2), nothing_kept="fallback_sample"),
        SegmentationRule(segmenter=Step()),
        SegmentationRule(segmenter=Sentence(), baseline="sequence_mean", aggregate="sum"),
    ],
)
def test_what_is_stored_is_what_the_pair_page_shows(
    session: Session, settings: Settings, monkeypatch: pytest.MonkeyPatch, rule: SegmentationRule
) -> None:
    """One rule over the whole run at once, in batches that split it, and pair by pair are one computation."""
    monkeypatch.setattr("app.services.scorings.cuts.BATCH_RESPONSES", 4)
    rows = [
        factories.preference_pair(number, f"Yes. Good\nwords {'more ' * number}", "No. Bad")
        for number in range(5)
    ]
    rows += [factories.preference_pair(5, None, "Alone."), factories.preference_pair(6, "Alone too.", None)]
    run = factories.make_scored_run(session, settings, rows, noisy)
    scorings.recut(session, run.id, "implicit", rule)
    session.expire_all()
    for score in session.scalars(select(PairScore)):
        view = maps.pair_view(session, score.pair_id, run_id=run.id)
        assert view.rule == rule
        rewards = [reward for side in view.sides for reward in side.map.rewards["implicit"]]
        present = [float(reward) for reward in rewards if reward == reward]
        kept = {side.side: sum(side.segmentation.mask.tolist()) / side.map.tokens for side in view.sides}
        assert score.pivots == sum(len(side.segmentation.segments) - 1 for side in view.sides)
        assert score.tokens == sum(side.map.tokens for side in view.sides)
        assert score.conflict == pytest.approx(plain_conflict_mass(view))
        assert score.min_reward == pytest.approx(min(present))
        assert score.max_reward == pytest.approx(max(present))
        assert (score.kept_chosen, score.kept_rejected) == (
            pytest.approx(kept.get("chosen")),
            pytest.approx(kept.get("rejected")),
        )
        assert score.margin == (
            None if view.agreement.margin is None else pytest.approx(view.agreement.margin)
        )
        assert score.conflict == pytest.approx(view.agreement.conflict)
        for side in view.sides:
            stored = session.scalars(
                select(StoredSegment)
                .where(StoredSegment.pair_id == score.pair_id, StoredSegment.side == side.side)
                .order_by(StoredSegment.start)
            ).all()
            assert [(one.start, one.end, one.polarity, one.kept, one.disputed) for one in stored] == [
                (one.start, one.end, one.polarity, one.kept, one.disputed)
                for one in side.segmentation.segments
            ]
            for one, segment in zip(stored, side.segmentation.segments, strict=True):
                assert one.reward == pytest.approx(None if np.isnan(segment.reward) else segment.reward)


def test_the_result_does_not_depend_on_the_chunks(session: Session, settings: Settings) -> None:
    found = []
    for chunk_pairs in (1, 3, 7):
        run = factories.make_run(session, settings, factories.make_dataset(session, 7, f"by {chunk_pairs}"))
        factories.score(session, run, noisy, chunk_pairs)
        scores = session.scalars(
            select(PairScore).where(PairScore.run_id == run.id).order_by(PairScore.pair_id)
        )
        sketch = session.scalars(
            select(SourceStatistics.sketch).where(SourceStatistics.run_id == run.id)
        ).one()
        found.append(([(one.margin, one.conflict, one.pivots, one.kept_chosen) for one in scores], sketch))
    assert found[0] == found[1] == found[2]


def test_finishing_twice_is_finishing_once(session: Session, settings: Settings) -> None:
    spans: dict[Side, list[Span]] = {"chosen": [Span(0, 5, "error")], "rejected": []}
    rows = [factories.preference_pair(number, spans=spans) for number in range(3)]
    run = factories.make_run(session, settings, factories.make_dataset(session, rows))
    attempt = factories.claim(session, run)
    scorings.store(session, run, attempt, factories.make_chunk(session, run, 0, 3))
    first = scorings.finish(session, run, {"pairs": 1, "notes": ["slow"]})
    counts = count(session, StoredSegment), count(session, PairScore)
    assert scorings.finish(session, run, {"pairs": 1, "notes": ["slow"]}) == first
    assert (count(session, StoredSegment), count(session, PairScore)) == counts
    kept = {name: first[name] for name in ("pairs", "responses", "tokens", "notes")}
    assert kept == {"pairs": 3, "responses": 6, "tokens": 30, "notes": ["slow"]}
    assert "too few to tell" in first["masks"]["implicit"]["reason"]


def test_labelled_errors_say_how_well_low_rewards_find_them(session: Session, settings: Settings) -> None:
    spans: dict[Side, list[Span]] = {"chosen": [Span(0, 5, "error")], "rejected": []}

    def rewards(pair: PreferencePair, side: Side) -> list[float]:
        return [-1.0 if side == "chosen" else 1.0, 0.5, 0.5, 0.5, -9.0]

    run = factories.make_scored_run(
        session, settings, [factories.preference_pair(1, spans=spans)], rewards, ["implicit", "spans"]
    )
    implicit, labels = maps.sources_of(session, run.id)
    assert implicit.localisation is not None
    assert (implicit.localisation["auroc"], implicit.localisation["wrong_tokens"]) == (1.0, 1)
    assert implicit.localisation["tokens"] == 8  # the EOS covers no text
    assert labels.localisation is None


def test_a_new_rule_changes_the_cut_and_nothing_else(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings)
    before = session.scalars(select(SourceStatistics)).one().sketch
    scorings.recut(session, run.id, "implicit", SegmentationRule(segmenter=Token()))
    session.expire_all()
    assert count(session, StoredSegment) == 6 * 5
    assert maps.sources_of(session, run.id)[0].rule.segmenter == Token()
    assert session.scalars(select(SourceStatistics)).one().sketch == before


def test_a_run_that_is_still_scored_is_not_cut_anew(session: Session, settings: Settings) -> None:
    run = factories.make_run(session, settings, factories.make_dataset(session))
    with pytest.raises(Conflict, match="not scored to its end"):
        scorings.recut(session, run.id, "implicit", SegmentationRule())
    with pytest.raises(Invalid, match="was not scored by"):
        scorings.recut(session, run.id, "spans", SegmentationRule())
    with pytest.raises(NotFound):
        scorings.recut(session, 0, "implicit", SegmentationRule())


def test_the_numbers_of_a_run_are_those_of_its_rewards(session: Session, settings: Settings) -> None:
    run = factories.make_scored_run(session, settings, 3, noisy)
    statistics = RewardStatistics()
    for one in factories.make_chunk(session, run, 0, 3, noisy).maps:
        statistics.add(one.rewards["implicit"])
    numbers = maps.sources_of(session, run.id)[0].numbers
    assert (numbers.count, numbers.mean, numbers.std) == (statistics.count, statistics.mean, statistics.std)
    assert (numbers.median, numbers.otsu) == (statistics.median(), statistics.otsu())
    assert numbers.final


def test_a_data_set_that_is_being_deleted_is_not_there(database: Database, settings: Settings) -> None:
    with database.session() as session:
        dataset = factories.make_dataset(session)
        run = factories.make_run(session, settings, dataset)
        jobs.cancel(session, run.id)
        request = ScoringRequest(dataset_id=dataset.id, policy="policy", reference="reference")

    def submit() -> None:
        with database.session() as session:
            scorings.submit(session, settings, request)

    with ThreadPoolExecutor(1) as pool:
        with database.session() as session:
            datasets.delete_dataset(session, dataset.id)
            submitted = pool.submit(submit)
            wait([submitted], timeout=0.3)
            assert not submitted.done()
        with pytest.raises(NotFound, match="no data set"):
            submitted.result()
