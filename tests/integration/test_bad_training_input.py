"""Rows and machines that allow no model: a run with cause and hint, no version, no change of what is active."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from model_service.config.clock import SeededIdentifiers
from model_service.database.connection import Database
from model_service.database.model_files import ModelFolder
from model_service.database.registry import PostgresRegistry
from model_service.database.training_runs import PostgresTrainingStore
from model_service.database.version_files import PostgresVersionFiles
from model_service.learning.run import train_candidate
from model_service.models.job import Candidate, DatabaseCoordinates, TrainingJob
from model_service.services.modes import Modes
from model_service.services.retention import Retention
from model_service.services.roster import StrategyRoster
from model_service.services.training import TrainingLimits, TrainingService
from model_service.training_process import ChildLauncher, ChildProcess
from tests.integration.test_training_worker import PASSWORD, store
from tests.support.builders import NOON
from tests.support.training_rows import STEP_US, imbalance_rows, training_job, training_strategy

Rows = NDArray[np.void]
STRATEGY = "planted"
MORE_ROWS = """
    INSERT INTO model_service.samples
    SELECT gen_random_uuid(), revision, strategy_id, asset_code, feature_set, side, intent, is_warmup, model_version,
           decided_us + copy, exit_us, available_us, label, exit_rule, net_return, probability_buy, probability_sell,
           probability_none, features, opposite_net_return
    FROM model_service.samples, generate_series(1, $1::integer) AS copy
