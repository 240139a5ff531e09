"""Do features still look as they did in the training rows? PSI and KS of each (METHOD 9).

What the training rows looked like is kept as quantiles: edges between bins of about equal mass, and the share of rows
in each bin. A value that is not known has a bin of its own. With the shares p of the reference and q of recent rows:

- PSI, the population stability index: sum((q - p) log(q / p)), the symmetric Kullback-Leibler divergence over the bins
  [Siddiqi 2006, Credit Risk Scorecards]. It has an expectation above 0 without any drift, about (bins - 1) / n for n
  independent rows; rows that follow one another closely are worth fewer.
- KS, the largest distance between the two distribution functions at the edges, from below the distance of Kolmogorov
  and Smirnov.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
LEAST_ROWS = 500
"""Fewer recent rows say little: PSI is then large by chance."""
CALENDAR = frozenset({"time_of_day_sin", "time_of_day_cos", "day_of_week_sin", "day_of_week_cos"})
"""Features that tell the time: of a day they see one day, of a week all."""
_LEAST_SHARE = 1e-4
MANIFEST_ENTRY = "reference_quantiles"


@dataclass(frozen=True, slots=True)
class FeatureReference:
    """One feature in the training rows.

    Attributes:
        edges: between the bins, rising; of a feature with few values there are fewer.
        shares: of the bins, below the first edge to above the last, and at the end that of unknown values.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """How far recent rows of one feature are from the training rows."""

    feature: str
    psi: float
    ks: float
    unknown_share: float
    reference_unknown_share: float


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All features, the one that has drifted farthest first; none, and `why`, where nothing can be said.

    Attributes:
        rows: recent decisions that were looked at.
    """

    version: str
    computed_at: datetime
    rows: int
    features: Sequence[FeatureDrift]
    why: str = ""

    @property
    def farthest(self) -> FeatureDrift | None:
        """The feature that has drifted farthest of those that can: those of the calendar go round by themselves."""
        return next((one for one in self.features if one.feature not in CALENDAR), None)


def reference_of(values: NDArray[np.float32], bins: int = BINS) -> FeatureReference:
    """Quantiles of a feature in n training rows, (n,); what is not finite counts as unknown."""
    known = values[np.isfinite(values)]
    edges: tuple[float, ...] = ()
    if len(known):
        cuts = np.unique(np.quantile(known, np.arange(1, bins) / bins))
        # Values at an edge belong to the bin below it, so an edge at the largest value would have nothing above.
        edges = tuple(float(np.float32(cut)) for cut in cuts if cut < np.max(known))
    edges = tuple(sorted(set(edges)))
    return FeatureReference(edges, tuple(_shares(values, edges).tolist()))


def drift_of(
    references: Mapping[str, FeatureReference],
    names: Sequence[str],
    rows: NDArray[np.float32],
    weights: NDArray[np.float64],
) -> list[FeatureDrift]:
    """Each feature that has a reference, farthest first.

    Args:
        rows: (n, F) with columns `names`.
        weights: how many decisions each row stands for, (n,).
    """
    columns = {name: rows[:, place] for place, name in enumerate(names) if name in references}
    found = [_drift(name, references[name], values, weights) for name, values in columns.items()]
    return sorted(found, key=lambda one: (-one.psi, one.feature))


def to_manifest(names: Sequence[str], rows: NDArray[np.float32]) -> dict[str, Any]:
    """What a version's manifest keeps of its training rows, (n, F)."""
    found = {name: reference_of(rows[:, place]) for place, name in enumerate(names)}
    return {name: {"edges": list(one.edges), "shares": list(one.shares)} for name, one in found.items()}


def from_manifest(manifest: Mapping[str, Any]) -> dict[str, FeatureReference]:
    """The same read again; nothing of a version from before it was kept, or where it is not readable."""
    kept = manifest.get(MANIFEST_ENTRY)
    if not isinstance(kept, Mapping):
        return {}
    read = {name: FeatureReference(tuple(one["edges"]), tuple(one["shares"])) for name, one in kept.items()}
    return {name: one for name, one in read.items() if len(one.shares) == len(one.edges) + 2}


def effective_rows(weights: NDArray[np.float64]) -> int:
    """As many rows of equal weight say as much: (sum w)^2 / sum w^2 [Kish 1965]."""
    total = float(np.sum(weights**2))
    return int(float(np.sum(weights)) ** 2 / total) if total > 0 else 0


def _drift(
    name: str, reference: FeatureReference, values: NDArray[np.float32], weights: NDArray[np.float64]
) -> FeatureDrift:
    before, now = np.array(reference.shares), _shares(values, reference.edges, weights)
    p, q = np.maximum(before, _LEAST_SHARE), np.maximum(now, _LEAST_SHARE)
    known = _cumulated(before), _cumulated(now)
    return FeatureDrift(
        feature=name,
        psi=float(np.sum((q - p) * np.log(q / p))),
        ks=float(np.max(np.abs(known[0] - known[1]), initial=0.0)),
        unknown_share=float(now[-1]),
        reference_unknown_share=float(before[-1]),
    )


def _shares(
    values: NDArray[np.float32], edges: Sequence[float], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Of the bins, and at the end of unknown values."""
    mass = np.ones(len(values)) if weights is None else weights
    known = np.isfinite(values)
    places = np.full(len(values), len(edges) + 1)
    places[known] = np.searchsorted(np.array(edges, dtype=np.float32), values[known], side="left")
    counts = np.bincount(places, weights=mass, minlength=len(edges) + 2)
    return np.asarray(counts / max(1e-300, float(np.sum(mass))), dtype=np.float64)


def _cumulated(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function of the known values at the edges."""
    total = float(np.sum(shares[:-1]))
    return np.cumsum(shares[:-1])[:-1] / total if total > 0 else np.zeros(max(0, len(shares) - 2))
