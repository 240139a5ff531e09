"""A decision made again from what was stored with it, by the code that made it, and held against the record."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.market.snapshot import MarketSnapshot
from model_service.models.artifact import ArtifactDamaged
from model_service.models.features import FEATURE_NAMES
from model_service.policies.base import Policy, Proposal
from model_service.policies.model import ModelPolicy
from model_service.policies.warmup import WarmupPolicy
from model_service.services.decision import amounts_of, draw
from model_service.services.decision_evidence import DecidingSettings
from model_service.services.errors import NotFound, Refused
from model_service.services.ports import ModelFiles, RegistryStore


@dataclass(frozen=True, slots=True)
class RecordedOpening:
    """What is kept of one signal's decision.

    Attributes:
        feature_names: what stands where in `features`; None when nobody knows.
        probabilities: by side, after the guards: 0 for a side that they refused.
        expected_net_return: of the signal's side; None where none was recorded.
        evidence: of `services.decision_evidence`; None for exits and old signals.
    """

    signal_id: UUID
    strategy_id: str
    asset: str
    side: Side
    intent: str
    price: Decimal
    amount: Decimal
    confidence: float
    decided_at: datetime
    policy: str
    model_version: str | None
    seed: str
    feature_names: tuple[str, ...] | None
    features: bytes
    probabilities: Mapping[Side, float]
    expected_net_return: float | None
    evidence: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing that was recorded and what came out of it now, both as exact text."""

    name: str
    recorded: str
    recomputed: str

    @property
    def identical(self) -> bool:
        """Whether both are the same to the last digit."""
        return self.recorded == self.recomputed


@dataclass(frozen=True, slots=True)
class Replayed:
    """A decision that was made again; `refused` are sides that the guards took out of the draw then."""

    opening: RecordedOpening
    compared: tuple[Compared, ...]
    refused: tuple[Side, ...]

    @property
    def identical(self) -> bool:
        """Whether nothing differs."""
        return all(one.identical for one in self.compared)


class OpeningSource(Protocol):
    """Where recorded decisions are read."""

    async def opening(self, signal_id: UUID) -> RecordedOpening | None:
        """A signal's decision; None when there is no such signal."""
        ...


class Replays:
    """Makes recorded decisions again, one after the other; changes nothing."""

    def __init__(self, source: OpeningSource, registry: RegistryStore, files: ModelFiles) -> None:
        self._source = source
        self._registry = registry
        self._files = files
        self._turn = asyncio.Lock()

    async def replay(self, signal_id: UUID) -> Replayed:
        """The decision of a signal once more.

        Raises:
            NotFound: there is no such signal, or no row of the version that decided.
            Refused: it was not drawn (an exit), too little was kept of it, or the version's files do not verify.
        """
        opening = await self._source.opening(signal_id)
        if opening is None:
            raise NotFound("unknown_signal", f"there is no signal {signal_id}; GET /api/v1/signals lists them")
        evidence = _evidence(opening)
        async with self._turn:
            policy = await self._policy(opening)
            # Beside the event loop: a decision that is due must not wait for one of the past.
            return await asyncio.to_thread(made_again, opening, evidence, policy)

    async def _policy(self, opening: RecordedOpening) -> Policy:
        version = opening.model_version
        if version is None:
            return WarmupPolicy()
        row = await self._registry.get(version)
        if row is None:
            raise NotFound("unknown_version", f"{version} decided it, and there is no row of that version any more")
        try:
            model = await asyncio.to_thread(self._files.load, version, row.files)
        except ArtifactDamaged as error:
            raise Refused(error.reason, f"{version} cannot be asked again: {error}", kind="conflict") from error
        return ModelPolicy(model, version)


def made_again(opening: RecordedOpening, evidence: Mapping[str, Any], policy: Policy) -> Replayed:
    """The decision by `policy` on what was recorded, compared. Raises Refused when the record cannot be read."""
    settings = DecidingSettings.model_validate(evidence["settings"])
    # Only what was recorded is there: a policy that reads another setting fails here instead of reading today's.
    known = {**dict(settings), "sizing": settings.sizing or "fixed"}
    strategy = StrategyDefinition.model_construct(strategy_id=opening.strategy_id, **known)
    market, tick_seconds = _snapshot(opening, evidence["market"]), evidence["tick_seconds"]
    proposal = policy.propose(strategy, market, _vector(opening), tick_seconds)
    if settings.sizing is None:
        # Recorded before amounts followed from the model: they were drawn.
        proposal = replace(proposal, sizing=None)
    drawn = draw(strategy, proposal.probabilities, random.Random(opening.seed))  # noqa: S311 - recorded randomness
    amounts = amounts_of(strategy, proposal, drawn.amount, evidence.get("position_amount", 0.0))
    refused = tuple(side for side, value in opening.probabilities.items() if value == 0.0 and side is not opening.side)
    return Replayed(opening, tuple(_compared(opening, proposal, drawn.side, amounts[opening.side], refused)), refused)


def _compared(
    opening: RecordedOpening, proposal: Proposal, drawn: Side | None, amount: Decimal, refused: Sequence[Side]
) -> Iterator[Compared]:
    side = opening.side
    yield Compared("policy", opening.policy, proposal.policy)
    yield Compared("side", side.value, "none" if drawn is None else drawn.value)
    yield Compared("amount", f"{opening.amount:f}", f"{amount:f}")
    yield Compared("confidence", repr(opening.confidence), repr(proposal.confidence[side]))
    for one, value in opening.probabilities.items():
        again = 0.0 if one in refused else proposal.probabilities.of(one)
        yield Compared(f"probability_{one.value}", repr(value), repr(again))
    if opening.expected_net_return is not None or proposal.expected_net_return is not None:
        expected = None if proposal.expected_net_return is None else proposal.expected_net_return[side]
        yield Compared("expected_net_return", repr(opening.expected_net_return), repr(expected))


def _evidence(opening: RecordedOpening) -> Mapping[str, Any]:
    if opening.intent == "exit":
        message = "it closed a position: exits are not drawn, and follow from lots and price alone"
        raise Refused("not_drawn", message, kind="conflict")
    if opening.evidence is None:
        message = "it is older than the record of the settings that a decision is made by, so it cannot be made again"
        raise Refused("not_recorded", message, kind="conflict")
    return opening.evidence


def _vector(opening: RecordedOpening) -> NDArray[np.float32]:
    """The features in today's order; what their set lacks was not known then."""
    names = opening.feature_names
    if names is None or len(opening.features) != 4 * len(names):
        raise Refused("unknown_features", "nobody knows what its features are: their set is unknown", kind="conflict")
    known = dict(zip(names, np.frombuffer(opening.features, dtype="<f4").tolist(), strict=True))
    return np.array([known.get(name, math.nan) for name in FEATURE_NAMES], dtype=np.float32)


def _snapshot(opening: RecordedOpening, market: Mapping[str, Any]) -> MarketSnapshot:
    numbers = {name: value for name, value in market.items() if name != "indicators"}
    return MarketSnapshot(
        asset=opening.asset,
        at=opening.decided_at,
        updated_at=opening.decided_at,
        price=float(opening.price),
        indicators=market["indicators"],
        **numbers,
    )
