"""The bodies of requests and responses: the documented ones with all their members, and ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, model_validator
from pydantic.json_schema import SkipJsonSchema

from model_service.api.parameters import VERSION_PATTERN, Actor, ExpectedVersion, Reason, Text

ModelType = Literal["xgboost", "random_forest", "logistic_regression", "sgd_classifier"]
MetricType = Literal["classification", "regression", "trading_performance"]
Mode = Literal["warmup", "model", "paused"]
RunState = Literal[
    "requested", "preparing", "fitting", "evaluating", "promoted", "rejected",
    "cancelled", "superseded", "skipped", "refused", "failed",
]  # fmt: skip


def without_non_finite(value: Any) -> Any:
    """`value` with null in the place of each NaN or infinity, which JSON does not know.

    Example:
        >>> without_non_finite({"a": [float("nan"), 1.0]})
        {'a': [None, 1.0]}
    """
    if isinstance(value, dict):
        return {name: without_non_finite(member) for name, member in value.items()}
    if isinstance(value, list):
        return [without_non_finite(member) for member in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_none(value: object) -> bool:
    return value is None


Finite = BeforeValidator(without_non_finite)
Number = Annotated[float | None, Finite]
Object = Annotated[dict[str, Any], Finite]


class Body(BaseModel):
    """A body; members that are not known are passed over, as the platform's services do."""

    model_config = ConfigDict(protected_namespaces=())


class Problem(Body):
    """Every error: RFC 9457 and the platform's `error`, `code`, `details`."""

    type: str = Field(description="URN of the kind of problem.")
    title: str
    status: int
    detail: str
    error: str = Field(description="The same sentence as `detail`.")
    code: str = Field(description="Stable word for programs.")
    details: dict[str, Any] | None = None


class HealthDetails(Body):
    """State of each dependency."""

    database: Literal["connected", "disconnected"]
    message_queue: Literal["connected", "disconnected"]
    model_storage: Literal["accessible", "inaccessible"]
    active_models: int


class HealthChecks(Body):
    """The same as yes and no."""

    database: bool
    message_queue: bool
    model_storage: bool


class HealthResponse(Body):
    """Whether the service and what it depends on work; `notices` says what is switched off meanwhile, and why."""

    status: Literal["healthy", "unhealthy"]
    timestamp: datetime
    details: HealthDetails
    service: str
    database_connected: bool
    queue_connected: bool
    checks: HealthChecks
    notices: list[str]


class Alive(Body):
    """The process answers."""

    status: Literal["alive"]


class Readiness(Body):
    """Whether the service does its work, and if not, why."""

    ready: bool
    reasons: list[str]


class QualityMetricsSummary(Body):
    """Of the test; of live trading where there was no test. A number that is not known is left out."""

    accuracy: Annotated[float, Field(ge=0, le=1)] | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_none)
    accuracy_lower: float | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_none)
    accuracy_upper: float | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_none)
    sharpe_ratio: float | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_none)


class ModelVersionSummary(Body):
    """A version in a list."""

    id: UUID
    version: str
    model_type: ModelType
    strategy_id: str | None
    parent_version: str | None
    trained_at: datetime
    training_duration_seconds: int | None
    training_dataset_size: int | None
    is_active: bool
    is_warmup_mode: bool
    gate_passed: bool
    feature_set: str
    files_removed_at: datetime | None = Field(
        default=None, description="When retention removed its files; such a version cannot speak again."
    )
    rejection: str | None = Field(description="Why the gate refused it, in short; null when it passed.")
    quality_metrics_summary: QualityMetricsSummary


class ModelList(Body):
    """Versions, newest first."""

    models: list[ModelVersionSummary]
    total: int
    limit: int
    offset: int


class QualityMetric(Body):
    """One number about a version, from its test or from live trading."""

    id: UUID
    metric_name: str
    metric_value: float
    metric_type: MetricType
    slice: Literal["test", "live"]
    evaluated_at: datetime
    evaluation_dataset_size: int | None
    lower: Number = Field(default=None, description="Of the interval; null where there is none.")
    upper: Number = None
    level: Number = Field(default=None, description="How often such an interval holds the true value.")
    method: str | None = Field(default=None, description="How the interval was found.")
    metadata: Annotated[dict[str, Any] | None, Finite]

    @model_validator(mode="before")
    @classmethod
    def _with_interval(cls, row: Any) -> Any:
        """The interval stands in the metadata of the row."""
        known = (row.get("metadata") or {}) if isinstance(row, Mapping) else {}
        return {**{name: known.get(name) for name in ("lower", "upper", "level", "method")}, **row} if known else row


class GateCondition(Body):
    """One condition of the promotion gate as it was judged; all have to be met."""

    number: int = Field(description="Which of the seven kinds it is.")
    condition: str
    value: Number = None
    threshold: Number = None
    comparison: Literal["at_least", "above", "at_most", "below"] | None = Field(
        default=None, description="How the value must stand to the threshold."
    )
    passed: bool
    detail: str = ""