"""
WEEK_US = 7 * 86_400 * 1_000_000


class WatchedLauncher:
    """Starts real children; `harm` is done to each right after."""

    def __init__(self, harm: Callable[[ChildProcess], Any]) -> None:
        self._harm = harm

    async def launch(self, job: TrainingJob) -> ChildProcess:
        child = await ChildLauncher().launch(job)
        self._harm(child)
        return child


@dataclass
class House:
    """A strategy with an active version, and everything real that a run needs."""

    database: Database
    files: ModelFolder
    registry: PostgresRegistry
    modes: Modes
    active: str

    def training(self, harm: Callable[[ChildProcess], Any] = lambda _: None) -> TrainingService:
        at = self.database.address
        coordinates = DatabaseCoordinates(
            host=at.host, port=at.port, database=at.database, user=at.user, password=PASSWORD, schema_name=at.schema
        )
        return TrainingService(
            PostgresTrainingStore(self.database), self.registry, self.files, WatchedLauncher(harm), self.modes,
            SeededIdentifiers(2), TrainingLimits(coordinates, threads=1, max_duration_seconds=60.0),
            Retention(PostgresVersionFiles(self.database), self.files, 100),
        )  # fmt: skip


@pytest.fixture(scope="module")
def artifact() -> tuple[Candidate, dict[str, bytes]]:
    """The version that speaks meanwhile, made once."""
    return train_candidate(training_job(), imbalance_rows(1500, seed=3, assets=3), {}, {}, lambda *_: None)


@pytest.fixture
async def house(database: Database, tmp_path: Path, artifact: tuple[Candidate, dict[str, bytes]]) -> House:
    candidate, contents = artifact
    files, registry = ModelFolder(tmp_path), PostgresRegistry(database)
    files.prepare()
    modes = Modes(StrategyRoster.of([training_strategy()]), registry, files, warmup=True)
    run_id = UUID(int=1)
    workspace = files.workspace(run_id)
    for name, content in contents.items():
        (workspace / name).write_bytes(content)
    version = await registry.next_version(parent=None)
    path = files.publish(run_id, version)
    await registry.add(
        UUID(int=2), version, STRATEGY, path, candidate, parent=None, trained_at=NOON, duration_seconds=1.0
    )
    row = await registry.get(version)
    assert row is not None
    await modes.activate(STRATEGY, row, actor="test", reason="test", forced=True, now=NOON)
    return House(database, files, registry, modes, version)


async def ended(house: House, training: TrainingService) -> dict[str, Any]:
    """Request a run and let it come to its end; what its row says then."""
    run_id, _ = await training.request(STRATEGY, "full", "manual", "test", datetime.now(UTC))
    async with asyncio.timeout(60):
        await training.step(datetime.now(UTC))
        while (current := training.current) is not None:
            await asyncio.wait({current.verdict}, timeout=0.2)
            await training.step(datetime.now(UTC))
    row = await house.database.fetchrow("SELECT * FROM model_service.training_runs WHERE run_id = $1", run_id)
    assert row is not None
    return dict(row)


async def versions(house: House) -> list[str]:
    rows = await house.database.fetch("SELECT version FROM model_service.model_versions ORDER BY version")
    return [row["version"] for row in rows]


async def assert_nothing_came_of_it(house: House, run: dict[str, Any], state: str, code: str) -> None:
    assert (run["state"], run["error_code"]) == (state, code), run
    assert len(run["error_hint"]) > 20, "a person reads what was found and what to do"
    assert run["version"] is None
    await assert_the_same_speaks(house)
    assert await versions(house) == [house.active]


async def assert_the_same_speaks(house: House) -> None:
    row = await house.registry.active(STRATEGY)
    assert row is not None
    assert row.version == house.active
    assert house.modes.policy(STRATEGY, NOON).version == house.active  # type: ignore[union-attr]
    assert not [path for path in house.files.root.iterdir() if path.name.startswith(".run-")]


def coin_rows(count: int = 1500, seed: int = 5) -> Rows:
    """Rows without an edge, so that a model made of them is judged and must not pass."""
    rows = imbalance_rows(count, seed=seed, drift=0.0)
    rows["net_return"] += 0.0004
    rows["label"] = rows["net_return"] > 0
    return rows


def only_losses() -> Rows:
    rows = coin_rows()
    rows["net_return"] = -0.01
    rows["label"] = 0
    return rows


def few_hours() -> Rows:
    rows = coin_rows()
    rows["decided_us"] = rows["decided_us"][0] + 1000 * np.arange(len(rows))
    rows["exit_us"] = rows["decided_us"] + 300_000_000
    return rows


def clock_stepped_back() -> Rows:
    rows = coin_rows()
    rows["exit_us"] = rows["decided_us"] - 3_600_000_000
    return rows


@pytest.mark.parametrize(
    ("rows", "code"),
    [(only_losses, "one_class"), (few_hours, "span_too_short"), (clock_stepped_back, "too_few_rows")],
)
async def test_rows_that_allow_no_model_are_refused(house: House, rows: Callable[[], Rows], code: str) -> None:
    await store(house.database, rows())
    run = await ended(house, house.training())
    await assert_nothing_came_of_it(house, run, "refused", code)
    assert run["dataset_report"]["rows"] >= 0


async def test_labels_of_the_future_do_not_exist_yet(house: House) -> None:
    await store(house.database, coin_rows(), available_us=round(datetime.now(UTC).timestamp() * 1e6) + WEEK_US)
    run = await ended(house, house.training())
    await assert_nothing_came_of_it(house, run, "refused", "too_few_rows")
    assert run["dataset_report"]["dropped"] == {"not_yet_known": 1500}


def constant_features() -> Rows:
    rows = coin_rows()
    rows["features"] = 1.0
    return rows


def unknown_features() -> Rows:
    rows = coin_rows()
    rows["features"] = np.nan
    return rows


def duplicates() -> Rows:
    rows = coin_rows()
    for name in ("features", "side", "label", "net_return", "opposite_net_return"):
        rows[name] = np.repeat(rows[name][::10], 10, axis=0)
    return rows


def outliers() -> Rows:
    rows = coin_rows()
    rows["features"][::7] = 1e30
    rows["features"][3::7] = -1e30
    return rows


def gaps_of_weeks() -> Rows:
    rows = coin_rows()
    weeks = WEEK_US * (np.arange(len(rows)) // 300)
    rows["decided_us"] += weeks
    rows["exit_us"] += weeks
    return rows


def every_outcome_at_one_moment() -> Rows:
    rows = coin_rows()
    rows["decided_us"] = rows["decided_us"][0] + 20 * STEP_US * (np.arange(len(rows)) // 20)
    rows["exit_us"] = rows["decided_us"] + 300_000_000
    return rows


@pytest.mark.parametrize(
    "rows",
    [constant_features, unknown_features, duplicates, outliers, gaps_of_weeks, every_outcome_at_one_moment],
)
async def test_rows_without_meaning_give_a_candidate_that_is_judged_and_stays_silent(
    house: House, rows: Callable[[], Rows]
) -> None:
    await store(house.database, rows())
    run = await ended(house, house.training())
    assert (run["state"], run["error_code"]) == ("rejected", None), run
    assert any(not condition["passed"] for condition in run["gate"])
    await assert_the_same_speaks(house)


async def test_a_killed_child_is_a_failure_with_a_hint(house: House) -> None:
    await store(house.database, coin_rows())
    run = await ended(house, house.training(lambda child: os.kill(child.pid, signal.SIGKILL)))
    await assert_nothing_came_of_it(house, run, "failed", "killed")


async def test_a_child_without_memory_says_so(house: House) -> None:
    """Address space is what a test can take away: the kernel's own killer is `killed` above."""
    await store(house.database, coin_rows())
    await house.database.execute(MORE_ROWS, 100)
    limit = 370 * 2**20
    training = house.training(lambda child: resource.prlimit(child.pid, resource.RLIMIT_AS, (limit, limit)))
    run = await ended(house, training)
    await assert_nothing_came_of_it(house, run, "failed", "out_of_memory")
