"""What the newest outcomes of a version show, each number with its interval (METHOD 7, 9)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from model_service.models import metrics
from model_service.models.intervals import MOVING_BLOCKS, Estimate, TimeBlocks
from model_service.models.job import Metric

LEVEL = 0.90
"""Of the two-sided intervals shown, as for the test."""
_TAIL = 0.95
_LEAST_PROBABILITY = 1e-6
ECE_METHOD = f"signed gaps of the bins as they fell; {MOVING_BLOCKS}"


@dataclass(frozen=True)
class LiveWindow:
    """Outcomes of trades that a model chose, in the order of their entries; arrays (n,).

    Attributes:
        entered_us: first fill, microseconds since 1970, not falling.
        labels: 1 for a winner.
        probability: the calibrated probability of a profit that the signal was sent with.
        net_returns: fractions of the entry notional.
        horizon_us: H, microseconds.
    """

    entered_us: NDArray[np.int64]
    labels: NDArray[np.int8]
    probability: NDArray[np.float64]
    net_returns: NDArray[np.float64]
    horizon_us: int

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def blocks(self) -> TimeBlocks:
        """How sure numbers over these outcomes are."""
        return TimeBlocks(self.entered_us, self.horizon_us)

    @cached_property
    def accuracy(self) -> Estimate:
        """Share of winners."""
        return self.blocks.ratio(self.labels.astype(np.float64))

    @cached_property
    def log_loss(self) -> Estimate:
        """Mean of -log of the probability given to what happened; a certainty counts as 1e-6 short of it."""
        known = np.clip(self.probability, _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
        return self.blocks.ratio(metrics.log_losses(self.labels, known))

    @cached_property
    def ece(self) -> Estimate:
        """Calibration error; its interval holds the bins and the signs of their gaps as they fell."""
        value = metrics.ece(self.labels, self.probability)
        influences = metrics.ece_influences(self.labels, self.probability)
        return self.blocks.estimate(value, influences, ECE_METHOD)

    def metrics(self) -> list[Metric]:
        """All that are numbers, as rows of `model_quality_metrics`."""
        return [metric for metric in self._metrics() if math.isfinite(metric.value)]

    def _metrics(self) -> Iterator[Metric]:
        gaps = self.probability - self.labels
        yield metric_of("accuracy", "classification", self.accuracy, 0.0, 1.0)
        yield metric_of("brier", "classification", self.blocks.ratio(gaps**2), 0.0, 1.0)
        yield metric_of("ece", "classification", self.ece, 0.0, 1.0)
        yield Metric(name="ece_floor", value=metrics.ece_floor(self.probability), type="classification")
        yield metric_of("log_loss", "regression", self.log_loss, 0.0, math.inf)
        yield metric_of("average_return", "trading_performance", self.blocks.ratio(self.net_returns))
        won = (self.net_returns > 0).astype(np.float64)
        yield metric_of("win_rate", "trading_performance", self.blocks.ratio(won), 0.0, 1.0)


def metric_of(name: str, kind: str, estimate: Estimate, least: float = -math.inf, most: float = math.inf) -> Metric:
    """With the ends of its interval cut to what the number can be; without them where the rows say too little."""
    bounds = {}
    if math.isfinite(estimate.standard_error):
        lower, upper = max(least, estimate.lower(_TAIL)), min(most, estimate.upper(_TAIL))
        bounds = {"lower": lower, "upper": upper, "level": LEVEL, "method": estimate.method}
    return Metric.model_validate({"name": name, "value": estimate.value, "type": kind, **bounds})
