"""The keys of a strategy's table in TRADING_STRATEGIES_FILE: what each means, and which settings hold without it.

The keys themselves, their types and limits are the fields of `StrategyDefinition`, so that a new field is a new key.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from model_service.config.allowed import allowed_values, without_none
from model_service.config.strategies import StrategyDefinition
from model_service.config.training import CLASS_WEIGHT_WORDS

ENABLED = "enabled"
"""A key of the file alone: false stops the openings of a strategy and keeps its exits."""

OF_THE_SERVICE = frozenset({"strategy_id", "bar_seconds", "assets_from_balances"})
"""Fields of a definition that are no keys: the table's own name, what is the same for all, what is derived."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a person has to know of a key.

    Attributes:
        meaning: one line, with the unit.
        settings: what it comes from where neither the strategy's table nor [defaults] sets it; empty: the default.
        allowed: in words, where the field's type does not say it well.
    """

    meaning: str
    settings: tuple[str, ...] = ()
    allowed: str = ""


KEYS: Mapping[str, Key] = {
    "assets": Key(
        "What is traded; account_balances: every coin that the platform holds.",
        ("TRADING_ASSETS",),
        'a list of different assets of 4 to 20 letters and digits, such as ["BTCUSDT"], or "account_balances"',
    ),
    "model_type": Key("Kind of model.", ("MODEL_TRAINING_MODEL_TYPE",)),
    "horizon_seconds": Key(
        "At this age a trade is judged, in seconds; at least 3 bars.", ("MODEL_PREDICTION_HORIZON_SECONDS",)
    ),
    "take_profit_percent": Key(
        "Upper barrier, percent of the entry price.", ("TAKE_PROFIT_ENABLED", "MODEL_SERVICE_TAKE_PROFIT_PCT")
    ),
    "stop_loss_percent": Key(
        "Lower barrier, percent of the entry price, positive.", ("STOP_LOSS_ENABLED", "STOP_LOSS_THRESHOLD_PCT")
    ),
    "fee_rate": Key("Fee per side, a fraction of the notional.", ("TRADING_FEE_RATE",)),
    "fee_rates": Key(
        "The same of single assets, where it is another.",
        ("TRADING_FEE_RATES",),
        "a table of assets, each with a number from -0.01 to 0.05",
    ),
    "minimum_net_return": Key("Least net return of label 1, a fraction.", ("MODEL_CLASSIFICATION_THRESHOLD",)),
    "signals_per_minute": Key("Signals of the warm-up per minute, over all assets.", ("WARMUP_SIGNAL_FREQUENCY",)),
    "warmup_duration_hours": Key(
        "A warm-up of that age without a model opens nothing more, hours; none: it has no end.",
        ("WARMUP_DURATION_HOURS",),
    ),
    "randomness": Key("Of the warm-up; 0: heuristics alone, 1: a coin.", ("WARMUP_RANDOMNESS_LEVEL",)),
    "probability_floor": Key("Least probability of each side, given a signal.", ("WARMUP_PROBABILITY_FLOOR",)),
    "minimum_amount": Key("Least amount of an opening, quote currency.", ("WARMUP_MIN_AMOUNT",)),
    "maximum_amount": Key("Largest amount of an opening, quote currency.", ("WARMUP_MAX_AMOUNT",)),
    "exchange_minimum_amount": Key("The exchange's minimum, quote currency.", ("TRADING_MIN_ORDER_AMOUNT",)),
    "exchange_minimum_amounts": Key(
        "The same of single assets, where it is another.",
        ("TRADING_MIN_ORDER_AMOUNTS",),
        "a table of assets, each with a number over 0",
    ),
    "maximum_position_amount": Key("Largest position in an asset, quote currency.", ("TRADING_MAX_POSITION_AMOUNT",)),
    "exits_enabled": Key("Close positions at the barriers that define labels.", ("EXIT_STRATEGY_ENABLED",)),
    "exploration_rate": Key("Share of exploring draws after promotion.", ("MODEL_EXPLORATION_RATE",)),
    "action_threshold": Key("Least probability of profit to act on.", ("MODEL_ACTION_THRESHOLD",)),
    "hysteresis": Key(
        "What the probability must reach over that to act against the strategy's own position.",
        ("MODEL_ACTION_HYSTERESIS",),
    ),
    "sizing": Key(
        "Amount of a model's signal: fixed, rising with the probability, or a part of Kelly's.", ("MODEL_SIZING",)
    ),
    "model_amount": Key("Amount under fixed, quote currency; none: minimum_amount.", ("MODEL_AMOUNT",)),
    "kelly_fraction": Key("Part of Kelly's share that kelly stakes.", ("MODEL_KELLY_FRACTION",)),
    "capital_amount": Key("What kelly takes its share of, quote currency; needed for it.", ("TRADING_CAPITAL_AMOUNT",)),
    "accuracy_threshold": Key("Gate condition 2: least accuracy.", ("MODEL_QUALITY_THRESHOLD_ACCURACY",)),
    "minimum_dataset_size": Key("Rows under which training is refused.", ("MODEL_TRAINING_MIN_DATASET_SIZE",)),
    "retrain_after_outcomes": Key("So many new outcomes start a run.", ("MODEL_RETRAINING_MIN_NEW_OUTCOMES",)),
    "training_seed": Key("Seed of training.", ("MODEL_TRAINING_SEED",)),
    "exits.trailing_activation_percent": Key(
        "The trailing stop is armed once the best price lies so far beyond the mean entry price, percent of that.",
        ("TRAILING_STOP_ENABLED", "TRAILING_STOP_ACTIVATION_PCT"),
    ),
    "exits.trailing_distance_percent": Key(
        "So far behind the best price it stands, percent of the mean entry price; none: no trailing stop.",
        ("TRAILING_STOP_ENABLED", "TRAILING_STOP_DISTANCE_PCT"),
    ),
    "exits.take_profit_part_percent": Key(
        "Share of a lot that is closed at the take-profit, percent; none: all of it.",
        ("TAKE_PROFIT_PARTIAL_EXIT", "TAKE_PROFIT_PARTIAL_AMOUNT_PCT"),
    ),
    "exits.maximum_holding_hours": Key(
        "How long a lot is held, hours; none: until the horizon.",
        ("TIME_BASED_EXIT_ENABLED", "TIME_BASED_EXIT_MAX_HOURS"),
    ),
    "exits.holding_profit_percent": Key(
        "Profit that closes a lot sooner, percent of the entry price; it falls with the age. none: none does.",
        ("TIME_BASED_EXIT_ENABLED", "TIME_BASED_EXIT_PROFIT_TARGET_PCT"),
    ),
    "exits.cooldown_seconds": Key(
        "Least time between two attempts to close one position, seconds.", ("EXIT_STRATEGY_RATE_LIMIT",)
    ),
    "training.hyperparameters": Key(
        "What a fit takes instead of the defaults, by the model type (configuration.md).",
        ("MODEL_TRAINING_HYPERPARAMETERS",),
        "a table of the hyperparameters of the model type",
    ),
    "training.class_weight": Key(
        "Weight of label 1 against 1 of label 0.", ("MODEL_TRAINING_CLASS_WEIGHT",), CLASS_WEIGHT_WORDS
    ),
    "training.recency_half_life_hours": Key(
        "A row that is older by so much counts half in a fit, hours; none: age does not count.",
        ("MODEL_TRAINING_RECENCY_HALF_LIFE_HOURS",),
    ),
    "training.monotone_constraints": Key(
        "The score may only rise (1) or fall (-1) with a feature; XGBoost only.",
        ("MODEL_TRAINING_MONOTONE_CONSTRAINTS",),
        "a table of feature names, each with 1 or -1",
    ),
    "training.early_stopping_rounds": Key(
        "XGBoost stops after so many rounds without a better loss on later rows.",
        ("MODEL_TRAINING_EARLY_STOPPING_ROUNDS",),
    ),
    "training.search_trials": Key(
        "Sets of hyperparameters tried inside the training block (extra tune); 0: none.",
        ("MODEL_TRAINING_SEARCH_TRIALS",),
    ),
    "training.walk_forward_folds": Key(
        "Folds of the walk-forward report, which decides nothing; 0: no report.",
        ("MODEL_TRAINING_WALK_FORWARD_FOLDS",),
    ),
}


def file_keys(model: type[BaseModel] = StrategyDefinition, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key with its field, those of a sub-table as `exits.cooldown_seconds`, in the order of the definition."""
    for name, field in model.model_fields.items():
        table = table_of(field)
        if table is not None:
            yield from file_keys(table, f"{prefix}{name}.")
        elif prefix or name not in OF_THE_SERVICE:
            yield f"{prefix}{name}", field


def meaning_of(key: str, field: FieldInfo) -> str:
    """What a key means, one line."""
    return KEYS[key].meaning if key in KEYS else field.description or ""


def allowed_of(key: str, field: FieldInfo) -> str:
    """What a key accepts in the file, in words."""
    if key in KEYS and KEYS[key].allowed:
        return KEYS[key].allowed
    kind = get_origin(without_none(field.annotation))
    if kind is tuple:
        words = "a list of names"
    elif isinstance(kind, type) and issubclass(kind, Mapping):
        words = "a table"
    else:
        words = allowed_values(field)
    return f'{words}, or "none"' if may_be_none(field) else words


def table_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a field that is a sub-table; None where it is a value."""
    annotation = field.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def may_be_none(field: FieldInfo) -> bool:
    """Whether `none` may stand there, which TOML itself does not know."""
    return NoneType in get_args(field.annotation)
