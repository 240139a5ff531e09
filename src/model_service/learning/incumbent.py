"""The version that speaks now, held against the candidate on rows that neither has seen (METHOD 8, condition 5)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model_service.learning.dataset import Dataset
from model_service.models import metrics
from model_service.models.artifact import LoadedModel
from model_service.models.decision_rule import Acting
from model_service.models.intervals import Estimate, TimeBlocks

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class IncumbentModel:
    """The active version as a candidate meets it.

    Attributes:
        model: None when its files cannot be used; `problem` says why.
        trained_until_us: the last label end that shaped it, microseconds since 1970, UTC.
    """

    version: str
    model: LoadedModel | None
    trained_until_us: int
    problem: str = ""


@dataclass(frozen=True)
class Comparison:
    """Candidate and incumbent on the same rows, per decision.

    Attributes:
        rows: test rows decided after all that shaped the incumbent, and one horizon more, with both sides priced.
        unpriced: such rows left out, since what the other side would have earned is not known.
        difference: candidate's value per decision less the incumbent's; `value` and `incumbent_value` are the two.
        incumbent_accuracy: share of those rows whose label it predicts.
        incumbent_average_return: mean net return of the logged trades that it would take.
        incumbent_trades: their number.
    """

    version: str
    problem: str
    rows: int
    unpriced: int
    difference: Estimate
    value: float
    incumbent_value: float
    incumbent_accuracy: float
    incumbent_average_return: float
    incumbent_trades: int


def compare(
    incumbent: IncumbentModel, test: Dataset, chosen: NDArray[np.int8], acting: Acting, horizon_us: int
) -> Comparison:
    """Hold a candidate, which would act on the sides `chosen` (n,), against the incumbent on the test block.

    A row is worth the net return of the side that is chosen: the logged one as it was labelled, the other one priced
    from the same path at the same cost, 0 for none.
    """
    nothing = Estimate(metrics.NAN, metrics.NAN)
    if incumbent.model is None:
        unknown = metrics.NAN
        return Comparison(
            incumbent.version, incumbent.problem, 0, 0, nothing, unknown, unknown, unknown, unknown, incumbent_trades=0
        )
    unseen = test.decided_us > incumbent.trained_until_us + horizon_us
    priced = unseen & np.isfinite(test.opposite_net_returns)
    rows = test.take(priced)
    own, other = both_sides(incumbent.model, rows)
    rule = acting.rule(incumbent.model.calibration)
    theirs = rule.chosen_sides(own, other, rows.side_signs, rows.features)
    ours, earned = payoff(chosen[priced], rows), payoff(theirs, rows)
    same_side = theirs == rows.side_signs
    return Comparison(
        version=incumbent.version,
        problem="",
        rows=len(rows),
        unpriced=int(np.sum(unseen & ~priced)),
        difference=TimeBlocks(rows.decided_us, horizon_us).ratio(ours - earned),
        value=_mean(ours),
        incumbent_value=_mean(earned),
        incumbent_accuracy=metrics.accuracy(rows.labels, (own >= 0.5).astype(np.int8)),
        incumbent_average_return=_mean(rows.net_returns[same_side]),
        incumbent_trades=int(np.sum(same_side)),
    )


def payoff(chosen: NDArray[np.int8], rows: Dataset) -> Floats:
    """Net return of acting on the sides `chosen` (n,), a fraction of the notional; 0 for none."""
    of_side = np.where(chosen == rows.side_signs, rows.net_returns, rows.opposite_net_returns)
    return np.where(chosen == 0, 0.0, of_side)


def both_sides(model: LoadedModel, rows: Dataset) -> tuple[Floats, Floats]:
    """Calibrated probability of each row's own side and of the other one."""
    calibrated = model.calibration.probability
    return (
        calibrated(model.scores(rows.features, rows.side_signs)),
        calibrated(model.scores(rows.features, (-rows.side_signs).astype(np.int8))),
    )


def _mean(values: Floats) -> float:
    return float(np.mean(values)) if values.size else metrics.NAN
