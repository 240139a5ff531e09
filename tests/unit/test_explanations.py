"""Explanations: of what spoke or of a named version, one child at a time, remembered, refused in words."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from model_service.models.job import Explanation, ExplanationJob, Failure, SideExplanation
from model_service.services.errors import NotFound, Refused, Unavailable
from model_service.services.explanations import ExplanationLimits, Explanations, StoredDecision
from model_service.services.ports import ModelVersion
from tests.support.builders import NOON

SIGNAL = UUID(int=1)
DECISION = StoredDecision(
    SIGNAL, "momentum_v1", "BTCUSDT", "buy", "open", NOON, "model", "v1", 0.4, 0.1, 0.5, "f1", ("a", "b"), b"\0" * 8
)


def explanation(version: str) -> Explanation:
    side = SideExplanation(side="buy", total=0, score=0.5, probability=0.5, expected_net_return=0, contributions=[])
    return Explanation(
        version=version, model_type="xgboost", unit="log_odds", method="TreeSHAP", base_value=0.0,
        calibration="sigmoid", break_even=0.5, buy=side, sell=side.model_copy(update={"side": "sell"}),
    )  # fmt: skip


@dataclass
class World:
    """Decisions, versions, files and the child in memory."""

    decisions: dict[UUID, StoredDecision] = field(default_factory=lambda: {SIGNAL: DECISION})
    versions: tuple[str, ...] = ("v1", "v2")
    failure: Failure | None = None
    hold: asyncio.Event | None = None
    jobs: list[ExplanationJob] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0

    async def decision(self, decision_id: UUID) -> StoredDecision | None:
        return self.decisions.get(decision_id)

    async def get(self, version: str) -> ModelVersion | None:
        if version not in self.versions:
            return None
        return ModelVersion(UUID(int=9), version, "momentum_v1", "f1", {"model.json": "00"}, True, False, NOON, 0, 0.8)

    def folder(self, version: str) -> Path:
        return Path("models") / version

    async def explain(self, job: ExplanationJob) -> Explanation | Failure:
        self.jobs.append(job)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        try:
            if self.hold is not None:
                await self.hold.wait()
            await asyncio.sleep(0)
            return self.failure or explanation(job.version)
        finally:
            self.at_work -= 1


def explanations(world: World, **limits: Any) -> Explanations:
    fake: Any = world
    return Explanations(fake, fake, fake, fake, ExplanationLimits(**limits))


async def test_the_version_that_spoke_is_asked_with_the_stored_bytes() -> None:
    world = World()
    found = await explanations(world).explain(SIGNAL)
    assert (found.decision, found.explanation.version) == (DECISION, "v1")
    (job,) = world.jobs
    assert (job.directory, job.files, job.feature_names, job.features) == (
        "models/v1", {"model.json": "00"}, ("a", "b"), "00" * 8,
    )  # fmt: skip


async def test_another_version_may_be_asked() -> None:
    assert (await explanations(World()).explain(SIGNAL, "v2")).explanation.version == "v2"


@pytest.mark.parametrize(("policy", "word"), [("warmup", "warm-up"), ("exit", "barriers"), ("other", "policy other")])
async def test_what_no_model_decided_is_refused_with_the_reason_and_explained_by_a_named_version(
    policy: str, word: str
) -> None:
    world = World({SIGNAL: replace(DECISION, policy=policy, model_version=None)})
    with pytest.raises(Refused, match=word) as refused:
        await explanations(world).explain(SIGNAL)
    assert (refused.value.code, refused.value.kind) == ("no_model", "conflict")
    assert (await explanations(world).explain(SIGNAL, "v2")).explanation.version == "v2"


async def test_what_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound, match="no stored draw"):
        await explanations(World()).explain(UUID(int=2))
    with pytest.raises(NotFound, match="no version v9"):
        await explanations(World()).explain(SIGNAL, "v9")


@pytest.mark.parametrize("changes", [{"feature_names": None}, {"features": b"\0" * 12}])
async def test_features_that_nobody_can_read_are_refused(changes: dict[str, Any]) -> None:
    world = World({SIGNAL: replace(DECISION, **changes)})
    with pytest.raises(Refused, match="unknown set f1"):
        await explanations(world).explain(SIGNAL)
    assert world.jobs == []


async def test_damaged_files_are_a_conflict_and_a_broken_child_can_be_asked_again() -> None:
    world = World(failure=Failure(code="artifact_damaged", hint="v1/model.json: sha256 is other"))
    asked = explanations(world)
    with pytest.raises(Refused, match="do not verify") as refused:
        await asked.explain(SIGNAL)
    assert refused.value.kind == "conflict"
    world.failure = Failure(code="timeout", hint="over 20 s")
    with pytest.raises(Unavailable, match="over 20 s") as away:
        await asked.explain(SIGNAL)
    assert away.value.code == "explanation_timeout"
    world.failure = None
    assert (await asked.explain(SIGNAL)).explanation.version == "v1"


async def test_an_answer_is_remembered_and_the_oldest_is_forgotten() -> None:
    world = World()
    asked = explanations(world, most_kept=2)
    world.decisions[UUID(int=2)] = replace(DECISION, decision_id=UUID(int=2))
    for _ in range(2):
        await asked.explain(SIGNAL)
        await asked.explain(SIGNAL, "v2")
    assert len(world.jobs) == 2
    await asked.explain(SIGNAL)  # now v2 was asked for longest ago
    await asked.explain(UUID(int=2))
    await asked.explain(SIGNAL)
    assert len(world.jobs) == 3
    await asked.explain(SIGNAL, "v2")
    assert len(world.jobs) == 4


async def test_one_child_at_a_time_and_one_for_those_who_ask_the_same() -> None:
    world = World(hold=asyncio.Event())
    assert world.hold is not None
    asked = explanations(world, most_waiting=10)
    tasks = [asyncio.create_task(asked.explain(SIGNAL, version)) for version in ("v1", "v1", "v2", "v1")]
    while not world.jobs:
        await asyncio.sleep(0)
    world.hold.set()
    found = await asyncio.gather(*tasks)
    assert [item.explanation.version for item in found] == ["v1", "v1", "v2", "v1"]
    assert [job.version for job in world.jobs] == ["v1", "v2"]
    assert world.most_at_work == 1


async def test_too_many_are_sent_away_at_once_and_no_one_waits_for_ever() -> None:
    world = World(hold=asyncio.Event())
    asked = explanations(world, most_waiting=1, longest_wait_seconds=0.01)
    first = asyncio.create_task(asked.explain(SIGNAL))
    while not world.jobs:
        await asyncio.sleep(0)
    second = asyncio.create_task(asked.explain(SIGNAL, "v2"))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="1 others wait") as busy:
        await asked.explain(SIGNAL, "v2")
    assert busy.value.code == "explanations_busy"
    with pytest.raises(Unavailable, match=r"took over 0\.01 s"):
        await second
    first.cancel()
    await asyncio.wait({first})
    world.hold = None
    assert (await asked.explain(SIGNAL)).explanation.version == "v1", "a request that was given up frees its place"
