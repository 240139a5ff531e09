"""The orders that a child gets on its standard input, and the lines that it answers with."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_service.config.strategies import StrategyDefinition


class DatabaseCoordinates(BaseModel):
    """Where the child reads its samples; travels by standard input so that no password shows in a process list."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    database: str
    user: str
    password: str | None = None
    schema_name: str = "model_service"


class Incumbent(BaseModel):
    """The version that speaks while a candidate is made; the candidate is held against it (METHOD 8, condition 5).

    Attributes:
        directory: its artifact.
        files: sha256 in hex by file name, checked before anything is parsed.
        trained_until_us: the last label end that shaped it, microseconds since 1970, UTC.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    directory: str
    files: dict[str, str]
    trained_until_us: int


class TrainingJob(BaseModel):
    """Everything that a run depends on.

    Attributes:
        as_of_us: rows that were available later do not exist for this run; microseconds since 1970, UTC.
        output_directory: an empty folder for the artifact; the parent moves or removes it.
        parent_directory: artifact to continue from, for `incremental`.
        parent_files: sha256 in hex by file name of that artifact; what is named here is checked before it is parsed.
        parent_trained_until_us: the last label end that the parent has seen, for `incremental`.
        candidates_tried: candidates of this strategy since its last promotion, this one included.
        incumbent: the active version; None when no model speaks.
        tick_seconds: how often the strategy ticks, which with its settings gives its rate; None: not known.
        device: where XGBoost computes.
        engine: `local` fits in this process, `dask` on the workers of `dask_scheduler_address`.
        dataset_directory: for `dask`, a folder that the child makes, fills and removes, and that the workers read; the
            parent removes what a killed child left.
    """

    model_config = ConfigDict(frozen=True)

    run_id: str
    strategy: StrategyDefinition
    training_type: Literal["full", "incremental"] = "full"
    as_of_us: int
    database: DatabaseCoordinates
    output_directory: str
    seed: int = 0
    threads: int = Field(2, ge=1)
    parent_directory: str | None = None
    parent_files: dict[str, str] = Field(default_factory=dict)
    parent_version: str | None = None
    parent_trained_until_us: int | None = None
    candidates_tried: int = Field(1, ge=1)
    incumbent: Incumbent | None = None
    tick_seconds: float | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    engine: Literal["local", "dask"] = "local"
    dask_scheduler_address: str | None = None
    dataset_directory: str | None = None


Comparison = Literal["at_least", "above", "at_most", "below"]


class GateCondition(BaseModel):
    """One condition of the promotion gate as it was judged.

    Attributes:
        comparison: how `value` must stand to `threshold`; None where it is not said.
    """

    model_config = ConfigDict(frozen=True)

    number: int
    condition: str
    value: float | None
    threshold: float | None
    passed: bool
    detail: str = ""
    comparison: Comparison | None = None


class Metric(BaseModel):
    """One number of the evaluation, typed as in the documented table."""

    model_config = ConfigDict(frozen=True)

    name: str
    value: float
    type: Literal["classification", "regression", "trading_performance"]
    lower: float | None = None
    upper: float | None = None
    level: float | None = None
    method: str | None = None


class Progress(BaseModel):
    """A line of the child while it works. `fraction` runs from 0 to 1 over the whole run.

    Attributes:
        report: the report on the rows, in the one line after they were looked at; None in all others.
    """

    kind: Literal["progress"] = "progress"
    phase: Literal["preparing", "fitting", "evaluating"]
    fraction: float = Field(ge=0, le=1)
    note: str = ""
    report: dict[str, Any] | None = None


class Candidate(BaseModel):
    """The child's last line when a candidate version lies in the output folder, judged."""

    kind: Literal["candidate"] = "candidate"
    model_type: str
    feature_set: str
    files: dict[str, str]
    """sha256 in hex by file name."""
    file_sizes: dict[str, int] = Field(default_factory=dict)
    """Bytes by file name."""
    dataset_size: int
    trained_until_us: int
    training_config: dict[str, Any]
    report: dict[str, Any]
    metrics: list[Metric]
    gate: list[GateCondition]
    gate_passed: bool


class ExplanationJob(BaseModel):
    """What an explaining child gets: one decision's features, and the version that shall explain them.

    Attributes:
        directory: the artifact.
        files: sha256 in hex by file name, checked before anything is parsed.
        feature_names: names of the stored vector, in order.
        features: its bytes in hex, float32, little-endian, not aligned.
    """

    model_config = ConfigDict(frozen=True)

    version: str
    directory: str
    files: dict[str, str]
    feature_names: tuple[str, ...]
    features: str = Field(pattern="^([0-9a-f]{8})*$")


class FeatureContribution(BaseModel):
    """What one input of a model adds to its sum; a value that is not known is None."""

    model_config = ConfigDict(frozen=True)

    feature: str
    value: float | None
    aligned: float | None
    contribution: float


class SideExplanation(BaseModel):
    """How a model came to its word on one side.

    Attributes:
        total: base value plus all contributions, in the unit of the explanation.
        score: the probability before calibration.
        probability: the calibrated probability of a profit.
        expected_net_return: mean net return of acting, a fraction of the notional.
        contributions: in the order of the model's inputs.
    """

    model_config = ConfigDict(frozen=True)

    side: Literal["buy", "sell"]
    total: float
    score: float
    probability: float
    expected_net_return: float
    contributions: list[FeatureContribution]


class Explanation(BaseModel):
    """The last line of an explaining child.

    Attributes:
        unit: what contributions add up to: the log-odds of the score, or the score itself.
        method: how they were found.
        base_value: what the model says of an average row.
        break_even: the calibrated probability at which acting earns nothing.
    """

    kind: Literal["explanation"] = "explanation"
    version: str
    model_type: str
    unit: Literal["log_odds", "probability"]
    method: str
    base_value: float
    calibration: str
    break_even: float
    buy: SideExplanation
    sell: SideExplanation


class Refusal(BaseModel):
    """The child's last line when the data do not allow a model; nothing lies in the output folder."""

    kind: Literal["refused"] = "refused"
    code: str
    hint: str
    report: dict[str, Any] = Field(default_factory=dict)


class Failure(BaseModel):
    """The child's last line when the run broke."""

    kind: Literal["failed"] = "failed"
    code: str
    hint: str
