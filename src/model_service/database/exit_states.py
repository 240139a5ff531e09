"""The rows of what the exit policy remembers: read with the lots, written with the signals of the same pass."""

from __future__ import annotations

from typing import Any

import asyncpg

from model_service.policies.exit_state import ExitCause, ExitGoal, ExitState

EXIT_STATES = """
    SELECT strategy_id, asset, position_id, best_price, stop_price, parted_lot_ids, goal_cause, goal_quantity,
           goal_lot_id, goal_lot_closed, goal_part_lot_ids, attempted_at, attempted_cause
    FROM model_service.exit_states
"""
KEEP_EXIT_STATE = """
    INSERT INTO model_service.exit_states AS known (
        strategy_id, asset, position_id, best_price, stop_price, parted_lot_ids, goal_cause, goal_quantity,
        goal_lot_id, goal_lot_closed, goal_part_lot_ids, attempted_at, attempted_cause)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (strategy_id, asset) DO UPDATE SET
        position_id = excluded.position_id, best_price = excluded.best_price, stop_price = excluded.stop_price,
        parted_lot_ids = excluded.parted_lot_ids, goal_cause = excluded.goal_cause,
        goal_quantity = excluded.goal_quantity, goal_lot_id = excluded.goal_lot_id,
        goal_lot_closed = excluded.goal_lot_closed, goal_part_lot_ids = excluded.goal_part_lot_ids,
        attempted_at = excluded.attempted_at, attempted_cause = excluded.attempted_cause
    WHERE known.position_id <= excluded.position_id
"""


def exit_state_from(row: asyncpg.Record) -> ExitState:
    """What is remembered of a position, from its row."""
    goal = None
    if row["goal_cause"] is not None:
        goal = ExitGoal(
            cause=ExitCause(row["goal_cause"]),
            quantity=row["goal_quantity"],
            lot_id=row["goal_lot_id"],
            lot_closed=row["goal_lot_closed"],
            part_lot_ids=tuple(row["goal_part_lot_ids"]),
        )
    attempted = row["attempted_cause"]
    return ExitState(
        position_id=row["position_id"],
        best_price=row["best_price"],
        stop_price=row["stop_price"],
        parted_lot_ids=tuple(row["parted_lot_ids"]),
        goal=goal,
        attempted_at=row["attempted_at"],
        attempted_cause=None if attempted is None else ExitCause(attempted),
    )


def exit_state_row(key: tuple[str, str], state: ExitState) -> tuple[Any, ...]:
    """The arguments of KEEP_EXIT_STATE for the book `key`, strategy and asset."""
    goal = state.goal
    return (
        *key, state.position_id, state.best_price, state.stop_price, list(state.parted_lot_ids),
        None if goal is None else goal.cause.value,
        None if goal is None else goal.quantity,
        None if goal is None else goal.lot_id,
        None if goal is None else goal.lot_closed,
        None if goal is None else list(goal.part_lot_ids),
        state.attempted_at, None if state.attempted_cause is None else state.attempted_cause.value,
    )  # fmt: skip
