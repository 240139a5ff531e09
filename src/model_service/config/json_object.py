"""A JSON object out of the text of a setting, strictly: each name once, finite numbers only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn


def json_object(value: object, example: str) -> Mapping[str, Any]:
    """The object, or the one that the text holds. Raises ValueError, which says what is allowed."""
    content = _json(value, example) if isinstance(value, str) else value
    if not isinstance(content, Mapping):
        raise ValueError(f"allowed: a JSON object such as {example}")
    return content


def numbers_by_asset(value: object, example: str, *, over: float, most: float) -> Mapping[str, float]:
    """A number for each asset that is named, over `over` and up to `most`; assets in upper case.

    Raises:
        ValueError: no such object, a name that is no asset or stands there twice, or a number out of bounds.

    Example:
        >>> numbers_by_asset('{"btcusdt": 5}', '{"BTCUSDT": 5}', over=0, most=10)
        {'BTCUSDT': 5.0}
    """
    numbers: dict[str, float] = {}
    for name, number in json_object(value, example).items():
        asset = name.upper()
        if not (asset.isascii() and asset.isalnum() and 4 <= len(asset) <= 20) or asset in numbers:
            raise ValueError(f"{name!r} is no asset or stands there twice, allowed: assets such as in {example}")
        if isinstance(number, bool) or not isinstance(number, int | float) or not over < number <= most:
            raise ValueError(f"{asset} has {number!r}, allowed: a number over {over:g} and up to {most:g}")
        numbers[asset] = float(number)
    return numbers


def _json(text: str, example: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is no JSON ({error}), allowed: a JSON object such as {example}") from error


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a name stands there twice, allowed: each name once")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number, allowed: finite numbers")
