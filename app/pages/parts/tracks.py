"""The tracks that a response can be coloured by, in words: what each is, and what its colours end with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.pages.parts.numbers import MISSING, count, plain_number, signed
from app.services.pairs.drawing import Colouring, TrackName


@dataclass(frozen=True, slots=True)
class Track:
    """A number that every token has."""

    label: str
    unit: str
    """What the number is, at the legend's ramp."""
    hint: str
    """A sentence that says how to read it."""
    needs: str
    """What a run must have stored for it."""


TRACKS: dict[TrackName, Track] = {
    "reward": Track(
        "Reward",
        "reward",
        "What the source says of the token, above zero good and below it bad.",
        "a source of token reward",
    ),
    "logprob": Track(
        "Log-probability",
        "log-probability of the policy, nats",
        "The stronger the colour, the less the policy expected the token; 0 is certainty.",
        "the policy's log-probabilities",
    ),
    "reference": Track(
        "Reference",
        "log-probability of the reference, nats",
        "The stronger the colour, the less the reference expected the token; 0 is certainty.",
        "the reference's log-probabilities",
    ),
    "entropy": Track(
        "Entropy",
        "entropy of the policy, nats",
        "The stronger the colour, the more the policy could have said instead.",
        "the policy's entropies",
    ),
    "rank": Track(
        "Rank",
        "rank of the token, order of size",
        "How many tokens the policy holds more probable; 0 is its first choice. Colours go by the logarithm.",
        "the policy's ranks",
    ),
    "ratio": Track(
        "Log-ratio",
        "log-probability, policy less reference, nats",
        "Above zero the policy holds the token more probable than the reference does.",
        "log-probabilities of the policy and of the reference",
    ),
    "gradient": Track(
        "Gradient",
        "\N{MINUS SIGN}d loss / d log p of DPO",
        "Where a step of DPO with its safeguards would move each token under the mask that is shown: above "
        "zero up, below zero down. Rejected tokens below the clip stay where they are.",
        "log-probabilities of the policy and of the reference, for both responses",
    ),
}


@dataclass(frozen=True, slots=True)
class TrackChoice:
    """A track as it is offered."""

    name: TrackName
    label: str
    key: int
    """The key that chooses it."""
    is_shown: bool
    is_there: bool
    hint: str


@dataclass(frozen=True, slots=True)
class Ends:
    """The numbers at both ends of a ramp of colours."""

    low: str
    high: str


def choices(there: Collection[TrackName], shown: TrackName) -> list[TrackChoice]:
    """All tracks in the order of their keys; those that the run lacks say what they would need."""
    return [
        TrackChoice(
            name,
            track.label,
            key,
            name == shown,
            name in there,
            track.hint if name in there else f"The run did not store {track.needs}.",
        )
        for key, (name, track) in enumerate(TRACKS.items(), start=1)
    ]


def ends(colouring: Colouring, track: TrackName) -> Ends:
    """The legend's numbers: values at the clip or beyond have the colour of the end."""
    if not colouring.clip:
        return Ends(MISSING, MISSING)
    if track in ("logprob", "reference"):
        return Ends("0", signed(-colouring.clip))
    if track == "rank":
        return Ends("0", count(round(colouring.clip)))
    if track == "entropy":
        return Ends("0", plain_number(colouring.clip))
    return Ends(signed(-colouring.clip), signed(colouring.clip))


def ramp(colouring: Colouring, levels: int) -> Sequence[int]:
    """The classes of the ramp, weakest or most negative first."""
    return range(0 if colouring.is_sequential else -levels, levels + 1)