class Activation(Body):
    """A version that took the word. Both versions are null where the warm-up spoke."""

    activation_id: int
    strategy_id: str | None = Field(description="null: a general model, for strategies without a version of their own.")
    version: str | None
    previous_version: str | None
    actor: str = Field(description="`service`, `http`, or `http:NAME` where the request named somebody.")
    reason: str
    forced: bool = Field(description="Although the gate had refused it.")
    activated_at: datetime
    evidence: Annotated[dict[str, Any] | None, Finite] = Field(
        description="The numbers behind a change by the service."
    )


class ActivationList(Body):
    """Activations, newest first."""

    activations: list[Activation]
    total: int
    limit: int
    offset: int


class ModelVersionDetail(ModelVersionSummary):
    """A version with all that is known of it."""

    file_path: str
    training_config: Object
    report: Object
    gate: list[GateCondition]
    shortfalls: list[str] = Field(description="A sentence for each condition that is not met: by how much it missed.")
    quality_metrics: list[QualityMetric]
    features: list[str] | None = Field(description="Names of its feature set, in order; null for a set long forgotten.")
    activations: list[Activation] = Field(description="When it took the word, newest first, 100 at most.")


class FileVerification(Body):
    """A file as it lies there now, against what was judged. What could not be found or read is null."""

    name: str
    state: Literal["intact", "differs", "missing", "unreadable"]
    recorded_sha256: str
    recorded_bytes: int | None = Field(description="null for versions from before sizes were kept.")
    found_sha256: str | None
    found_bytes: int | None
    fault: str | None = Field(description="What is wrong, in words; null when nothing is.")


class ModelVerification(Body):
    """Every file of a version, read now."""

    version: str
    state: Literal["intact", "damaged", "removed"] = Field(description="removed: by retention.")
    files_removed_at: datetime | None
    files: list[FileVerification]


class ModelMetrics(Body):
    """The latest value of each metric of a version."""

    model_version_id: UUID
    version: str
    metrics: list[QualityMetric]


class ActivationRequest(Body):
    """Optional body of an activation."""

    strategy_id: Text | None = None
    force: StrictBool = Field(default=False, description="Activate although the gate refused it; recorded as forced.")
    reason: Reason | None = Field(default=None, description="For the audit log.")
    actor: Actor | None = Field(default=None, description="Who asks, by name; kept with the activation.")
    expected_version: ExpectedVersion | None = Field(
        default=None,
        description="The version that has to be active until then, `none` for no version; 409 with the one that is. "
        "The header If-Match says the same.",
    )


class CurrentTraining(Body):
    """The run at work; the estimate is left out until there is enough progress to estimate from."""

    started_at: datetime
    estimated_completion: datetime | SkipJsonSchema[None] = Field(default=None, exclude_if=_is_none)
    progress_percent: float = Field(ge=0, le=100)


class LastTraining(Body):
    """The last run that made a version."""

    completed_at: datetime
    version: str
    duration_seconds: int


class TrainingStatus(Body):
    """Training now, before and next, of one strategy or of all."""

    is_training: bool
    strategy_id: str | None
    current_training: CurrentTraining | None
    last_training: LastTraining | None
    next_scheduled_training: datetime | None


class TrainingRequest(Body):
    """What to train."""

    strategy_id: Text = Field(description="Name of a strategy.")
    training_type: Literal["full", "incremental"] = "full"


class TrainingAccepted(Body):
    """The run that was asked for; Location names the path to follow it at."""

    status: Literal["triggered", "queued"]
    training_id: UUID
    message: str


class TrainingRun(Body):
    """A run in a list. `progress` is 0 to 1."""

    run_id: UUID
    strategy_id: str
    training_type: Literal["full", "incremental"]
    trigger: Literal["outcomes", "schedule", "quality", "drift", "manual"]
    reason: str
    state: RunState
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    progress: Number
    progress_note: str | None
    error_code: str | None
    error_hint: str | None
    version: str | None
    superseded_by: UUID | None
    outcomes_seen: int


class TrainingRunList(Body):
    """Runs, newest first."""

    runs: list[TrainingRun]
    total: int
    limit: int
    offset: int


class TrainingRunDetail(TrainingRun):
    """A run with its data set report and the verdict of the gate, condition by condition."""

    dataset_report: Annotated[dict[str, Any] | None, Finite]
    gate: list[GateCondition] | None
    shortfalls: list[str] = Field(description="A sentence for each condition that is not met: by how much it missed.")


class StrategyCounts(Body):
    """Since the beginning."""

    signals: int
    fills: int
    outcomes: int
    training_runs: int


class Warmup(Body):
    """What the warm-up has cost so far, and how much of it is still wanted."""

    result: Decimal = Field(
        description="Realised result of the positions that its signals opened, quote currency after both fees."
    )
    outcomes_wanted: int | None = Field(
        description="Outcomes until the next training by their number; null for a strategy that is not configured."
    )


