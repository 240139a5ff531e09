"""The strategy file: what it means, where each value comes from, and what is said of a wrong one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from model_service.config.allowed import without_none
from model_service.config.extras import missing_for_search
from model_service.config.loading import SettingsError, load_settings
from model_service.config.strategies import strategies_from
from model_service.config.strategy_file import (
    ADVICE,
    ConfiguredStrategy,
    StrategiesRefused,
    StrategyText,
    configured_strategies,
    values_by_key,
)
from model_service.config.strategy_keys import KEYS, OF_THE_SERVICE, file_keys, may_be_none, meaning_of
from model_service.config.strategy_names import NAME_ALLOWED
from model_service.config.strategy_source import read_strategies
from model_service.models.features import FEATURE_NAMES

ROOT = Path(__file__).parents[2]
FILE = "strategies.toml"


def load(text: str, **environ: str) -> dict[str, ConfiguredStrategy]:
    """The strategies of a file with this text, by name."""
    settings, _ = load_settings(environ)
    found = configured_strategies(settings, StrategyText(FILE, text.encode()), FEATURE_NAMES)
    return {one.definition.strategy_id: one for one in found}


def refusal(text: str, **environ: str) -> list[str]:
    """The lines of the refusal, without the file's name, which each begins with."""
    with pytest.raises(StrategiesRefused) as refused:
        load(text, **environ)
    assert all(line.startswith(f"{FILE}: ") and "\n" not in line for line in refused.value.lines)
    return [line.removeprefix(f"{FILE}: ") for line in refused.value.lines]


def test_without_a_file_every_strategy_has_the_parameters_of_the_environment() -> None:
    settings, _ = load_settings({"TRADING_STRATEGIES": "a,b", "WARMUP_SIGNAL_FREQUENCY": "7"})
    found = configured_strategies(settings, None, FEATURE_NAMES)
    assert [one.definition for one in found] == list(strategies_from(settings))
    assert all(one.enabled and one.sources["signals_per_minute"] == "environment" for one in found)
    assert found[0].sources["horizon_seconds"] == "default"


def test_a_value_comes_from_the_table_then_from_defaults_then_from_the_environment() -> None:
    one = load(
        """
        [defaults]
        fee_rate = 0.001
        randomness = 0.2
        exits.cooldown_seconds = 9
        exits.trailing_distance_percent = 0.5
        [strategies.a]
        randomness = 0.3
        exits.cooldown_seconds = 4
        """,
        WARMUP_SIGNAL_FREQUENCY="7",
        TRADING_FEE_RATE="0.002",
    )["a"]
    definition = one.definition
    assert (definition.randomness, definition.fee_rate, definition.signals_per_minute) == (0.3, 0.001, 7.0)
    assert (definition.exits.cooldown_seconds, definition.exits.trailing_distance_percent) == (4.0, 0.5)
    keys = ("randomness", "fee_rate", "signals_per_minute", "horizon_seconds", "exits.cooldown_seconds")
    assert [one.sources[key] for key in keys] == ["file", "defaults", "environment", "default", "file"]
    assert one.sources["exits.trailing_distance_percent"] == "defaults"


def test_names_of_the_environment_count_only_where_they_are_set() -> None:
    text = "[defaults]\nrandomness = 0.9\n[strategies.b]\n[strategies.c]\n"
    assert list(load(text)) == ["b", "c"]
    both = load(text, TRADING_STRATEGIES="c,a")
    assert list(both) == ["c", "a", "b"]
    assert [both[name].definition.randomness for name in "abc"] == [0.5, 0.9, 0.9], "a is the environment's alone"
    assert list(load("", TRADING_STRATEGIES="a")) == ["a"]


def test_a_disabled_strategy_is_there_and_not_enabled() -> None:
    found = load("[strategies.a]\nenabled = false\n[strategies.b]\nenabled = true\n[strategies.c]")
    assert [one.enabled for one in found.values()] == [False, True, True]
    assert not load("[strategies.a]\nenabled = false", TRADING_STRATEGIES="a")["a"].enabled


def test_none_stands_for_no_value() -> None:
    one = load('[strategies.a]\ntake_profit_percent = "none"\ntraining.recency_half_life_hours = "None"')["a"]
    assert one.definition.take_profit_percent is None
    assert one.definition.training.recency_half_life_hours is None


