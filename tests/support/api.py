"""The HTTP interface over a fake service: what was asked of it is recorded, and what it answers is set by the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import httpx
from fastapi import FastAPI

from model_service.api.app import create_app
from model_service.api.ports import HealthState, RequestState, TrainingType
from model_service.config.clock import VirtualClock
from model_service.database.connection import Database, DatabaseAddress
from model_service.models.drift import DriftReport
from model_service.services.comparison import Compared
from model_service.services.errors import NotFound
from model_service.services.explanations import ExplainedDecision
from model_service.services.halts import Halt, Resumed, Stopped
from model_service.services.live_state import LiveQuality
from model_service.services.replay import Replayed
from model_service.services.roster import StrategyRoster
from model_service.services.strategy_changes import StrategyChange
from model_service.services.strategy_view import StrategyView, strategy_view
from model_service.services.version_files import Verification

KEY = "correct horse battery staple"
AUTHORISED = {"X-API-Key": KEY}
NOW = datetime(2026, 11, 23, 15, 52, 43, tzinfo=UTC)
RUN_ID = UUID("c9edf539-a9e3-4e16-a63e-fd5125d8bda5")
HALT = Halt(1, None, "manual", "the exchange is on fire", "http", {}, NOW)
HEALTHY = HealthState(database=True, message_queue=True, model_storage=True, active_models=2, ready=True, reasons=())


@dataclass
class FakeOperations:
    """Records each call; raises `error` when it is set."""

    error: Exception | None = None
    state: RequestState = "triggered"
    scheduled: datetime | None = None
    changes: Sequence[StrategyChange] = ()
    roster: StrategyRoster = field(default_factory=lambda: StrategyRoster([]))
    wanted: int | None = 1234
    calls: list[tuple[object, ...]] = field(default_factory=list)

    async def activate(
        self,
        version: str,
        *,
        strategy_id: str | None,
        force: bool,
        actor: str,
        reason: str,
        expected: str | None = None,
    ) -> None:
        self._record("activate", version, strategy_id, force, actor, reason, *([expected] if expected else []))

    async def request_training(
        self, strategy_id: str, training_type: TrainingType, *, actor: str
    ) -> tuple[UUID, RequestState]:
        self._record("request_training", strategy_id, training_type, actor)
        return RUN_ID, self.state

    async def pause(self, strategy_id: str, actor: str, reason: str) -> None:
        self._record("pause", strategy_id, actor, reason)

    async def resume(self, strategy_id: str, actor: str, reason: str) -> None:
        self._record("resume", strategy_id, actor, reason)

    async def stop(self, actor: str, reason: str) -> Stopped:
        self._record("stop", actor, reason)
        return Stopped(HALT, 2)

    async def resume_all(self, actor: str, reason: str) -> Resumed:
        self._record("resume_all", actor, reason)
        return Resumed([HALT], [])

    async def rollback(
        self, strategy_id: str, actor: str, reason: str, *, to: str | None = None, expected: str | None = None
    ) -> str:
        self._record("rollback", strategy_id, actor, reason, *([to, expected] if to or expected else []))
        return to or "v1"

    async def reload_strategies(self, actor: str) -> Sequence[StrategyChange]:
        self._record("reload_strategies", actor)
        return self.changes

    def strategy_view(self, strategy_id: str) -> StrategyView:
        view = strategy_view(self.roster, strategy_id)
        if view is None:
            raise NotFound("unknown_strategy", "There is no strategy of that name.")
        return view

    async def outcomes_wanted(self, strategy_id: str) -> int | None:
        return self.wanted

    def next_scheduled(self, strategy_id: str | None) -> datetime | None:
        return self.scheduled

    def _record(self, *call: object) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


@dataclass
class FakeHealth:
    """Says what the test sets."""

    state: HealthState = HEALTHY

    async def health(self) -> HealthState:
        return self.state


@dataclass
class FakeExplanations:
    """Answers with what the test sets, an error included."""

    found: ExplainedDecision | Exception | None = None
    calls: list[tuple[UUID, str | None]] = field(default_factory=list)

    async def explain(self, decision_id: UUID, version: str | None = None) -> ExplainedDecision:
        self.calls.append((decision_id, version))
        if isinstance(self.found, Exception):
            raise self.found
        assert self.found is not None, "the test sets what is found"
        return self.found


@dataclass
class FakeReplays:
    """Answers with what the test sets, an error included."""

    found: Replayed | Exception | None = None

    async def replay(self, signal_id: UUID) -> Replayed:
        if isinstance(self.found, Exception):
            raise self.found
        assert self.found is not None, "the test sets what is found"
        return self.found


@dataclass
class FakeLive:
    """Answers with what the test sets."""

    quality: LiveQuality | None = None
    report: DriftReport | None = None

    def live(self, strategy_id: str) -> LiveQuality | None:
        return self.quality

    def drift(self, strategy_id: str) -> DriftReport | None:
        return self.report


class FakeVerifications:
    """Answers with what the test sets, an error included."""

    found: Verification | Exception | None = None

    async def verify(self, version: str) -> Verification:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found or Verification(version, "intact", ())


@dataclass
class FakeComparisons:
    """Answers with what the test sets, an error included."""

    found: Compared | Exception | None = None

    async def compare(self, first: str, second: str) -> Compared:
        if isinstance(self.found, Exception):
            raise self.found
        assert self.found is not None, "the test sets what is found"
        return self.found


def unreachable_database() -> Database:
    """A Database that was never opened: each use says that it is away."""
    return Database(DatabaseAddress("192.0.2.1", 5432, "nowhere", "nobody"))


def make_app(
    database: Database | None = None,
    operations: FakeOperations | None = None,
    health: FakeHealth | None = None,
    explanations: FakeExplanations | None = None,
    replays: FakeReplays | None = None,
    live: FakeLive | None = None,
    verifications: FakeVerifications | None = None,
    comparisons: FakeComparisons | None = None,
) -> FastAPI:
    """The application with fakes in the places that a test does not fill."""
    return create_app(
        database=database or unreachable_database(),
        operations=operations or FakeOperations(),
        health=health or FakeHealth(),
        explanations=explanations or FakeExplanations(),
        replays=replays or FakeReplays(),
        live=live or FakeLive(),
        verifications=verifications or FakeVerifications(),
        comparisons=comparisons or FakeComparisons(),
        api_key=KEY,
        clock=VirtualClock(NOW),
    )


@asynccontextmanager
async def client_of(app: FastAPI, *, authorised: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """A client that speaks to `app` without a network."""
    transport = httpx.ASGITransport(app=app)
    headers = AUTHORISED if authorised else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://service.test", headers=headers) as client:
        yield client
