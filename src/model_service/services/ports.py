"""What the services need of the outside, as protocols; the adapters in database/ and beside main.py fulfil them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Protocol
from uuid import UUID

from model_service.contracts.signals import TradingSignal
from model_service.contracts.types import Side
from model_service.market.snapshot import Bar
from model_service.models.artifact import LoadedModel
from model_service.models.job import Candidate, Failure, Metric, Progress, Refusal, TrainingJob
from model_service.policies.base import ActionProbabilities
from model_service.policies.exit_state import ExitState
from model_service.policies.reasons import Reason
from model_service.trades.labels import Label
from model_service.trades.ledger import Lot

Intent = Literal["open", "reduce", "exit"]
GATE_PASSED = "gate_passed"
"""The reason of an activation by the gate, as it is stored."""
NOBODY = "none"
"""In the place of a version, where one is expected to be active: none is, the warm-up speaks."""
QUALITY_DEGRADED = "quality_degraded"
"""The reason of an activation, or of the end of one, by live quality, as it is stored."""
TrainingType = Literal["full", "incremental"]
TriggerKind = Literal["outcomes", "schedule", "quality", "drift", "manual"]


@dataclass(frozen=True, slots=True)
class DecidedSignal:
    """A signal with the frozen record of its decision (promise P3): what it is sent as, and what is learned from it.

    `evidence` is what an opening was decided by beside its features (`services.decision_evidence`), as JSON.
    `at_tick` is false for exits that were found between two ticks, or of a position that no tick looks at.
    """

    signal: TradingSignal
    intent: Intent
    price: Decimal
    policy: str
    seed: str
    features: bytes
    feature_set: str
    probabilities: ActionProbabilities
    horizon_seconds: int
    take_profit_percent: float | None
    stop_loss_percent: float | None
    fee_rate: float
    minimum_net_return: float
    evidence: Mapping[str, Any] | None = None
    at_tick: bool = True


@dataclass(frozen=True, slots=True)
class NoneDraw:
    """A stored draw of `none`, kept with probability `sample_rate`."""

    decision_id: UUID
    strategy_id: str
    asset: str
    decided_at: datetime
    policy: str
    model_version: str | None
    features: bytes
    feature_set: str
    probabilities: ActionProbabilities
    sample_rate: float
    seed: str


@dataclass(frozen=True, slots=True)
class SilentTick:
    """A tick that became no signal, for counting; `count` of them where they were missed."""

    strategy_id: str
    asset: str
    at: datetime
    reason: Reason
    count: int = 1


@dataclass(frozen=True, slots=True)
class DueTicks:
    """`count` ticks that fell due one after the other, the first and the last at these times; counted in `minute`."""

    minute: datetime
    first: datetime
    last: datetime
    interval_seconds: float
    count: int


@dataclass(frozen=True, slots=True)
class RefusedOpening:
    """An opening that was decided and may not be sent, since a limit that all processes share forbids it."""

    decided: DecidedSignal
    reason: Reason


@dataclass(frozen=True, slots=True)
class OpenOrder:
    """An order that may still fill: of one of our signals, or (strategy None) seen in the shared table.

    `quantity`, base units that an exit may still close, is None where it is unknown; so is `amount`, quote currency
    that may still fill.
    """

    strategy_id: str | None
    asset: str
    side: Side
    intent: Intent | None
    quantity: Decimal | None = None
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ExecutionStatistics:
    """Recent executions of one strategy and asset; NaN where there were none."""

    slippage_percent: float
    fee_percent: float
    fill_ratio: float
    win_rate: float


PositionKey = tuple[str, str]
"""Strategy and asset."""


class Unstorable(Exception):  # noqa: N818 - it names the state of the values
    """The database takes a value of what was to be recorded for none of its own; nothing of it is stored."""


PLATFORM_SECONDS = 1.0
"""How long a decision waits for the siblings' tables."""


