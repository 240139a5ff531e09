"""Guards asked again, by the numbers that were recorded: value against threshold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model_service.policies.reasons import ReasonCode
from model_service.services.guard_readings import MEASURES

BEFORE: Mapping[str, str] = {
    ReasonCode.POSITION_LIMIT: "position_amount",
    ReasonCode.PLATFORM_POSITION_LIMIT: "platform_position_amount",
}
"""What a position over its limit may shrink from, by its name in the evidence."""


def guards_told(evidence: Mapping[str, Any]) -> str:
    """What the recorded readings of a signal that passed say: `all pass`, or which of them refuse."""
    failing = [_told(one) for one in evidence["guards"] if passes(one, evidence) is False]
    return ", ".join(failing) or "all pass"


def refusal_told(refused: Mapping[str, Any], evidence: Mapping[str, Any]) -> str:
    """What the recorded reading of a refused side says: `refused` where its guard refuses, or cannot be asked again."""
    return f"passes: {_told(refused)}" if passes(refused, evidence) else "refused"


def passes(reading: Mapping[str, Any], evidence: Mapping[str, Any]) -> bool | None:
    """Whether a reading lets an opening pass; None where nothing was asked, or what it takes was not recorded.

    Args:
        reading: `guard`, `value` and `threshold`.
        evidence: of the opening (`services.decision_evidence`).
    """
    guard, value, threshold = reading["guard"], reading["value"], reading["threshold"]
    if threshold is None or guard not in MEASURES:
        return None
    if value is None:
        return False
    comparison = MEASURES[guard][1]
    if comparison == "at_least":
        return bool(value >= threshold)
    if comparison == "above":
        return bool(value > threshold)
    if guard in BEFORE and value > threshold:
        before = evidence.get(BEFORE[guard])
        # What is no larger than before has shrunk, which passes, or turned into the other side, which does not: that
        # was not recorded.
        return False if before is not None and value > abs(before) else None
    return bool(value <= threshold)


def _told(reading: Mapping[str, Any]) -> str:
    return f"{reading['guard']} with {reading['value']} against {reading['threshold']}"
