"""How good predictions and trades are: plain definitions on numpy arrays (METHOD 7).

Labels are 0 or 1, probabilities 0..1, net returns fractions of the entry notional; all arrays are (n,) in time order.
A number that is not defined for the rows given is NaN, never a guess.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
ECE_BINS = 15
EULER_GAMMA = 0.5772156649015329
NAN = float("nan")


def accuracy(labels: Array, predicted: Array) -> float:
    """Share of rows where the predicted class is the label."""
    return _mean(np.asarray(labels) == np.asarray(predicted))


def base_rate(labels: Array) -> float:
    """max(mean y, 1 - mean y): the accuracy of always saying the more frequent class of these rows."""
    share = _mean(labels)
    return max(share, 1.0 - share) if labels.size else NAN


def precision(labels: Array, predicted: Array) -> float:
    """Of the rows predicted 1, the share with label 1."""
    return _mean(labels[predicted == 1])


def recall(labels: Array, predicted: Array) -> float:
    """Of the rows with label 1, the share predicted 1."""
    return _mean(predicted[labels == 1])


def f1_score(labels: Array, predicted: Array) -> float:
    """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN)."""
    total = int(np.sum(labels == 1) + np.sum(predicted == 1))
    return 2.0 * int(np.sum((labels == 1) & (predicted == 1))) / total if total else NAN


def roc_auc(labels: Array, probabilities: Array) -> float:
    """Area under the ROC curve by the rank sum (Mann-Whitney), ties counted half."""
    positives = int(np.sum(labels == 1))
    negatives = labels.size - positives
    if not positives or not negatives:
        return NAN
    rank_sum = float(np.sum(_mid_ranks(probabilities)[labels == 1]))
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


def roc_auc_influences(labels: Array, probabilities: Array) -> Array:
    """How much each row moves the area under the ROC curve, float64 (n,); they sum to 0. NaN where it is not defined.

    DeLong's structural components: of a winner the share of losers below it, of a loser the share of winners above it,
    ties half, less the area, over the number of its class [DeLong, DeLong & Clarke-Pearson 1988], by ranks
    [Sun & Xu 2014].
    """
    wins = labels == 1
    positives, negatives = int(np.sum(wins)), int(np.sum(~wins))
    if not positives or not negatives:
        return np.full(labels.size, NAN)
    overall = _mid_ranks(probabilities)
    below = (overall[wins] - _mid_ranks(probabilities[wins])) / negatives
    above = 1.0 - (overall[~wins] - _mid_ranks(probabilities[~wins])) / positives
    area = float(np.mean(below))
    influences = np.empty(labels.size)
    influences[wins] = (below - area) / positives
    influences[~wins] = (above - area) / negatives
    return influences


def brier(labels: Array, probabilities: Array) -> float:
    """Mean of (p - y) squared."""
    return _mean((probabilities - labels) ** 2)


def log_loss(labels: Array, probabilities: Array) -> float:
    """Mean of -log of the probability given to what happened; infinite when that was 0."""
    return _mean(log_losses(labels, probabilities))


def log_losses(labels: Array, probabilities: Array) -> Array:
    """-log of the probability given to what happened, of each row, float64 (n,)."""
    with np.errstate(divide="ignore"):
        losses: Array = -np.log(np.where(labels == 1, probabilities, 1.0 - probabilities))
    return losses


def ece(labels: Array, probabilities: Array, bins: int = ECE_BINS) -> float:
    """Expected calibration error: mean |mean p - mean y| over bins of equal mass, weighted by their rows."""
    if not labels.size:
        return NAN
    order = np.argsort(probabilities, kind="stable")
    gaps = [abs(float(np.sum(part))) for part in np.array_split((probabilities - labels)[order], bins)]
    return sum(gaps) / labels.size


def ece_influences(labels: Array, probabilities: Array, bins: int = ECE_BINS) -> Array:
    """How much each row moves the ece, float64 (n,), with the bins and the signs of their gaps held; they sum to 0."""
    if not labels.size:
        return np.empty(0)
    order = np.argsort(probabilities, kind="stable")
    gaps = (probabilities - labels).astype(np.float64)
    signs = np.empty(labels.size)
    for part in np.array_split(order, bins):
        signs[part] = 1.0 if np.sum(gaps[part]) >= 0 else -1.0
    return (signs * gaps - np.mean(signs * gaps)) / labels.size


def ece_floor(probabilities: Array, bins: int = ECE_BINS) -> float:
    """The ece that a perfectly calibrated model shows in the mean: 0.8 mean(sqrt(p (1 - p))) sqrt(bins / n)."""
    if not probabilities.size:
        return NAN
    return 0.8 * _mean(np.sqrt(probabilities * (1.0 - probabilities))) * math.sqrt(bins / probabilities.size)


def average_return(net_returns: Array) -> float:
    """Mean net return per trade."""
    return _mean(net_returns)


def win_rate(net_returns: Array) -> float:
    """Share of trades with a positive net return."""
    return _mean(net_returns > 0)


def profit_factor(net_returns: Array) -> float:
    """Sum of what winners earned over sum of what losers lost; infinite without a loser."""
    earned, lost = float(np.sum(np.maximum(net_returns, 0))), float(-np.sum(np.minimum(net_returns, 0)))
    if lost == 0:
        return math.inf if earned > 0 else NAN
    return earned / lost


def sharpe_ratio(net_returns: Array) -> float:
    """Mean over standard deviation (n - 1) of net returns per trade, not annualised."""
    if net_returns.size < 2:
        return NAN
    deviation = float(np.std(net_returns, ddof=1))
    return float(np.mean(net_returns)) / deviation if deviation > 0 else NAN


def max_drawdown(net_returns: Array) -> float:
    """Largest fall of the sum of net returns from its peak so far (from 0), in units of one trade's notional, >= 0."""
    if not net_returns.size:
        return NAN
    equity = np.concatenate(([0.0], np.cumsum(net_returns)))
    return float(np.max(np.maximum.accumulate(equity) - equity))


