"""A decision made again from what was stored with it, by the code that made it, and held against the record."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, Protocol
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
from model_service.services.guard_replay import guards_told, refusal_told
from model_service.services.ports import ModelFiles, RegistryStore

Record = Literal["unchanged", "changed", "no_hash"]
"""`no_hash`: the row is older than its hash, so that an edit of what is not made again cannot be seen."""
UNREADABLE = (Refused, NotFound, ValueError, KeyError, TypeError, AttributeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class RecordedOpening:
    """What is kept of one signal's decision.

    Attributes:
        feature_names: what stands where in `features`; None when nobody knows.
        probabilities: by side, after the guards: 0 for a side that they refused.
        expected_net_return: of the signal's side; None where none was recorded.
        evidence: of `services.decision_evidence`; None for exits and old signals.
        recorded_sha256: over the row's frozen columns when it was written; None for rows from before that was kept.
        sha256: the same over what the row says now.
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
    probability_none: float
    recorded_sha256: bytes | None
    sha256: bytes

    @property
    def record(self) -> Record:
        """Whether the row still is what was recorded."""
        if self.recorded_sha256 is None:
            return "no_hash"
        return "unchanged" if self.recorded_sha256 == self.sha256 else "changed"


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
            Refused: it was not drawn (an exit), too little was kept of it, the version's files do not verify, or its
                record was changed so that nothing can be made of it.
        """
        opening = await self._source.opening(signal_id)
        if opening is None:
            raise NotFound("unknown_signal", f"there is no signal {signal_id}; GET /api/v1/signals lists them")
        try:
            return await self._made_again(opening)
        except UNREADABLE as error:
            if opening.record != "changed":
                raise
            message = f"its record was changed after the decision, and cannot be made again as it stands now: {error}"
            raise Refused("record_changed", message, kind="conflict") from error

    async def _made_again(self, opening: RecordedOpening) -> Replayed:
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
    refused = _refused(opening, evidence)
    decided = tuple(_compared(opening, proposal, drawn.side, amounts[opening.side], refused))
    return Replayed(opening, (*_record(opening), *decided, *_guards(evidence)), refused)


def _refused(opening: RecordedOpening, evidence: Mapping[str, Any]) -> tuple[Side, ...]:
    """Sides that the guards took out of the draw."""
    if "refused" in evidence:
        return tuple(Side(name) for name in evidence["refused"])
    # Older than the record of who refused: a side that lost its probability has to be taken at its word.
    return tuple(side for side, value in opening.probabilities.items() if value == 0.0 and side is not opening.side)


def _record(opening: RecordedOpening) -> Iterator[Compared]:
    if opening.recorded_sha256 is not None:
        yield Compared("record_sha256", opening.recorded_sha256.hex(), opening.sha256.hex())


def _guards(evidence: Mapping[str, Any]) -> Iterator[Compared]:
    yield Compared("guards", "all pass", guards_told(evidence))
    for name, reading in evidence.get("refused", {}).items():
        yield Compared(f"guard_of_{name}", "refused", refusal_told(reading, evidence))


def _compared(
    opening: RecordedOpening, proposal: Proposal, drawn: Side | None, amount: Decimal, refused: Sequence[Side]
) -> Iterator[Compared]:
    side = opening.side
    yield Compared("policy", opening.policy, proposal.policy)
    yield Compared("side", side.value, "none" if drawn is None else drawn.value)
    yield Compared("amount", f"{opening.amount:f}", f"{amount:f}")
    yield Compared("confidence", repr(opening.confidence), repr(proposal.confidence[side]))
    again = proposal.probabilities.masked(refused)
    for one, value in opening.probabilities.items():
        yield Compared(f"probability_{one.value}", repr(value), repr(again.of(one)))
    yield Compared("probability_none", repr(opening.probability_none), repr(again.none))
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
