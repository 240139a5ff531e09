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

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 10
LEAST_ROWS = 500
"""Fewer recent rows say little: PSI is then large by chance."""
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
    def psi(self) -> float:
        """The largest of all features; NaN where there is none."""
        return self.features[0].psi if self.features else math.nan


def reference_of(values: NDArray[np.float32], bins: int = BINS) -> FeatureReference:
    """Quantiles of a feature in n training rows, (n,); what is not finite counts as unknown."""
    known = values[np.isfinite(values)]
    edges: tuple[float, ...] = ()
    if len(known):
        cuts = np.unique(np.quantile(known, np.arange(1, bins) / bins))
        # Values at an edge belong to the bin below it, so an edge at the largest value would have nothing above.
        edges = tuple(float(np.float32(cut)) for cut in cuts if cut < np.max(known))
    edges = tuple(sorted(set(edges)))
    return FeatureReference(edges, tuple(_shares(values, edges)))


def drift_of(
    references: Mapping[str, FeatureReference], names: Sequence[str], rows: NDArray[np.float32]
) -> list[FeatureDrift]:
    """Each feature that has a reference, farthest first. `rows` is (n, F) with columns `names`."""
    found = [_drift(name, references[name], rows[:, place]) for place, name in enumerate(names) if name in references]
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


def _drift(name: str, reference: FeatureReference, values: NDArray[np.float32]) -> FeatureDrift:
    before, now = np.array(reference.shares), _shares(values, reference.edges)
    p, q = np.maximum(before, _LEAST_SHARE), np.maximum(now, _LEAST_SHARE)
    known = _cumulated(before), _cumulated(now)
    return FeatureDrift(
        feature=name,
        psi=float(np.sum((q - p) * np.log(q / p))),
        ks=float(np.max(np.abs(known[0] - known[1]), initial=0.0)),
        unknown_share=float(now[-1]),
        reference_unknown_share=float(before[-1]),
    )


def _shares(values: NDArray[np.float32], edges: Sequence[float]) -> NDArray[np.float64]:
    """Of the bins, and at the end of unknown values."""
    known = values[np.isfinite(values)]
    places = np.searchsorted(np.array(edges, dtype=np.float32), known, side="left")
    counts = np.append(np.bincount(places, minlength=len(edges) + 1), len(values) - len(known))
    return counts / max(1, len(values))


def _cumulated(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The distribution function of the known values at the edges."""
    total = float(np.sum(shares[:-1]))
    return np.cumsum(shares[:-1])[:-1] / total if total > 0 else np.zeros(max(0, len(shares) - 2))