@pytest.mark.parametrize("word", ["account_balances", "Account_Balances"])
def test_assets_may_be_those_of_the_account(word: str) -> None:
    one = load(f'[strategies.a]\nassets = "{word}"')["a"]
    assert (one.definition.assets, one.definition.assets_from_balances) == ((), True)
    other = load("[strategies.a]", TRADING_ASSETS=word)["a"]
    assert other.definition == one.definition
    listed = load('[strategies.a]\nassets = ["ethusdt"]', TRADING_ASSETS=word)["a"]
    assert (listed.definition.assets, listed.definition.assets_from_balances) == (("ETHUSDT",), False)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "a = = 3",
            [
                'line 1, column 5: Invalid value; a value is a number, true or false, a "text" in quotes, a list in '
                "[ ] or a table in { }"
            ],
        ),
        (
            '[strategies.a]\nmodel_type = "',
            [
                "line 2, column 15: Unterminated string (end of the file); end the text with the quote that it begins "
                "with"
            ],
        ),
        ("", ["it has no strategy; add a table [strategies.NAME], or set TRADING_STRATEGIES"]),
        ("[strategy.a]", ["strategy: there is no such key; did you mean strategies?"]),
        ("strategies = 3", ["strategies is 3; allowed: a table for each strategy, [strategies.NAME]"]),
        ("[strategies]\na = 3", ["strategies.a is 3; allowed: a table [strategies.a]"]),
        ("defaults = 1\n[strategies.a]", ["defaults is 1; allowed: a table [defaults]"]),
        ('[strategies.""]', [f'strategies."": "" is no name of a strategy; allowed: {NAME_ALLOWED}']),
        (
            "[strategies.a]\nhorizon = 600",
            ["strategies.a.horizon: there is no such key; did you mean horizon_seconds?"],
        ),
        (
            "[strategies.a.exits]\ncooldown = 1",
            ["strategies.a.exits.cooldown: there is no such key; did you mean cooldown_seconds?"],
        ),
        (
            "[strategies.a]\nbar_seconds = 60",
            ["strategies.a.bar_seconds: it is the same for every strategy; set MARKET_DATA_BAR_SECONDS"],
        ),
        ("[strategies.a]\nenabled = 1", ["strategies.a.enabled is 1; allowed: true or false"]),
        ("[strategies.a]\nexits = 1", ["strategies.a.exits is 1; allowed: a table [strategies.a.exits]"]),
        (
            "[strategies.a]\nrandomness = true",
            [
                "strategies.a.randomness is true; allowed: a number from 0 to 1 (Of the warm-up; 0: "
                "heuristics alone, 1: a coin.)"
            ],
        ),
        (
            "[strategies.a]\nfee_rate = nan",
            [
                "strategies.a.fee_rate is nan; allowed: a number from -0.01 to 0.05 (Fee per side, a "
                "fraction of the notional.)"
            ],
        ),
        (
            '[strategies.a]\nminimum_amount = "50"',
            [
                'strategies.a.minimum_amount is "50"; allowed: a number over 0 to 1000000000000 (Least amount of an '
                "opening, quote currency.)"
            ],
        ),
        (
            "[strategies.a]\nassets = []",
            [
                "strategies.a.assets is []; allowed: a list of different assets of 4 to 20 letters and digits, such as "
                '["BTCUSDT"], or "account_balances" (What is traded; account_balances: every coin that the platform '
                "holds.)"
            ],
        ),
        (
            '[strategies.a]\ntake_profit_percent = "never"',
            [
                'strategies.a.take_profit_percent is "never"; allowed: a number over 0 and under 1000, or "none" '
                "(Upper barrier, percent of the entry price.)"
            ],
        ),
        (
            "[strategies.a]\nmaximum_amount = 5",
            ["strategies.a: maximum_amount is 5; allowed: from minimum_amount, which is 100.0"],
        ),
        (
            "[strategies.a]\nexchange_minimum_amount = 999999",
            [
                "strategies.a: exchange_minimum_amount is 999999; allowed: up to maximum_amount, which is 1000.0: "
                "else nothing could be opened, and smaller positions not be closed"
            ],
        ),
        (
            "[strategies.a]\nexchange_minimum_amounts = { ETHUSDT = 5000 }",
            [
                "strategies.a: exchange_minimum_amounts of ETHUSDT is 5000; allowed: up to maximum_amount, which is "
                "1000.0: else nothing could be opened, and smaller positions not be closed"
            ],
        ),
        (
            "[strategies.a]\nhorizon_seconds = 60",
            [
                "strategies.a: horizon_seconds is 60; allowed: from 3 bars of "
                "MARKET_DATA_BAR_SECONDS, 60; lengthen one or "
                "shorten the other"
            ],
        ),
        (
            "[strategies.a.exits]\ntrailing_distance_percent = 1\ntrailing_activation_percent = 3",
            [
                "strategies.a: exits.trailing_activation_percent is 3.0; allowed: under "
                "take_profit_percent, 3.0, where all "
                'of a lot is closed; lower it, or set exits.take_profit_part_percent or take_profit_percent = "none"'
            ],
        ),
        (
            "[strategies.a.training]\nhyperparameters = { depth = 3 }",
            [
                "strategies.a: training.hyperparameters: depth is no hyperparameter of xgboost, "
                "allowed: rounds, max_depth, "
                "eta, min_child_weight, subsample, colsample_bytree, lambda, alpha, gamma, max_delta_step, max_bin"
            ],
        ),
    ],
)
def test_each_fault_is_said_in_one_line(text: str, lines: list[str]) -> None:
    assert refusal(text) == lines


