"""Alerts: what a person should hear of at once, wherever they are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

LEAST_FAILURES = 2


class Alerts(Protocol):
    """Takes alerts; never waits, never fails."""

    def send(self, event: str, strategy_id: str, evidence: Mapping[str, Any], now: datetime) -> None:
        """Hand over one alert; it is delivered when it can be, or dropped and counted."""
        ...


class NoAlerts:
    """Where nobody wants to be alerted."""

    def send(self, event: str, strategy_id: str, evidence: Mapping[str, Any], now: datetime) -> None:
        """Nothing."""


class RepeatedFailures:
    """Alerts when trainings of a strategy fail in a row: one failure may be chance, a second one wants a person.

    Counted since the start of the process; a run that made a version begins anew, a refusal for want of data does not
    count.
    """

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._in_a_row: dict[str, int] = {}

    def failed(self, strategy_id: str, code: str, now: datetime) -> None:
        """One more run without a version, by a fault."""
        count = self._in_a_row[strategy_id] = self._in_a_row.get(strategy_id, 0) + 1
        if count >= LEAST_FAILURES:
            self._alerts.send("training_failures", strategy_id, {"in_a_row": count, "code": code}, now)

    def ended(self, strategy_id: str) -> None:
        """A run that made a version."""
        self._in_a_row.pop(strategy_id, None)
