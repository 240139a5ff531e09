"""What the driver's errors mean: the server or the connection has gone, or the caller has made a mistake."""

from __future__ import annotations

import asyncio

import asyncpg

from model_service.database.sqlstate import is_server_state

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,  # a statement met the server's last words, which end the connection a moment later
)
"""What PostgreSQL or its driver says when the server or the connection has gone, and at no other time."""
UNAVAILABLE = (
    *GONE,
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What an attempt to connect may raise. Inside a block these may just as well be errors of the caller's own."""


def is_lost(connection: Connection, error: BaseException) -> bool:
    """Whether `error`, raised in a block that used `connection`, means that the server or the connection has gone."""
    if isinstance(error, GONE):
        return True
    if isinstance(error, asyncpg.InterfaceError):
        # Also the driver's word for wrong arguments and wrong use, which no waiting would mend.
        return _is_closed(connection)
    return isinstance(error, OSError | TimeoutError) and _is_from_driver(error)


def is_unavailable(error: BaseException) -> bool:
    """Whether `error` of the caller's own connection, on which nothing else runs, is mended by waiting."""
    return isinstance(error, UNAVAILABLE) or is_server_state(error)


def is_confused(error: BaseException) -> bool:
    """Whether the driver does not know any more in which state the connection is: it cannot be used again."""
    return isinstance(error, asyncpg.InternalClientError)


def cancellation_behind(error: BaseException) -> asyncio.CancelledError | None:
    """The cancellation that `error` has taken the place of.

    When a cancelled block rolls back over a lost connection, the error of the rollback hides the cancellation. A
    TimeoutError that asyncio made of a cancellation on purpose (`raise ... from`) hides nothing.
    """
    behind = error.__context__
    if error.__suppress_context__ or behind is None:
        return None
    return behind if isinstance(behind, asyncio.CancelledError) else cancellation_behind(behind)


def cause(error: BaseException) -> str:
    """The error in words, also when it brings none."""
    return str(error) or type(error).__name__


def _is_closed(connection: Connection) -> bool:
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True  # the pool takes a lost connection back at once, and then lets nobody ask


def _is_from_driver(error: BaseException) -> bool:
    """Whether the driver raised `error`: the time limit of a statement and a caller's own look the same otherwise."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).split(".")[0] == "asyncpg"
