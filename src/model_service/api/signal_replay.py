"""The answer that says whether a decision comes out as it did."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field

from model_service.api.schemas import Body
from model_service.services.replay import Replayed


class ReplayedValue(Body):
    """One result of the decision, as exact text: then and now."""

    name: str
    recorded: str
    recomputed: str
    identical: bool


class DecisionReplay(Body):
    """A decision made again from its stored bytes; `identical` when no value differs in any digit."""

    signal_id: UUID
    policy: str
    model_version: str | None = Field(description="The version that was asked again; null for the warm-up.")
    seed: str
    identical: bool
    record: Literal["unchanged", "changed", "no_hash"] = Field(
        description="Whether the row is as it was written, by the hash in it; no_hash: it is older than that hash, and "
        "what does not follow from the rest cannot be checked. Whoever edits a row can write the hash that fits."
    )
    refused_sides: list[Literal["buy", "sell"]] = Field(description="Taken out of the draw by the guards then.")
    values: list[ReplayedValue]


def answer(replayed: Replayed) -> DecisionReplay:
    """The body for a decision that was made again."""
    opening = replayed.opening
    return DecisionReplay(
        signal_id=opening.signal_id,
        policy=opening.policy,
        model_version=opening.model_version,
        seed=opening.seed,
        identical=replayed.identical,
        record=opening.record,
        refused_sides=[side.value for side in replayed.refused],
        values=[
            ReplayedValue(
                name=one.name, recorded=one.recorded, recomputed=one.recomputed, identical=one.identical
            )
            for one in replayed.compared
        ],
    )  # fmt: skip
