"""Decisions that raise: what the log hears of them, and which strategy has failed too often in a row to go on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

log = structlog.get_logger()

FAILURES_BEFORE_PAUSE = 5
SAID_EVERY = timedelta(minutes=1)
LONGEST_TOLD = 200
MOST_REMEMBERED = 1000
"""Different errors that are remembered: a text with a number in it is another one each time."""


@dataclass(slots=True)
class _Said:
    at: datetime
    repeats: int = 0


class DecisionFailures:
    """Failures of decisions, by strategy and asset. In memory only: a process that starts anew counts anew.

    Args:
        before_pause: so many ticks of one asset in a row have to fail before `exhausted` names the strategy.
    """

    def __init__(self, before_pause: int = FAILURES_BEFORE_PAUSE) -> None:
        self._before_pause = before_pause
        self._in_a_row: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._exhausted: dict[str, str] = {}
        self._said: dict[tuple[str, str, str], _Said] = {}

    @property
    def exhausted(self) -> Mapping[str, str]:
        """Strategies that should be paused, with the reason."""
        return self._exhausted

    def failed(self, strategy_id: str, asset: str, error: Exception, now: datetime, *, is_tick: bool) -> None:
        """A decision has raised `error`; to be called where it is handled, so that the log has its traceback.

        The same error of the same strategy and asset is said once a minute, with how often it came since.
        """
        told = _told(error)
        self._say((strategy_id, asset, told), now)
        if not is_tick:
            return
        self._in_a_row[strategy_id, asset] += 1
        count = self._in_a_row[strategy_id, asset]
        if count >= self._before_pause:
            self._exhausted[strategy_id] = f"{count} decisions in a row failed on {asset}: {told}"

    def succeeded(self, strategy_id: str, asset: str) -> None:
        """A decision came to its end."""
        self._in_a_row.pop((strategy_id, asset), None)

    def begin_anew(self, strategy_id: str) -> None:
        """The strategy was paused: whoever resumes it gives it as many tries as at first."""
        self._exhausted.pop(strategy_id, None)
        for key in [key for key in self._in_a_row if key[0] == strategy_id]:
            del self._in_a_row[key]

    def _say(self, key: tuple[str, str, str], now: datetime) -> None:
        said = self._said.get(key)
        # The clock may have stepped back since; then it is said again.
        if said is not None and timedelta(0) <= now - said.at < SAID_EVERY:
            said.repeats += 1
            return
        strategy_id, asset, error = key
        repeats = 0 if said is None else said.repeats
        log.exception("decision_failed", strategy=strategy_id, asset=asset, error=error, repeats=repeats)
        if len(self._said) >= MOST_REMEMBERED:
            self._said.clear()
        self._said[key] = _Said(now)


def _told(error: Exception) -> str:
    """In one short line that PostgreSQL can store: an error may hold whole arrays, and bytes of a message."""
    text = f"{type(error).__name__}: {error}"
    return "".join(character if character.isprintable() else " " for character in text[:LONGEST_TOLD])
