"""The numbers of an evaluation, named and typed as in the documented table (METHOD 7)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_service.learning.evaluation import Evaluation
from model_service.learning.off_policy import LEAST_ESS
from model_service.models import metrics
from model_service.models.intervals import DELONG, Estimate
from model_service.models.job import Metric

Kind = Literal["classification", "regression", "trading_performance"]
LEVEL = 0.90
"""Of the two-sided intervals shown; each end is the one-sided 95 % bound that the gate looks at."""
_TAIL = 0.95
_SECONDS_PER_DAY = 86_400
_DAYS_PER_YEAR = 365.25


def scorecard(evaluation: Evaluation, candidates_tried: int) -> tuple[list[Metric], dict[str, str]]:
    """All metrics that are numbers, and for each that is left out the reason.

    Two-sided intervals stand where the rows give one; their level and method are stated.
    """
    found = [
        *_classification(evaluation),
        *_regression(evaluation),
        *_trading(evaluation, candidates_tried),
        *_off_policy(evaluation),
    ]
    finite = [metric for metric in found if math.isfinite(metric.value)]
    left_out = {metric.name: _why(metric.value) for metric in found if not math.isfinite(metric.value)}
    value = evaluation.off_policy
    if not value.overlaps:
        left_out["value_per_trade"] = _no_overlap(value.per_trade_ess)
    if not value.overlaps_per_decision:
        for name in ("value_per_decision", "value_per_decision_doubly_robust"):
            left_out[name] = _no_overlap(value.per_decision_ess)
    return finite, left_out


def _classification(evaluation: Evaluation) -> Iterator[Metric]:
    labels, predicted, probability = evaluation.labels, evaluation.predicted, evaluation.probability
    hits, taken = labels * predicted, evaluation.taken
    kind: Kind = "classification"
    yield _estimated("accuracy", kind, _ratio(evaluation, labels == predicted))
    yield _plain("base_rate", kind, metrics.base_rate(labels))
    yield _estimated("precision", kind, _ratio(evaluation, hits, predicted))
    yield _estimated("recall", kind, _ratio(evaluation, hits, labels))
    yield _estimated("f1_score", kind, _ratio(evaluation, 2 * hits, labels + predicted))
    yield _estimated("roc_auc", kind, _area(evaluation))
    yield _estimated("brier", kind, _ratio(evaluation, (probability - labels) ** 2))
    yield _plain("ece", kind, metrics.ece(labels, probability))
    yield _plain("ece_floor", kind, metrics.ece_floor(probability))
    yield _estimated("accuracy_at_threshold", kind, _ratio(evaluation, labels * taken, taken))
    yield _estimated("coverage", kind, _ratio(evaluation, taken))


def _regression(evaluation: Evaluation) -> Iterator[Metric]:
    losses = metrics.log_losses(evaluation.labels, evaluation.probability)
    taken = evaluation.taken
    yield _estimated("log_loss", "regression", _ratio(evaluation, losses))
    # What live trading is held against: there only such trades are seen.
    at_threshold = _ratio(evaluation, np.where(taken, losses, 0.0), taken)
    yield _estimated("log_loss_at_threshold", "regression", at_threshold)


def _trading(evaluation: Evaluation, candidates_tried: int) -> Iterator[Metric]:
    returns, taken = evaluation.taken_returns, evaluation.taken
    kind: Kind = "trading_performance"
    per_day = _trades_per_day(evaluation)
    sharpe = metrics.sharpe_ratio(returns)
    all_returns = evaluation.test.net_returns
    average = _ratio(evaluation, all_returns * taken, taken)
    independent = metrics.independent_trades(returns, average.standard_error)
    share = independent / returns.size if returns.size else metrics.NAN
    yield _estimated("average_return", kind, average)
    yield _estimated("win_rate", kind, _ratio(evaluation, (all_returns > 0) * taken, taken))
    yield _plain("trades_taken", kind, float(np.sum(taken)))
    yield _plain("profit_factor", kind, metrics.profit_factor(returns))
    yield _plain("sharpe_ratio", kind, sharpe)
    yield _plain("independent_trades", kind, independent)
    yield _plain("sharpe_ratio_annualised", kind, sharpe * math.sqrt(share * per_day * _DAYS_PER_YEAR))
    yield _plain("max_drawdown", kind, metrics.max_drawdown(returns))
    yield _plain("turnover", kind, 2.0 * per_day)
    yield _plain("deflated_sharpe_ratio", kind, metrics.deflated_sharpe_ratio(returns, candidates_tried, independent))
    yield _estimated("logged_average_return", kind, _ratio(evaluation, all_returns))
    yield _estimated("logged_win_rate", kind, _ratio(evaluation, evaluation.labels))


def _off_policy(evaluation: Evaluation) -> Iterator[Metric]:
    value = evaluation.off_policy
    kind: Kind = "trading_performance"
    if value.overlaps:
        yield _estimated("value_per_trade", kind, value.per_trade)
    yield _plain("effective_trades", kind, value.per_trade_ess)
    if value.overlaps_per_decision:
        yield _estimated("value_per_decision", kind, value.per_decision)
        yield _estimated("value_per_decision_doubly_robust", kind, value.doubly_robust)
    yield _plain("effective_decisions", kind, value.per_decision_ess)
    yield _estimated("logged_value_per_decision", kind, value.logged_per_decision)


def _ratio(evaluation: Evaluation, numerators: NDArray[Any], denominators: NDArray[Any] | None = None) -> Estimate:
    return evaluation.blocks.ratio(np.asarray(numerators, dtype=np.float64), denominators)


def _area(evaluation: Evaluation) -> Estimate:
    labels, probability = evaluation.labels, evaluation.probability
    area = metrics.roc_auc(labels, probability)
    influences = metrics.roc_auc_influences(labels, probability)
    return evaluation.blocks.estimate(area, influences, DELONG)


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
        method=estimate.method,
    )


def _no_overlap(ess: float) -> str:
    return f"not enough overlap: {ess:.0f} effective rows, {LEAST_ESS:.0f} are needed"


def _why(value: float) -> str:
    return "infinite for these rows" if math.isinf(value) else "not defined for these rows (none of the kind it counts)"