@pytest.mark.parametrize("name", ["a\x00b", "a/b", "..", "-a", "a b", "ä", "a\nb", "x" * 101, "Ⅷ", "a\u0661"])
def test_a_name_that_a_table_or_a_path_cannot_hold_is_refused_with_what_is_allowed(name: str) -> None:
    (line,) = refusal(f"[strategies.{json.dumps(name)}]")
    assert line.endswith(f"is no name of a strategy; allowed: {NAME_ALLOWED}")
    with pytest.raises(SettingsError) as refused:
        load_settings({"TRADING_STRATEGIES": f"fine,{name}"})
    assert NAME_ALLOWED in str(refused.value)


@pytest.mark.parametrize("name", ["momentum_v1", "a.b-c", "_", "7", "X" * 100])
def test_names_of_the_allowed_signs_are_taken(name: str) -> None:
    assert list(load(f"[strategies.{json.dumps(name)}]")) == [name]
    assert load_settings({"TRADING_STRATEGIES": name})[0].trading_strategies == (name,)


def test_a_key_that_is_near_to_none_is_answered_with_all_that_there_are() -> None:
    of_file, of_strategy, of_exits = refusal("[zzz]\n[strategies.a]\nqqq = 1\nexits.xxx = 1")
    assert of_file == "zzz: there is no such key; allowed: defaults, strategies"
    assert of_strategy.startswith("strategies.a.qqq: there is no such key; allowed: accuracy_threshold, ")
    assert ", enabled, " in of_strategy
    assert of_exits.startswith("strategies.a.exits.xxx: there is no such key; allowed: cooldown_seconds, ")


@pytest.mark.parametrize(
    "text",
    [
        "a = ", "a", "a b = 1", "a = 1 2", '[strategies."a]', "a = [1", "a = {b = 1", "[a", "a = 1\na = 2", "[a]\n[a]",
        'a = "x\ny"', 'a = "\\q"', "[a]]", "= 1",
    ],
)  # fmt: skip
def test_a_fault_of_the_toml_itself_comes_with_advice(text: str) -> None:
    (line,) = refusal(text)
    assert line.startswith("line ")
    assert any(line.endswith(f"; {advice}") for _, advice in ADVICE), line


NUMBERS = [
    key
    for key, field in file_keys()
    if without_none(field.annotation) in (int, float, Decimal) and key not in ("exits.take_profit_part_percent",)
]


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("number", ["3000000000000", "1e300", "9" * 400, "-1e300"])
def test_no_number_is_larger_than_what_is_stored_and_computed_with(key: str, number: str) -> None:
    (line,) = refusal(f"[strategies.a]\n{key} = {number}")
    assert line.startswith(f"strategies.a.{key} is ")
    assert "; allowed: " in line