def independent_trades(net_returns: Array, standard_error: float) -> float:
    """As many independent trades would leave the mean of `net_returns` as unsure as it is; at most all of them.

    Trades that overlap share the price path, so that n of them say less than n.

    Args:
        standard_error: of the mean, with the overlap in it; NaN gives NaN.
    """
    if not (net_returns.size > 1 and standard_error > 0):
        return NAN
    return min(float(net_returns.size), float(np.var(net_returns, ddof=1)) / standard_error**2)


def deflated_sharpe_ratio(net_returns: Array, trials: int, independent: float | None = None) -> float:
    """Probability that the true Sharpe ratio is above what the best of `trials` skill-less candidates would show.

    Bailey & Lopez de Prado, The Deflated Sharpe Ratio (2014). The variance of the trials' ratios, which nobody
    recorded, is taken as the estimator's own.

    Args:
        independent: as how many independent trades the returns count, since the formula knows no overlap; all of them
            by default. NaN for one or fewer.
    """
    count = float(net_returns.size) if independent is None else independent
    observed = sharpe_ratio(net_returns)
    if not (math.isfinite(observed) and count > 1.0):
        return NAN
    centred = (net_returns - np.mean(net_returns)) / np.std(net_returns)
    skew, kurtosis = float(np.mean(centred**3)), float(np.mean(centred**4))
    variance = sharpe_ratio_variance(observed, count, skew, kurtosis)
    if variance <= 0:
        return NAN
    highest = math.sqrt(variance) * expected_maximum_of_normals(trials)
    return probabilistic_sharpe_ratio(observed, highest, count, skew, kurtosis)


def probabilistic_sharpe_ratio(observed: float, benchmark: float, count: float, skew: float, kurtosis: float) -> float:
    """Probability that the true Sharpe ratio is above `benchmark` [Bailey & Lopez de Prado 2012].

    Args:
        observed, benchmark: per trade, not annualised.
        count: independent trades, over 1.
        skew, kurtosis: of their returns; 0 and 3 for normal ones.
    """
    variance = sharpe_ratio_variance(observed, count, skew, kurtosis)
    return NormalDist().cdf((observed - benchmark) / math.sqrt(variance)) if variance > 0 else NAN


def sharpe_ratio_variance(observed: float, count: float, skew: float, kurtosis: float) -> float:
    """Variance of an estimated Sharpe ratio per trade, of returns that need not be normal (same source)."""
    return (1 - skew * observed + (kurtosis - 1) / 4 * observed**2) / (count - 1)


def expected_maximum_of_normals(trials: int) -> float:
    """Mean of the largest of `trials` independent standard normal draws, approximately; 0 for one (same source)."""
    if trials <= 1:
        return 0.0
    quantile = NormalDist().inv_cdf
    return (1 - EULER_GAMMA) * quantile(1 - 1 / trials) + EULER_GAMMA * quantile(1 - 1 / (trials * math.e))


def _mean(values: Array) -> float:
    return float(np.mean(values)) if values.size else NAN


def _mid_ranks(values: Array) -> Array:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2.0)[inverse]
