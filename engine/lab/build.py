"""Builds the lab once and finds it again: data, policy, scorer and reward model, in one folder.

The folder's name is a hash of the settings and of the lab's own code, so that another world or another
version never meets old files. A build happens beside its place and is renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import psutil
import torch
import transformers
from transformers import LlamaForCausalLM

from engine.formats.canonical import write_pairs, write_tasks
from engine.lab.models import encode, make_policy, make_tokenizer, save, threads
from engine.lab.pretrain import Tick, pretrain
from engine.lab.scorer import EncodedPair, train_dpo_scorer, train_reward_model
from engine.lab.world import World, WorldSettings
from engine.types import PreferencePair, Progress

REPORT_EVERY = 20
"""Steps between two reports."""


class BuildReport(Protocol):
    """What hears how far the build is; it may raise to stop it."""

    def __call__(
        self, progress: Progress | None = None, chunk: object = None, message: str | None = None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """A world, and how long its models learn."""

    world: WorldSettings = field(default_factory=WorldSettings)
    policy_steps: int = 850
    """Fewer leave it without the skills that training may forget."""
    scorer_steps: int = 160
    reward_model_steps: int = 120
    """0 builds no reward model."""
    threads: int = 1
    """Another number rounds otherwise, and gives other weights. One is hardly slower for models this small,
    and far faster on a machine that is busy, where threads wait for one another."""


@dataclass(frozen=True, slots=True)
class LabBuild:
    """Where the parts of a finished build lie."""

    folder: Path
    pairs: Path
    """Canonical JSONL: the conflicting pairs with their true spans."""
    held_out: Path
    pool: Path
    """The pairs that the scorers learnt from."""
    suite: Path
    """Tasks as JSONL: single questions of every part of the world, which is their category."""
    base: Path
    """The pretrained policy: the reference of the implicit reward."""
    scorer: Path
    """The policy after DPO on the pool: the policy of the implicit reward."""
    reward_model: Path | None
    settings: BuildSettings


def build(folder: Path, report: BuildReport, settings: BuildSettings | None = None) -> LabBuild:
    """The lab in a folder below `folder`, built now unless it is there already.

    Deterministic: the same settings on the same machine give the same files. Whatever `report` raises passes
    through and leaves nothing behind.
    """
    settings = settings or BuildSettings()
    place = folder / f"lab-{_fingerprint(settings)}"
    if not place.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with _work_folder(place) as work:
            _build(work, report, settings)
            _publish(work, place)
    return LabBuild(
        folder=place,
        pairs=place / "pairs.jsonl",
        held_out=place / "held_out.jsonl",
        pool=place / "pool.jsonl",
        suite=place / "suite.jsonl",
        base=place / "base",
        scorer=place / "scorer",
        reward_model=place / "reward_model" if settings.reward_model_steps else None,
        settings=settings,
    )


def _build(work: Path, report: BuildReport, settings: BuildSettings) -> None:
    report(progress=Progress("drawing the world", 0, None, "pairs"))
    world, seed = World(settings.world), settings.world.seed
    documents = world.documents()
    for name, pairs in (("pairs", world.pairs), ("held_out", world.held_out_pairs), ("pool", world.pool)):
        write_pairs(work / f"{name}.jsonl", pairs)
    write_tasks(work / "suite.jsonl", world.tasks())
    tokenizer = make_tokenizer(prompt + "\n" + response for prompt, response in documents)

    def tick(phase: str, total: int) -> Tick:
        def told(done: int) -> None:
            if done % REPORT_EVERY == 0 or done == total:
                report(progress=Progress(phase, done, total, "steps"))

        return told

    with threads(settings.threads):
        steps = settings.policy_steps
        base = make_policy(tokenizer, seed)
        loss = pretrain(
            base,
            encode(tokenizer, documents),
            steps=steps,
            seed=seed,
            tick=tick("pretraining the policy", steps),
        )
        save(base, tokenizer, work / "base", _card("policy", f"Its last loss: {loss:.3f} nats a token."))

        _train_scorers(base, encode_pairs(tokenizer, world.pool), tokenizer, work, settings, report)
    (work / "settings.json").write_text(json.dumps(asdict(settings), indent=2) + "\n", encoding="utf-8")


def _train_scorers(
    base: LlamaForCausalLM,
    pool: Sequence[EncodedPair],
    tokenizer: transformers.PreTrainedTokenizerFast,
    work: Path,
    settings: BuildSettings,
    report: BuildReport,
) -> None:
    """The scorer and the reward model at the same time: neither needs the other, and each fills one core."""
    total = settings.scorer_steps + settings.reward_model_steps
    done = {"scorer": 0, "reward model": 0}
    speaking = threading.Lock()

    def tick(which: str) -> Tick:
        def told(steps: int) -> None:
            with speaking:
                done[which] = steps
                if steps % REPORT_EVERY == 0 or sum(done.values()) == total:
                    report(progress=Progress("training the scorers", sum(done.values()), total, "steps"))

        return told

    def scorer() -> None:
        steps, seed = settings.scorer_steps, settings.world.seed
        model = train_dpo_scorer(base, pool, steps=steps, seed=seed, tick=tick("scorer"))
        card = _card("scorer", "Trained from `base` by clipped, anchored DPO.")
        save(model, tokenizer, work / "scorer", card)

    def reward_model() -> None:
        steps, seed = settings.reward_model_steps, settings.world.seed
        model = train_reward_model(base, pool, steps=steps, seed=seed, tick=tick("reward model"))
        save(model, tokenizer, work / "reward_model", _card("reward model", "Its body started as `base`."))

    with ThreadPoolExecutor(2) as both:
        trainings = [both.submit(scorer)]
        if settings.reward_model_steps:
            trainings.append(both.submit(reward_model))
        for training in trainings:
            training.result()


def encode_pairs(
    tokenizer: transformers.PreTrainedTokenizerFast, pairs: Sequence[PreferencePair]
) -> list[EncodedPair]:
    """Chosen and rejected of every pair as tokens; the lab's pairs have both sides and a plain prompt."""
    encoded = encode(
        tokenizer, [(str(pair.prompt), response.text) for pair in pairs for _, response in pair.sides()]
    )
    return list(zip(encoded[::2], encoded[1::2], strict=True))


def _fingerprint(settings: BuildSettings) -> str:
    """Changes with the settings, the code of the lab, and the versions of what computes."""
    digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    digest.update(f"{torch.__version__} {transformers.__version__}".encode())
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def _work_folder(place: Path) -> Iterator[Path]:
    """A folder beside `place`, gone afterwards. Also sweeps away what dead processes left of theirs."""
    for left in place.parent.glob(f".{place.name}.*"):
        owner = left.name.split(".")[2]
        if owner.isdigit() and int(owner) != os.getpid() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    work = Path(tempfile.mkdtemp(prefix=f".{place.name}.{os.getpid()}.", dir=place.parent))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _publish(work: Path, place: Path) -> None:
    """Renames the whole build to its place; another process that came first keeps it."""
    work.chmod(0o755)
    try:
        work.rename(place)
    except OSError:
        if not place.is_dir():
            raise


def _card(what: str, line: str) -> str:
    return (
        f"# The {what} of RewardScope's lab\n\n"
        "A Llama of three layers, 64 wide, that knows a small world of capitals, animals, sums and phrases\n"
        f"to repeat, and nothing else. {line}\nMade on this machine for the demo; of no use outside it.\n"
    )
