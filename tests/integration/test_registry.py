"""The registry on real PostgreSQL and real files: numbers, races, general models, sweeping, retention, verification."""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from model_service.config.clock import VirtualClock
from model_service.database.connection import Database
from model_service.database.registry import PostgresRegistry
from model_service.database.version_files import PostgresVersionFiles
from model_service.models.artifact import ArtifactDamaged
from model_service.policies.model import ModelPolicy
from model_service.policies.warmup import WarmupPolicy
from model_service.services.errors import Refused, Unavailable
from model_service.services.modes import Modes
from model_service.services.operations import ServiceOperations
from model_service.services.ports import NOBODY, ActiveVersionChanged, NothingToActivate, VersionTaken
from model_service.services.retention import Retention
from model_service.services.roster import StrategyRoster
from model_service.services.version_files import VersionFiles
from tests.integration import test_modes
from tests.integration.test_modes import NAME, House
from tests.support.builders import NOON, strategy

artifact, house = test_modes.artifact, test_modes.house
"""Its fixtures."""

HISTORY = "SELECT version, previous_version FROM model_service.activations ORDER BY activation_id"


def keeper(house: House, database: Database, keep: int = 100) -> VersionFiles:
    records = PostgresVersionFiles(database)
    return VersionFiles(records, house.registry, house.files, Retention(records, house.files, keep))


async def active_versions(database: Database) -> list[str]:
    rows = await database.fetch("SELECT version FROM model_service.model_versions WHERE is_active ORDER BY version")
    return [row["version"] for row in rows]


# -- numbers


async def test_numbers_are_given_out_once_also_by_two_at_once(house: House, database: Database) -> None:
    others = [PostgresRegistry(database) for _ in range(4)]
    full = await asyncio.gather(*(one.next_version(parent=None) for one in others for _ in range(5)))
    increments = await asyncio.gather(*(one.next_version(parent="v1.3") for one in others for _ in range(5)))
    assert sorted(full, key=lambda name: int(name[1:])) == [f"v{number}" for number in range(1, 21)]
    assert sorted(increments, key=lambda name: int(name[3:])) == [f"v1.{number}" for number in range(1, 21)]


async def test_a_folder_of_somebody_else_is_never_replaced(house: House) -> None:
    run_id = house._identifiers.new()
    (house.files.workspace(run_id) / "serving.onnx").write_bytes(b"ours")
    (house.files.folder("v1")).mkdir()
    (house.files.folder("v1") / "serving.onnx").write_bytes(b"theirs")
    with pytest.raises(VersionTaken):
        house.files.publish(run_id, "v1")
    assert (house.files.folder("v1") / "serving.onnx").read_bytes() == b"theirs"
    house.files.publish(run_id, "v2")
    assert house.files.publish(run_id, "v2") == "/models/v2", "a second time changes nothing"


# -- races


async def test_of_many_who_expect_the_same_version_one_wins_and_the_others_hear_which(
    house: House, database: Database
) -> None:
    first, *rivals = [await house.add() for _ in range(9)]
    await house.registry.activate(NAME, first, actor="test", reason="", forced=False, now=NOON)
    processes = [PostgresRegistry(database) for _ in rivals]
    answers = await asyncio.gather(
        *(
            process.activate(NAME, rival, actor=rival, reason="race", forced=False, now=NOON, expected=first)
            for process, rival in zip(processes, rivals, strict=True)
        ),
        return_exceptions=True,
    )
    winners = [rival for rival, answer in zip(rivals, answers, strict=True) if answer is None]
    losers = [answer for answer in answers if answer is not None]
    assert len(winners) == 1
    assert all(isinstance(loser, ActiveVersionChanged) and loser.active == winners[0] for loser in losers)
    assert await active_versions(database) == winners
    assert [tuple(row) for row in await database.fetch(HISTORY)] == [(first, None), (winners[0], first)]


