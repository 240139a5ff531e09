"""Activation, rollback, fallback and damaged files, with real rows and real files."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from structlog.testing import capture_logs

from model_service.config.clock import SeededIdentifiers, VirtualClock
from model_service.database.connection import Database, DatabaseUnavailable
from model_service.database.halts import PostgresHaltStore
from model_service.database.model_files import ModelFolder
from model_service.database.registry import PostgresRegistry
from model_service.learning.onnx_trees import booster_to_onnx
from model_service.learning.run import train_candidate
from model_service.models.artifact import sha256_of
from model_service.models.features import FEATURE_NAMES
from model_service.models.inputs import ModelInputs
from model_service.models.job import Candidate
from model_service.models.manifest import describe_inputs
from model_service.policies.model import ModelPolicy
from model_service.policies.reasons import Reason, ReasonCode
from model_service.policies.warmup import WarmupPolicy
from model_service.services.errors import NotFound, Refused
from model_service.services.modes import Modes
from model_service.services.operations import ServiceOperations
from model_service.services.roster import StrategyRoster
from tests.support.black_hole import black_hole
from tests.support.builders import NOON, snapshot, strategy
from tests.support.training_rows import imbalance_rows, training_job

NAME = "momentum_v1"


@pytest.fixture(scope="module")
def artifact() -> tuple[Candidate, dict[str, bytes]]:
    """A candidate and its files, made once."""
    job = training_job()
    return train_candidate(job, imbalance_rows(2000, seed=3, assets=3), {}, {}, lambda *_: None)


class House:
    """Registry, files, modes and operations on one database and one folder."""

    def __init__(self, database: Database, folder: Path, artifact: tuple[Candidate, dict[str, bytes]]) -> None:
        self.files = ModelFolder(folder)
        self.files.prepare()
        self.registry = PostgresRegistry(database)
        self.halts = PostgresHaltStore(database)
        self.candidate, self.contents = artifact
        self._identifiers = SeededIdentifiers(1)
        self.strategies = [strategy()]
        self.restart()

    def restart(self) -> None:
        """Modes as a new process would have them before `restore`."""
        self.modes = Modes(StrategyRoster.of(self.strategies), self.registry, self.files, warmup=True)
        unused: Any = None
        self.operations = ServiceOperations(
            self.modes, self.registry, unused, unused, unused, unused, VirtualClock(NOON), self.halts
        )

    async def add(
        self, *, passed: bool = True, strategy_id: str | None = NAME, inputs: ModelInputs | None = None
    ) -> str:
        """One more version with its files and its row; with `inputs`, a stump that reads those."""
        run_id = self._identifiers.new()
        workspace = self.files.workspace(run_id)
        contents = self.contents if inputs is None else {**self.contents, **_stump(self.contents, inputs)}
        for name, content in contents.items():
            (workspace / name).write_bytes(content)
        version = await self.registry.next_version(parent=None)
        path = self.files.publish(run_id, version)
        hashes = {name: sha256_of(content) for name, content in contents.items()}
        feature_set = self.candidate.feature_set if inputs is None else inputs.feature_set
        sizes = {name: len(content) for name, content in contents.items()}
        changes = {"gate_passed": passed, "files": hashes, "file_sizes": sizes, "feature_set": feature_set}
        candidate = self.candidate.model_copy(update=changes)
        await self.registry.add(
            self._identifiers.new(), version, strategy_id, path, candidate,
            parent=None, trained_at=NOON, duration_seconds=1.0,
        )  # fmt: skip
        return version

    async def activate(self, version: str, *, force: bool = False) -> None:
        await self.operations.activate(version, strategy_id=None, force=force, actor="test", reason="test")

    async def speaking(self) -> str | None:
        """The version that decides now, by the policy; the row must agree."""
        policy = self.modes.policy(NAME, NOON)
        row = await self.registry.active(NAME)
        version = policy.version if isinstance(policy, ModelPolicy) else None
        assert version == (row.version if row else None)
        return version


def _stump(contents: dict[str, bytes], inputs: ModelInputs) -> dict[str, bytes]:
    """The two files of a version that depend on what it reads."""
    width = len(inputs.names)
    tree = {
        "left_children": [1, -1, -1], "right_children": [2, -1, -1], "split_indices": [width - 1, 0, 0],
        "split_conditions": [0.0, -1.0, 2.0], "default_left": [0, 0, 0],
    }  # fmt: skip
    booster = {"gradient_booster": {"model": {"trees": [tree]}}, "learner_model_param": {"base_score": "[5E-1]"}}
    graph = booster_to_onnx(json.dumps({"learner": booster}).encode(), width)
    manifest = {**json.loads(contents["manifest.json"]), **describe_inputs(inputs)}
    return {"serving.onnx": graph, "manifest.json": json.dumps(manifest).encode()}


@pytest.fixture
def house(database: Database, tmp_path: Path, artifact: tuple[Candidate, dict[str, bytes]]) -> House:
    """A fresh house."""
    return House(database, tmp_path / "models", artifact)


async def test_activation_changes_mode_policy_row_and_history(house: House, database: Database) -> None:
    await house.modes.restore(NOON)
    assert isinstance(house.modes.policy(NAME, NOON), WarmupPolicy)
    version = await house.add()
    await house.activate(version)
    assert await house.speaking() == version
    assert house.modes.mode(NAME) == "model"
    modes = await database.fetch("SELECT from_mode, to_mode FROM model_service.mode_transitions ORDER BY transition_id")
    assert [tuple(row) for row in modes] == [(None, "warmup"), ("warmup", "model")]
    assert await database.fetchval("SELECT count(*) FROM model_service.audit_log WHERE action = 'activate'") == 1


async def test_a_version_that_failed_the_gate_needs_force_and_it_is_recorded(house: House, database: Database) -> None:
    version = await house.add(passed=False)
    with pytest.raises(Refused, match="gate"):
        await house.activate(version)
    assert await house.speaking() is None
    await house.activate(version, force=True)
    assert await house.speaking() == version
    assert await database.fetchval("SELECT forced FROM model_service.activations") is True


async def test_rollback_brings_the_one_before_and_refuses_when_there_is_none(house: House) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    with pytest.raises(Refused, match="before"):
        await house.operations.rollback(NAME, "test", "nothing there")
    await house.activate(second)
    third = await house.add()
    await house.activate(third)
    assert await house.operations.rollback(NAME, "test", "worse") == second
    assert await house.operations.rollback(NAME, "test", "worse still") == first, "never forward again"
    assert await house.speaking() == first


async def test_damaged_files_are_refused_and_the_present_version_keeps_speaking(house: House) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    path = house.files.folder(second) / "serving.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Refused, match="verify"):
        await house.activate(second)
    assert await house.speaking() == first


async def test_a_start_with_a_damaged_active_version_falls_back_to_the_one_before(house: House) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    await house.activate(second)
    (house.files.folder(second) / "calibration.json").write_bytes(b"{}")
    house.restart()
    await house.modes.restore(NOON)
    assert await house.speaking() == first


async def test_a_version_of_an_older_list_of_features_speaks_on(house: House) -> None:
    """Its features are computed still: another list, in which they stand in another order, takes nothing from it."""
    older = await house.add(inputs=ModelInputs(FEATURE_NAMES[:8][::-1], FEATURE_NAMES[:8], FEATURE_NAMES))
    await house.activate(older)
    house.restart()
    await house.modes.restore(NOON)
    assert await house.speaking() == older
    policy = house.modes.policy(NAME, NOON)
    assert isinstance(policy, ModelPolicy)
    vector = np.zeros(len(FEATURE_NAMES), np.float32)
    assert policy.propose(strategy(), snapshot(), vector, 5.0).model_version == older


async def test_a_version_that_reads_what_nobody_computes_is_refused_by_name(house: House, database: Database) -> None:
    first = await house.add()
    await house.activate(first)
    names = ("moon_phase", "return_1m")
    stranger = await house.add(inputs=ModelInputs(names, (), names))
    with pytest.raises(Refused, match="does not compute moon_phase") as refused:
        await house.activate(stranger, force=True)
    assert refused.value.code == "other_features"
    assert await house.speaking() == first
    await house.registry.activate(NAME, stranger, actor="a program of other features", reason="", forced=True, now=NOON)
    house.restart()
    await house.modes.restore(NOON)
    assert await house.speaking() == first, "as with damaged files, the one before speaks"
    last = "SELECT reason FROM model_service.activations ORDER BY activation_id DESC LIMIT 1"
    assert await database.fetchval(last) == "artifact_incompatible"


async def test_a_start_without_any_intact_version_warms_up(house: House) -> None:
    only = await house.add()
    await house.activate(only)
    (house.files.folder(only) / "serving.onnx").unlink()
    house.restart()
    await house.modes.restore(NOON)
    assert await house.speaking() is None
    assert house.modes.mode(NAME) == "warmup"


async def test_fallback_takes_the_word_from_the_model(house: House) -> None:
    await house.activate(await house.add())
    version = await house.speaking()
    assert version is not None
    assert not await house.modes.fall_back(NAME, "v99", None, "quality_degraded", {"n": 200}, NOON)
    assert await house.speaking() == version, "another version's fall is none of its business"
    assert await house.modes.fall_back(NAME, version, None, "quality_degraded", {"n": 200}, NOON)
    assert await house.speaking() is None
    assert house.modes.mode(NAME) == "warmup"


async def test_pause_survives_a_restart_and_resume_returns_to_the_model(house: House) -> None:
    version = await house.add()
    await house.activate(version)
    await house.operations.pause(NAME, "test", "holiday")
    house.restart()
    await house.modes.restore(NOON)
    assert house.modes.policy(NAME, NOON) == Reason(ReasonCode.PAUSED)
    await house.operations.resume(NAME, "test", "back")
    assert await house.speaking() == version


async def test_a_stop_is_audited_and_the_resumption_of_a_strategy_does_not_end_it(
    house: House, database: Database
) -> None:
    stopped = await house.operations.stop("test", "fire")
    assert await house.halts.open_halts() == [stopped.halt]
    with pytest.raises(Refused, match="A halt of every strategy holds it"):
        await house.operations.resume(NAME, "test", "please")
    await house.operations.resume_all("test", "it is out")
    with pytest.raises(Refused, match="No halt of every strategy holds"):
        await house.operations.resume_all("test", "again")
    rows = await database.fetch("SELECT actor, action, subject, details FROM model_service.audit_log ORDER BY audit_id")
    halt_id = stopped.halt.halt_id
    assert [tuple(row) for row in rows] == [
        ("test", "stop", "every strategy", {"reason": "fire", "halt_id": halt_id, "withdrawn": 0}),
        ("test", "resume", "every strategy", {"reason": "it is out", "halts": [halt_id]}),
    ]


async def test_what_does_not_exist_or_belongs_to_another_is_refused(house: House) -> None:
    with pytest.raises(NotFound):
        await house.activate("v99")
    other = await house.add(strategy_id="someone_else")
    with pytest.raises(Refused, match="someone_else"):
        await house.operations.activate(other, strategy_id=NAME, force=False, actor="test", reason="test")


async def test_two_versions_are_never_active_at_once(house: House, database: Database) -> None:
    import asyncio

    versions = [await house.add() for _ in range(4)]
    await asyncio.gather(
        *(
            house.registry.activate(NAME, version, actor="test", reason="race", forced=False, now=NOON)
            for version in versions
        )
    )
    assert await database.fetchval("SELECT count(*) FROM model_service.model_versions WHERE is_active") == 1
    assert await database.fetchval("SELECT count(*) FROM model_service.activations") == 4


def test_a_run_folder_is_renamed_whole_and_leftovers_are_swept(tmp_path: Path) -> None:
    files = ModelFolder(tmp_path)
    (files.workspace(UUID(int=1)) / "serving.onnx").write_bytes(b"x")
    files.workspace(UUID(int=2))
    assert files.publish(UUID(int=1), "v1") == "/models/v1"
    files.sweep()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1"]


async def test_a_change_whose_answer_was_lost_is_taken_from_the_database(
    database: Database, tmp_path: Path, artifact: tuple[Candidate, dict[str, bytes]]
) -> None:
    async with black_hole(database.address) as hole:
        distant = Database(hole.address)
        await distant.open()
        try:
            house = House(distant, tmp_path / "models", artifact)
            await house.modes.restore(NOON)
            version = await house.add()
            hole.lose_answer_to(b"COMMIT")
            with pytest.raises(DatabaseUnavailable):
                await house.activate(version)
            await house.modes.settle(NOON)
            assert (await house.speaking(), house.modes.mode(NAME)) == (version, "model")
            await house.activate(version)
            hole.lose_answer_to(b"paused")
            with pytest.raises(DatabaseUnavailable):
                await house.operations.pause(NAME, "test", "test")
            await house.modes.settle(NOON)
            assert house.modes.policy(NAME, NOON) == Reason(ReasonCode.PAUSED)
        finally:
            await distant.close()
    assert await database.fetchval("SELECT count(*) FROM model_service.activations") == 1


async def test_a_change_that_did_not_take_effect_is_forgotten(
    database: Database, tmp_path: Path, artifact: tuple[Candidate, dict[str, bytes]]
) -> None:
    async with black_hole(database.address) as hole:
        distant = Database(hole.address)
        await distant.open()
        try:
            house = House(distant, tmp_path / "models", artifact)
            await house.modes.restore(NOON)
            first, second = await house.add(), await house.add()
            await house.activate(first)
            hole.lose_answer_to(b"\x00\x00\x00\x04test")  # the values of the row of history
            with pytest.raises(DatabaseUnavailable):
                await house.activate(second)
            await house.operations.pause(NAME, "test", "the next change begins by reading")
            speaking = house.modes.active(NAME)
            assert speaking is not None
            assert speaking.version == first
        finally:
            await distant.close()


async def test_a_warmup_ends_by_its_duration_counted_over_restarts_and_says_so_once(house: House) -> None:
    house.strategies = [strategy(warmup_duration_hours=2.0)]
    house.restart()
    await house.modes.restore(NOON)
    house.restart()
    await house.modes.restore(NOON + timedelta(hours=1.5))
    just_before, over = NOON + timedelta(hours=1.999), NOON + timedelta(hours=2)
    assert isinstance(house.modes.policy(NAME, just_before), WarmupPolicy)
    with capture_logs() as logs:
        assert house.modes.policy(NAME, over) == Reason(ReasonCode.WARMUP_EXPIRED, 2.0, 2.0)
        later = house.modes.policy(NAME, over + timedelta(hours=1))
    assert later == Reason(ReasonCode.WARMUP_EXPIRED, 3.0, 2.0)
    assert [line["event"] for line in logs] == ["warmup_expired"]


async def test_a_resume_begins_a_new_warmup_and_a_model_is_not_asked_for_its_age(house: House) -> None:
    house.strategies = [strategy(warmup_duration_hours=2.0)]
    house.restart()
    await house.modes.restore(NOON)
    over = NOON + timedelta(hours=5)
    await house.modes.pause(NAME, actor="test", reason="", now=over)
    assert house.modes.policy(NAME, over) == Reason(ReasonCode.PAUSED)
    await house.modes.resume(NAME, actor="test", reason="", now=over)
    assert isinstance(house.modes.policy(NAME, over + timedelta(hours=1)), WarmupPolicy)
    assert isinstance(house.modes.policy(NAME, over + timedelta(hours=2)), Reason)
    await house.activate(await house.add())
    assert isinstance(house.modes.policy(NAME, over + timedelta(hours=90)), ModelPolicy)
