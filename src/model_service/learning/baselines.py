"""What a candidate is held against, on the same rows: a constant, the logging policy, the incumbent."""

from __future__ import annotations

from typing import Any

import numpy as np

from model_service.learning.evaluation import Evaluation
from model_service.learning.off_policy import number
from model_service.models import metrics
from model_service.models.intervals import Estimate

_TAIL = 0.95
LEVEL = 0.90


def baselines(evaluation: Evaluation) -> dict[str, Any]:
    """Plain numbers for JSON; returns are net, fractions of the entry notional."""
    labels, returns = evaluation.labels, evaluation.test.net_returns
    return {
        "rows": len(labels),
        "majority_class": {
            "label": evaluation.majority_class,
            "accuracy": number(metrics.accuracy(labels, np.full_like(labels, evaluation.majority_class))),
        },
        "logging_policy": {
            "win_rate": number(metrics.win_rate(returns)),
            "average_return": number(metrics.average_return(returns)),
            "value_per_decision": number(evaluation.off_policy.logged_per_decision.value),
        },
        "incumbent": _incumbent(evaluation),
    }


def off_policy_report(evaluation: Evaluation) -> dict[str, Any]:
    """The off-policy values with what they rest on; plain numbers for JSON."""
    value = evaluation.off_policy
    return {
        "draws": value.draws,
        "trades": value.trades,
        "unusable": value.unusable,
        "level": LEVEL,
        "value_per_trade": _with_interval(value.per_trade) if value.overlaps else None,
        "effective_trades": number(value.per_trade_ess),
        "value_per_decision": _with_interval(value.per_decision) if value.overlaps_per_decision else None,
        "value_per_decision_doubly_robust": (
            _with_interval(value.doubly_robust) if value.overlaps_per_decision else None
        ),
        "effective_decisions": number(value.per_decision_ess),
        "logged_value_per_trade": _with_interval(value.logged_per_trade),
        "logged_value_per_decision": _with_interval(value.logged_per_decision),
    }


def _incumbent(evaluation: Evaluation) -> dict[str, Any] | None:
    comparison = evaluation.comparison
    if comparison is None:
        return None
    return {
        "version": comparison.version,
        "problem": comparison.problem,
        "rows": comparison.rows,
        "rows_without_path": comparison.unpriced,
        "accuracy": number(comparison.incumbent_accuracy),
        "average_return": number(comparison.incumbent_average_return),
        "trades_taken": comparison.incumbent_trades,
        "value_per_decision": number(comparison.incumbent_value),
        "candidate_value_per_decision": number(comparison.value),
        "difference_per_decision": _with_interval(comparison.difference),
    }


def _with_interval(estimate: Estimate) -> dict[str, float | None]:
    return {
        "value": number(estimate.value),
        "lower": number(estimate.lower(_TAIL)),
        "upper": number(estimate.upper(_TAIL)),
    }
