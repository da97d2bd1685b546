"""Token maps of a training: what the model as it began and every kept checkpoint say of some pairs."""

from __future__ import annotations

from starlette.responses import JSONResponse

from app.api.parts.common import Id, View, door
from app.api.parts.idempotency import OnceDep
from app.api.runs.runs import RunView, accepted
from app.dependencies import SessionDep
from app.problems import responses
from app.services.trainings import token_maps
from app.services.trainings.token_maps import StepTotals, TokenMapsBody
from engine.formats.maps import token_texts
from engine.types import Side, missing_to_null


class TracedSideView(View):
    """One response. Lists have one entry a token; null is a missing number."""

    side: Side
    text: str
    tokens: list[str]
    offsets: list[tuple[int, int]]
    rewards: list[list[float | None]]
    """A list for each of the steps, in their order."""


class TokenMapsView(View):
    """A pair over the steps of a training: beta * (log-probability - the reference's) of every token."""

    run_id: int
    """The run that read it."""
    training_id: int
    pair_id: int
    beta: float
    steps: list[StepTotals]
    """From step 0, the model as it began."""
    sides: list[TracedSideView]


router = door("trainings")


@router.post("/{run_id}/token-maps", status_code=202, response_model=RunView, responses=responses(409))
def read_with_checkpoints(
    run_id: Id, body: TokenMapsBody, session: SessionDep, once: OnceDep
) -> JSONResponse:
    """Queues a run that reads the pairs with every checkpoint that is kept, and with the final model."""
    return once.answer(
        session,
        f"{run_id} {body.model_dump_json()}".encode(),
        lambda: accepted(token_maps.submit(session, run_id, body)),
    )


@router.get("/{run_id}/token-maps/{pair_id}", responses=responses(409))
def read_token_maps(run_id: Id, pair_id: Id, session: SessionDep) -> TokenMapsView:
    """The token rewards of a pair at every step that was read."""
    found = token_maps.token_maps(session, run_id, pair_id)
    return TokenMapsView(
        run_id=found.run.id,
        training_id=run_id,
        pair_id=pair_id,
        beta=found.beta,
        steps=found.totals,
        sides=[
            TracedSideView(
                side=side.side,
                text=side.text,
                tokens=token_texts(side.text, side.offsets, side.eos),
                offsets=[(start, end) for start, end in side.offsets.tolist()],
                rewards=[missing_to_null(side.rewards[step]) for step in found.steps],
            )
            for side in found.sides
        ],
    )
