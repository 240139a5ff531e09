"""The promotion gate: whether a candidate may speak, condition by condition (METHOD 8, all seven conditions)."""

from __future__ import annotations

import math

import numpy as np

from model_service.learning.evaluation import Evaluation
from model_service.learning.off_policy import LEAST_ESS
from model_service.models import metrics
from model_service.models.intervals import BLOCKS, LEAST_HORIZONS, without_pauses
from model_service.models.job import Comparison, GateCondition

LEAST_TEST_ROWS = 200
LEAST_ROWS_PER_CLASS = 30
LEAST_TRADES = 30
LEAST_COMPARED_ROWS = 100
WORST_DIFFERENCE = -0.0005
"""5 basis points per decision: what a candidate may at worst be behind the version that it replaces."""
LARGEST_PARITY_GAP = 1e-5
_ECE_ALLOWED = 0.10
_ECE_FLOOR_QUANTILE = 1.32
"""The 95 % quantile of a perfect model's ece over its mean; a fixed limit would refuse good models of few rows."""


def judge(evaluation: Evaluation, accuracy_threshold: float) -> list[GateCondition]:
    """Every condition with its value, its threshold and whether it passed; promotion needs all of them."""
    return [
        *_enough(evaluation),
        *_accurate(evaluation, accuracy_threshold),
        *_calibrated(evaluation),
        _profitable(evaluation),
        *_beside_the_incumbent(evaluation),
        *_off_policy(evaluation),
        *_faithful(evaluation),
    ]


