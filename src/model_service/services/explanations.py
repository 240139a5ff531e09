"""Why a decision came out as it did: asked of the version's native model in a child, one decision at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from model_service.models.job import Explanation, ExplanationJob, Failure
from model_service.services.errors import NotFound, Refused, Unavailable
from model_service.services.ports import ModelFiles, RegistryStore

Key = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class StoredDecision:
    """What is kept of one decision.

    Attributes:
        side: None for a draw of `none`.
        intent: None for a draw of `none`.
        model_version: what spoke; None when no model did.
        features: the bytes that decided; `feature_names` says what stands where, None when nobody knows.
    """

    decision_id: UUID
    strategy_id: str
    asset: str
    side: Literal["buy", "sell"] | None
    intent: Literal["open", "reduce", "exit"] | None
    decided_at: datetime
    policy: str
    model_version: str | None
    probability_buy: float
    probability_sell: float
    probability_none: float
    feature_set: str
    feature_names: tuple[str, ...] | None
    features: bytes


@dataclass(frozen=True, slots=True)
class ExplainedDecision:
    """A decision and what a version says of it, which need not be the one that spoke."""

    decision: StoredDecision
    explanation: Explanation


class DecisionSource(Protocol):
    """Where stored decisions are read."""

    async def decision(self, decision_id: UUID) -> StoredDecision | None:
        """A signal, or a stored draw of `none`."""
        ...


class ExplanationLauncher(Protocol):
    """Starts explaining children."""

    async def explain(self, job: ExplanationJob) -> Explanation | Failure:
        """What the child says; it is gone when this returns, and when it is cancelled."""
        ...


@dataclass(frozen=True, slots=True)
class ExplanationLimits:
    """How much is asked of the machine at once, and how much is remembered.

    Attributes:
        most_waiting: requests that wait for the one child; further ones are sent away at once.
        longest_wait_seconds: so long does one wait for its turn.
        most_kept: explanations in memory, about 15 kB each; the one asked for longest ago goes first.
    """

    most_waiting: int = 4
    longest_wait_seconds: float = 10.0
    most_kept: int = 256


class Explanations:
    """Explains stored decisions, one after the other, and remembers the last answers."""

    def __init__(
        self,
        source: DecisionSource,
        registry: RegistryStore,
        files: ModelFiles,
        launcher: ExplanationLauncher,
        limits: ExplanationLimits | None = None,
    ) -> None:
        self._source = source
        self._registry = registry
        self._files = files
        self._launcher = launcher
        self._limits = limits or ExplanationLimits()
        self._kept: OrderedDict[Key, Explanation] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def explain(self, decision_id: UUID, version: str | None = None) -> ExplainedDecision:
        """What `version`, by default the one that spoke, says of a stored decision.

        Raises:
            NotFound: there is no such decision or version.
            Refused: no model spoke and none is named, the features are of an unknown set, or the files do not verify.
            Unavailable: too many ask at once, or the child took too long or broke.
        """
        decision = await self._source.decision(decision_id)
        if decision is None:
            message = f"there is no signal and no stored draw {decision_id}; GET /api/v1/signals lists the signals"
            raise NotFound("unknown_signal", message)
        name = version or decision.model_version
        if name is None:
            raise _no_model(decision)
        key = (decision_id, name)
        explanation = self._remembered(key)
        if explanation is None:
            job = await self._job(decision, name)
            async with self._own_turn():
                explanation = self._remembered(key) or self._remember(key, await self._ask(job))
        return ExplainedDecision(decision, explanation)

    async def _job(self, decision: StoredDecision, version: str) -> ExplanationJob:
        row = await self._registry.get(version)
        if row is None:
            raise NotFound("unknown_version", f"there is no version {version}; GET /api/v1/models lists them")
        if decision.feature_names is None or len(decision.features) != 4 * len(decision.feature_names):
            message = f"the features of {decision.decision_id} are of the unknown set {decision.feature_set}"
            raise Refused("unknown_features", message, kind="conflict")
        return ExplanationJob(
            version=version,
            directory=str(self._files.folder(version)),
            files=dict(row.files),
            feature_names=decision.feature_names,
            features=decision.features.hex(),
        )

    @asynccontextmanager
    async def _own_turn(self) -> AsyncIterator[None]:
        """The time in which nobody else has a child. Raises Unavailable."""
        if self._waiting >= self._limits.most_waiting:
            raise _busy(f"{self._waiting} others wait")
        self._waiting += 1
        try:
            async with asyncio.timeout(self._limits.longest_wait_seconds):
                await self._turn.acquire()
        except TimeoutError as error:
            raise _busy(f"those before took over {self._limits.longest_wait_seconds:g} s") from error
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._turn.release()

    async def _ask(self, job: ExplanationJob) -> Explanation:
        answer = await self._launcher.explain(job)
        if isinstance(answer, Explanation):
            return answer
        if answer.code == "artifact_damaged":
            message = f"The files of {job.version} do not verify: {answer.hint}"
            raise Refused("artifact_damaged", message, kind="conflict")
        raise Unavailable(f"explanation_{answer.code}", f"{job.version} could not be asked: {answer.hint}")

    def _remembered(self, key: Key) -> Explanation | None:
        explanation = self._kept.get(key)
        if explanation is not None:
            self._kept.move_to_end(key)
        return explanation

    def _remember(self, key: Key, explanation: Explanation) -> Explanation:
        self._kept[key] = explanation
        while len(self._kept) > self._limits.most_kept:
            self._kept.popitem(last=False)
        return explanation


def _no_model(decision: StoredDecision) -> Refused:
    why = {
        "exit": "it closed a position at one of its barriers",
        "warmup": "it was the warm-up's, which draws from heuristics",
    }.get(decision.policy, f"the policy {decision.policy} spoke")
    message = f"No model decided {decision.decision_id}: {why}. Name a version to see what that would have said of it."
    details: Mapping[str, str] = {"policy": decision.policy, "strategy_id": decision.strategy_id}
    return Refused("no_model", message, details, kind="conflict")


def _busy(why: str) -> Unavailable:
    return Unavailable("explanations_busy", f"one decision is explained at a time, and {why}; try again in a moment")
