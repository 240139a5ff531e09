"""From a model's score to a probability and an expected net return, with numpy alone."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Method = Literal["sigmoid", "isotonic", "constant"]
SCORE_FLOOR = 1e-7
"""Scores are held this far from 0 and 1 before their log-odds are taken; float32 resolves no more near 1."""


@dataclass(frozen=True)
class Calibration:
    """A monotone map from score to probability, and what a win and a loss return on average (METHOD 6).

    Attributes:
        method: `sigmoid` uses slope and intercept on the score's log-odds, `isotonic` the knots, `constant` the base
            rate.
        base_rate: share of label 1 in the calibration block.
        mean_return_of_wins: mean net return of rows with label 1, a fraction of the entry notional.
        mean_return_of_losses: the same of rows with label 0.
        rows: rows of the calibration block.
        knot_scores: rising scores, float64 (k,); between two of them probabilities are interpolated.
        knot_probabilities: their probabilities, not falling, float64 (k,).
        bound_probabilities: rising calibrated probabilities whose lower bounds are known, float64 (m,); empty in
            versions that were made before bounds were.
        lower_bounds: one-sided lower bounds of the share of wins there, not falling, float64 (m,).
    """

    method: Method
    base_rate: float
    mean_return_of_wins: float
    mean_return_of_losses: float
    rows: int
    slope: float = 0.0
    intercept: float = 0.0
    knot_scores: tuple[float, ...] = ()
    knot_probabilities: tuple[float, ...] = ()
    bound_probabilities: tuple[float, ...] = ()
    lower_bounds: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    def probability(self, scores: NDArray[np.floating[Any]]) -> Floats:
        """Calibrated probability of label 1, float64 (n,), for raw scores in 0..1 (n,)."""
        values = np.asarray(scores, dtype=np.float64)
        if self.method == "sigmoid":
            return sigmoid(self.slope * log_odds(values) + self.intercept)
        if self.method == "isotonic":
            return np.interp(values, self.knot_scores, self.knot_probabilities)
        return np.full(values.shape, self.base_rate)

    def probability_of(self, score: float) -> float:
        """`probability` of one score, without the cost of arrays: a decision asks for two."""
        if self.method == "sigmoid":
            inside = min(max(score, SCORE_FLOOR), 1.0 - SCORE_FLOOR)
            odds = math.log(inside) - math.log1p(-inside)
            return 0.5 * (1.0 + math.tanh(0.5 * (self.slope * odds + self.intercept)))
        if self.method == "isotonic":
            return _interpolated(score, self.knot_scores, self.knot_probabilities)
        return self.base_rate

    def expected_net_return_of(self, probability: float) -> float:
        """`expected_net_return` of one probability."""
        return probability * self.mean_return_of_wins + (1.0 - probability) * self.mean_return_of_losses

    def expected_net_return(self, probability: Floats) -> Floats:
        """E = p * mean(net | y = 1) + (1 - p) * mean(net | y = 0), float64 (n,); costs are in the labels already."""
        return probability * self.mean_return_of_wins + (1.0 - probability) * self.mean_return_of_losses

    def lower_bound_of(self, probability: float) -> float | None:
        """What the share of wins at this probability is at least, one-sided 95 %; None where no bounds are known.

        Linear between the probabilities whose bounds are known, level outside, and never over the probability itself.
        """
        if not self.bound_probabilities:
            return None
        return min(probability, _interpolated(probability, self.bound_probabilities, self.lower_bounds))

    @property
    def break_even(self) -> float:
        """The probability at which E is 0: 0 when even losses earn, 1 when even wins lose."""
        spread = self.mean_return_of_wins - self.mean_return_of_losses
        if spread <= 0:
            return 0.0 if self.mean_return_of_losses > 0 else 1.0
        return min(1.0, max(0.0, -self.mean_return_of_losses / spread))

    def to_json(self) -> bytes:
        """The content of `calibration.json`; the same numbers give the same bytes."""
        return json.dumps(vars(self), indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Calibration:
        """The inverse of `to_json`. Raises ValueError when the content is not a calibration."""
        try:
            return cls(**_typed(json.loads(data)))
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a calibration: {error}") from error


def log_odds(scores: Floats) -> Floats:
    """log(s / (1 - s)), float64 (n,), of scores held inside SCORE_FLOOR .. 1 - SCORE_FLOOR."""
    inside = np.clip(scores, SCORE_FLOOR, 1.0 - SCORE_FLOOR)
    return np.log(inside) - np.log1p(-inside)


def sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-v)) without overflow, float64 (n,)."""
    return 0.5 * (1.0 + np.tanh(0.5 * values))


def _interpolated(value: float, knots: tuple[float, ...], heights: tuple[float, ...]) -> float:
    """As np.interp: linear between the knots, level outside."""
    after = bisect_right(knots, value)
    if after == 0:
        return heights[0]
    if after == len(knots):
        return heights[-1]
    left, right = after - 1, after
    slope = (heights[right] - heights[left]) / (knots[right] - knots[left])
    return slope * (value - knots[left]) + heights[left]


def _typed(content: Mapping[str, Any]) -> dict[str, Any]:
    numbers = dict(content)
    for name in ("knot_scores", "knot_probabilities", "bound_probabilities", "lower_bounds"):
        numbers[name] = tuple(float(value) for value in numbers.get(name, ()))
    return numbers


def _check(calibration: Calibration) -> None:
    numbers = [value for value in vars(calibration).values() if isinstance(value, int | float)]
    numbers += [*calibration.knot_scores, *calibration.knot_probabilities]
    numbers += [*calibration.bound_probabilities, *calibration.lower_bounds]
    if calibration.method not in get_args(Method):
        raise ValueError(f"calibration method {calibration.method!r}: allowed are {', '.join(get_args(Method))}")
    if not all(math.isfinite(value) for value in numbers):
        raise ValueError("a calibration holds a number that is not finite")
    if not 0.0 <= calibration.base_rate <= 1.0:
        raise ValueError(f"calibration base_rate is {calibration.base_rate}: allowed is 0 to 1")
    if calibration.method == "sigmoid" and calibration.slope <= 0:
        raise ValueError(f"calibration slope is {calibration.slope}: it must be positive")
    if calibration.method == "isotonic":
        _check_knots(np.array(calibration.knot_scores), np.array(calibration.knot_probabilities))
    _check_bounds(np.array(calibration.bound_probabilities), np.array(calibration.lower_bounds))


def _check_knots(scores: Floats, probabilities: Floats) -> None:
    if scores.size < 1 or scores.shape != probabilities.shape:
        raise ValueError(f"calibration has {scores.size} knot scores and {probabilities.size} probabilities")
    if np.any(np.diff(scores) <= 0) or np.any(np.diff(probabilities) < 0):
        raise ValueError("calibration knots must rise in score and not fall in probability")
    if probabilities[0] < 0.0 or probabilities[-1] > 1.0:
        raise ValueError("calibration probabilities must lie in 0..1")


def _check_bounds(probabilities: Floats, bounds: Floats) -> None:
    if probabilities.shape != bounds.shape:
        raise ValueError(f"calibration has {probabilities.size} bound probabilities and {bounds.size} lower bounds")
    if np.any(np.diff(probabilities) <= 0) or np.any(np.diff(bounds) < 0):
        raise ValueError("calibration bounds must rise in probability and not fall themselves")
    if np.any(bounds < 0.0) or np.any(bounds > probabilities) or np.any(probabilities > 1.0):
        raise ValueError("calibration lower bounds must lie from 0 to their probability, which is at most 1")