async def test_two_people_at_two_processes_get_one_yes_and_one_409_with_the_truth(
    house: House, database: Database
) -> None:
    first, second, third = [await house.add() for _ in range(3)]
    await house.activate(first)
    unused: Any = None
    other = Modes(StrategyRoster.of(house.strategies), house.registry, house.files, warmup=True)
    await other.restore(NOON)
    elsewhere = ServiceOperations(
        other, house.registry, unused, unused, unused, unused, VirtualClock(NOON), house.halts
    )
    answers = await asyncio.gather(
        house.operations.activate(second, strategy_id=None, force=False, actor="a", reason="a", expected=first),
        elsewhere.activate(third, strategy_id=None, force=False, actor="b", reason="b", expected=first),
        return_exceptions=True,
    )
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    (winner,) = await active_versions(database)
    assert len(refused) == 1
    assert (refused[0].code, refused[0].kind) == ("active_version_changed", "conflict")
    assert refused[0].details == {"expected_version": first, "active_version": winner}
    for modes in (house.modes, other):
        await modes.settle(NOON)
    # Whoever lost has taken up what won; the winner's own process knew all along.
    loser = other if winner == second else house.modes
    speaking = loser.active(NAME)
    assert speaking is not None
    assert speaking.version == winner


async def test_a_rollback_never_goes_two_steps_for_two_who_saw_the_same(house: House, database: Database) -> None:
    versions = [await house.add() for _ in range(3)]
    for version in versions:
        await house.activate(version)
    answers = await asyncio.gather(
        *(house.operations.rollback(NAME, "test", "worse", expected=versions[2]) for _ in range(2)),
        return_exceptions=True,
    )
    done = [answer for answer in answers if isinstance(answer, str)]
    assert set(done) == {versions[1]}
    assert await active_versions(database) == [versions[1]]
    with pytest.raises(Refused) as refused:
        await house.operations.rollback(NAME, "test", "too late", expected=versions[2])
    assert refused.value.details == {"expected_version": versions[2], "active_version": versions[1]}


async def test_nobody_can_be_expected(house: House) -> None:
    first, second = await house.add(), await house.add()
    await house.operations.activate(first, strategy_id=None, force=False, actor="", reason="", expected=NOBODY)
    with pytest.raises(Refused, match=f"{first} is active"):
        await house.operations.activate(second, strategy_id=None, force=False, actor="", reason="", expected=NOBODY)
    # Asking again for what is done is no conflict: the first answer may have been lost.
    await house.operations.activate(first, strategy_id=None, force=False, actor="", reason="", expected=NOBODY)
    assert await house.speaking() == first


# -- rollback to a version


async def test_a_rollback_to_any_version_of_the_strategy(house: House) -> None:
    versions = [await house.add() for _ in range(4)]
    for version in versions:
        await house.activate(version)
    assert await house.operations.rollback(NAME, "test", "far back", to=versions[0]) == versions[0]
    assert await house.speaking() == versions[0]
    with pytest.raises(Refused, match="speaks already"):
        await house.operations.rollback(NAME, "test", "again", to=versions[0])
    stranger = await house.add(strategy_id="someone_else")
    with pytest.raises(Refused, match="was made for someone_else"):
        await house.operations.rollback(NAME, "test", "", to=stranger)
    rejected = await house.add(passed=False)
    with pytest.raises(Refused, match="has not passed"):
        await house.operations.rollback(NAME, "test", "", to=rejected)
    await house.activate(rejected, force=True)
    await house.activate(versions[1])
    assert await house.operations.rollback(NAME, "test", "it has spoken", to=rejected) == rejected


async def test_a_rollback_to_damaged_files_is_refused_and_says_what_to_do(house: House, database: Database) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    await house.activate(second)
    (house.files.folder(first) / "test_predictions.npz").write_bytes(b"not what was judged")
    for to in (None, first):
        with pytest.raises(Refused, match="choose another version, or train a new one") as refused:
            await house.operations.rollback(NAME, "test", "worse", to=to)
        assert refused.value.code == "artifact_damaged"
    assert await house.speaking() == second
    assert len(await database.fetch(HISTORY)) == 2


# -- general models


