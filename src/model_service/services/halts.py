"""Halts: nothing is opened, for one strategy or for all, until a person ends it; positions are still closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

HaltKind = Literal["manual", "loss_limit"]


@dataclass(frozen=True, slots=True)
class Halt:
    """One halt, as its row has it.

    Attributes:
        strategy_id: the only strategy that it holds for; None: every strategy.
        actor: who began it; `service` for a loss limit.
        evidence: the numbers that it rests on, as JSON; of a loss limit `loss` and `limit`, among others.
    """

    halt_id: int
    strategy_id: str | None
    kind: HaltKind
    reason: str
    actor: str
    evidence: Mapping[str, Any]
    started_at: datetime

    def holds_for(self, strategy_id: str) -> bool:
        """Whether the strategy may open nothing because of it."""
        return self.strategy_id in (None, strategy_id)


@dataclass(frozen=True, slots=True)
class Stopped:
    """What a stop came to: the halt that holds now, and how many openings were taken back before they were sent."""

    halt: Halt
    withdrawn: int


@dataclass(frozen=True, slots=True)
class Resumed:
    """What a resumption came to: the halts that it ended, and those that hold on."""

    ended: Sequence[Halt]
    holding: Sequence[Halt]


class HaltStore(Protocol):
    """Halts as rows, the same for every process on the database."""

    async def open_halts(self) -> Sequence[Halt]:
        """Those that hold now, oldest first."""
        ...

    async def stop(self, actor: str, reason: str, now: datetime) -> Stopped:
        """Halt every strategy; what holds already stays as it is. Openings that wait to be sent are taken back."""
        ...

    async def resume(self, strategy_id: str | None, actor: str, reason: str, now: datetime) -> Resumed:
        """End the halts of one strategy, or (None) those of every strategy."""
        ...


def held(halts: Sequence[Halt], strategy_id: str, kind: HaltKind) -> list[Halt]:
    """The halts of a kind that hold for a strategy."""
    return [halt for halt in halts if halt.kind == kind and halt.holds_for(strategy_id)]


def halt_notice(halt: Halt) -> str:
    """One sentence for everybody, also without a key: what holds since when, and not what people wrote.

    Example:
        >>> from datetime import UTC
        >>> halt_notice(Halt(1, None, "manual", "a secret", "http", {}, datetime(2026, 3, 2, 12, tzinfo=UTC)))
        'every strategy opens nothing since 2026-03-02 12:00:00 UTC: a person has stopped trading'
    """
    who = "every strategy" if halt.strategy_id is None else halt.strategy_id
    why = "a person has stopped trading" if halt.kind == "manual" else "the loss limit of the day was reached"
    return f"{who} opens nothing since {halt.started_at:%Y-%m-%d %H:%M:%S} UTC: {why}"
