"""A decision explained in the terminal: what is shown adds up to what the model said."""

from __future__ import annotations

import re
from typing import Any

import pytest

from model_service.cli import signal_page
from model_service.models.features import MODEL_INPUT_NAMES
from tests.unit.test_version_page import printed

WIDTHS = [80, 140]


def side(name: str, sign: int) -> dict[str, Any]:
    parts = [
        {"feature": feature, "value": None if index == 3 else index / 7, "aligned": sign * index / 7,
         "contribution": sign * (-1) ** index / (index + 1)}
        for index, feature in enumerate(MODEL_INPUT_NAMES)
    ]  # fmt: skip
    total = 0.125 + sum(part["contribution"] for part in parts)
    return {
        "side": name, "total": total, "score": 0.6, "probability": 0.61, "expected_net_return": 0.002,
        "contributions": parts,
    }  # fmt: skip


def answer(**changes: Any) -> dict[str, Any]:
    known = {
        "decision_id": "c9edf539-a9e3-4e16-a63e-fd5125d8bda5", "strategy_id": "momentum_v1", "asset": "BTCUSDT",
        "side": "sell", "intent": "open", "decided_at": "2026-11-23T15:52:43Z", "policy": "model",
        "model_version": "v2", "probability_buy": 0.1, "probability_sell": 0.3, "probability_none": 0.6,
        "version": "v2", "model_type": "xgboost", "unit": "log_odds", "method": "TreeSHAP", "base_value": 0.125,
        "calibration": "isotonic", "break_even": 0.55, "buy": side("buy", 1), "sell": side("sell", -1),
    }  # fmt: skip
    return {**known, **changes}


def page(width: int = 80, *, everything: bool = False, ascii_only: bool = False, **changes: Any) -> str:
    return printed(signal_page.page(answer(**changes), everything=everything, ascii_only=ascii_only), width)


def columns(text: str, first: str) -> list[float]:
    """The last two numbers of a row: what it did to the decided side and to the other."""
    (line,) = [line for line in text.splitlines() if line.strip().startswith(first)]
    return [float(found) for found in re.findall(r"[+-]\d+\.\d+", line)[-2:]]


@pytest.mark.parametrize("everything", [True, False])
def test_what_is_shown_adds_up_to_the_sum(everything: bool) -> None:
    text = page(everything=everything)
    rows = [name for name in MODEL_INPUT_NAMES if f"  {name} " in text]
    assert len(rows) == (len(MODEL_INPUT_NAMES) if everything else signal_page.TOP_FEATURES)
    names = [*(f"{name} " for name in rows), "base value", *([] if everything else ["26 others"])]
    for place in range(2):
        total = sum(columns(text, name)[place] for name in names)
        assert total == pytest.approx(columns(text, "sum  ")[place], abs=0.03)


def test_the_decided_side_comes_first_and_the_largest_parts_first() -> None:
    text = page(ascii_only=True)
    assert "feature" in text
    (head,) = [line.split() for line in text.splitlines() if line.startswith("  feature")]
    assert head == ["feature", "value", "aligned", "sell", "buy"]
    rows = text.partition("Contributions")[2].splitlines()[2:]
    assert rows[0].split()[:1] == [MODEL_INPUT_NAMES[0]]
    assert rows[0].rstrip().endswith("######|")
    assert rows[1].rstrip().endswith("|###")
    text.encode("ascii")


def test_unknown_values_are_a_dash() -> None:
    (row,) = [line for line in page(everything=True).splitlines() if f"  {MODEL_INPUT_NAMES[3]} " in line]
    assert row.split()[1] == "-"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, "decided by v2; drawn with probabilities buy 0.100, sell 0.300, none 0.600"),
        ({"model_version": None, "policy": "warmup"}, "decided by the policy warmup, no model"),
        ({"intent": "exit", "policy": "exit", "model_version": None}, "exits are not drawn"),
        ({"version": "v3"}, "v3 did not make this decision: this is what it would have said"),
        ({"side": None, "intent": None}, "none (nothing was drawn)"),
        ({}, "acting earns something from a probability of 0.5500 on"),
    ],
)
def test_it_says_who_decided_and_who_explains(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in page(140, **changes)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(width: int) -> None:
    text = page(width, everything=True)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\u2026" not in text


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_keeps_identifiers_whole(width: int) -> None:
    signal = {
        "signal_id": "c9edf539-a9e3-4e16-a63e-fd5125d8bda5", "asset": "BTCUSDT", "side": "buy", "intent": "reduce",
        "decided_at": "2026-11-23T15:52:43Z", "model_version": None, "policy": "warmup", "confidence": 0.61234,
        "outcome": {"net_return": -0.00123}, "exit": None,
    }  # fmt: skip
    text = printed(signal_page.listing([signal, {**signal, "outcome": None, "model_version": "v12.3"}]), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert text.count("c9edf539-a9e3-4e16-a63e-fd5125d8bda5") == 2
    assert set(text.split()) >= {"buy", "reduce", "BTCUSDT", "warmup", "v12.3", "0.612", "-0.123", "2026-11-23"}


@pytest.mark.parametrize("width", WIDTHS)
def test_the_list_says_why_a_position_is_closed(width: int) -> None:
    signal = {
        "signal_id": "c9edf539-a9e3-4e16-a63e-fd5125d8bda5", "side": "sell", "intent": "exit", "asset": "BTCUSDT",
        "decided_at": "2026-11-23T15:52:43Z", "model_version": None, "policy": "exit", "confidence": 1.0,
        "outcome": None, "exit": {"cause": "stop_loss", "value": -2.5, "threshold": -2.0, "continues": False},
    }  # fmt: skip
    rest = {**signal["exit"], "continues": True}  # type: ignore[dict-item]
    text = printed(signal_page.listing([signal, {**signal, "exit": rest}]), width)
    assert max(len(line) for line in text.splitlines()) <= width
    folded = " ".join(text.split())
    assert "stop loss -2.5" in folded
    assert "stop loss goes on" in folded
