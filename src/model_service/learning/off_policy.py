"""What a candidate would earn, judged on draws that another policy made (METHOD 7).

Swaminathan & Joachims 2015 (self-normalised weights), Dudik et al. 2011 (doubly robust).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_service.models.intervals import Estimate, TimeBlocks

LEAST_ESS = 50.0
"""Under so many effective rows there is "not enough overlap", and no number is given."""
_SUM_TOLERANCE = 1e-6

Floats = NDArray[np.float64]
Signs = NDArray[np.int8]


@dataclass(frozen=True)
class LoggedDraws:
    """k stored draws of the logging policy in time order, and what the candidate says to each; all arrays (k,).

    Attributes:
        decided_us: when, not falling.
        actions: int8, +1 buy, -1 sell, 0 none: what was drawn.
        traded: bool, the draw became a trade; its reward is the trade's net return, else 0.
        probability_buy, probability_sell, probability_none: what the action was drawn from; a side that guards refused
            has 0. Limits that all processes share are asked after the draw: what they refused is a draw of `none` whose
            other side keeps its probability.
        sample_rates: share q of such draws that is stored; 1 for signals.
        rewards: net return, a fraction of the entry notional.
        chosen: int8, the candidate's side, 0 where it abstains.
        expected_buy, expected_sell: the candidate's own expected net return E of each side.
    """

    decided_us: NDArray[np.int64]
    actions: Signs
    traded: NDArray[np.bool_]
    probability_buy: Floats
    probability_sell: Floats
    probability_none: Floats
    sample_rates: Floats
    rewards: Floats
    chosen: Signs
    expected_buy: Floats
    expected_sell: Floats

    def __len__(self) -> int:
        return len(self.actions)

    def take(self, rows: NDArray[Any]) -> LoggedDraws:
        """The draws of a mask or of indices, in that order."""
        return LoggedDraws(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})


@dataclass(frozen=True)
class OffPolicyValue:
    """Values in net return, a fraction of the notional of one trade.

    Attributes:
        per_trade: V_trade, the mean over the trades that the candidate would take.
        per_trade_ess: effective number of rows behind it.
        per_decision: V_decision, the mean over all draws.
        per_decision_ess: effective number of rows behind it.
        doubly_robust: V_decision with the candidate's own expectation as a control.
        logged_per_trade: what the logging policy itself earned per trade, on the same rows.
        logged_per_decision: the same per draw.
        draws, trades: rows used.
        unusable: rows left out, since their probabilities are not known or cannot be.
    """

    per_trade: Estimate
    per_trade_ess: float
    per_decision: Estimate
    per_decision_ess: float
    doubly_robust: Estimate
    logged_per_trade: Estimate
    logged_per_decision: Estimate
    draws: int
    trades: int
    unusable: int

    @property
    def overlaps(self) -> bool:
        """Whether enough of the logged trades are such as the candidate would take."""
        return self.per_trade_ess >= LEAST_ESS

    @property
    def overlaps_per_decision(self) -> bool:
        """The same of all draws, for the values per decision."""
        return self.per_decision_ess >= LEAST_ESS


def off_policy_value(
    draws: LoggedDraws, exploration: float, horizon_us: int, rate: float | None = None
) -> OffPolicyValue:
    """The candidate's values, as it would really run: `exploration` of its draws fall on either side by a coin.

    With rate the probability that a tick acts at all, pi(side) = rate ((1 - exploration) [side chosen] +
    exploration / 2) and pi(none) the rest; sides that were masked when the draw was logged are masked for the candidate
    too. Weights are w = pi(action) / (p(action) q). In V_trade w is 0 where the candidate abstains; in V_decision it
    explores there, and unfilled openings and draws of `none` count with a reward of 0.

    Draws of other rates count by the weight that they have at this one, so V_decision is that of the strategy as it is
    set now. V_trade does not depend on the rate.

    Args:
        rate: of the strategy as it would run; None where nobody knows it: then it is the largest p(buy) + p(sell) among
            the draws, which is right only while the rate has never changed, since masks and abstention lower the sum.
    """
    usable = _usable(draws)
    kept = draws if bool(np.all(usable)) else draws.take(usable)
    new = _new_policy(kept, exploration, rate)
    weights = _of_action(kept, *new) / (_logged(kept) * kept.sample_rates)
    of_trades = weights * (kept.chosen != 0) * kept.traded
    stored = 1.0 / kept.sample_rates
    ratio = TimeBlocks(kept.decided_us, horizon_us).ratio
    return OffPolicyValue(
        per_trade=ratio(of_trades * kept.rewards, of_trades),
        per_trade_ess=effective_sample_size(of_trades),
        per_decision=ratio(weights * kept.rewards, weights),
        per_decision_ess=effective_sample_size(weights),
        doubly_robust=ratio(_doubly_robust(kept, new, weights), stored),
        logged_per_trade=ratio(kept.rewards * kept.traded, kept.traded),
        logged_per_decision=ratio(kept.rewards * stored, stored),
        draws=len(kept),
        trades=int(np.sum(kept.traded)),
        unusable=int(np.sum(~usable)),
    )


def effective_sample_size(weights: Floats) -> float:
    """(sum w)^2 / sum w^2 [Kish 1965]; 0 without any weight."""
    squares = float(np.sum(weights**2))
    return float(np.sum(weights)) ** 2 / squares if squares > 0 else 0.0


def _usable(draws: LoggedDraws) -> NDArray[np.bool_]:
    probabilities = np.stack((draws.probability_buy, draws.probability_sell, draws.probability_none))
    with np.errstate(invalid="ignore"):
        possible = np.all((probabilities >= 0) & (probabilities <= 1), axis=0)
        possible &= np.abs(np.sum(probabilities, axis=0) - 1.0) < _SUM_TOLERANCE
        possible &= (draws.sample_rates > 0) & (draws.sample_rates <= 1)
    usable: NDArray[np.bool_] = possible & (_logged(draws) > 0) & np.isfinite(draws.rewards)
    return usable


def _new_policy(draws: LoggedDraws, exploration: float, rate: float | None) -> tuple[Floats, Floats, Floats]:
    """pi of buy, sell and none."""
    if rate is None:
        rate = float(np.max(draws.probability_buy + draws.probability_sell, initial=0.0))
    explore, exploit = rate * exploration / 2.0, rate * (1.0 - exploration)
    buy = np.where(draws.probability_buy > 0, explore + np.where(draws.chosen > 0, exploit, 0.0), 0.0)
    sell = np.where(draws.probability_sell > 0, explore + np.where(draws.chosen < 0, exploit, 0.0), 0.0)
    none: Floats = 1.0 - buy - sell
    return buy, sell, none


def _logged(draws: LoggedDraws) -> Floats:
    return _of_action(draws, draws.probability_buy, draws.probability_sell, draws.probability_none)


def _of_action(draws: LoggedDraws, buy: Floats, sell: Floats, none: Floats) -> Floats:
    return np.where(draws.actions > 0, buy, np.where(draws.actions < 0, sell, none))


def _doubly_robust(draws: LoggedDraws, new: tuple[Floats, Floats, Floats], weights: Floats) -> Floats:
    """Per draw, over the sum of 1 / q: E under the candidate, and what the logged action says against it."""
    expected = new[0] * draws.expected_buy + new[1] * draws.expected_sell
    of_action = _of_action(draws, draws.expected_buy, draws.expected_sell, np.zeros(len(draws)))
    return expected / draws.sample_rates + weights * (draws.rewards - of_action)


def number(value: float) -> float | None:
    """A number for JSON; None where there is none."""
    return float(value) if math.isfinite(value) else None
