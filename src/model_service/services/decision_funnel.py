"""From ticks to filled orders: how many came to each step of a decision, and what held the others there.

    ticks = openings + exits at a tick + every counted reason

since a tick is recorded as one of the three and nothing else; so each step's number follows from the one before it. An
exit of a look between two ticks is none of them. Which ticks were due is stored apart from what came of them: `due` may
differ, and then something was counted twice, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from model_service.policies.reasons import ReasonCode
from model_service.services.reason_text import tell


@dataclass(frozen=True, slots=True)
class CountedReason:
    """One reason over a time: how often, and the last minute, asset, number and threshold."""

    reason: str
    occurrences: int
    last_minute: datetime
    last_asset: str
    last_value: float | None
    last_threshold: float | None


@dataclass(frozen=True, slots=True)
class CountedSignals:
    """Signals that are alike: whether they close a position, where they are, and what is known of their order.

    `at_tick` is false for exits of a look between two ticks.
    """

    is_exit: bool
    status: str
    order_state: str | None
    count: int
    at_tick: bool = True


@dataclass(frozen=True, slots=True)
class Stop:
    """What held some of them at a step. `last` and `setting` are None for signals, which are past deciding."""

    name: str
    count: int
    words: str
    setting: str | None = None
    last: CountedReason | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One step: `entered = sum of stops + closed + passed`.

    Attributes:
        question: what the step asks; whoever passes has been answered yes.
        closed: ticks that became a signal here already, to close a position.
    """

    name: str
    question: str
    entered: int
    stops: tuple[Stop, ...]
    closed: int
    passed: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """All steps in order; `openings` is what passed the last step before the outbox.

    Attributes:
        looks: those of the exits that belong to no tick.
        due: how many ticks should be there; None where that was not stored for the whole time.
    """

    ticks: int
    openings: int
    exits: int
    steps: tuple[Step, ...]
    looks: int = 0
    due: int | None = None

    @property
    def silent(self) -> int:
        """Ticks without a signal."""
        return self.ticks - self.openings - self.exits + self.looks

    @property
    def signals(self) -> int:
        """Openings and exits."""
        return self.openings + self.exits


EXIT_STEP = "exit"
OTHER_STEP = "other"
POLICY_STEP = "policy"
"""The draw; the steps after it are the guards."""
MISSED_STEP = "ticked"
DECIDING: tuple[tuple[str, str, tuple[ReasonCode, ...]], ...] = (
    (MISSED_STEP, "Was it looked at when it was due?", (ReasonCode.TICK_MISSED,)),
    ("completed", "Did the decision run to its end?", (ReasonCode.DECISION_FAILED,)),
    (
        "market_data",
        "Are there fresh market data, and no unconfirmed jump of the price?",
        (
            ReasonCode.MARKET_DATA_MISSING,
            ReasonCode.MARKET_DATA_STALE,
            ReasonCode.PRICE_JUMP,
        ),
    ),
    (
        EXIT_STEP,
        "Is no position due to be closed?",
        (ReasonCode.EXIT_PENDING, ReasonCode.EXIT_COOLDOWN, ReasonCode.EXIT_BELOW_MINIMUM),
    ),
    (
        "mode",
        "May anybody open a position?",
        (
            ReasonCode.PAUSED,
            ReasonCode.WARMUP_DISABLED,
            ReasonCode.WARMUP_EXPIRED,
            ReasonCode.STOPPED,
            ReasonCode.LOSS_LIMIT,
            ReasonCode.PLATFORM_UNREADABLE,
        ),
    ),
    (
        POLICY_STEP,
        "Does the policy want to trade?",
        (ReasonCode.MODEL_ABSTAINS, ReasonCode.STAKE_BELOW_MINIMUM, ReasonCode.NOT_DRAWN),
    ),
    ("clock", "Are the market data not ahead of our clock?", (ReasonCode.MARKET_DATA_AHEAD,)),
    ("book", "Is the order book valid and fresh?", (ReasonCode.BOOK_INVALID, ReasonCode.BOOK_STALE)),
    ("indicators", "Are the indicators as of now?", (ReasonCode.INDICATORS_STALE,)),
    ("asset_exit", "Is no position in the asset being closed?", (ReasonCode.ASSET_EXIT_OPEN,)),
    ("open_order", "Is no order of the asset open?", (ReasonCode.OPEN_ORDER,)),
    ("position", "Is the strategy's position within its limit?", (ReasonCode.POSITION_LIMIT,)),
    ("platform_position", "Is the platform's position within the limits?", (ReasonCode.PLATFORM_POSITION_LIMIT,)),
    ("platform_book", "Does the platform know our position?", (ReasonCode.PLATFORM_CONTRADICTS_BOOK,)),
    ("order_quantity", "Does order-manager take such a quantity?", (ReasonCode.ORDER_MANAGER_POSITION_SIZE,)),
    (
        "balance",
        "Is the balance known and enough?",
        (ReasonCode.BALANCE_UNKNOWN, ReasonCode.BALANCE_STALE, ReasonCode.BALANCE_TOO_LOW),
    ),
    ("amount", "Is the amount large enough for the exchange?", (ReasonCode.AMOUNT_BELOW_MINIMUM,)),
    ("order_amount", "Does order-manager take such an amount?", (ReasonCode.ORDER_MANAGER_AMOUNT,)),
    ("rate_limit", "Does the rate limit allow one more?", (ReasonCode.RATE_LIMITED,)),
    ("limits_known", "Can the limits that all processes share be looked at?", (ReasonCode.LIMITS_BUSY,)),
    ("exposure", "Are all positions together within their limit?", (ReasonCode.EXPOSURE_LIMIT,)),
    ("conflict", "Has no other strategy just opened the other side?", (ReasonCode.CONFLICTING_SIGNAL,)),
    ("total_rate", "Does the rate limit of all strategies allow one more?", (ReasonCode.TOTAL_RATE_LIMITED,)),
)
"""The steps of `SignalGenerator` in their order: name, question, the reasons that end a tick there."""

