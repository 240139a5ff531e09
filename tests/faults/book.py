"""The check of every ingest scenario: what the database says against the truth."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import asyncpg

from model_service.database.connection import DatabaseAddress
from tests.faults.ledger import Event, Truth, truth_of

POLL_SECONDS = 0.1

COUNT = """
    SELECT (SELECT count(*) FROM model_service.execution_events)
           - (SELECT count(*) FROM model_service.underived_executions) AS count
"""
"""Execution events that are stored and entered into the book."""
EVENTS = "SELECT event_id FROM model_service.execution_events WHERE source <> 'orders_table'"
FILLS = "SELECT order_id, sum(quantity) AS quantity, sum(fees) AS fees FROM model_service.fills GROUP BY order_id"
FILLS_TWICE = "SELECT event_id FROM model_service.fills GROUP BY event_id HAVING count(*) > 1"
LOTS = """
    SELECT strategy_id, asset, sum(CASE side WHEN 'buy' THEN remaining_quantity ELSE -remaining_quantity END) AS size
    FROM model_service.lots GROUP BY strategy_id, asset
"""
TRADED = """
    SELECT strategy_id, asset, sum(CASE side WHEN 'buy' THEN quantity ELSE -quantity END) AS size
    FROM model_service.fills GROUP BY strategy_id, asset
"""
LETTERS = "SELECT body, reason_code, reason FROM model_service.dead_letters"


@dataclass
class Verdict:
    """What is wrong, in words: each list is empty where all is well."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    def __add__(self, other: Verdict) -> Verdict:
        return Verdict(self.lost + other.lost, self.duplicated + other.duplicated, self.unexpected + other.unexpected)

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.unexpected)

    def __str__(self) -> str:
        parts = (("lost", self.lost), ("duplicated", self.duplicated), ("unexpected", self.unexpected))
        return "; ".join(f"{name} {len(items)}: {items[:5]}" for name, items in parts if items) or "clean"


async def count_of(address: DatabaseAddress, query: str, *arguments: Any) -> int:
    """What a query counts; -1 while the database is away."""
    try:
        return int((await read(address, query, *arguments))[0]["count"])
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        return -1


async def until_counted(address: DatabaseAddress, rows: int, stall_seconds: float) -> bool:
    """Wait until so many events are in the book; False when for `stall_seconds` not one more came."""
    most, since = -1, time.monotonic()
    while (count := await count_of(address, COUNT)) < rows:
        if count > most:
            most, since = count, time.monotonic()
        elif time.monotonic() - since > stall_seconds:
            return False
        await asyncio.sleep(POLL_SECONDS)
    return True


async def check_book(
    address: DatabaseAddress, sent: Sequence[Event], *, poison: Sequence[bytes] = (), truth: Truth | None = None
) -> Verdict:
    """Lost, duplicated and unexpected of everything that the broker confirmed.

    Args:
        truth: what the book must say, where that is more than what was sent.
        poison: bodies that must lie in the dead letters, each once; any other dead letter is unexpected.
    """
    verdict = Verdict()
    _check_events(verdict, {row["event_id"] for row in await read(address, EVENTS)}, sent)
    truth = truth or truth_of(sent)
    fills = {row["order_id"]: (row["quantity"], row["fees"]) for row in await read(address, FILLS)}
    _check_fills(verdict, fills, truth)
    verdict.duplicated += [f"two fills of {row['event_id']}" for row in await read(address, FILLS_TWICE)]
    for name, query in (("lots", LOTS), ("fills", TRADED)):
        rows = await read(address, query)
        _check_positions(verdict, name, {(r["strategy_id"], r["asset"]): r["size"] for r in rows}, truth)
    _check_letters(verdict, await read(address, LETTERS), poison)
    return verdict


def _check_events(verdict: Verdict, found: set[str], sent: Sequence[Event]) -> None:
    wanted = {event.event_id for event in sent}
    verdict.lost += [f"event {name}" for name in sorted(wanted - found)]
    verdict.unexpected += [f"event {name} that nobody sent" for name in sorted(found - wanted)]


def _check_fills(verdict: Verdict, fills: Mapping[str, tuple[Decimal, Decimal]], truth: Truth) -> None:
    for order_id, (quantity, fees) in truth.orders.items():
        found, found_fees = fills.get(order_id, (Decimal(0), Decimal(0)))
        if found < quantity:
            verdict.lost.append(f"{quantity - found} of order {order_id}")
        elif found > quantity:
            verdict.duplicated.append(f"{found - quantity} of order {order_id}")
        elif found_fees != fees:
            verdict.unexpected.append(f"fees {found_fees} of order {order_id}, not {fees}")
    verdict.unexpected += [f"fills of order {name}, unknown" for name in fills.keys() - truth.orders.keys()]


def _check_positions(verdict: Verdict, name: str, found: Mapping[tuple[str, str], Decimal], truth: Truth) -> None:
    for key in sorted(found.keys() | truth.positions.keys()):
        size, wanted = found.get(key, Decimal(0)), truth.positions.get(key, Decimal(0))
        # What an order lacks or has too much of is said above; only a position that differs without that is news.
        if size != wanted and not (verdict.lost or verdict.duplicated):
            verdict.unexpected.append(f"{name} of {key} come to {size}, not {wanted}")


def _check_letters(verdict: Verdict, letters: Sequence[asyncpg.Record], poison: Sequence[bytes]) -> None:
    kept = {bytes(row["body"]): row for row in letters}
    wanted = set(poison)
    verdict.lost += [f"dead letter {body[:80]!r}" for body in sorted(wanted - kept.keys())]
    verdict.unexpected += [
        f"dead letter {body[:80]!r}: {kept[body]['reason_code']} {kept[body]['reason']}"
        for body in sorted(kept.keys() - wanted)
    ]


async def read(address: DatabaseAddress, query: str, *arguments: Any) -> list[asyncpg.Record]:
    """Rows over a connection of our own, past any proxy."""
    connection = await connect(address)
    try:
        return list(await connection.fetch(query, *arguments, timeout=30.0))
    finally:
        connection.terminate()


async def connect(address: DatabaseAddress) -> asyncpg.Connection:
    """A connection of our own, past any proxy; the caller ends it."""
    return await asyncpg.connect(
        host=address.host, port=address.port, user=address.user, database=address.database, timeout=5.0
    )
