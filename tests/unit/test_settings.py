"""Settings: the platform's names, messages that help, secrets that stay secret."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import SecretStr, ValidationError

from model_service.cli.settings import usable_settings
from model_service.config.exits import ExitParameters
from model_service.config.hyperparameters import HYPERPARAMETERS, hyperparameter_fault
from model_service.config.loading import ACCEPTED_BUT_UNUSED, OWN_PREFIXES, SettingsError, load_settings
from model_service.config.settings import Settings
from model_service.config.settings_learning import ModelType
from model_service.config.strategies import StrategyDefinition, strategies_from
from model_service.config.training import TrainingParameters

CANARY = "canary-7f3a-do-not-print"

SHARED_PLATFORM_VARIABLES = {
    "BYBIT_API_KEY": "k", "BYBIT_API_SECRET": "s", "BYBIT_ENVIRONMENT": "testnet",
    "POSTGRES_HOST": "postgres", "POSTGRES_PORT": "5432", "POSTGRES_DB": "db", "POSTGRES_USER": "u",
    "POSTGRES_PASSWORD": "p",
    "RABBITMQ_HOST": "rabbitmq", "RABBITMQ_PORT": "5672", "RABBITMQ_USER": "guest", "RABBITMQ_PASSWORD": "guest",
    "REDIS_HOST": "redis", "REDIS_PORT": "6379", "REDIS_PASSWORD": "",
    "WS_GATEWAY_HOST": "ws-gateway", "WS_GATEWAY_PORT": "4400", "WS_GATEWAY_API_KEY": "k",
    "ORDERMANAGER_PORT": "4600", "ORDERMANAGER_API_KEY": "k",
    "POSITION_MANAGER_HOST": "position-manager", "POSITION_MANAGER_PORT": "4800", "POSITION_MANAGER_API_KEY": "k",
    "FEATURE_SERVICE_HOST": "feature-service", "FEATURE_SERVICE_PORT": "4900", "FEATURE_SERVICE_API_KEY": "k",
    "ORDERMANAGER_MAX_POSITION_SIZE": "2.0", "ORDERMANAGER_MAX_EXPOSURE": "10000",
    "ORDERMANAGER_MAX_ORDER_SIZE_RATIO": "0.1", "ORDERMANAGER_MARKET_ORDER_CONFIDENCE_THRESHOLD": "0.9",
    "ORDERMANAGER_MARKET_ORDER_SPREAD_THRESHOLD": "0.1", "ORDERMANAGER_LIMIT_ORDER_PRICE_OFFSET_RATIO": "0.5",
    "ORDERMANAGER_PENDING_ORDER_TIMEOUT_MINUTES": "5", "ORDERMANAGER_CANCEL_OPPOSITE_ORDERS_ONLY": "false",
    "ORDERMANAGER_ENABLE_DRY_RUN": "false",
}  # fmt: skip

OWN_PLATFORM_VARIABLES = {
    "MODEL_SERVICE_PORT": "4500", "MODEL_SERVICE_API_KEY": "", "MODEL_SERVICE_LOG_LEVEL": "INFO",
    "MODEL_SERVICE_SERVICE_NAME": "model-service", "MODEL_STORAGE_PATH": "/models",
    "MODEL_TRAINING_MIN_DATASET_SIZE": "1000", "MODEL_TRAINING_MAX_DURATION_SECONDS": "1800",
    "MODEL_QUALITY_THRESHOLD_ACCURACY": "0.75", "MODEL_RETRAINING_SCHEDULE": "",
    "MODEL_RETRAINING_INTERVAL_DAYS": "7", "MODEL_RETRAINING_TRAIN_PERIOD_DAYS": "30",
    "MODEL_RETRAINING_VALIDATION_PERIOD_DAYS": "7", "MODEL_RETRAINING_TEST_PERIOD_DAYS": "1",
    "MODEL_PREDICTION_HORIZON_SECONDS": "900", "MODEL_CLASSIFICATION_THRESHOLD": "0.005",
    "SIGNAL_GENERATION_RATE_LIMIT": "60", "SIGNAL_GENERATION_BURST_ALLOWANCE": "10",
    "SIGNAL_GENERATION_SKIP_IF_OPEN_ORDER": "true", "SIGNAL_GENERATION_CHECK_OPPOSITE_ORDERS_ONLY": "false",
    "WARMUP_MODE_ENABLED": "true", "WARMUP_SIGNAL_FREQUENCY": "1", "WARMUP_MIN_AMOUNT": "100.0",
    "WARMUP_MAX_AMOUNT": "1000.0", "WARMUP_RANDOMNESS_LEVEL": "0.5", "TRADING_STRATEGIES": "momentum_v1",
    "BALANCE_ADAPTATION_SAFETY_MARGIN": "0.95", "BALANCE_DATA_MAX_AGE_SECONDS": "60",
    "BALANCE_SYNC_ENABLED": "true", "BALANCE_SYNC_MIN_INTERVAL_SECONDS": "30",
    "BALANCE_SYNC_TIMEOUT_SECONDS": "5.0", "MARKET_DATA_MAX_AGE_SECONDS": "60",
    "MARKET_DATA_STALE_WARNING_THRESHOLD_SECONDS": "30", "SIGNAL_PROCESSING_DELAY_ALERT_THRESHOLD_SECONDS": "300",
    "MODEL_SERVICE_TAKE_PROFIT_PCT": "3.0", "MODEL_SERVICE_MAX_POSITION_SIZE_RATIO": "0.8",
    "EXIT_STRATEGY_ENABLED": "true", "EXIT_STRATEGY_RATE_LIMIT": "10", "TAKE_PROFIT_ENABLED": "true",
    "TAKE_PROFIT_PARTIAL_EXIT": "false", "TAKE_PROFIT_PARTIAL_AMOUNT_PCT": "50.0", "STOP_LOSS_ENABLED": "true",
    "STOP_LOSS_THRESHOLD_PCT": "-2.0", "TRAILING_STOP_ENABLED": "false", "TRAILING_STOP_ACTIVATION_PCT": "2.0",
    "TRAILING_STOP_DISTANCE_PCT": "1.0", "TIME_BASED_EXIT_ENABLED": "false", "TIME_BASED_EXIT_MAX_HOURS": "24",
    "TIME_BASED_EXIT_PROFIT_TARGET_PCT": "1.0",
}  # fmt: skip


def problem(environ: dict[str, str]) -> str:
    """The text of the refusal."""
    with pytest.raises(SettingsError) as refusal:
        load_settings(environ)
    return str(refusal.value)


def test_nothing_needs_to_be_set() -> None:
    settings, warnings = load_settings({})
    assert settings.uses_embedded_database
    assert not settings.uses_rabbitmq
    assert warnings == []


def test_the_platforms_environment_is_accepted_as_it_is() -> None:
    settings, warnings = load_settings(SHARED_PLATFORM_VARIABLES | OWN_PLATFORM_VARIABLES)
    assert (settings.postgres_host, settings.rabbitmq_host) == ("postgres", "rabbitmq")
    assert settings.trading_strategies == ("momentum_v1",)
    assert settings.model_classification_threshold == 0.005
    assert str(settings.storage_path) == "/models"
    warned = {warning.split()[0] for warning in warnings}
    unused = {name for name in OWN_PLATFORM_VARIABLES if name.lower() not in Settings.model_fields}
    assert warned == unused
    assert settings.ordermanager_max_position_size == 2.0


def test_what_is_accepted_without_effect_is_no_setting_at_the_same_time() -> None:
    assert not {name for name in ACCEPTED_BUT_UNUSED if name.lower() in Settings.model_fields}
    assert all(name.startswith(OWN_PREFIXES) for name in ACCEPTED_BUT_UNUSED)


def test_the_environment_of_other_programs_does_not_matter() -> None:
    settings, _ = load_settings({"PATH": "/bin", "HOME": "/root", "MODELS": "x", "POSTGRES_INITDB_ARGS": "x"})
    assert settings == load_settings({})[0]


def test_the_process_environment_is_not_read_behind_the_callers_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SERVICE_PORT", "1234")
    assert load_settings({})[0].model_service_port == 4500


def test_an_empty_value_means_not_set() -> None:
    assert load_settings({"MODEL_SERVICE_PORT": "", "POSTGRES_HOST": ""})[0] == load_settings({})[0]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WARMUP_MODE_ENABLD", "WARMUP_MODE_ENABLED"),
        ("MODEL_QUALITY_TRESHOLD_ACCURACY", "MODEL_QUALITY_THRESHOLD_ACCURACY"),
        ("TRADING_STRATEGY", "TRADING_STRATEGIES"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(name: str, meant: str) -> None:
    assert problem({name: "1"}) == f"{name}: there is no such setting; did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MODEL_SERVICE_PORT", "http", "a whole number from 0 to 65535"),
        ("MODEL_SERVICE_PORT", "70000", "a whole number from 0 to 65535"),
        ("MODEL_SERVICE_LOG_LEVEL", "LOUD", "one of DEBUG, INFO, WARNING, ERROR"),
        ("MODEL_SERVICE_SCHEMA", 'x"; drop', "text of the form ^[a-z_]"),
        ("WARMUP_MODE_ENABLED", "maybe", "true or false"),
        ("WARMUP_RANDOMNESS_LEVEL", "1.5", "a number from 0 to 1"),
        ("WARMUP_MIN_AMOUNT", "nan", "a number over 0"),
        ("WARMUP_MIN_AMOUNT", "inf", "a number over 0"),
        ("STOP_LOSS_THRESHOLD_PCT", "2", "a number over -100 and under 0"),
        ("TRAILING_STOP_ACTIVATION_PCT", "-1", "a number from 0 and under 1000"),
        ("TRAILING_STOP_DISTANCE_PCT", "0", "a number over 0 and under 100"),
        ("TAKE_PROFIT_PARTIAL_AMOUNT_PCT", "100", "a number over 0 and under 100"),
        ("TIME_BASED_EXIT_MAX_HOURS", "0", "a number over 0 to 8760"),
        ("TIME_BASED_EXIT_PROFIT_TARGET_PCT", "nan", "a number from 0 and under 1000"),
        ("EXIT_STRATEGY_RATE_LIMIT", "0", "a number over 0 to 6000"),
        ("MODEL_TRAINING_MODEL_TYPE", "lightgbm", "one of xgboost, random_forest, logistic_regression"),
        ("TRADING_STRATEGIES", ",", "1 or more different names"),
        ("TRADING_STRATEGIES", "a,a", "1 or more different names"),
        ("TRADING_ASSETS", "BTC-USDT", "assets of 4 to 20 letters and digits"),
        ("TRADING_ASSETS", "BTCUSDT,btcusdt", "different assets"),
        ("MODEL_RETRAINING_SCHEDULE", "daily", "five cron fields"),
        ("MODEL_RETRAINING_TIMEZONE", "Mars/Olympus", "UTC or a name such as Europe/Berlin"),
        ("MODEL_RETRAINING_TIMEZONE", "../../etc/passwd", "UTC or a name such as Europe/Berlin"),
        ("MODEL_TRAINING_HYPERPARAMETERS", "{", "it is no JSON"),
        ("MODEL_TRAINING_HYPERPARAMETERS", "[3]", 'allowed: a JSON object such as {"max_depth": 4'),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"depth": 3}', "depth is no hyperparameter of xgboost, allowed: rounds, "),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"C": 0.1}', "C is no hyperparameter of xgboost"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"max_depth": 0}', "max_depth is 0, allowed: a whole number from 1 to 12"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"max_depth": 3.0}', "max_depth is 3.0, allowed: a whole number"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"max_depth": true}', "max_depth is True, allowed: a whole number"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"eta": "fast"}', "eta is 'fast', allowed: a number from 0.001 to 1"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"eta": NaN}', "NaN is no number"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"eta": 1e999}', "eta is inf, allowed: a number from 0.001 to 1"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"eta": [1]}', "eta is [1], allowed: a number"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"eta": 0.1, "eta": 0.2}', "a name stands there twice"),
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"rounds": 4000, "max_depth": 7}', "rounds x 2^max_depth is 512000"),
        ("MODEL_TRAINING_MONOTONE_CONSTRAINTS", '{"rsi_14": 2}', "rsi_14 is 2, allowed: 1 "),
        ("MODEL_TRAINING_MONOTONE_CONSTRAINTS", '{"rsi_14": true}', "rsi_14 is True, allowed: 1 "),
        ("MODEL_TRAINING_MONOTONE_CONSTRAINTS", '{"rsi_14": "1"}', "rsi_14 is '1', allowed: 1 "),
        ("MODEL_TRAINING_CLASS_WEIGHT", "even", "none, balanced, or a number over 0 to 1000"),
        ("MODEL_TRAINING_CLASS_WEIGHT", "0", "none, balanced, or a number over 0 to 1000"),
        ("MODEL_TRAINING_CLASS_WEIGHT", "nan", "none, balanced, or a number over 0 to 1000"),
        ("MODEL_TRAINING_RECENCY_HALF_LIFE_HOURS", "0", "a number over 0"),
        ("MODEL_TRAINING_EARLY_STOPPING_ROUNDS", "0", "a whole number from 1 to 1000"),
        ("MODEL_TRAINING_SEARCH_TRIALS", "-1", "a whole number from 0 to 1000"),
        ("MODEL_TRAINING_WALK_FORWARD_FOLDS", "21", "a whole number from 0 to 20"),
        ("MODEL_TRAINING_DEVICE", "gpu", "one of cpu, cuda"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(name: str, value: str, allowed: str) -> None:
    text = problem({name: value})
    assert text.startswith(f"{name} is {value!r}; ")
    assert allowed in text
    assert "\n" not in text


def test_every_fault_gets_its_line() -> None:
    lines = problem({"MODEL_SERVICE_PORT": "x", "WARMUP_FREQUENCY": "1", "TRADING_FEE_RATE": "1"}).splitlines()
    assert [line.split()[0].rstrip(":") for line in lines] == [
        "WARMUP_FREQUENCY",
        "MODEL_SERVICE_PORT",
        "TRADING_FEE_RATE",
    ]


@pytest.mark.parametrize(
    ("environ", "text"),
    [
        ({"WARMUP_MAX_AMOUNT": "5"}, "WARMUP_MAX_AMOUNT is 5.0; allowed: from WARMUP_MIN_AMOUNT, which is 100.0"),
        (
            {"TRADING_MIN_ORDER_AMOUNT": "2000"},
            "TRADING_MIN_ORDER_AMOUNT is 2000.0; allowed: up to WARMUP_MAX_AMOUNT, which is 1000.0: else nothing could "
            "be opened, and smaller positions not be closed",
        ),
        (
            {"MODEL_PREDICTION_HORIZON_SECONDS": "60"},
            "MODEL_PREDICTION_HORIZON_SECONDS is 60; allowed: from 3 bars of MARKET_DATA_BAR_SECONDS",
        ),
        (
            {"TRAILING_STOP_ENABLED": "true", "TRAILING_STOP_ACTIVATION_PCT": "3"},
            "TRAILING_STOP_ACTIVATION_PCT is 3.0; allowed: under MODEL_SERVICE_TAKE_PROFIT_PCT, 3.0, where all of a",
        ),
    ],
)
def test_values_that_do_not_go_together_are_named(environ: dict[str, str], text: str) -> None:
    assert problem(environ).startswith(text)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("MODEL_TRAINING_HYPERPARAMETERS", '{"max_depth": 3}', "max_depth is no hyperparameter of logistic_regression"),
        ("MODEL_TRAINING_MONOTONE_CONSTRAINTS", '{"rsi_14": 1}', "logistic_regression cannot be held monotone"),
        ("MODEL_TRAINING_DEVICE", "cuda", "xgboost as MODEL_TRAINING_MODEL_TYPE, which is logistic_regression"),
    ],
)
def test_what_another_model_type_takes_is_refused(name: str, value: str, allowed: str) -> None:
    assert not load_settings({name: value})[1]
    text = problem({name: value, "MODEL_TRAINING_MODEL_TYPE": "logistic_regression"})
    assert text.startswith(f"{name} is {value!r}; ")
    assert allowed in text


def test_a_wrong_model_type_is_the_only_fault_told() -> None:
    text = problem({"MODEL_TRAINING_MODEL_TYPE": "x", "MODEL_TRAINING_HYPERPARAMETERS": '{"C": [1]}'})
    assert text.startswith("MODEL_TRAINING_MODEL_TYPE is 'x'; ")
    assert "\n" not in text


def test_a_constraint_on_an_unknown_feature_is_named() -> None:
    usable_settings({"MODEL_TRAINING_MONOTONE_CONSTRAINTS": '{"book_imbalance": 1}'})
    with pytest.raises(SettingsError, match=r"^MODEL_TRAINING_MONOTONE_CONSTRAINTS is .*; moon_phase is no feature"):
        usable_settings({"MODEL_TRAINING_MONOTONE_CONSTRAINTS": '{"book_imbalance": 1, "moon_phase": -1}'})


def test_the_exits_that_only_the_policy_has_are_off_unless_they_are_set() -> None:
    distances = {
        "TRAILING_STOP_ACTIVATION_PCT": "5",
        "TRAILING_STOP_DISTANCE_PCT": "4",
        "TIME_BASED_EXIT_MAX_HOURS": "2",
    }
    for environ in ({}, distances):
        (one,) = strategies_from(load_settings(environ)[0])
        assert one.exits == ExitParameters()


def test_the_exits_of_a_strategy_follow_the_settings() -> None:
    environ = {
            "TRAILING_STOP_ENABLED": "true", "TRAILING_STOP_ACTIVATION_PCT": "4", "TRAILING_STOP_DISTANCE_PCT": "1.5",
            "TAKE_PROFIT_PARTIAL_EXIT": "true", "TAKE_PROFIT_PARTIAL_AMOUNT_PCT": "40",
            "TIME_BASED_EXIT_ENABLED": "true", "TIME_BASED_EXIT_MAX_HOURS": "8",
            "TIME_BASED_EXIT_PROFIT_TARGET_PCT": "0.5", "EXIT_STRATEGY_RATE_LIMIT": "10",
    }  # fmt: skip
    (one,) = strategies_from(load_settings(environ)[0])
    assert one.exits == ExitParameters(
        trailing_activation_percent=4.0,
        trailing_distance_percent=1.5,
        take_profit_part_percent=40.0,
        maximum_holding_hours=8.0,
        holding_profit_percent=0.5,
        cooldown_seconds=6.0,
    )
    (other,) = strategies_from(load_settings({**environ, "TIME_BASED_EXIT_PROFIT_TARGET_PCT": "0"})[0])
    assert other.exits.holding_profit_percent is None


def test_how_a_strategy_is_fitted_follows_the_settings() -> None:
    environ = {
            "MODEL_TRAINING_HYPERPARAMETERS": '{"max_depth": 4, "eta": 1}', "MODEL_TRAINING_CLASS_WEIGHT": "2.5",
            "MODEL_TRAINING_RECENCY_HALF_LIFE_HOURS": "48", "MODEL_TRAINING_EARLY_STOPPING_ROUNDS": "9",
            "MODEL_TRAINING_MONOTONE_CONSTRAINTS": '{"rsi_14": -1}', "MODEL_TRAINING_SEARCH_TRIALS": "12",
            "MODEL_TRAINING_WALK_FORWARD_FOLDS": "0",
    }  # fmt: skip
    (strategy,) = strategies_from(load_settings(environ)[0])
    assert strategy.training == TrainingParameters(
        hyperparameters={"max_depth": 4, "eta": 1}, class_weight=2.5, recency_half_life_hours=48.0,
        early_stopping_rounds=9, monotone_constraints={"rsi_14": -1}, search_trials=12, walk_forward_folds=0,
    )  # fmt: skip
    again = StrategyDefinition.model_validate_json(strategy.model_dump_json())
    assert again == strategy
    assert [type(value) for value in again.training.hyperparameters.values()] == [int, int]


def test_a_strategy_cannot_hold_what_its_model_type_cannot_take() -> None:
    strategy = strategies_from(load_settings({})[0])[0]
    for training in ({"hyperparameters": {"C": 1.0}}, {"monotone_constraints": {"rsi_14": 1}}):
        content = {**strategy.model_dump(), "model_type": "random_forest", "training": training}
        with pytest.raises(ValidationError, match=r"training\.(hyperparameters|monotone_constraints)"):
            StrategyDefinition.model_validate(content)


def test_every_model_type_has_hyperparameters_with_usable_defaults() -> None:
    assert set(HYPERPARAMETERS) == set(get_args(ModelType))
    for model_type, known in HYPERPARAMETERS.items():
        defaults = {name: item.default for name, item in known.items() if item.default is not None}
        assert hyperparameter_fault(model_type, defaults) is None


@pytest.mark.parametrize("name", ["MODEL_SERVICE_API_KEY", "POSTGRES_PASSWORD", "RABBITMQ_PASSWORD"])
def test_secrets_are_in_no_text_of_the_settings(name: str) -> None:
    settings, warnings = load_settings({name: CANARY})
    secret = getattr(settings, name.lower())
    assert isinstance(secret, SecretStr)
    assert secret.get_secret_value() == CANARY
    assert CANARY not in f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()} {warnings}"


def test_secrets_are_in_no_message_about_other_faults() -> None:
    secrets = {"MODEL_SERVICE_API_KEY": CANARY, "POSTGRES_PASSWORD": CANARY, "RABBITMQ_PASSWORD": CANARY}
    for fault in ({"MODEL_SERVICE_PORT": "x"}, {"WARMUP_MAX_AMOUNT": "5"}, {"MODEL_X": "1"}):
        with pytest.raises(SettingsError) as refusal:
            load_settings(secrets | fault)
        assert CANARY not in f"{refusal.value} {refusal.value!r} {refusal.value.__context__}"


def test_names_are_read_from_commas() -> None:
    settings, _ = load_settings(
        {"TRADING_STRATEGIES": " a, b ,c", "TRADING_ASSETS": "btcusdt,ETHUSDT", "MARKET_DATA_QUEUES": "none"}
    )
    assert settings.trading_strategies == ("a", "b", "c")
    assert settings.trading_assets == ("BTCUSDT", "ETHUSDT")
    assert settings.market_data_queues == ()


def test_strategies_follow_the_settings() -> None:
    settings, _ = load_settings({"TRADING_STRATEGIES": "a,b", "TAKE_PROFIT_ENABLED": "false"})
    strategies = strategies_from(settings)
    assert [strategy.strategy_id for strategy in strategies] == ["a", "b"]
    assert all(strategy.take_profit_percent is None for strategy in strategies)
    assert all(strategy.stop_loss_percent == 2.0 for strategy in strategies)


DASK = {"TRAINING_ENGINE": "dask", "DASK_SCHEDULER_ADDRESS": "tcp://scheduler:8786"}


@pytest.mark.parametrize("address", ["tcp://scheduler:8786", "tls://[::1]:1", "10.0.0.7:8786"])
def test_training_on_dask_is_a_matter_of_two_settings(address: str) -> None:
    settings, warnings = load_settings({"TRAINING_ENGINE": "dask", "DASK_SCHEDULER_ADDRESS": address})
    assert (settings.training_engine, settings.dask_scheduler_address, warnings) == ("dask", address, [])
    assert settings.dataset_path == settings.model_service_state_path / "datasets"
    assert load_settings({**DASK, "TRAINING_DATASET_PATH": "/datasets"})[0].dataset_path == Path("/datasets")
    assert load_settings({"TRAINING_DATASET_PATH": "/datasets"})[0].dataset_path is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"DASK_SCHEDULER_ADDRESS": ""}, "DASK_SCHEDULER_ADDRESS is needed"),
        ({"DASK_SCHEDULER_ADDRESS": "scheduler"}, "'scheduler'; allowed: tcp://host:port"),
        ({"DASK_SCHEDULER_ADDRESS": "http://scheduler:8786"}, "'http://scheduler:8786'; allowed: tcp://host:port"),
        ({"MODEL_TRAINING_MODEL_TYPE": "random_forest"}, "'random_forest'; allowed with TRAINING_ENGINE=dask: xgboost"),
        (
            {"MODEL_TRAINING_SEARCH_TRIALS": "5"},
            "SEARCH_TRIALS is 5; allowed with TRAINING_ENGINE=dask: 0",
        ),
        ({"TRAINING_ENGINE": "spark"}, "TRAINING_ENGINE is 'spark'; allowed: one of local, dask"),
    ],
)
def test_what_training_on_dask_cannot_do_is_refused(changes: dict[str, str], words: str) -> None:
    assert words in problem(DASK | changes)
