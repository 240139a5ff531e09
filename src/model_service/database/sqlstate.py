"""Whose fault an error of PostgreSQL is: the server's state, other transactions, the content, or the program.

The first two characters of a SQLSTATE are its class (PostgreSQL manual, appendix A).
"""

from __future__ import annotations

import asyncpg

CONFLICT_CLASS = "40"
"""Deadlock, serialization failure: the transaction was sacrificed to others, and may be tried again at once."""

STATE_CLASSES = (CONFLICT_CLASS, "53", "55", "57", "58")
"""Also no memory, disk or connection left; an object in use; an operator's intervention; an error of the system."""

READ_ONLY = "25006"
"""A standby, or a server that was set to read only; it will be a primary again, or the address will point to one."""

CONTENT_CLASSES = ("22", "23", "54")
"""A value that cannot be encoded or is out of range, a constraint, a limit such as the size of an index row."""


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction may be tried again at once."""
    return _class_of(error) == CONFLICT_CLASS


def is_server_state(error: BaseException) -> bool:
    """Whether waiting mends it: the same statement will pass when the server is well again."""
    return _class_of(error) in STATE_CLASSES or _sqlstate(error) == READ_ONLY


def is_content(error: BaseException) -> bool:
    """Whether the values themselves were refused, by the server or by the driver that encodes them."""
    return _class_of(error) in CONTENT_CLASSES


def _class_of(error: BaseException) -> str:
    return _sqlstate(error)[:2]


def _sqlstate(error: BaseException) -> str:
    return (error.sqlstate or "") if isinstance(error, asyncpg.PostgresError) else ""
