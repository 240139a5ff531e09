"""The order that a training child gets on its standard input, and the lines that it answers with."""

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
        parent_trained_until_us: the last label end that the parent has seen, for `incremental`.
        candidates_tried: candidates of this strategy since its last promotion, this one included.
        incumbent: the active version; None when no model speaks.
        device: where XGBoost computes.
        engine: `local` fits in this process, `dask` on the workers of `dask_scheduler_address`.
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
    parent_version: str | None = None
    parent_trained_until_us: int | None = None
    candidates_tried: int = Field(1, ge=1)
    incumbent: Incumbent | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    engine: Literal["local", "dask"] = "local"
    dask_scheduler_address: str | None = None


class GateCondition(BaseModel):
    """One condition of the promotion gate as it was judged."""

    model_config = ConfigDict(frozen=True)

    number: int
    condition: str
    value: float | None
    threshold: float | None
    passed: bool
    detail: str = ""


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
    """A line of the child while it works. `fraction` runs from 0 to 1 over the whole run."""

    kind: Literal["progress"] = "progress"
    phase: Literal["preparing", "fitting", "evaluating"]
    fraction: float = Field(ge=0, le=1)
    note: str = ""


class Candidate(BaseModel):
    """The child's last line when a candidate version lies in the output folder, judged."""

    kind: Literal["candidate"] = "candidate"
    model_type: str
    feature_set: str
    files: dict[str, str]
    """sha256 in hex by file name."""
    dataset_size: int
    trained_until_us: int
    training_config: dict[str, Any]
    report: dict[str, Any]
    metrics: list[Metric]
    gate: list[GateCondition]
    gate_passed: bool


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
