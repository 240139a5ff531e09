"""Alerts: what a person should hear of at once, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol


class Alerts(Protocol):
    """Takes alerts; never waits, never fails."""

    def send(self, event: str, strategy_id: str, evidence: Mapping[str, Any], now: datetime) -> None:
        """Hand over one alert; it is delivered when it can be, or dropped and counted."""
        ...


class NoAlerts:
    """Where nobody wants to be alerted."""

    def send(self, event: str, strategy_id: str, evidence: Mapping[str, Any], now: datetime) -> None:
        """Nothing."""
