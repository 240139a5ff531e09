"""Rows for tests of what is read: one call for each, complete, with the columns that a test is about as arguments."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID, uuid5

from model_service.database.connection import Database
from tests.support.api import NOW

NAMESPACE = UUID("00000000-0000-0000-0000-0000000a91e5")


def identifier(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


def minutes_ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


async def insert(database: Database, table: str, **columns: object) -> None:
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await database.execute(
        f"INSERT INTO model_service.{table} ({', '.join(columns)}) VALUES ({places})", *columns.values()
    )


async def add_version(database: Database, version: str, **changes: object) -> UUID:
    row: dict[str, object] = {
        "id": identifier(version),
        "version": version,
        "strategy_id": "momentum",
        "model_type": "xgboost",
        "file_path": f"/models/{version}/serving.onnx",
        "files": {"serving.onnx": "00"},
        "feature_set": "f1-00000000",
        "trained_at": NOW,
        "training_duration_seconds": 12,
        "training_dataset_size": 2000,
        "training_config": {"seed": 7},
        "report": {"rows": 2000},
        "gate": [{"number": 2, "condition": "accuracy", "passed": True}],
        "gate_passed": True,
        "created_at": NOW,
    }
    await insert(database, "model_versions", **{**row, **changes})
    return identifier(version)


async def add_metric(
    database: Database, version: str, name: str, value: float, *, of: str = "test", age: float = 0, **changes: object
) -> None:
    row: dict[str, object] = {
        "id": identifier(f"{version}/{name}/{of}/{age}"),
        "model_version_id": identifier(version),
        "metric_name": name,
        "metric_value": value,
        "metric_type": "classification",
        "slice": of,
        "evaluated_at": minutes_ago(age),
        "evaluation_dataset_size": 400,
        "metadata": {"dataset_split": of},
    }
    await insert(database, "model_quality_metrics", **{**row, **changes})


async def add_run(database: Database, name: str, state: str, **changes: object) -> UUID:
    row: dict[str, object] = {
        "run_id": identifier(name),
        "strategy_id": "momentum",
        "training_type": "full",
        "trigger": "manual",
        "reason": "asked for",
        "state": state,
        "requested_at": minutes_ago(30),
        "outcomes_seen": 2000,
    }
    await insert(database, "training_runs", **{**row, **changes})
    return identifier(name)


async def add_strategy(database: Database, name: str = "momentum", mode: str = "warmup") -> None:
    await insert(database, "strategy_modes", strategy_id=name, mode=mode, reason="started", since=minutes_ago(60))


async def add_signal(database: Database, name: str, **changes: object) -> UUID:
    row: dict[str, object] = {
        "signal_id": identifier(name),
        "strategy_id": "momentum",
        "asset": "BTCUSDT",
        "side": "buy",
        "intent": "open",
        "price": "97250.50",
        "amount": "150.25",
        "confidence": 0.83,
        "decided_at": NOW,
        "expires_at": NOW + timedelta(seconds=30),
        "policy": "warmup",
        "is_warmup": True,
        "seed": "7",
        "feature_set": "f1-00000000",
        "features": b"\x00",
        "probability_buy": 0.4,
        "probability_sell": 0.1,
        "probability_none": 0.5,
        "horizon_seconds": 300,
        "fee_rate": 0.00055,
        "minimum_net_return": 0.0,
        "market_data_snapshot": {"price": 97250.5},
        "metadata": {},
        "trace_id": "trace",
        "status": "published",
    }
    await insert(database, "trading_signals", **{**row, **changes})
    return identifier(name)


async def add_outcome(database: Database, signal_id: UUID, revision: int, label: int) -> None:
    await insert(
        database, "outcomes", signal_id=signal_id, revision=revision, strategy_id="momentum", asset="BTCUSDT",
        side="buy", entry_at=NOW, exit_at=NOW, entry_price=1, exit_price=1, exit_rule="horizon", fees=0,
        net_return=0.002 * label, label=label, available_at=NOW,
    )  # fmt: skip
