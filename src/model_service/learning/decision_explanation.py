"""Why a version says what it says of one decision: both sides, input by input."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model_service.learning.explanation import Explainer
from model_service.models.calibration import Calibration
from model_service.models.features import FEATURE_NAMES
from model_service.models.job import Explanation, FeatureContribution, SideExplanation
from model_service.models.manifest import read_inputs

SIDES: Sequence[tuple[Literal["buy", "sell"], int]] = (("buy", 1), ("sell", -1))


def explain_decision(
    version: str,
    explainer: Explainer,
    calibration: Calibration,
    manifest: Mapping[str, Any],
    values: Mapping[str, float],
) -> Explanation:
    """The explanation of one decision.

    Args:
        manifest: of the version.
        values: what was known at the decision, by feature, not aligned; one that is missing or not finite is unknown.

    Raises:
        ValueError: the version reads a feature that this program does not compute, or the manifest is not one.
    """
    inputs = read_inputs(manifest)
    today = np.array([_known(values.get(name, math.nan)) for name in FEATURE_NAMES], dtype=np.float32)
    aligned = inputs.rows(np.stack([today, today]), np.array([sign for _, sign in SIDES]))
    known = [_known(values.get(name, math.nan)) for name in inputs.features]
    parts = explainer.contributions(aligned)
    probability = calibration.probability(parts.scores)
    expected = calibration.expected_net_return(probability)

    def side(row: int) -> SideExplanation:
        name, sign = SIDES[row]
        return SideExplanation(
            side=name,
            total=float(parts.totals[row]),
            score=float(parts.scores[row]),
            probability=float(probability[row]),
            expected_net_return=float(expected[row]),
            contributions=_contributions(inputs.names, [*known, sign], aligned[row], parts.values[row]),
        )

    return Explanation(
        version=version,
        model_type=str(manifest["model_type"]),
        unit=parts.unit,
        method=explainer.method,
        base_value=parts.base_value,
        calibration=calibration.method,
        break_even=calibration.break_even,
        buy=side(0),
        sell=side(1),
    )


def _contributions(
    names: Sequence[str], values: Sequence[float], aligned: NDArray[Any], parts: NDArray[Any]
) -> list[FeatureContribution]:
    columns = zip(names, values, aligned, parts, strict=True)
    return [
        FeatureContribution(feature=name, value=_or_none(value), aligned=_or_none(turned), contribution=float(part))
        for name, value, turned, part in columns
    ]


def _known(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _or_none(value: Any) -> float | None:
    return None if math.isnan(value) else float(value)