@pytest.mark.parametrize("key", [key for key, field in file_keys() if without_none(field.annotation) is int])
def test_whole_numbers_fit_into_an_integer_of_the_database(key: str) -> None:
    assert refusal(f"[strategies.a]\n{key} = 3000000000")[0].startswith(f"strategies.a.{key} is 3000000000; allowed: ")


def test_a_feature_that_does_not_exist_is_named() -> None:
    (line,) = refusal("[strategies.a.training]\nmonotone_constraints = { moonphase = 1 }")
    assert line.startswith("strategies.a: training.monotone_constraints: moonphase is no feature, allowed: ")


@pytest.mark.parametrize(
    ("text", "environ", "line"),
    [
        (
            '[strategies.a]\nmodel_type = "sgd_classifier"',
            {"TRAINING_ENGINE": "dask", "DASK_SCHEDULER_ADDRESS": "tcp://scheduler:8786"},
            "strategies.a: model_type is 'sgd_classifier'; allowed with TRAINING_ENGINE=dask: "
            "xgboost; change one or the other",
        ),
        (
            '[strategies.a]\nmodel_type = "sgd_classifier"',
            {"MODEL_TRAINING_DEVICE": "cuda"},
            "strategies.a: model_type is 'sgd_classifier'; allowed with MODEL_TRAINING_DEVICE=cuda: xgboost",
        ),
    ],
)
def test_what_the_settings_of_the_service_forbid(text: str, environ: dict[str, str], line: str) -> None:
    assert refusal(text, **environ) == [line]


def test_all_faults_come_at_once_and_those_of_defaults_once() -> None:
    lines = refusal(
        """
        [defaults]
        fee_rate = 2
        [strategies.a]
        horizon = 3
        minimum_amount = -5
        [strategies.b]
        assets = ["BTC"]
        """
    )
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "defaults.fee_rate", "strategies.a.horizon", "strategies.a.minimum_amount", "strategies.b.assets",
    ]  # fmt: skip
    apart = refusal(
        "[strategies.a]\nmaximum_amount = 5\nhorizon_seconds = 60\n[strategies.a.training]\nhyperparameters = {x = 1}"
    )
    assert [line.split()[1] for line in apart] == ["training.hyperparameters:", "maximum_amount", "horizon_seconds"]


def test_a_fault_that_the_definition_itself_finds_hides_no_other() -> None:
    lines = refusal("[strategies.a]\nmodel_amount = 5000\nhorizon_seconds = 60")
    assert [line.split()[1] for line in lines] == ["model_amount", "horizon_seconds"]


def test_a_search_needs_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "model_service.config.strategy_file.missing_for_search", lambda: missing_for_search(lambda _: None)
    )
    (line,) = refusal("[strategies.a]\ntraining.search_trials = 5")
    assert line.startswith("strategies.a: training.search_trials: ")
    assert "optuna cannot be found" in line
    assert load("[strategies.a]\ntraining.search_trials = 0")


def test_what_does_not_go_together_in_defaults_may_be_mended_by_each_strategy() -> None:
    text = '[defaults]\ntraining.hyperparameters = { C = 0.2 }\n[strategies.a]\nmodel_type = "logistic_regression"'
    assert load(text)["a"].definition.training.hyperparameters == {"C": 0.2}
    assert len(refusal(text + "\n[strategies.b]")) == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        read_strategies(tmp_path / "no.toml")
    assert str(refused.value) == (
        f"{tmp_path}/no.toml: it cannot be read: No such file or directory; see TRADING_STRATEGIES_FILE"
    )
    with pytest.raises(StrategiesRefused, match="line 2: it is no UTF-8 text"):
        configured_strategies(load_settings({})[0], StrategyText(FILE, b"a = 1\nb = '\xff'"), FEATURE_NAMES)


def test_the_example_can_be_used() -> None:
    text = read_strategies(ROOT / "examples" / "strategies.toml")
    found = configured_strategies(load_settings({})[0], text, FEATURE_NAMES)
    assert [(one.definition.strategy_id, one.enabled) for one in found] == [
        ("momentum_v1", True), ("slow_v1", True), ("experiment", False),
    ]  # fmt: skip
    assert found[1].definition.assets_from_balances