class PlatformUnreadable(Exception):  # noqa: N818 - the state of the world, not a programming error
    """What the siblings' tables say could not be had in time. Nothing is known to be wrong with our own.

    Attributes:
        seconds: how long it was waited for.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:.1f} seconds")
        self.seconds = seconds


class DecisionStore(Protocol):
    """What a decision reads, and where it is recorded."""

    async def open_lots(self) -> Mapping[PositionKey, Sequence[Lot]]:
        """Open lots, oldest first."""
        ...

    async def exit_states(self) -> Mapping[PositionKey, ExitState]:
        """What the exit policy remembers, of positions that may be closed by now."""
        ...

    async def open_orders(self, now: datetime) -> Sequence[OpenOrder]:
        """Orders of our own signals that may still fill."""
        ...

    async def foreign_orders(self) -> Sequence[OpenOrder]:
        """Open orders of the shared table that are not ours; none where there is no such table.

        Raises PlatformUnreadable after a short time.
        """
        ...

    async def shared_positions(self) -> Mapping[str, float] | None:
        """Signed base units by asset as the platform's own table has them; None where there is none.

        Raises PlatformUnreadable after a short time.
        """
        ...

    async def execution_statistics(self) -> Mapping[PositionKey, ExecutionStatistics]:
        """Of the newest executions."""
        ...

    async def record(
        self,
        signals: Sequence[DecidedSignal],
        nones: Sequence[NoneDraw],
        silent: Sequence[SilentTick],
        exit_states: Mapping[PositionKey, ExitState] | None = None,
        *,
        prices: Mapping[str, float] | None = None,
        spare: Mapping[UUID, NoneDraw] | None = None,
        due: Mapping[PositionKey, Sequence[DueTicks]] | None = None,
    ) -> Sequence[RefusedOpening]:
        """All of one pass, in one transaction. When it breaks off, `took_effect` says what became of it.

        Openings that the shared limits forbid come back; they are counted as silent ticks, and those of `spare` (by
        signal) kept as draws of `none`. `prices` by asset value the positions that are held against these limits.
        `due` are the ticks that had to come since the last pass, by strategy and asset: written twice they count once.

        Raises Unstorable when a value cannot be stored; then nothing is.
        """
        ...

    async def took_effect(self) -> frozenset[UUID]:
        """Which signals of the last `record`, which broke off, are stored: only the answer may have been lost."""
        ...


@dataclass(frozen=True, slots=True)
class FilledSignal:
    """An opening whose label is due: what was decided and what was filled."""

    signal_id: UUID
    strategy_id: str
    asset: str
    side: Side
    model_version: str | None
    entry_at: datetime
    entry_price: Decimal
    entry_quantity: Decimal
    entry_fees: Decimal
    horizon_seconds: int
    take_profit_percent: float | None
    stop_loss_percent: float | None
    fee_rate: float
    minimum_net_return: float
    spread_percent: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A label on its way into the database.

    Attributes:
        label: None when the signal can never be labelled.
        opposite_net_return: what the other side would have earned on the same path at the same cost, a fraction; None
            where no path is known.
    """

    filled: FilledSignal
    label: Label | None
    available_at: datetime
    opposite_net_return: float | None = None


