"""What the HTTP interface needs of the service: operations that change something, and a look at its health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from model_service.models.drift import DriftReport
from model_service.services.comparison import Compared
from model_service.services.explanations import ExplainedDecision
from model_service.services.halts import Resumed, Stopped
from model_service.services.live_state import LiveQuality
from model_service.services.replay import Replayed
from model_service.services.strategy_changes import StrategyChange
from model_service.services.strategy_view import StrategyView
from model_service.services.version_files import Verification

TrainingType = Literal["full", "incremental"]
RequestState = Literal["triggered", "queued"]


class Operations(Protocol):
    """Everything that a person may change. Each call is audited by its implementation with `actor` and `reason`.

    All may raise `services.errors.OperationRefused` and its subclasses, and `DatabaseUnavailable`.
    """

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
        """Make `version` the active one; `force` passes over the gate. None means the strategy of the version.

        `expected`: the version that has to be active until then, NOBODY for none.
        """
        ...

    async def request_training(
        self, strategy_id: str, training_type: TrainingType, *, actor: str
    ) -> tuple[UUID, RequestState]:
        """Ask for a run; returns its identifier and whether it starts at once."""
        ...

    async def pause(self, strategy_id: str, actor: str, reason: str) -> None:
        """Stop openings of the strategy until somebody resumes it; exits go on."""
        ...

    async def resume(self, strategy_id: str, actor: str, reason: str) -> None:
        """End a pause, and a halt by the strategy's own loss limit."""
        ...

    async def stop(self, actor: str, reason: str) -> Stopped:
        """Stop openings of every strategy, in every process on the database, until somebody resumes; exits go on."""
        ...

    async def resume_all(self, actor: str, reason: str) -> Resumed:
        """End a stop of every strategy, and a loss limit of all."""
        ...

    async def reload_strategies(self, actor: str) -> Sequence[StrategyChange]:
        """Take the strategy file as it is now, all of it or nothing; what has changed."""
        ...

    def strategy_view(self, strategy_id: str) -> StrategyView:
        """A strategy as it is in force, with where each value came from."""
        ...

    async def rollback(
        self, strategy_id: str, actor: str, reason: str, *, to: str | None = None, expected: str | None = None
    ) -> str:
        """Activate the version before the active one, or `to`; returns the version that is active now."""
        ...

    async def outcomes_wanted(self, strategy_id: str) -> int | None:
        """Outcomes until the next training by their number; None for a strategy that is not configured."""
        ...

    def next_scheduled(self, strategy_id: str | None) -> datetime | None:
        """The next scheduled training, aware UTC, of one strategy or (None) of any; None when there is no schedule."""
        ...


class Explanations(Protocol):
    """Asks a version why it says what it says. Costs a child process of seconds, and changes nothing."""

    async def explain(self, decision_id: UUID, version: str | None = None) -> ExplainedDecision:
        """What a version says of a stored decision; may raise `services.errors.OperationRefused`."""
        ...


class Replays(Protocol):
    """Makes a recorded decision again. Costs the loading of a model, beside the event loop, and changes nothing."""

    async def replay(self, signal_id: UUID) -> Replayed:
        """The decision of a signal once more; may raise `services.errors.OperationRefused`."""
        ...


class LiveView(Protocol):
    """How good active versions are, as this process last saw it; costs nothing."""

    def live(self, strategy_id: str) -> LiveQuality | None:
        """Of the version that speaks; None while none does."""
        ...

    def drift(self, strategy_id: str) -> DriftReport | None:
        """How far recent features are from its training rows; None before the first look."""
        ...


class Verifications(Protocol):
    """Reads every file of a version beside the event loop, and changes nothing."""

    async def verify(self, version: str) -> Verification:
        """How the files stand to what was judged; may raise `services.errors.OperationRefused`."""
        ...


class Comparisons(Protocol):
    """Asks two versions of the same stored outcomes, beside the event loop, and changes nothing."""

    async def compare(self, first: str, second: str) -> Compared:
        """Both side by side; may raise `services.errors.OperationRefused`."""
        ...


@dataclass(frozen=True, slots=True)
class HealthState:
    """What works now.

    Attributes:
        ready: whether the service does its work; False while it waits for a dependency.
        reasons: why it is not ready, one sentence each; shown without a key, so without addresses and secrets.
        notices: what is switched off although the service is ready, and why; shown as openly.
    """

    database: bool
    message_queue: bool
    model_storage: bool
    active_models: int
    ready: bool
    reasons: tuple[str, ...]
    notices: tuple[str, ...] = ()


class HealthProbe(Protocol):
    """Where the state of health comes from."""

    async def health(self) -> HealthState:
        """The state now; answers within a second or two also while dependencies are away, and does not raise."""
        ...
