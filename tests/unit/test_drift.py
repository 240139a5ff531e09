"""PSI and KS of features against the training rows; who is asked for a run, and how often."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from model_service.models.drift import (
    MANIFEST_ENTRY,
    DriftReport,
    FeatureDrift,
    drift_of,
    effective_rows,
    from_manifest,
    reference_of,
    to_manifest,
)
from model_service.models.features import FEATURE_NAMES
from model_service.services.drift import DriftLimits, DriftWatch, RecentDecisions
from model_service.services.ports import ModelVersion, TrainingRun
from model_service.services.roster import StrategyRoster
from tests.support.builders import NOON, strategy
from tests.unit.test_quality import VERSION

NAMES = ("a", "b")


def rows(count: int, seed: int, *, shift: float = 0.0) -> np.ndarray[Any, np.dtype[np.float32]]:
    found = np.random.default_rng(seed).standard_normal((count, 2)).astype(np.float32)
    found[:, 1] += shift
    return found


def of(before: Any, after: Any, weights: Any = None) -> dict[str, FeatureDrift]:
    references = from_manifest({MANIFEST_ENTRY: to_manifest(NAMES, before)})
    given = np.ones(len(after)) if weights is None else weights
    return {one.feature: one for one in drift_of(references, NAMES, after, given)}


def test_by_hand() -> None:
    before = np.array([[value, 0.0] for value in range(1, 11)], dtype=np.float32)
    after = np.array([[1.0, 0.0]] * 5 + [[10.0, 0.0]] * 5, dtype=np.float32)
    found = of(before, after)["a"]
    tenth, least = 0.1, 1e-4
    moved = 2 * (0.5 - tenth) * math.log(0.5 / tenth) + 8 * (least - tenth) * math.log(least / tenth)
    assert found.psi == pytest.approx(moved, rel=1e-3)
    assert found.ks == pytest.approx(0.4)


def test_what_has_not_moved_is_near_nothing_and_what_has_stands_first() -> None:
    before = rows(20_000, 1)
    calm = of(before, rows(5_000, 2))
    assert all(one.psi < 0.01 for one in calm.values())
    moved = drift_of(
        from_manifest({MANIFEST_ENTRY: to_manifest(NAMES, before)}), NAMES, rows(5_000, 2, shift=1.0), np.ones(5_000)
    )
    assert [one.feature for one in moved] == ["b", "a"]
    # Between two normal distributions of unit variance a mean apart: 1 for the whole, a little less in ten bins.
    assert 0.8 < moved[0].psi < 1.0
    assert moved[0].ks == pytest.approx(0.38, abs=0.02)


def test_unknown_values_are_a_bin_of_their_own() -> None:
    after = rows(5_000, 2)
    after[:1000, 0] = math.nan
    found = of(rows(20_000, 1), after)["a"]
    assert found.unknown_share == 0.2
    assert found.reference_unknown_share == 0.0
    assert found.psi > 1.0
    assert found.ks < 0.03, "the known ones have not moved"


@pytest.mark.parametrize("value", [0.0, 7.0, math.nan])
def test_a_feature_with_one_value_has_no_drift_until_it_changes(value: float) -> None:
    before = np.full((1000, 2), value, dtype=np.float32)
    assert of(before, before)["a"].psi == 0.0
    assert of(before, rows(1000, 1))["a"].psi > 0.0 or not math.isnan(value)


def test_a_draw_that_stands_for_ten_counts_as_ten() -> None:
    before, after = rows(20_000, 1), rows(4_000, 3)
    kept = np.concatenate((after[:400], after[400:][::10]))
    high = after[:, 0] > 0
    thin = np.concatenate((after[high], after[~high][::10]))
    weights = np.concatenate((np.ones(int(high.sum())), np.full(len(after[~high][::10]), 10.0)))
    assert of(before, thin)["a"].psi > 0.5, "as they are, rare rows of one kind look like a drift"
    assert of(before, thin, weights)["a"].psi < 0.05
    assert len(kept) == 760


def test_effective_rows() -> None:
    assert effective_rows(np.ones(50)) == 50
    assert effective_rows(np.array([])) == 0
    assert effective_rows(np.array([100.0] + [1.0] * 100)) == 3


def test_a_manifest_without_quantiles_has_none() -> None:
    assert from_manifest({}) == {}
    assert from_manifest({MANIFEST_ENTRY: "?"}) == {}
    one = reference_of(np.arange(100, dtype=np.float32))
    assert len(one.edges) == 9
    assert sum(one.shares) == pytest.approx(1.0)


def test_the_calendar_goes_round_by_itself() -> None:
    features = [FeatureDrift("day_of_week_sin", 9.0, 1.0, 0, 0), FeatureDrift("spread_percent", 0.4, 0.2, 0, 0)]
    farthest = DriftReport("v1", NOON, 900, features).farthest
    assert farthest is not None
    assert farthest.feature == "spread_percent"


@dataclass
class FakeWorld:
    """Modes, decisions and training as the watch sees them."""

    features: Any
    manifest: dict[str, Any]
    active_version: ModelVersion = VERSION
    new: int = 1_000
    last: TrainingRun | None = None
    asked: list[tuple[str, str]] = field(default_factory=list)
    reads: int = 0

    def active(self, strategy_id: str) -> ModelVersion:
        return self.active_version

    def model(self, strategy_id: str) -> Any:
        return self

    async def count_since(self, strategy_id: str, since: datetime, most: int) -> int:
        return self.new

    async def recent_decisions(self, strategy_id: str, since: datetime, limit: int) -> RecentDecisions:
        self.reads += 1
        return RecentDecisions(self.features, np.ones(len(self.features)), NOON)

    async def last_run(self, strategy_id: str) -> TrainingRun | None:
        return self.last

    async def request(self, strategy_id: str, training_type: str, trigger: str, reason: str, now: datetime) -> None:
        self.asked.append((trigger, reason))
        fake: Any = None
        self.last = TrainingRun(fake, strategy_id, "full", "drift", "requested", now, 0)


def vectors(seed: int, *, shift: float = 0.0, count: int = 800) -> Any:
    found = np.random.default_rng(seed).standard_normal((count, len(FEATURE_NAMES))).astype(np.float32)
    found[:, FEATURE_NAMES.index("spread_percent")] += shift
    return found


def watch(world: FakeWorld, threshold: float | None = 0.5) -> DriftWatch:
    fakes: Any = world
    return DriftWatch(StrategyRoster.of([strategy()]), fakes, fakes, fakes, fakes, DriftLimits(threshold=threshold))


def world(*, shift: float = 0.0, count: int = 800) -> FakeWorld:
    manifest = {MANIFEST_ENTRY: to_manifest(FEATURE_NAMES, vectors(1, count=5_000))}
    return FakeWorld(vectors(2, shift=shift, count=count), manifest)


async def test_drift_over_the_threshold_asks_for_a_run_once_a_day() -> None:
    fake = world(shift=2.0)
    watcher = watch(fake)
    for minute in range(0, 24 * 60, 10):
        await watcher.step(NOON + timedelta(minutes=minute))
    assert len(fake.asked) == 1
    assert fake.asked[0][0] == "drift"
    assert "spread_percent" in fake.asked[0][1]
    await watcher.step(NOON + timedelta(hours=25))
    assert len(fake.asked) == 2


async def test_without_a_threshold_drift_is_shown_and_asks_for_nothing() -> None:
    fake = world(shift=2.0)
    watcher = watch(fake, None)
    await watcher.step(NOON)
    report = watcher.report("momentum_v1")
    assert report is not None
    assert report.features[0].feature == "spread_percent"
    assert fake.asked == []


async def test_few_new_decisions_are_no_new_look_and_few_in_all_say_nothing() -> None:
    fake = world(count=300)
    watcher = watch(fake)
    await watcher.step(NOON)
    report = watcher.report("momentum_v1")
    assert report is not None
    assert (report.rows, report.features) == (300, ())
    assert "500" in report.why
    fake.new = 199
    await watcher.step(NOON + timedelta(minutes=5))
    assert fake.reads == 1


async def test_a_version_without_quantiles_says_so() -> None:
    fake = world()
    fake.manifest = {}
    watcher = watch(fake)
    await watcher.step(NOON)
    report = watcher.report("momentum_v1")
    assert report is not None
    assert "before the quantiles" in report.why
