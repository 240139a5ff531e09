"""The roster: changed all at once, and nothing is lost with a strategy that goes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from model_service.config.strategy_file import ConfiguredStrategy
from model_service.services.roster import StrategyRoster
from model_service.services.strategy_changes import Asked, asked_for, changes
from tests.support.builders import NOON, strategy


def asked(*definitions: ConfiguredStrategy) -> dict[str, Asked]:
    return asked_for(definitions)


def one(name: str = "a", *, enabled: bool = True, **given: object) -> ConfiguredStrategy:
    return ConfiguredStrategy(strategy(strategy_id=name, **given), enabled)


def test_who_has_taken_the_strategies_keeps_them_over_a_change() -> None:
    roster = StrategyRoster([one("a"), one("b")])
    taken = roster.current
    roster.adopt([one("b", maximum_position_amount=5)], NOON)
    assert [each.strategy_id for each in taken] == ["a", "b"]
    assert [each.strategy_id for each in roster.current] == ["b"]
    assert roster.position_limits == {"BTCUSDT": 5.0}


def test_a_strategy_that_goes_keeps_its_exits() -> None:
    roster = StrategyRoster([one("a", stop_loss_percent=1.5)], fallback=lambda name: strategy(strategy_id=name))
    roster.adopt([one("b")], NOON)
    kept = roster.for_exits("a")
    assert kept is not None
    assert (kept.stop_loss_percent, roster.get("a"), roster.state("a")) == (1.5, None, "removed")


def test_a_disabled_strategy_does_not_tick_and_closes_by_its_present_parameters() -> None:
    roster = StrategyRoster([one("a", enabled=False, stop_loss_percent=1.5)])
    assert (roster.current, roster.state("a"), roster.position_limits) == ((), "disabled", {})
    kept = roster.for_exits("a")
    assert kept is not None
    assert kept.stop_loss_percent == 1.5


def test_what_a_former_process_knew_counts_after_what_is_configured() -> None:
    roster = StrategyRoster([one("a", stop_loss_percent=1.0)], fallback=lambda name: strategy(strategy_id=name))
    roster.remember(
        [strategy(strategy_id="a", stop_loss_percent=9.0), strategy(strategy_id="b", stop_loss_percent=8.0)]
    )
    stops = [found.stop_loss_percent for name in "abc" if (found := roster.for_exits(name)) is not None]
    assert stops == [1.0, 8.0, 2.0], "the last is nobody's: the environment's"


def test_assets_of_the_account_are_filled_in() -> None:
    roster = StrategyRoster([one("a", assets=(), assets_from_balances=True), one("b")])
    assert [each.assets for each in roster.current] == [(), ("BTCUSDT",)]
    roster.adopt_assets(["ETHUSDT", "SOLUSDT"])
    assert [each.assets for each in roster.current] == [("ETHUSDT", "SOLUSDT"), ("BTCUSDT",)]
    roster.adopt([one("c", assets=(), assets_from_balances=True)], NOON)
    assert [each.assets for each in roster.current] == [("ETHUSDT", "SOLUSDT")]
    assert roster.configured[0].definition.assets == ()


def test_when_a_strategy_joined() -> None:
    roster = StrategyRoster([one("a")])
    roster.adopt([one("a"), one("b")], NOON)
    roster.adopt([one("a"), one("b"), one("c")], NOON + timedelta(hours=1))
    assert [roster.joined_at(name) for name in "abc"] == [None, NOON, NOON + timedelta(hours=1)]


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (asked(), asked(one()), "added"),
        (asked(one()), asked(), "removed"),
        (asked(one()), asked(one(enabled=False)), "disabled"),
        (asked(one(enabled=False)), asked(one()), "enabled"),
        (asked(one()), asked(one(randomness=0.1)), "changed"),
        ({"a": Asked(strategy(strategy_id="a"), "removed")}, asked(one()), "added"),
    ],
)
def test_what_has_changed(before: dict[str, Asked], after: dict[str, Asked], kind: str) -> None:
    (change,) = changes(before, after)
    assert (change.kind, change.strategy_id) == (kind, "a")


def test_what_has_not_changed() -> None:
    assert changes(asked(one(), one("b")), asked(one("b"), one())) == []
    assert changes({"a": Asked(strategy(strategy_id="a"), "removed")}, {}) == []


def test_a_change_says_from_what_to_what_and_whether_labels_change() -> None:
    (change,) = changes(asked(one()), asked(one(horizon_seconds=600, randomness=0.1)))
    assert change.values == {"horizon_seconds": (300, 600), "randomness": (0.5, 0.1)}
    assert change.label_rule_changed
    assert change.details["values"]["randomness"] == {"from": 0.5, "to": 0.1}
    (other,) = changes(asked(one()), asked(one(randomness=0.1)))
    assert not other.label_rule_changed
