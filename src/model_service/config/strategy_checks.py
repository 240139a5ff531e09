"""What must hold between the parameters of one strategy, whether they come from the environment or from a file.

Each check says in one line what is wrong, or None. What it calls the parameters is given by the caller: a person wants
to read the name that they have written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Names:
    """What the parameters are called where they were set, and what ends a trailing stop that is never armed."""

    minimum_amount: str
    maximum_amount: str
    horizon_seconds: str
    take_profit_percent: str
    trailing_activation_percent: str
    trailing_remedy: str
    model_type: str
    search_trials: str
    sizing: str
    capital_amount: str
    model_amount: str
    exchange_minimum_amount: str
    exchange_minimum_amounts: str


OF_SETTINGS = Names(
    minimum_amount="WARMUP_MIN_AMOUNT",
    maximum_amount="WARMUP_MAX_AMOUNT",
    horizon_seconds="MODEL_PREDICTION_HORIZON_SECONDS",
    take_profit_percent="MODEL_SERVICE_TAKE_PROFIT_PCT",
    trailing_activation_percent="TRAILING_STOP_ACTIVATION_PCT",
    trailing_remedy="set TAKE_PROFIT_PARTIAL_EXIT=true or TAKE_PROFIT_ENABLED=false",
    model_type="MODEL_TRAINING_MODEL_TYPE",
    search_trials="MODEL_TRAINING_SEARCH_TRIALS",
    sizing="MODEL_SIZING",
    capital_amount="TRADING_CAPITAL_AMOUNT",
    model_amount="MODEL_AMOUNT",
    exchange_minimum_amount="TRADING_MIN_ORDER_AMOUNT",
    exchange_minimum_amounts="TRADING_MIN_ORDER_AMOUNTS",
)
OF_FILE = Names(
    minimum_amount="minimum_amount",
    maximum_amount="maximum_amount",
    horizon_seconds="horizon_seconds",
    take_profit_percent="take_profit_percent",
    trailing_activation_percent="exits.trailing_activation_percent",
    trailing_remedy='set exits.take_profit_part_percent or take_profit_percent = "none"',
    model_type="model_type",
    search_trials="training.search_trials",
    sizing="sizing",
    capital_amount="capital_amount",
    model_amount="model_amount",
    exchange_minimum_amount="exchange_minimum_amount",
    exchange_minimum_amounts="exchange_minimum_amounts",
)


def amounts_fault(least: Decimal | float, most: Decimal | float, names: Names) -> str | None:
    """An opening's amount is drawn between the two."""
    if most >= least:
        return None
    return f"{names.maximum_amount} is {most}; allowed: from {names.minimum_amount}, which is {least}"


def exchange_minimum_fault(
    least: Decimal | float, by_asset: Mapping[str, Decimal | float], most: Decimal | float, names: Names
) -> str | None:
    """Over the largest amount nothing could be opened, and positions of before not be closed, stop-loss or not."""
    named = [
        (names.exchange_minimum_amount, least),
        *((f"{names.exchange_minimum_amounts} of {asset}", amount) for asset, amount in by_asset.items()),
    ]
    for name, amount in named:
        if amount > most:
            return (
                f"{name} is {amount}; allowed: up to {names.maximum_amount}, which is {most}: else nothing could be "
                "opened, and smaller positions not be closed"
            )
    return None


def sizing_fault(sizing: str, capital: Decimal | float | None, names: Names) -> str | None:
    """Kelly stakes a share of something."""
    if sizing != "kelly" or capital is not None:
        return None
    return f"{names.sizing} is 'kelly'; then {names.capital_amount} is needed, in quote currency"


def model_amount_fault(
    amount: Decimal | float | None, least: Decimal | float, most: Decimal | float, names: Names
) -> str | None:
    """A stated amount lies within the bounds of all amounts."""
    if amount is None or least <= amount <= most:
        return None
    return (
        f"{names.model_amount} is {amount}; allowed: from {names.minimum_amount}, {least}, to "
        f"{names.maximum_amount}, {most}"
    )


def horizon_fault(horizon_seconds: int, bar_seconds: int, names: Names) -> str | None:
    """A label needs a path of three bars."""
    if horizon_seconds >= 3 * bar_seconds:
        return None
    return (
        f"{names.horizon_seconds} is {horizon_seconds}; allowed: from 3 bars of "
        f"MARKET_DATA_BAR_SECONDS, {bar_seconds}; lengthen one or shorten the other"
    )


def trailing_fault(activation_percent: float, take_profit_percent: float, names: Names) -> str | None:
    """Where a whole lot is closed at the take-profit, a trailing stop has to be armed before it."""
    if activation_percent < take_profit_percent:
        return None
    return (
        f"{names.trailing_activation_percent} is {activation_percent}; allowed: under "
        f"{names.take_profit_percent}, {take_profit_percent}, where all of a lot is closed; "
        f"lower it, or {names.trailing_remedy}"
    )


def dask_faults(model_type: str, search_trials: int, names: Names) -> Sequence[str]:
    """What the engine dask cannot do."""
    faults = []
    if model_type != "xgboost":
        faults.append(
            f"{names.model_type} is {model_type!r}; allowed with TRAINING_ENGINE=dask: xgboost; change one or the other"
        )
    if search_trials:
        faults.append(
            f"{names.search_trials} is {search_trials}; allowed with TRAINING_ENGINE=dask: 0; "
            "search with TRAINING_ENGINE=local and set MODEL_TRAINING_HYPERPARAMETERS"
        )
    return faults


def device_fault(model_type: str, device: str, names: Names) -> str | None:
    """Only XGBoost computes on a GPU."""
    if device == "cpu" or model_type == "xgboost":
        return None
    return f"{names.model_type} is {model_type!r}; allowed with MODEL_TRAINING_DEVICE={device}: xgboost"