class Halt(Body):
    """Nothing is opened until a person ends it; positions are still closed."""

    halt_id: int
    strategy_id: str | None = Field(description="The only strategy that it holds for; null: every strategy.")
    kind: Literal["manual", "loss_limit"]
    reason: str
    actor: str
    evidence: Object = Field(description="The numbers that it rests on; of a loss limit, quote currency.")
    started_at: datetime


class Strategy(Body):
    """A strategy as it is now."""

    strategy_id: str
    state: Literal["enabled", "disabled", "removed"] = Field(
        description="What is not enabled opens nothing; its positions are still closed."
    )
    assets: list[str] = Field(description="What it trades now.")
    mode: Mode
    since: datetime
    reason: str
    active_version: str | None
    active_version_trained_at: datetime | None
    counts: StrategyCounts
    halts: list[Halt] = Field(description="Those that hold for it, those of every strategy included.")
    warmup: Warmup


class StrategyList(Body):
    """All strategies, by name."""

    strategies: list[Strategy]
    total: int
    halts: list[Halt] = Field(description="All that hold now.")


class StopResult(Body):
    """The stop that holds now, and how many openings were taken back before they were sent."""

    halt: Halt
    withdrawn: int


class ResumeResult(Body):
    """The halts that were ended, and those that hold on."""

    ended: list[Halt]
    holding: list[Halt]


class StrategyValue(Body):
    """One parameter of a strategy; sub-tables have dotted keys."""

    key: str
    value: Any
    source: Literal["file", "defaults", "environment", "default"] | None = Field(
        description="Where it came from; null where nobody remembers."
    )


class StrategyDefinitionDetail(Body):
    """The parameters of a strategy that are in force, or were when it was taken away."""

    strategy_id: str
    state: Literal["enabled", "disabled", "removed"]
    assets: list[str] = Field(description="What it trades now.")
    values: list[StrategyValue]


class ChangedValue(Body):
    """What a parameter was and what it is."""

    key: str
    before: Any = Field(description="Null for a strategy that was not there.")
    after: Any


class StrategyChangeDetail(Body):
    """One strategy that is not what it was."""

    strategy_id: str
    change: Literal["added", "changed", "removed", "enabled", "disabled"]
    values: list[ChangedValue]
    label_rule_changed: bool = Field(description="Its earlier outcomes teach it nothing any more.")


class ReloadResult(Body):
    """What has changed; nothing when the file says what it said before."""

    changes: list[StrategyChangeDetail]


class ChangeRequest(Body):
    """Why a person changes something; kept in the audit log."""

    reason: Reason


class RollbackRequest(ChangeRequest):
    """To which version, and why."""

    version: Annotated[str, Field(pattern=VERSION_PATTERN)] | None = Field(
        default=None, description="Any earlier version of the strategy; left out, the one that spoke before."
    )
    actor: Actor | None = Field(default=None, description="Who asks, by name; kept with the activation.")
    expected_version: ExpectedVersion | None = Field(default=None, description="As for an activation.")


class RollbackResult(Body):
    """The version that is active after a rollback."""

    strategy_id: str
    version: str


class SignalOutcome(Body):
    """What became of a signal after costs; `net_return` is a fraction of the entry."""

    label: int
    net_return: Number
    exit_rule: str
    exit_at: datetime


class SignalExit(Body):
    """Why a position is closed: percent of the entry price; seconds (`horizon`, `maximum_holding`); prices
    (`trailing_stop`). `continues`: the rest of an exit that was filled in part, wherever the price is by then."""

    cause: str
    value: Number
    threshold: Number
    continues: bool


class Signal(Body):
    """A signal as it was decided, where it is, and its outcome when there is one. Money is a decimal string."""

    signal_id: UUID
    strategy_id: str
    asset: str
    side: Literal["buy", "sell"]
    intent: Literal["open", "reduce", "exit"]
    price: Decimal
    amount: Decimal
    confidence: float
    decided_at: datetime
    expires_at: datetime
    policy: str
    model_version: str | None
    is_warmup: bool
    probability_buy: Number
    probability_sell: Number
    probability_none: Number
    trace_id: str
    status: Literal["pending", "sending", "published", "expired", "unroutable", "stopped"]
    published_at: datetime | None
    order_state: str | None
    first_filled_at: datetime | None
    exit: SignalExit | None
    outcome: SignalOutcome | None


class SignalList(Body):
    """Signals, newest first."""

    signals: list[Signal]
    total: int
    limit: int
    offset: int


class DeadLetter(Body):
    """A message that was refused. `body` is its beginning as text, `body_bytes` its full length."""

    dead_letter_id: int
    source: str
    reason_code: str
    reason: str
    occurrences: int
    first_seen_at: datetime
    last_seen_at: datetime
    copied_at: datetime | None
    requeue_attempts: int
    requeued_at: datetime | None
    dropped_at: datetime | None
    body: str
    body_bytes: int


class DeadLetterList(Body):
    """Refused messages, last seen first."""

    dead_letters: list[DeadLetter]
    total: int
    limit: int
    offset: int
