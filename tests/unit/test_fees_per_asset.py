"""Fees and least amounts of single assets: in labels, guards and exits, each where its asset is concerned."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from model_service.config.doubts import doubts
from model_service.config.label_rule import label_rule
from model_service.config.loading import SettingsError, load_settings
from model_service.config.strategies import strategies_from
from model_service.contracts.types import Side
from model_service.policies.exit import decide_exit
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.guards import refuse_opening
from tests.support.builders import NOON, snapshot, strategy
from tests.unit.test_guards import request
from tests.unit.test_signal_generation import FakeStore, generator, held, run

ENVIRONMENT = {
    "TRADING_ASSETS": "BTCUSDT,ETHUSDT",
    "TRADING_FEE_RATE": "0.001",
    "TRADING_FEE_RATES": '{"btcusdt": 0.0002}',
    "TRADING_MIN_ORDER_AMOUNT": "10",
    "TRADING_MIN_ORDER_AMOUNTS": '{"ETHUSDT": 5.5}',
}


def test_an_asset_without_its_own_number_has_that_of_all() -> None:
    (made,) = strategies_from(load_settings(ENVIRONMENT)[0])
    assert (made.fee_rate_of("BTCUSDT"), made.fee_rate_of("ETHUSDT")) == (0.0002, 0.001)
    assert made.exchange_minimum_of("ETHUSDT") == Decimal("5.5")
    assert made.exchange_minimum_of("BTCUSDT") == Decimal(10)
    assert type(made).model_validate_json(made.model_dump_json()) == made, "the training child gets it as JSON"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRADING_FEE_RATES", '{"BTCUSDT": 0.2}', "BTCUSDT has 0.2, allowed: a number over -0.01 and up to 0.05"),
        ("TRADING_FEE_RATES", '{"BTCUSDT": true}', "BTCUSDT has True"),
        ("TRADING_FEE_RATES", '{"BTC/USDT": 0.001}', "'BTC/USDT' is no asset"),
        ("TRADING_FEE_RATES", '{"BTCUSDT": 0.001, "btcusdt": 0.002}', "stands there twice"),
        ("TRADING_FEE_RATES", '{"BTCUSDT": 1e999}', "BTCUSDT has inf, allowed"),
        ("TRADING_FEE_RATES", "0.001", 'allowed: a JSON object such as {"BTCUSDT": 0.00055}'),
        ("TRADING_MIN_ORDER_AMOUNTS", '{"BTCUSDT": 0}', "BTCUSDT has 0, allowed: a number over 0"),
        ("TRADING_MIN_ORDER_AMOUNTS", "{", "it is no JSON"),
    ],
)
def test_what_cannot_be_a_fee_or_an_amount_is_named(name: str, value: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings({name: value})
    assert name in str(caught.value)
    assert said in str(caught.value)


def test_numbers_of_an_asset_that_nobody_trades_are_doubted() -> None:
    made = strategy(fee_rates={"XBTUSDT": 0.001, "BTCUSDT": 0.002}, exchange_minimum_amounts={"ETHUSDT": Decimal(1)})
    lines = list(doubts([made], 5.0, 60.0))
    assert [line.split(",")[0] for line in lines] == [
        "TRADING_FEE_RATES names XBTUSDT",
        "TRADING_MIN_ORDER_AMOUNTS names ETHUSDT",
    ]


async def test_a_signal_freezes_the_fee_of_its_asset_and_outcomes_are_counted_by_that_rule() -> None:
    made = strategy(assets=("BTCUSDT", "ETHUSDT"), signals_per_minute=22.0, fee_rates={"ETHUSDT": 0.002})
    store = FakeStore()
    await run(generator(store, made), 12)
    frozen = {one.signal.asset: one.fee_rate for one in store.signals}
    assert frozen == {"BTCUSDT": 0.00055, "ETHUSDT": 0.002}
    for asset, fee_rate in frozen.items():
        assert made.label_rules.of(asset) == label_rule(300, 3.0, 2.0, fee_rate, 0.0)
    assert made.label_rules.of("BTCUSDT") != made.label_rules.of("ETHUSDT")


def test_the_guard_holds_an_amount_against_the_minimum_of_its_asset() -> None:
    made = strategy(exchange_minimum_amounts={"BTCUSDT": Decimal(120)})
    small = request(strategy=made, amount=Decimal(110))
    assert refuse_opening(small) == Reason(ReasonCode.AMOUNT_BELOW_MINIMUM, 110.0, 120.0)
    assert refuse_opening(replace(small, snapshot=snapshot(asset="ETHUSDT"))) is None


def test_what_an_exit_cannot_sell_is_a_matter_of_the_asset() -> None:
    """500 in quote currency, which a minimum of 600 keeps from being closed."""
    due = held(Side.BUY)
    for minimums, closes in (({}, True), ({"BTCUSDT": Decimal(600)}, False), ({"ETHUSDT": Decimal(600)}, True)):
        made = strategy(exchange_minimum_amounts=minimums)
        decision = decide_exit(made, [due], None, (), 50_000.0, NOON)
        assert (decision.proposal is not None) is closes