class OutcomeStore(Protocol):
    """Filled signals in, labels out."""

    async def due(self, now: datetime, limit: int) -> Sequence[FilledSignal]:
        """Filled, unlabelled openings whose horizon has passed, `limit` of each asset at most, first due first."""
        ...

    async def bars(self, asset: str, interval_seconds: int, start: datetime, end: datetime) -> Sequence[Bar]:
        """Bars of `asset` that overlap [start, end), in order."""
        ...

    async def reported(self, signal_ids: Sequence[UUID]) -> Mapping[UUID, tuple[Decimal, datetime]]:
        """What the platform itself reported as the return (a fraction) of these signals' lots, and when."""
        ...

    async def store(self, outcomes: Sequence[Outcome]) -> int:
        """Outcomes, and samples for the labelled ones, in one transaction; returns how many samples.

        What was labelled meanwhile, or has got another fill, is left alone.
        """
        ...


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run as the table has it."""

    run_id: UUID
    strategy_id: str
    training_type: TrainingType
    trigger: TriggerKind
    state: str
    requested_at: datetime
    outcomes_seen: int


@dataclass(frozen=True, slots=True)
class ScheduleSlot:
    """One moment of a schedule, which fires once for all processes."""

    job: str
    at: datetime


class SlotTaken(Exception):  # noqa: N818 - what somebody else has done, not a fault
    """The slot has been fired already."""


class TrainingStore(Protocol):
    """Runs as rows."""

    async def request(
        self,
        run: TrainingRun,
        reason: str,
        *,
        previous: UUID | None,
        error_code: str | None = None,
        slot: ScheduleSlot | None = None,
    ) -> None:
        """Insert a run; a live one of the strategy, `previous`, becomes superseded by it in the same transaction.

        So is `slot` fired, where one is given. Raises SlotTaken, with nothing written, when it has been fired before.
        """
        ...

    async def live_runs(self) -> Sequence[TrainingRun]:
        """Runs that are requested or under way, oldest first."""
        ...

    async def last_run(self, strategy_id: str) -> TrainingRun | None:
        """The newest run of any state."""
        ...

    async def progress(
        self,
        run_id: UUID,
        state: str,
        fraction: float,
        note: str,
        now: datetime,
        *,
        dataset_report: Mapping[str, Any] | None = None,
    ) -> None:
        """Where a live run is, and the report on its rows once it is known; a finished one is left alone."""
        ...

    async def finish(self, run_id: UUID, state: str, now: datetime, **details: Any) -> None:
        """Close a live run: dataset_report, gate, error_code, error_hint, version."""
        ...

    async def sample_count(self, strategy_id: str) -> int:
        """Samples of the strategy."""
        ...

    async def last_slot(self, job: str) -> datetime | None:
        """The newest slot that was fired."""
        ...


class TrainingProcess(Protocol):
    """A running training child."""

    def lines(self) -> AsyncIterator[Progress | Candidate | Refusal | Failure]:
        """What it says, ending with a Candidate, a Refusal or a Failure, whatever becomes of the process."""
        ...

    async def kill(self) -> None:
        """SIGKILL to its process group; returns when it is gone."""
        ...


class TrainingLauncher(Protocol):
    """Starts training children."""

    async def launch(self, job: TrainingJob) -> TrainingProcess:
        """A child that works on `job`."""
        ...


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """What the services need of a version's row."""

    id: UUID
    version: str
    strategy_id: str | None
    feature_set: str
    files: Mapping[str, str]
    gate_passed: bool
    is_active: bool
    trained_at: datetime
    trained_until_us: int
    accuracy_at_threshold: float | None
    file_sizes: Mapping[str, int] | None = None
    files_removed_at: datetime | None = None


class ActiveVersionChanged(Exception):  # noqa: N818 - what somebody else has done, not a fault
    """Another version is active than the caller takes for granted; nothing was changed.

    Attributes:
        active: the version that is active; None when none is.
    """

    def __init__(self, active: str | None) -> None:
        super().__init__(f"{active or 'no version'} is active")
        self.active = active


class NothingToActivate(Exception):  # noqa: N818 - what retention has done, not a fault
    """There is no such version of that strategy, or its files were removed meanwhile; nothing was changed."""


class VersionTaken(Exception):  # noqa: N818 - the state of the folder, not a fault
    """There is a folder of that name that is not ours to replace; the next number may be free."""


FileState = Literal["intact", "differs", "missing", "unreadable"]


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file of a version, held against its record.

    Attributes:
        recorded_bytes: None where only the hash was recorded.
        found_sha256: None where the file could not be read, as is `found_bytes`.
        reason: of the operating system, where it cannot be read.
    """

    name: str
    state: FileState
    recorded_sha256: str
    recorded_bytes: int | None
    found_sha256: str | None = None
    found_bytes: int | None = None
    reason: str | None = None


class ModelFiles(Protocol):
    """The folder of model files."""

    def workspace(self, run_id: UUID) -> Path:
        """A new, empty folder for a run's artifact."""
        ...

    def dataset_folder(self, run_id: UUID) -> Path | None:
        """Where a run may lay down its dataset, not made yet; None where runs keep theirs in memory."""
        ...

    def discard(self, run_id: UUID) -> None:
        """Remove a run's folders, if there are any."""
        ...

    def publish(self, run_id: UUID, version: str) -> str:
        """Rename a run's folder to the version's; returns the path that the row keeps.

        Raises OSError, and VersionTaken when a folder of that name is there that no run of ours made.
        """
        ...

    def folder(self, version: str) -> Path:
        """Where the version's files are."""
        ...

    def versions(self) -> frozenset[str]:
        """Names of the folders that look like a version's. Raises OSError."""
        ...

    def remove(self, version: str) -> None:
        """Remove a version's folder, if there is one. Raises OSError."""
        ...

    def check(self, version: str, sha256: Mapping[str, str], sizes: Mapping[str, int] | None) -> Sequence[FileCheck]:
        """Every recorded file as it lies there now, by name. Raises ArtifactUnreachable."""
        ...

    def load(self, version: str, sha256: Mapping[str, str]) -> LoadedModel:
        """Read and check all files of a version.

        Raises:
            ArtifactDamaged: a file is missing, cannot be read, or is not what was judged.
            ArtifactUnreachable: the whole folder of the versions is away.
        """
        ...


