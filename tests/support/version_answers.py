"""What the HTTP interface says of a version, made from a candidate that was really trained."""

from __future__ import annotations

from functools import cache
from typing import Any

from model_service.learning.run import train_candidate
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import Candidate
from model_service.models.verdict import rejection, shortfalls
from tests.support.training_rows import blank_rows, imbalance_rows, training_job, training_strategy


@cache
def candidate(*, good: bool, model_type: str = "xgboost") -> Candidate:
    """One that passes the gate, or one that was made from noise."""
    import numpy as np

    rows = imbalance_rows(2000, 3, assets=3) if good else blank_rows(2000, np.random.default_rng(1))
    job = training_job(strategy=training_strategy(model_type=model_type))
    return train_candidate(job, rows, {"not_yet_known": 2}, {}, lambda *_: None)[0]


def version_answer(*, good: bool = True, **changes: Any) -> dict[str, Any]:
    """`GET /api/v1/models/v1`."""
    made = candidate(good=good)
    answer = {
        "id": "c9edf539-a9e3-4e16-a63e-fd5125d8bda5",
        "version": "v1",
        "model_type": made.model_type,
        "strategy_id": "planted",
        "parent_version": None,
        "trained_at": "2026-11-23T15:52:43Z",
        "training_duration_seconds": 12,
        "training_dataset_size": made.dataset_size,
        "is_active": good,
        "is_warmup_mode": False,
        "gate_passed": made.gate_passed,
        "feature_set": made.feature_set,
        "rejection": rejection(made.gate),
        "shortfalls": shortfalls(made.gate),
        "quality_metrics_summary": {"accuracy": 0.81, "accuracy_lower": 0.76, "accuracy_upper": 0.86},
        "file_path": "/models/v1",
        "training_config": made.training_config,
        "report": made.report,
        "gate": [condition.model_dump() for condition in made.gate],
        "quality_metrics": _metrics(made),
        "files_removed_at": None,
        "features": list(FEATURE_NAMES),
        "activations": [],
    }
    return {**answer, **changes}


def _metrics(made: Candidate) -> list[dict[str, Any]]:
    """As the interface orders them: by slice, type and name."""
    test = [_metric(metric.name, metric.value, metric.type, "test", metric) for metric in made.metrics]
    live = [
        _metric(name, value, "classification", "live", None)
        for name, value in (("accuracy", 0.7), ("accuracy_lower", 0.61), ("accuracy_upper", 0.79))
    ]
    return sorted(test, key=lambda item: (item["metric_type"], item["metric_name"])) + live


def _metric(name: str, value: float, kind: str, part: str, metric: Any) -> dict[str, Any]:
    bounds = {member: getattr(metric, member, None) for member in ("lower", "upper", "level", "method")}
    return {
        "metric_name": name, "metric_value": value, "metric_type": kind, "slice": part,
        "evaluation_dataset_size": 370, **bounds,
    }  # fmt: skip