async def test_one_general_model_is_active_and_speaks_where_no_version_does(house: House, database: Database) -> None:
    house.strategies = [strategy(), strategy(strategy_id="momentum_v2")]
    house.restart()
    await house.modes.restore(NOON)
    own = await house.add()
    general = [await house.add(strategy_id=None) for _ in range(2)]
    await house.activate(own)
    for version in general:
        await house.operations.activate(version, strategy_id=None, force=False, actor="test", reason="test")
    assert await active_versions(database) == sorted([own, general[1]]), "one of the strategy, one general"
    assert [tuple(row) for row in await database.fetch(HISTORY)] == [
        (own, None), (general[0], None), (general[1], general[0]),
    ]  # fmt: skip
    spoken = [house.modes.policy(name, NOON) for name in (NAME, "momentum_v2")]
    assert [policy.version for policy in spoken if isinstance(policy, ModelPolicy)] == [own, general[1]]
    with pytest.raises(Refused, match="leave strategy_id out") as refused:
        await house.operations.activate(general[0], strategy_id=NAME, force=False, actor="test", reason="test")
    assert refused.value.code == "general_version"
    with pytest.raises(Exception, match="model_versions_one_active"):
        await database.execute(
            "UPDATE model_service.model_versions SET is_active = true WHERE version = $1", general[0]
        )


async def test_a_version_of_one_strategy_is_never_made_active_for_another(house: House, database: Database) -> None:
    own, stranger = await house.add(), await house.add(strategy_id="someone_else")
    await house.activate(own)
    with pytest.raises(NothingToActivate):
        await house.registry.activate(NAME, stranger, actor="", reason="", forced=True, now=NOON)
    assert await active_versions(database) == [own], "and the one before was not taken away"


# -- what a start finds


async def test_a_start_sweeps_what_no_row_names_and_nothing_else(house: House, database: Database) -> None:
    named, missing = await house.add(), await house.add()
    orphan = await house.registry.next_version(parent=None)
    increment = await house.registry.next_version(parent=named)
    for left in (orphan, increment, "v4000", "notes"):
        house.files.folder(left).mkdir()
    shutil.rmtree(house.files.folder(missing))
    (house.files.root / ".run-0000").mkdir()
    (house.files.root / ".removed-v9").mkdir()
    house.files.sweep()
    with capture_logs() as logs:
        await keeper(house, database).take_stock(NOON)
    remaining = sorted(path.name for path in house.files.root.iterdir())
    assert remaining == sorted([named, "v4000", "notes"]), "v4000 is not ours: its number was never given out"
    said = {line["event"]: line["versions"] for line in logs}
    assert said == {
        "version_folders_swept": sorted([orphan, increment]),
        "version_folders_foreign": ["v4000"],
        "version_files_missing": [missing],
    }


async def test_a_start_beside_a_registration_sweeps_nothing_of_it(house: House, database: Database) -> None:
    version = await house.registry.next_version(parent=None)
    stock = keeper(house, database)
    async with house.registry.registering():
        house.files.folder(version).mkdir()
        sweeping = asyncio.create_task(stock.take_stock(NOON))
        done, _ = await asyncio.wait({sweeping}, timeout=0.3)
        assert not done, "it waits until the row is there"
        await house.registry.add(
            house._identifiers.new(), version, NAME, f"/models/{version}", house.candidate,
            parent=None, trained_at=NOON, duration_seconds=1.0,
        )  # fmt: skip
    await sweeping
    assert house.files.folder(version).is_dir()


async def test_a_model_folder_that_is_away_takes_the_word_from_nobody_for_good(
    house: House, database: Database
) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    away = house.files.root.rename(house.files.root.with_name("unmounted"))
    house.files.prepare()
    with pytest.raises(Unavailable, match="mounted") as refused:
        await house.activate(second)
    assert refused.value.code == "model_folder_unreachable"
    house.restart()
    await house.modes.restore(NOON)
    assert isinstance(house.modes.policy(NAME, NOON), WarmupPolicy)
    assert await active_versions(database) == [first]
    assert len(await database.fetch(HISTORY)) == 1, "no row is written for what may come back"
    with pytest.raises(Unavailable):
        await keeper(house, database).verify(first)
    house.files.root.rmdir()
    away.rename(house.files.root)
    house.restart()
    await house.modes.restore(NOON)
    assert await house.speaking() == first