OUTBOX = {
    "pending": "wait to be sent",
    "sending": "are being sent; the broker has not confirmed them yet",
    "expired": "were too old before they could be sent, and were not",
    "unroutable": "came back from the broker: no queue is bound that would take them",
    "stopped": "lay in the outbox when trading was stopped, and were not sent",
}
ORDERS = {
    "unknown": "nothing has been heard of an order yet",
    "pending": "their order is open and not filled",
    "cancelled": "their order was cancelled",
    "rejected": "their order was rejected",
    "lost": "no order ever came of them",
    "dry_run": "order-manager only pretended to trade (dry run)",
}
FILLED = ("filled", "partially_filled")


def funnel(reasons: Sequence[CountedReason], signals: Sequence[CountedSignals], due: int | None = None) -> Funnel:
    """The funnel of what was counted over one time, of one strategy, on one asset or all."""
    exits = sum(one.count for one in signals if one.is_exit)
    openings = sum(one.count for one in signals) - exits
    looks = sum(one.count for one in signals if one.is_exit and not one.at_tick)
    ticks = openings + exits - looks + sum(one.occurrences for one in reasons)
    steps = (*_deciding(ticks, exits - looks, reasons), *_delivering(signals))
    return Funnel(ticks, openings, exits, steps, looks, due)


def _deciding(ticks: int, exits: int, reasons: Sequence[CountedReason]) -> list[Step]:
    counted = {one.reason: one for one in reasons}
    placed = {code.value for _, _, codes in DECIDING for code in codes}
    strangers = sorted(counted.keys() - placed)
    plan: list[tuple[str, str, Sequence[str]]] = [(name, question, codes) for name, question, codes in DECIDING]
    if strangers:
        # Counted by another release: where they belong is unknown, but they were ticks, and have to be in the sum.
        plan.insert(0, (OTHER_STEP, "Is the reason known to this version?", strangers))
    steps, entered = [], ticks
    for name, question, codes in plan:
        stops = tuple(_stop(counted[code]) for code in codes if code in counted)
        closed = exits if name == EXIT_STEP else 0
        passed = entered - closed - sum(stop.count for stop in stops)
        steps.append(Step(name, question, entered, stops, closed, passed))
        entered = passed
    return steps


def _stop(counted: CountedReason) -> Stop:
    words, setting = tell(counted.reason, counted.last_value, counted.last_threshold)
    return Stop(counted.reason, counted.occurrences, words, setting, counted)


def _delivering(signals: Sequence[CountedSignals]) -> list[Step]:
    published = [one for one in signals if one.status == "published"]
    by_status = _sums((one.status, one.count) for one in signals if one.status != "published")
    by_order = _sums((one.order_state or "unknown", one.count) for one in published if one.order_state not in FILLED)
    outbox = _step("published", "Has the broker confirmed it, opening or exit?", signals, by_status, OUTBOX)
    return [outbox, _step("filled", "Was the order filled, wholly or in part?", published, by_order, ORDERS)]


def _step(
    name: str, question: str, signals: Sequence[CountedSignals], held: Mapping[str, int], words: Mapping[str, str]
) -> Step:
    entered = sum(one.count for one in signals)
    known = [state for state in words if state in held]
    strangers = sorted(held.keys() - words.keys())
    stops = tuple(
        Stop(state, held[state], words.get(state, f"are {state!r}, which this version does not know"))
        for state in (*known, *strangers)
    )
    return Step(name, question, entered, stops, 0, entered - sum(held.values()))


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for name, count in pairs:
        sums[name] = sums.get(name, 0) + count
    return sums