class RegistryStore(Protocol):
    """Versions, activations and modes as rows."""

    async def next_version(self, *, parent: str | None) -> str:
        """`vN`, or `vN.M` for an increment of `parent`; never given twice."""
        ...

    def registering(self) -> AbstractAsyncContextManager[None]:
        """While inside, no start of a process takes a folder whose row is not written yet for a leftover."""
        ...

    async def add(
        self, version_id: UUID, version: str, strategy_id: str | None, file_path: str, candidate: Candidate,
        *, parent: str | None, trained_at: datetime, duration_seconds: float,
    ) -> None:  # fmt: skip
        """The version's row and its test metrics, in one transaction; `strategy_id` None for a general model."""
        ...

    async def get(self, version: str) -> ModelVersion | None:
        """One version."""
        ...

    async def active(self, strategy_id: str) -> ModelVersion | None:
        """The version that speaks for the strategy."""
        ...

    async def previous(self, strategy_id: str, before: str | None) -> ModelVersion | None:
        """The version that `before` took the word from; with None, the one that spoke last."""
        ...

    async def lost_for_quality(self, strategy_id: str) -> Collection[str]:
        """Versions that lost the word for their quality, and that no person has given it back to since."""
        ...

    async def activate(
        self, strategy_id: str | None, version: str | None, *, actor: str, reason: str, forced: bool, now: datetime,
        expected: str | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        """Make `version` the active one (None: no version), with its row of history, in one transaction.

        Nothing when it is that already, so that it can be tried again after an answer that was lost.

        Args:
            strategy_id: None for the general model.
            expected: the version that has to be active until then, NOBODY for none; None: whichever.

        Raises:
            ActiveVersionChanged: another one is active than `expected`.
            NothingToActivate: `version` is not one of the strategy, or its files were removed meanwhile.
        """
        ...

    async def has_spoken(self, version: str) -> bool:
        """Whether the version was ever active."""
        ...

    async def modes(self) -> Mapping[str, str]:
        """Mode by strategy."""
        ...

    async def in_mode_since(self) -> Mapping[str, datetime]:
        """When each strategy entered its mode, by strategy."""
        ...

    async def set_mode(
        self, strategy_id: str, mode: str, reason: str, evidence: Mapping[str, Any], now: datetime
    ) -> None:
        """A transition with its evidence; nothing when the mode is the same."""
        ...

    async def candidates_since_promotion(self, strategy_id: str) -> int:
        """How many candidates were judged since one last passed the gate."""
        ...

    async def audit(self, actor: str, action: str, subject: str, details: Mapping[str, Any], now: datetime) -> None:
        """One row of who did what."""
        ...


@dataclass(frozen=True, slots=True)
class LiveOutcome:
    """One judged opening of a version while it was live; of a correction `revision` is above 1."""

    signal_id: UUID
    revision: int
    asset: str
    entry_at: datetime
    available_at: datetime
    label: int
    net_return: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Activation:
    """When a version last got the word, and why."""

    at: datetime
    reason: str


class QualityStore(Protocol):
    """Live outcomes in, live metrics out."""

    async def activation(self, strategy_id: str, version: str) -> Activation:
        """The last one of the version; the beginning of time where none is recorded."""
        ...

    async def test_metrics(self, version_id: UUID) -> Mapping[str, tuple[float, float | None]]:
        """Of slice `test`, by name: value and upper bound."""
        ...

    async def live_outcomes(
        self, strategy_id: str, version: str, since: datetime, after: LiveOutcome | None, limit: int
    ) -> Sequence[LiveOutcome]:
        """Outcomes of the version's openings filled from `since` on, in the order in which they became available.

        At most `limit` of those behind `after`. What becomes available out of order, as when two processes label at
        the same time, is seen after the next start.
        """
        ...

    async def store_metrics(
        self, version_id: UUID, metrics: Sequence[Metric], n: int, now: datetime, window: Mapping[str, Any]
    ) -> None:
        """One set of metrics of slice `live`, over `n` outcomes."""
        ...
