"""Which settings a label depends on, as one number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelRules:
    """The rule of each asset that has one of its own, since fees may differ, and the rule of all others."""

    otherwise: int
    by_asset: Mapping[str, int]

    def of(self, asset: str) -> int:
        """The rule by which the outcomes of an asset are labelled."""
        return self.by_asset.get(asset, self.otherwise)


def label_rule(
    horizon_seconds: int,
    take_profit_percent: float | None,
    stop_loss_percent: float | None,
    fee_rate: float,
    minimum_net_return: float,
) -> int:
    """One number for all settings that a label depends on, from -2^63 to 2^63 - 1.

    Labels of two rules answer two questions, so a model is not taught with both.
    """
    settings = (horizon_seconds, take_profit_percent, stop_loss_percent, fee_rate, minimum_net_return)
    text = "|".join("none" if value is None else repr(float(value)) for value in settings)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)