def _enough(evaluation: Evaluation) -> list[GateCondition]:
    labels = evaluation.labels
    rarer = int(min(np.sum(labels == 1), np.sum(labels == 0)))
    times_us = without_pauses(evaluation.test.decided_us, evaluation.horizon_us)
    horizons = float(times_us[-1]) / evaluation.horizon_us if len(times_us) else 0.0
    blocks = len(np.unique(times_us * BLOCKS // max(int(times_us[-1]) + 1, 1))) if len(times_us) else 0
    floor = f"probability at least {evaluation.action_floor:.3f} and the better side, as logged"
    if evaluation.hysteresis:
        floor += f"; {evaluation.hysteresis:.3f} more against the position"
    return [
        _at_least(1, "test rows", len(labels), LEAST_TEST_ROWS),
        _at_least(1, "test rows of the rarer class", rarer, LEAST_ROWS_PER_CLASS),
        _at_least(1, "trades taken", int(np.sum(evaluation.taken)), LEAST_TRADES, floor),
        _at_least(1, "tenths of the time that hold rows", blocks, BLOCKS),
        _at_least(1, "horizons that the test block spans", horizons, LEAST_HORIZONS, "a pause counts as two"),
    ]


def _accurate(evaluation: Evaluation, threshold: float) -> list[GateCondition]:
    labels = evaluation.labels
    right = labels == evaluation.predicted
    majority_right = labels == evaluation.majority_class
    gain = evaluation.blocks.ratio(right.astype(np.float64) - majority_right)
    baseline = f"always {evaluation.majority_class} is right in {float(np.mean(majority_right)):.3f} of the rows"
    return [
        _at_least(2, "accuracy", metrics.accuracy(labels, evaluation.predicted), threshold),
        _above(
            2,
            "accuracy above the majority class (lower bound 95 %)",
            gain.lower(0.95),
            0.0,
            f"the difference is {_number(gain.value, '+.4f')}; {baseline}",
        ),
    ]


def _calibrated(evaluation: Evaluation) -> list[GateCondition]:
    labels, probability = evaluation.labels, evaluation.probability
    share = float(np.mean(labels))
    floor = metrics.ece_floor(probability)
    limit = math.hypot(_ECE_ALLOWED, _ECE_FLOOR_QUANTILE * floor)
    return [
        _below(
            3,
            "Brier better than the base rate",
            metrics.brier(labels, probability),
            share * (1.0 - share),
            "threshold: the best constant in hindsight",
        ),
        _at_most(3, "ece", metrics.ece(labels, probability), limit, f"a perfect model shows {floor:.4f} at this n"),
    ]


def _profitable(evaluation: Evaluation) -> GateCondition:
    earned = evaluation.blocks.ratio(evaluation.test.net_returns * evaluation.taken, evaluation.taken)
    return _above(
        4,
        "average return of the trades taken (lower bound 99 %)",
        earned.lower(0.99),
        0.0,
        f"the mean is {_number(earned.value, '+.6f')} per trade",
    )


def _beside_the_incumbent(evaluation: Evaluation) -> list[GateCondition]:
    comparison = evaluation.comparison
    name = "value per decision against the incumbent (lower bound 95 %)"
    if comparison is None:
        return [_waived(5, name, WORST_DIFFERENCE, "no model speaks yet")]
    if comparison.problem:
        return [_waived(5, name, WORST_DIFFERENCE, f"{comparison.version} cannot be used: {comparison.problem}")]
    rows = f"decided a horizon after all that shaped {comparison.version}; {comparison.unpriced} more have no path"
    mine, theirs = _number(comparison.value, "+.6f"), _number(comparison.incumbent_value, "+.6f")
    values = f"{mine} against {theirs} of {comparison.version}"
    return [
        _at_least(5, "rows that the incumbent has not seen", comparison.rows, LEAST_COMPARED_ROWS, rows),
        _above(5, name, comparison.difference.lower(0.95), WORST_DIFFERENCE, values),
    ]


def _off_policy(evaluation: Evaluation) -> list[GateCondition]:
    value = evaluation.off_policy
    logged = value.logged_per_trade.value
    enough = _at_least(
        6,
        "effective trades for the off-policy value",
        value.per_trade_ess,
        LEAST_ESS,
        "" if value.overlaps else "not enough overlap between what was traded and what it would trade",
    )
    own = value.per_trade.value if value.overlaps else metrics.NAN
    mine, theirs = _number(own, "+.6f"), _number(logged, "+.6f")
    detail = f"the value is {mine} per trade, that of the logging policy {theirs}"
    bound = value.per_trade.lower(0.95) if value.overlaps else metrics.NAN
    name = "off-policy value per trade (lower bound 95 %)"
    return [enough, _at_least(6, name, bound, max(0.0, logged), detail)]


def _faithful(evaluation: Evaluation) -> list[GateCondition]:
    return [
        _at_most(
            7, "artifact parity", evaluation.parity_gap, LARGEST_PARITY_GAP, "largest gap between native and ONNX"
        ),
        _at_most(7, "decisions changed by the artifact", evaluation.decisions_changed, 0),
    ]


def _waived(number: int, condition: str, threshold: float, detail: str) -> GateCondition:
    """There is nothing to hold against: passed, without a value."""
    return GateCondition(
        number=number,
        condition=condition,
        value=None,
        threshold=threshold,
        passed=True,
        detail=detail,
        comparison="above",
    )


def _at_least(number: int, condition: str, value: float, threshold: float, detail: str = "") -> GateCondition:
    return _condition(number, condition, value, threshold, value >= threshold, "at_least", detail)


def _above(number: int, condition: str, value: float, threshold: float, detail: str = "") -> GateCondition:
    return _condition(number, condition, value, threshold, value > threshold, "above", detail)


def _at_most(number: int, condition: str, value: float, threshold: float, detail: str = "") -> GateCondition:
    return _condition(number, condition, value, threshold, value <= threshold, "at_most", detail)


def _below(number: int, condition: str, value: float, threshold: float, detail: str = "") -> GateCondition:
    return _condition(number, condition, value, threshold, value < threshold, "below", detail)


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "not defined"


def _condition(
    number: int, condition: str, value: float, threshold: float, passed: bool, comparison: Comparison, detail: str
) -> GateCondition:
    """A value that is not a number fails and is stored as none: comparisons with NaN are false."""
    return GateCondition(
        number=number,
        condition=condition,
        value=float(value) if math.isfinite(value) else None,
        threshold=float(threshold) if math.isfinite(threshold) else None,
        passed=bool(passed) and math.isfinite(value) and math.isfinite(threshold),
        detail=detail if math.isfinite(value) else f"not defined for these rows; {detail}".removesuffix("; "),
        comparison=comparison,
    )
