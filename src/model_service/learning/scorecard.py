"""The numbers of an evaluation, named and typed as in the documented table (METHOD 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np

from model_service.learning.evaluation import Evaluation
from model_service.models import metrics
from model_service.models.intervals import METHOD, Estimate, block_ratio
from model_service.models.job import Metric

Kind = Literal["classification", "regression", "trading_performance"]
LEVEL = 0.95
_TAIL = 0.975
_SECONDS_PER_DAY = 86_400
_DAYS_PER_YEAR = 365.25


def scorecard(evaluation: Evaluation, candidates_tried: int) -> tuple[list[Metric], dict[str, str]]:
    """All metrics that are numbers, and for each that is left out the reason.

    Two-sided intervals stand where ten blocks of rows give one; their level and method are stated.
    """
    found = [*_classification(evaluation), *_regression(evaluation), *_trading(evaluation, candidates_tried)]
    finite = [metric for metric in found if math.isfinite(metric.value)]
    left_out = {metric.name: _why(metric.value) for metric in found if not math.isfinite(metric.value)}
    return finite, left_out


def _classification(evaluation: Evaluation) -> Iterator[Metric]:
    labels, predicted, probability = evaluation.labels, evaluation.predicted, evaluation.probability
    kind: Kind = "classification"
    yield _estimated("accuracy", kind, block_ratio((labels == predicted).astype(np.float64)))
    yield _plain("base_rate", kind, metrics.base_rate(labels))
    yield _plain("precision", kind, metrics.precision(labels, predicted))
    yield _plain("recall", kind, metrics.recall(labels, predicted))
    yield _plain("f1_score", kind, metrics.f1_score(labels, predicted))
    yield _plain("roc_auc", kind, metrics.roc_auc(labels, probability))
    yield _estimated("brier", kind, block_ratio((probability - labels) ** 2))
    yield _plain("ece", kind, metrics.ece(labels, probability))
    yield _plain("ece_floor", kind, metrics.ece_floor(probability))
    yield _estimated("accuracy_at_threshold", kind, block_ratio(labels * evaluation.taken, evaluation.taken))
    yield _estimated("coverage", kind, block_ratio(evaluation.taken.astype(np.float64)))


def _regression(evaluation: Evaluation) -> Iterator[Metric]:
    yield _plain("log_loss", "regression", metrics.log_loss(evaluation.labels, evaluation.probability))


def _trading(evaluation: Evaluation, candidates_tried: int) -> Iterator[Metric]:
    returns, taken = evaluation.taken_returns, evaluation.taken
    kind: Kind = "trading_performance"
    per_day = _trades_per_day(evaluation)
    sharpe = metrics.sharpe_ratio(returns)
    all_returns = evaluation.test.net_returns
    yield _estimated("average_return", kind, block_ratio(all_returns * taken, taken))
    yield _estimated("win_rate", kind, block_ratio((all_returns > 0) * taken, taken))
    yield _plain("trades_taken", kind, float(np.sum(taken)))
    yield _plain("profit_factor", kind, metrics.profit_factor(returns))
    yield _plain("sharpe_ratio", kind, sharpe)
    yield _plain("sharpe_ratio_annualised", kind, sharpe * math.sqrt(per_day * _DAYS_PER_YEAR))
    yield _plain("max_drawdown", kind, metrics.max_drawdown(returns))
    yield _plain("turnover", kind, 2.0 * per_day)
    yield _plain("deflated_sharpe_ratio", kind, metrics.deflated_sharpe_ratio(returns, candidates_tried))
    yield _estimated("logged_average_return", kind, block_ratio(all_returns))


def _trades_per_day(evaluation: Evaluation) -> float:
    """Trades taken per day of the test block; turnover counts both sides of each, in notionals of one trade."""
    decided = evaluation.test.decided_us
    days = float(decided[-1] - decided[0]) / 1e6 / _SECONDS_PER_DAY if len(decided) > 1 else 0.0
    return float(np.sum(evaluation.taken)) / days if days > 0 else metrics.NAN


def _plain(name: str, kind: Kind, value: float) -> Metric:
    return Metric(name=name, value=value, type=kind)


def _estimated(name: str, kind: Kind, estimate: Estimate) -> Metric:
    if not math.isfinite(estimate.standard_error):
        return _plain(name, kind, estimate.value)
    return Metric(
        name=name,
        value=estimate.value,
        type=kind,
        lower=estimate.lower(_TAIL),
        upper=estimate.upper(_TAIL),
        level=LEVEL,
        method=METHOD,
    )


def _why(value: float) -> str:
    return "infinite for these rows" if math.isinf(value) else "not defined for these rows (none of the kind it counts)"