def test_every_key_says_what_it_means() -> None:
    keys = dict(file_keys())
    assert all(meaning_of(key, field) for key, field in keys.items())
    assert not set(KEYS) - set(keys), "a meaning of a key that does not exist"
    assert not set(keys) & OF_THE_SERVICE
    settings = load_settings({})[0]
    named = [name for key in KEYS.values() for name in key.settings]
    assert all(hasattr(settings, name.lower()) for name in named)


VALID: Mapping[str, st.SearchStrategy[Any]] = {
    "assets": st.lists(st.from_regex(r"[A-Z0-9]{4,20}", fullmatch=True), min_size=1, max_size=3, unique=True)
    | st.just("account_balances"),
    "horizon_seconds": st.integers(180, 10**6),
    "minimum_amount": st.decimals("0.01", 100, places=2),
    "exchange_minimum_amount": st.decimals("0.01", 100, places=2),
    "maximum_amount": st.decimals(100, 10**6, places=2),
    "exits.trailing_activation_percent": st.floats(0, 2),
    "take_profit_percent": st.floats(2.5, 900) | st.just("none"),
    "training.hyperparameters": st.fixed_dictionaries({}, optional={"max_depth": st.integers(1, 6)}),
    "training.class_weight": st.sampled_from(["none", "balanced"]) | st.floats(0.1, 1000),
    "training.monotone_constraints": st.dictionaries(
        st.sampled_from(FEATURE_NAMES), st.sampled_from([-1, 1]), max_size=2
    ),
    "model_type": st.just("xgboost"),
    "retrain_after_outcomes": st.integers(1, 10**6),
    "minimum_dataset_size": st.integers(500, 10**6),
    "sizing": st.sampled_from(["fixed", "confidence"]),  # kelly asks for a capital too
    "model_amount": st.just(Decimal(100)) | st.just("none"),
}


def valid(key: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    """Any value that a key accepts."""
    if key in VALID:
        return VALID[key]
    kind = without_none(field.annotation)
    if kind is bool:
        return st.booleans()
    if get_origin(kind) is not None:
        return st.sampled_from(get_args(kind)) if isinstance(get_args(kind)[0], str) else st.just({})
    least = max(
        (
            limit
            for one in field.metadata
            for limit in [getattr(one, "ge", getattr(one, "gt", None))]
            if limit is not None
        ),
        default=0,
    )
    most = min(
        (
            limit
            for one in field.metadata
            for limit in [getattr(one, "le", getattr(one, "lt", None))]
            if limit is not None
        ),
        default=10**6,
    )
    inner = st.integers(least + 1, most) if kind is int else st.floats(least, most, exclude_min=True, exclude_max=True)
    return inner | st.just("none") if may_be_none(field) else inner


@given(st.data())
def test_any_valid_file_means_what_it_says(data: st.DataObject) -> None:
    keys = dict(file_keys())
    chosen = data.draw(st.lists(st.sampled_from(sorted(keys)), unique=True))
    values = {key: data.draw(valid(key, keys[key]), label=key) for key in chosen}
    name = data.draw(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", fullmatch=True))
    lines = [f"{key} = {toml(value)}" for key, value in values.items()]
    one = load("\n".join([f"[strategies.{json.dumps(name, ensure_ascii=False)}]", *lines]))[name]
    found = values_by_key(one.definition)
    for key, value in values.items():
        wanted = None if value == "none" and may_be_none(keys[key]) else value
        assert same(found[key], wanted), key
        assert one.sources[key] == "file"


def toml(value: object) -> str:
    """A value as TOML."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + "}"
    return str(value) if isinstance(value, Decimal) else json.dumps(value)


def same(found: object, wanted: object) -> bool:
    """Whether a JSON value is the one that was written."""
    if isinstance(wanted, Decimal):
        return Decimal(str(found)) == wanted
    if isinstance(wanted, (int, float)) and not isinstance(wanted, bool):
        return Decimal(str(found)) == Decimal(str(wanted))
    return found == wanted
