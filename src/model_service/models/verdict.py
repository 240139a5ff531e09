"""How far a candidate was from speaking, in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from model_service.models.job import Comparison, GateCondition

_SMALLEST, _LARGEST = 1e-6, 1e15
"""Outside of these a number is written with an exponent."""
_WORDS: dict[Comparison | None, str] = {
    "at_least": "at least ",
    "above": "over ",
    "at_most": "at most ",
    "below": "under ",
    None: "",
}


def judged(gate: Iterable[Mapping[str, Any]]) -> list[GateCondition]:
    """The conditions in a stored gate report; one of an older version may lack members."""
    lacking = {"condition": "", "value": None, "threshold": None}
    return [GateCondition.model_validate({**lacking, **condition}) for condition in gate]


def rejection(gate: Sequence[GateCondition]) -> str | None:
    """Why a candidate may not speak, short enough for a list; None when every condition is met.

    The accuracy comes first where it is too low, since that is what everybody asks for.

    Example:
        >>> rejection([GateCondition(number=2, condition="accuracy", value=0.61, threshold=0.75, passed=False)])
        'accuracy 0.61 against 0.75'
    """
    failed = sorted(_failed(gate), key=lambda condition: condition.condition != "accuracy")
    if not failed:
        return None
    first, more = failed[0], len(failed) - 1
    name = first.condition.partition(" (")[0]
    numbers = "is not defined" if first.value is None else _against(first)
    return f"{name} {numbers}" + (f"; {more} more condition{'s' if more > 1 else ''} not met" if more else "")


def shortfalls(gate: Iterable[GateCondition]) -> list[str]:
    """One sentence for each condition that is not met: what was found, what is asked for, and by how much it missed.

    Example:
        >>> shortfalls([
        ...     GateCondition(
        ...         number=3, condition="ece", value=0.2, threshold=0.125, passed=False, comparison="at_most"
        ...     )
        ... ])
        ['ece: 0.2, at most 0.125 is asked for; missed by 0.0750']
    """
    return [_shortfall(condition) for condition in _failed(gate)]


def requirement(condition: GateCondition) -> str:
    """What the condition asks of its value, such as `at least 0.75`; empty where it names no number."""
    if condition.threshold is None:
        return ""
    return f"{_WORDS[condition.comparison]}{_pair(condition)[1]}"


def value_of(condition: GateCondition) -> str:
    """The value, with as many digits as it takes to tell it from the threshold; a dash where it is not known."""
    return _pair(condition)[0]


def margin(condition: GateCondition) -> float | None:
    """How far the value lies from the threshold, above 0 on the side that passes; None where one is not known."""
    if condition.value is None or condition.threshold is None:
        return None
    distance = abs(condition.value - condition.threshold)
    return distance if condition.passed else -distance


def digits(value: float, significant: int = 3) -> str:
    """A number as people read it: whole ones with separators, others with so many significant digits.

    Example:
        >>> [digits(value) for value in (12345.0, 0.61, -0.00012345, 0.0, 999.7, 1234.5, 1.19e-7)]
        ['12,345', '0.610', '-0.000123', '0', '1,000', '1,234', '1.2e-07']
    """
    if value == 0 or (abs(value) < _LARGEST and value == int(value)):
        return f"{int(value):,}"
    if not _SMALLEST <= abs(value) < _LARGEST:
        return f"{value:.{significant - 1}g}"
    exponent = int(f"{value:.{significant - 1}e}".partition("e")[2])
    return f"{value:,.{max(0, significant - 1 - exponent)}f}"


def _failed(gate: Iterable[GateCondition]) -> list[GateCondition]:
    return [condition for condition in gate if not condition.passed]


def _against(condition: GateCondition) -> str:
    value, threshold = _pair(condition)
    return f"{value} against {threshold}" if value != threshold else f"{value}, not {requirement(condition)}"


def _shortfall(condition: GateCondition) -> str:
    if condition.value is None or condition.threshold is None:
        return f"{condition.condition}: {condition.detail or 'not known'}"
    asked = f"{condition.condition}: {value_of(condition)}, {requirement(condition)} is asked for"
    missed = abs(condition.value - condition.threshold)
    return f"{asked}; missed by {digits(missed)}" if missed > 0 else asked


def _pair(condition: GateCondition) -> tuple[str, str]:
    """Value and threshold with as many digits as it takes to tell them apart, three at least."""
    value, threshold = condition.value, condition.threshold
    if threshold is None:
        return ("-" if value is None else digits(value)), "-"
    if value is None or value == threshold:
        return ("-" if value is None else _trimmed(threshold, 3)), _trimmed(threshold, 3)
    for significant in range(3, 12):
        shown = _trimmed(value, significant), _trimmed(threshold, significant)
        if shown[0] != shown[1]:
            break
    return shown


def _trimmed(value: float, significant: int) -> str:
    text = digits(value, significant)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text
