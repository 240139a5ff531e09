"""`model-service dlq` as a process: while the service is down, and beside it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from model_service.contracts.types import InvalidMessage
from model_service.database.connection import Database
from model_service.database.dead_letters import DeadLetters
from tests.e2e.process import command, environment, running
from tests.e2e.test_service import database_settings
from tests.integration.test_dead_letter_desk import EXECUTIONS, TICKER, event
from tests.support.builders import NOON

UNDERSTOOD, STILL_BAD, FROM_THE_MARKET, UNREADABLE = 1, 2, 3, 4
TOO_LARGE, NO_UTF_8 = str(2**63), "caf\udce9"
LONG = b'{"event_id": "' + b"x" * 10_000 + b'"}'


@dataclass(frozen=True)
class Answer:
    """How a command ended and what it said."""

    code: int
    output: str
    errors: str

    @property
    def json(self) -> Any:
        return json.loads(self.output)


async def dlq(*arguments: str, stdin: Any = b"", **settings: object) -> Answer:
    process = await asyncio.create_subprocess_exec(
        *command("dlq", *arguments),
        env=environment(**settings),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(stdin), 60)
    return Answer(process.returncode or 0, output.decode(), errors.decode())


async def fill(database: Database) -> None:
    """Letters 1 to 4."""
    letters = DeadLetters(database)
    unknown, broken = InvalidMessage("unknown_shape", "", "neither"), InvalidMessage("invalid_json", "", "no\x1b[31m")
    for source, body, reason in (
        (EXECUTIONS, event("e-1"), unknown), (EXECUTIONS, LONG, unknown), (TICKER, b"{}", unknown),
        (EXECUTIONS, b"\xff\x00\x1b[31m", broken),
    ):  # fmt: skip
        await letters.keep(source, [(body, reason)], NOON)


def ids(letters: Sequence[Any]) -> list[int]:
    return sorted(letter["dead_letter_id"] for letter in letters)


async def test_letters_are_listed_and_shown(database: Database) -> None:
    await fill(database)
    settings = database_settings(database)
    listed = (await dlq("list", "--json", **settings)).json
    assert (ids(listed["dead_letters"]), listed["total"]) == ([1, 2, 3, 4], 4)
    by_source = (await dlq("list", "--json", "--source", TICKER, **settings)).json["dead_letters"]
    assert ids(by_source) == [FROM_THE_MARKET]
    by_reason = (await dlq("list", "--json", "--reason", "invalid_json", **settings)).json["dead_letters"]
    assert ids(by_reason) == [UNREADABLE]
    table = await dlq("list", "--limit", "2", **settings)
    assert len(table.output.splitlines()) == 3
    assert "2 of 4" in table.errors
    whole_table = await dlq("list", **settings)
    assert "\x1b" not in whole_table.output
    assert r"no\x1b[31m" in whole_table.output


async def test_one_letter_is_shown_whole_or_cut_as_text_or_hexadecimal(database: Database) -> None:
    await fill(database)
    settings = database_settings(database)
    cut = await dlq("show", str(STILL_BAD), **settings)
    assert "--full" in cut.output
    assert LONG.decode() not in cut.output
    assert LONG.decode() in (await dlq("show", str(STILL_BAD), "--full", **settings)).output
    shown = (await dlq("show", str(STILL_BAD), "--json", "--full", **settings)).json
    assert (shown["body"], shown["body_encoding"], shown["body_truncated"]) == (LONG.decode(), "utf-8", False)
    assert (shown["state"], shown["occurrences"], shown["copied_at"]) == ("open", 1, None)
    unreadable = (await dlq("show", str(UNREADABLE), "--json", **settings)).json
    assert (unreadable["body"], unreadable["body_encoding"]) == (b"\xff\x00\x1b[31m".hex(), "hex")
    assert (await dlq("show", str(2**63 - 1), **settings)).code == 3
    missing = await dlq("show", "99", **settings)
    assert (missing.code, missing.output) == (3, "")
    assert "no dead letter 99" in missing.errors


async def test_requeue_says_what_came_of_each(database: Database) -> None:
    await fill(database)
    settings = database_settings(database)
    everything = await dlq("requeue", "--all", "--json", **settings)
    outcomes = {result["dead_letter_id"]: result["outcome"] for result in everything.json["results"]}
    assert outcomes == {UNDERSTOOD: "recorded", STILL_BAD: "still_refused", UNREADABLE: "still_refused"}
    assert everything.code == 1
    assert await database.fetchval("SELECT event_id FROM model_service.execution_events") == "e-1"
    again = await dlq("requeue", str(UNDERSTOOD), **settings)
    assert (again.code, again.output) == (0, f"{UNDERSTOOD}: duplicate\n")
    market = await dlq("requeue", str(FROM_THE_MARKET), **settings)
    assert market.code == 7
    assert "late market data" in market.output
    table = (await dlq("list", "--all", **settings)).output.splitlines()
    assert [int(line.split()[0]) for line in table[1:]] == [4, 3, 2, 1]  # of the same moment, the newest first
    assert (await dlq("requeue", "99", str(FROM_THE_MARKET), **settings)).code == 3
    assert ids((await dlq("list", "--json", **settings)).json["dead_letters"]) == [2, 3, 4]
    assert ids((await dlq("list", "--json", "--all", **settings)).json["dead_letters"]) == [1, 2, 3, 4]
    actors = await database.fetch("SELECT DISTINCT actor FROM model_service.audit_log")
    assert len(actors) == 1
    assert actors[0]["actor"].startswith("cli:")


async def test_drop_wants_a_reason_and_a_yes(database: Database) -> None:
    await fill(database)
    settings = database_settings(database)
    assert (await dlq("drop", "1", "--yes", **settings)).code == 2
    unasked = await dlq("drop", "1", "--why", "old", stdin=b"y\n", **settings)
    assert unasked.code == 2
    assert "--yes" in unasked.errors
    assert (await dlq("list", "--json", **settings)).json["total"] == 4
    some = await dlq("drop", "--all", "--reason", "invalid_json", "--why", "old", "--yes", **settings)
    assert (some.code, some.output) == (0, f"{UNREADABLE}: dropped\n")
    assert ids((await dlq("list", "--json", **settings)).json["dead_letters"]) == [1, 2, 3]
    closed = await dlq("drop", "98", str(UNREADABLE), "--why", "old", "--yes", **settings)
    assert closed.code == 3
    assert closed.output.splitlines() == [
        "98: not_found: There is no dead letter 98.",
        f"{UNREADABLE}: already_closed: It was requeued or dropped before; nothing was changed.",
    ]
    details = await database.fetchval("SELECT details FROM model_service.audit_log")
    assert details["why"] == "old"


@pytest.mark.parametrize(("answer", "code", "left"), [(b"n\n", 1, 4), (b"y\n", 0, 3)])
async def test_drop_asks_at_a_terminal(database: Database, answer: bytes, code: int, left: int) -> None:
    await fill(database)
    keyboard, terminal = os.openpty()
    try:
        os.write(keyboard, answer)
        arguments = command("dlq", "drop", "1", "--why", "old")
        settings = environment(**database_settings(database))
        process = await asyncio.create_subprocess_exec(*arguments, env=settings, stdin=terminal)
        assert await asyncio.wait_for(process.wait(), 60) == code
    finally:
        os.close(keyboard)
        os.close(terminal)
    query = "SELECT count(*) FROM model_service.dead_letters WHERE dropped_at IS NULL"
    assert await database.fetchval(query) == left


@pytest.mark.parametrize(
    "arguments",
    [
        ("requeue",), ("requeue", "1", "--all"), ("requeue", "1", "--reason", "x"), ("show", "x"),
        ("list", "--limit", "0"), ("drop", "1"), ("show", "99999999999999999999"), ("show", TOO_LARGE), ("show", "0"),
        ("requeue", TOO_LARGE), ("drop", TOO_LARGE, "--why", "w", "--yes"), ("drop", "1", "--why", NO_UTF_8, "--yes"),
        ("list", "--source", NO_UTF_8), ("list", "--reason", NO_UTF_8), ("requeue", "--all", "--reason-code", NO_UTF_8),
        ("drop", "--all", "--source", NO_UTF_8, "--why", "w", "--yes"), ("show", NO_UTF_8),
    ],
)  # fmt: skip
async def test_wrong_arguments_are_usage_and_need_no_database(arguments: Sequence[str]) -> None:
    answer = await dlq(*arguments, POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=1)
    assert (answer.code, answer.output) == (2, "")
    assert "Usage:" in answer.errors
    assert "Traceback" not in answer.errors


async def test_a_database_that_is_away_or_not_there_is_said_so(tmp_path: Path) -> None:
    away = await dlq("list", POSTGRES_HOST="127.0.0.1", POSTGRES_PORT=1)
    assert away.code == 5
    assert "127.0.0.1:1" in away.errors
    absent = await dlq("list", MODEL_SERVICE_STATE_PATH=tmp_path / "state")
    assert absent.code == 5
    assert "no service has run there" in absent.errors
    assert not (tmp_path / "state").exists()


async def test_the_embedded_database_is_reached_beside_the_service_and_after_it(open_folder: Path) -> None:
    state = open_folder / "state"
    async with running(open_folder, MARKET_DATA_QUEUES="none") as service:
        await service.until("/readyz", lambda status, _: status == 200, 60)
        beside = await dlq("list", MODEL_SERVICE_STATE_PATH=state)
        assert (beside.code, beside.output) == (0, "no dead letters\n")
        service.process.terminate()
        assert await asyncio.to_thread(service.process.wait, 20) == 0
    after = await dlq("list", "--json", MODEL_SERVICE_STATE_PATH=state)
    assert (after.code, after.json["total"]) == (0, 0)
    shutil.rmtree(state)
