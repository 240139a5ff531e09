"""What each reason for silence means to a trader: a sentence with its numbers, and the setting that moves it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from model_service.policies.reasons import ReasonCode

Number = float | None


@dataclass(frozen=True, slots=True)
class ReasonText:
    """How a reason is told.

    Attributes:
        sentence: from the number that was looked at and its threshold; either may be unknown.
        setting: the setting that moves the threshold, None where no setting does.
    """

    sentence: Callable[[Number, Number], str]
    setting: str | None = None


def tell(code: str, value: Number, threshold: Number) -> tuple[str, str | None]:
    """The sentence for a reason that was counted, and the setting that moves it.

    A code that this version does not know (counted by another release) is said to be unknown.

    Example:
        >>> tell("open_order", 2.0, 0.0)[0]
        '2 orders of the asset are still open; at most 0 may be when a new one is asked for'
    """
    text = TEXTS.get(code)
    if text is None:
        return f"counted as {code!r}, which this version does not know", None
    return text.sentence(_known(value), _known(threshold)), text.setting


def _known(number: Number) -> Number:
    return number if number is not None and math.isfinite(number) else None


def _n(number: Number, form: str = ",.6g") -> str:
    return "an unknown number" if number is None else f"{number:{form}}"


def _always(text: str) -> Callable[[Number, Number], str]:
    return lambda _value, _threshold: text


def _expired(value: Number, threshold: Number) -> str:
    return (
        f"the warm-up has lasted {_n(value, ',.1f')} h without a model that passed the gate; {_n(threshold)} h are "
        "allowed. Positions are still closed"
    )


def _missed(value: Number, threshold: Number) -> str:
    return (
        f"nothing was decided for {_n(value, ',.1f')} s, and a tick is due every {_n(threshold)} s: the database was "
        "away, passes failed, or one took longer than that. The log has it under ticks_missed"
    )


def _stale(value: Number, threshold: Number) -> str:
    return f"the newest market data were {_n(value, ',.1f')} s old; at most {_n(threshold)} s are allowed"


def _abstains(value: Number, threshold: Number) -> str:
    chance, floor = _n(value, ".4f"), _n(threshold, ".4f")
    return f"the model gave its better side a chance of {chance} of a profit after costs; it acts from {floor} on"


def _stake(value: Number, threshold: Number) -> str:
    return (
        f"Kelly's stake on the lower bound of the model's probability was {_n(value)} in quote currency; the least "
        f"amount of a signal is {_n(threshold)}"
    )


def _not_drawn(value: Number, _threshold: Number) -> str:
    share = "an unknown share" if value is None else f"{100 * value:.2f} %"
    return f"acting was not drawn: the signal frequency lets {share} of the ticks act, by chance. No fault"


def _book(value: Number, threshold: Number) -> str:
    if value is None:
        return "the order book has no bid or no ask"
    return f"bid and ask are crossed: a spread of {_n(value)} %, more than {_n(threshold)} % is needed"


def _ahead(value: Number, threshold: Number) -> str:
    return (
        f"the newest market data were {_n(value, ',.1f')} s ahead of this machine's clock, so that their age cannot be "
        f"told; at most {_n(threshold)} s are allowed. Set the clocks right"
    )


def _jump(value: Number, threshold: Number) -> str:
    return (
        f"one event put the price {_n(value)} % away from the last one, over the limit of {_n(threshold)} %; it counts "
        "once a second event agrees"
    )


def _stale_book(value: Number, threshold: Number) -> str:
    return f"bid and ask were {_n(value, ',.1f')} s old; at most {_n(threshold)} s are allowed"


def _stale_indicators(value: Number, threshold: Number) -> str:
    return f"the newest closed bar ended {_n(value, ',.1f')} s ago; at most {_n(threshold)} s are allowed"


def _exit_pending(value: Number, _threshold: Number) -> str:
    return f"a position is due to be closed, and {_n(value)} orders that close it are open; nothing is opened meanwhile"


def _exit_cooldown(value: Number, threshold: Number) -> str:
    return (
        f"the last attempt to close the position was {_n(value, ',.1f')} s ago; the next comes after {_n(threshold)} s"
    )


def _exit_minimum(value: Number, threshold: Number) -> str:
    return (
        f"a position is due to be closed, but what is to be closed is worth {_n(value)} in quote currency, and the "
        f"exchange takes {_n(threshold)} or more; openings go on, and nothing was opened at these ticks either"
    )


def _open_order(value: Number, threshold: Number) -> str:
    return f"{_n(value)} orders of the asset are still open; at most {_n(threshold)} may be when a new one is asked for"


def _position(value: Number, threshold: Number) -> str:
    return f"the strategy's position would have come to {_n(value)} in quote currency; its limit is {_n(threshold)}"


def _platform_position(value: Number, threshold: Number) -> str:
    return (
        f"the platform's whole position would have come to {_n(value)} in quote currency; "
        f"the limits of all strategies together are {_n(threshold)}"
    )


def _contradiction(value: Number, threshold: Number) -> str:
    return (
        f"our own ledger has a position of {_n(value)} in quote currency in the asset, of which the platform's table "
        f"has nothing, or the opposite; {_n(threshold)} may differ. Find out which of them is right"
    )


def _asset_exit(value: Number, _threshold: Number) -> str:
    return (
        f"{_n(value)} orders that close a position in the asset are open, of this strategy or another; order-manager "
        "would cancel them for a new signal"
    )


def _minimum(value: Number, threshold: Number) -> str:
    return f"the amount would have been {_n(value)} in quote currency; the exchange takes {_n(threshold)} or more"


def _loss(value: Number, threshold: Number) -> str:
    return (
        f"the loss of the day came to {_n(value)} in quote currency, and the limit is {_n(threshold)}; "
        "nothing is opened until a person resumes"
    )


def _unread(value: Number, threshold: Number) -> str:
    return (
        f"the platform's orders and positions gave no answer for {_n(value, ',.1f')} s, where {_n(threshold)} s are "
        "waited for; somebody may hold a lock on those tables"
    )


def _order_quantity(value: Number, threshold: Number) -> str:
    return f"order or position would have come to {_n(value)} base units; order-manager rejects over {_n(threshold)}"


def _balance_age(value: Number, threshold: Number) -> str:
    return f"the newest balance was {_n(value, ',.1f')} s away from our clock; at most {_n(threshold)} s are allowed"


def _balance(value: Number, threshold: Number) -> str:
    return f"{_n(value)} would have been asked of a balance of which {_n(threshold)} may be used, in quote currency"


def _order_amount(value: Number, threshold: Number) -> str:
    return f"the amount would have been {_n(value)} in quote currency; order-manager cuts what is over {_n(threshold)}"


def _exposure(value: Number, threshold: Number) -> str:
    return f"all positions together would have come to {_n(value)} in quote currency; their limit is {_n(threshold)}"


def _conflict(value: Number, threshold: Number) -> str:
    return (
        f"another strategy opened the other side of the asset {_n(value, ',.1f')} s before; "
        f"the first has the word for {_n(threshold)} s"
    )


def _total_rate(value: Number, threshold: Number) -> str:
    return (
        f"the rate limit of all strategies had {_n(value, '.2f')} signals left; {_n(threshold)} is needed. "
        "It fills up with time"
    )


def _rate(value: Number, threshold: Number) -> str:
    return f"the rate limit had {_n(value, '.2f')} signals left; {_n(threshold)} is needed. It fills up with time"


TEXTS: Mapping[str, ReasonText] = {
    ReasonCode.TICK_MISSED: ReasonText(_missed, "TRADING_DECISION_INTERVAL_SECONDS"),
    ReasonCode.PAUSED: ReasonText(
        _always("the strategy is paused, by a person or by its own failures; positions are still closed")
    ),
    ReasonCode.WARMUP_DISABLED: ReasonText(
        _always("no model is active, and the warm-up is switched off"), "WARMUP_MODE_ENABLED"
    ),
    ReasonCode.WARMUP_EXPIRED: ReasonText(_expired, "WARMUP_DURATION_HOURS"),
    ReasonCode.STOPPED: ReasonText(_always("a person has stopped all trading; positions are still closed")),
    ReasonCode.LOSS_LIMIT: ReasonText(_loss, "TRADING_DAILY_LOSS_LIMIT_AMOUNT"),
    ReasonCode.PLATFORM_UNREADABLE: ReasonText(_unread, "TRADING_ORDER_LOOKUP_ENABLED"),
    ReasonCode.ORDER_MANAGER_POSITION_SIZE: ReasonText(_order_quantity, "ORDERMANAGER_MAX_POSITION_SIZE"),
    ReasonCode.BALANCE_UNKNOWN: ReasonText(
        _always("the platform's table of balances is there, and what it says cannot be read; the log names the fault")
    ),
    ReasonCode.BALANCE_STALE: ReasonText(_balance_age, "BALANCE_DATA_MAX_AGE_SECONDS"),
    ReasonCode.BALANCE_TOO_LOW: ReasonText(_balance, "BALANCE_ADAPTATION_SAFETY_MARGIN"),
    ReasonCode.ORDER_MANAGER_AMOUNT: ReasonText(_order_amount, "ORDERMANAGER_MAX_EXPOSURE"),
    ReasonCode.LIMITS_BUSY: ReasonText(
        _always("the limits that all processes share could not be looked at in time; exits did not wait for them")
    ),
    ReasonCode.EXPOSURE_LIMIT: ReasonText(_exposure, "TRADING_MAX_EXPOSURE_AMOUNT"),
    ReasonCode.CONFLICTING_SIGNAL: ReasonText(_conflict, "SIGNAL_CONFLICT_WINDOW_SECONDS"),
    ReasonCode.TOTAL_RATE_LIMITED: ReasonText(_total_rate, "SIGNAL_GENERATION_TOTAL_RATE_LIMIT"),
    ReasonCode.MARKET_DATA_MISSING: ReasonText(_always("no price of the asset has come yet"), "MARKET_DATA_QUEUES"),
    ReasonCode.MARKET_DATA_STALE: ReasonText(_stale, "MARKET_DATA_MAX_AGE_SECONDS"),
    ReasonCode.MARKET_DATA_AHEAD: ReasonText(_ahead, "MARKET_DATA_MAX_AGE_SECONDS"),
    ReasonCode.PRICE_JUMP: ReasonText(_jump, "MARKET_DATA_MAX_JUMP_PERCENT"),
    ReasonCode.EXIT_PENDING: ReasonText(_exit_pending),
    ReasonCode.EXIT_COOLDOWN: ReasonText(_exit_cooldown, "EXIT_STRATEGY_RATE_LIMIT"),
    ReasonCode.EXIT_BELOW_MINIMUM: ReasonText(_exit_minimum, "TRADING_MIN_ORDER_AMOUNT"),
    ReasonCode.BOOK_INVALID: ReasonText(_book),
    ReasonCode.BOOK_STALE: ReasonText(_stale_book, "MARKET_DATA_MAX_AGE_SECONDS"),
    ReasonCode.INDICATORS_STALE: ReasonText(_stale_indicators, "MARKET_DATA_INDICATORS_MAX_AGE_BARS"),
    ReasonCode.MODEL_ABSTAINS: ReasonText(_abstains, "MODEL_ACTION_THRESHOLD"),
    ReasonCode.STAKE_BELOW_MINIMUM: ReasonText(_stake, "MODEL_KELLY_FRACTION"),
    ReasonCode.NOT_DRAWN: ReasonText(_not_drawn, "WARMUP_SIGNAL_FREQUENCY"),
    ReasonCode.ASSET_EXIT_OPEN: ReasonText(_asset_exit),
    ReasonCode.OPEN_ORDER: ReasonText(_open_order, "SIGNAL_GENERATION_SKIP_IF_OPEN_ORDER"),
    ReasonCode.POSITION_LIMIT: ReasonText(_position, "TRADING_MAX_POSITION_AMOUNT"),
    ReasonCode.PLATFORM_POSITION_LIMIT: ReasonText(_platform_position, "TRADING_MAX_POSITION_AMOUNT"),
    ReasonCode.PLATFORM_CONTRADICTS_BOOK: ReasonText(_contradiction, "PLATFORM_POSITION_TOLERANCE_AMOUNT"),
    ReasonCode.AMOUNT_BELOW_MINIMUM: ReasonText(_minimum, "TRADING_MIN_ORDER_AMOUNT"),
    ReasonCode.RATE_LIMITED: ReasonText(_rate, "SIGNAL_GENERATION_RATE_LIMIT"),
    ReasonCode.DECISION_FAILED: ReasonText(
        _always("the decision broke off with an error; the log has it under decision_failed")
    ),
}
"""By code; a test holds that each has one."""