# -- verification


async def test_a_verification_names_the_file_its_bytes_and_its_hash(house: House, database: Database) -> None:
    stock, version = keeper(house, database), await house.add()
    assert (await stock.verify(version)).state == "intact"
    folder = house.files.folder(version)
    content = (folder / "model.json").read_bytes()
    (folder / "model.json").write_bytes(content[:-1])
    (folder / "calibration.json").unlink()
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    found = await stock.verify(version)
    assert found.state == "damaged"
    faults = "; ".join(found.faults)
    assert f"model.json has {len(content) - 1} bytes" in faults
    assert f"the record says {len(content)}" in faults
    assert house.candidate.files.get("model.json", "") in faults
    assert "calibration.json is missing" in faults
    assert "manifest.json cannot be read: Is a directory" in faults
    assert Counter(one.state for one in found.files)["intact"] == len(found.files) - 3


# -- retention


async def test_old_files_go_the_rows_stay_and_activation_is_refused(house: House, database: Database) -> None:
    versions = []
    for number in range(6):
        versions.append(await house.add())
        await database.execute(
            "UPDATE model_service.model_versions SET trained_at = $2 WHERE version = $1",
            versions[-1], NOON + timedelta(minutes=number),
        )  # fmt: skip
    await house.activate(versions[1])
    stock = keeper(house, database, keep=2)
    await stock.take_stock(NOON)
    left = sorted(path.name for path in house.files.root.iterdir() if path.name.startswith("v"))
    assert left == sorted([versions[1], *versions[4:]]), "the newest, and what speaks"
    marked = "SELECT version FROM model_service.model_versions WHERE files_removed_at = $1"
    removed = await database.fetch(marked, NOON)
    assert sorted(row["version"] for row in removed) == sorted([versions[0], *versions[2:4]])
    with pytest.raises(Refused, match="MODEL_RETENTION_VERSIONS") as refused:
        await house.activate(versions[0])
    assert refused.value.code == "files_removed"
    assert (await stock.verify(versions[0])).state == "removed"
    assert await house.speaking() == versions[1]
    with pytest.raises(Exception, match="model_versions_active_has_files"):
        await database.execute(
            "UPDATE model_service.model_versions SET is_active = true WHERE version = $1", versions[0]
        )


async def test_retention_and_activation_at_once_never_leave_an_active_version_without_files(
    house: House, database: Database
) -> None:
    for _ in range(5):
        old, new = await house.add(), await house.add()
        records = PostgresVersionFiles(database)
        marked, _ = await asyncio.gather(
            records.mark_removed(NAME, old, NOON),
            house.registry.activate(NAME, old, actor="", reason="", forced=False, now=NOON),
            return_exceptions=True,
        )
        assert marked is (await active_versions(database) != [old])
        await house.registry.activate(NAME, new, actor="", reason="", forced=False, now=NOON)


# -- damage


async def test_any_flipped_bit_of_any_file_is_refused_and_the_version_before_keeps_serving(house: House) -> None:
    first, second = await house.add(), await house.add()
    await house.activate(first)
    row = await house.registry.get(second)
    assert row is not None
    for name in sorted(row.files):
        path = house.files.folder(second) / name
        content = path.read_bytes()
        # Both ends, and thirty places between, each with another bit.
        places = sorted({0, len(content) - 1, *range(0, len(content), max(1, len(content) // 30))})
        for bit, place in enumerate(places):
            changed = bytearray(content)
            changed[place] ^= 1 << (bit % 8)
            path.write_bytes(bytes(changed))
            with pytest.raises(ArtifactDamaged):
                house.files.load(second, row.files)
        with pytest.raises(Refused, match="verify"):
            await house.activate(second)
        assert await house.speaking() == first
        path.write_bytes(content)
    await house.activate(second)
    assert await house.speaking() == second
