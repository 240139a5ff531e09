"""An opening of one asset at one tick: policy, draw, guards, and the record of all of it; or why there is none."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from model_service.config.clock import Identifiers
from model_service.config.strategies import StrategyDefinition
from model_service.contracts.types import Side
from model_service.policies.base import ActionProbabilities, Proposal
from model_service.policies.reasons import Reason, ReasonCode
from model_service.services.conditions import Conditions
from model_service.services.decision import amounts_of, draw
from model_service.services.decision_evidence import deciding_settings, decision_evidence
from model_service.services.decision_pass import DecisionPass, GenerationLimits, under_way_amount
from model_service.services.guard_readings import guard_readings
from model_service.services.guards import halted, refuse_opening
from model_service.services.modes import Modes
from model_service.services.opening_request import OpeningRequest
from model_service.services.ports import PLATFORM_SECONDS, DecidedSignal, NoneDraw
from model_service.services.rate_limit import TokenBucket
from model_service.services.signal_record import Tick, none_draw, opening_signal


class Openings:
    """Decides openings; remembers of each strategy what its rate limit has left."""

    def __init__(self, modes: Modes, identifiers: Identifiers, limits: GenerationLimits) -> None:
        self._modes = modes
        self._identifiers = identifiers
        self._limits = limits
        # Kept when a strategy changes or goes: taking it away and adding it again must not fill its bucket.
        self._buckets: dict[str, TokenBucket] = {}
        self._settings: dict[str, tuple[StrategyDefinition, Mapping[str, Any]]] = {}

    def decide(self, tick: Tick, decided: DecisionPass) -> Reason | None:
        """Append a signal and return None, or return the reason for silence."""
        policy = self._modes.policy(tick.strategy.strategy_id, tick.now)
        if isinstance(policy, Reason):
            return policy
        if decided.conditions is None:
            return Reason(ReasonCode.DECISION_FAILED)
        held = halted(tick.strategy.strategy_id, decided.conditions.halts)
        if held is not None:
            return held
        if decided.platform_unread_seconds is not None:
            return Reason(ReasonCode.PLATFORM_UNREADABLE, decided.platform_unread_seconds, PLATFORM_SECONDS)
        proposal = policy.propose(tick.strategy, tick.snapshot, tick.features, self._limits.tick_seconds)
        rng = random.Random(tick.seed)  # noqa: S311 - recorded randomness, not secrecy
        drew = draw(tick.strategy, proposal.probabilities, rng)
        keeps_none = rng.random() < self._limits.none_sample_rate
        if drew.side is None and not keeps_none:
            # Most ticks end here. What the guards would have left to draw matters only where it is recorded.
            return proposal.none_reason
        asked = self._asked(tick, proposal, drew.amount, decided)
        if drew.side is None or drew.side in asked.refused:
            if keeps_none:
                decided.nones.append(self._none(tick, proposal, asked.allowed))
            return proposal.none_reason if drew.side is None else asked.refused[drew.side]
        self._append(tick, drew.side, proposal, asked, decided, keeps_none=keeps_none)
        return None

    def give_back(self, signals: Iterable[DecidedSignal]) -> None:
        """These came to nothing: the rate limits have one more again for each opening; exits take nothing of them."""
        for one in signals:
            if one.intent != "exit":
                self._bucket(one.signal.strategy_id).give_back()

    def _asked(self, tick: Tick, proposal: Proposal, drawn: Decimal, decided: DecisionPass) -> _Asked:
        """Ask the guards of both sides."""
        position = float(tick.position_quantity) * tick.snapshot.price
        amounts = amounts_of(tick.strategy, proposal, drawn, position)
        requests = self._requests(tick, amounts, position, decided)
        refused = {side: reason for side, one in requests.items() if (reason := refuse_opening(one)) is not None}
        return _Asked(position, requests, refused, proposal.probabilities.masked(refused))

    def _append(
        self, tick: Tick, side: Side, proposal: Proposal, asked: _Asked, decided: DecisionPass, *, keeps_none: bool
    ) -> None:
        request = asked.requests[side]
        signal_id = self._identifiers.new()
        evidence = decision_evidence(
            tick.strategy,
            tick.snapshot,
            self._limits.tick_seconds,
            guard_readings(request),
            position_amount=asked.position_amount,
            platform_position_amount=request.platform_position_amount,
            refused=asked.refused,
            settings=self._deciding_settings(tick.strategy),
        )
        expiry = self._limits.expiry_seconds
        decided.signals.append(
            opening_signal(
                tick, side, proposal, asked.allowed, request.amount, signal_id, expiry_seconds=expiry, evidence=evidence
            )
        )
        self._bucket(tick.strategy.strategy_id).take(tick.now)
        decided.asked[side] += request.amount
        if keeps_none:
            # Should the limits that all processes share forbid it, it is a draw of `none` by what was left to draw.
            without = asked.allowed.masked({side: Reason(ReasonCode.LIMITS_BUSY)})
            decided.spare[signal_id] = self._none(tick, proposal, without)

    def _requests(
        self, tick: Tick, amounts: Mapping[Side, Decimal], position: float, decided: DecisionPass
    ) -> dict[Side, OpeningRequest]:
        """What the guards look at, for each side."""
        conditions = decided.conditions or Conditions()
        tokens = self._bucket(tick.strategy.strategy_id).available(tick.now)
        asset, price = tick.snapshot.asset, tick.snapshot.price
        return {
            side: OpeningRequest(
                strategy=tick.strategy,
                limits=self._limits.guards,
                snapshot=tick.snapshot,
                side=side,
                amount=amounts[side],
                position_amount=position,
                open_orders=tick.orders,
                tokens=tokens,
                platform_position_amount=tick.platform_position * price,
                platform_limit_amount=decided.position_limits[asset],
                halts=conditions.halts,
                balance=conditions.balances.of(side),
                asked_amount=decided.asked_of_balance(side),
                platform_quantity=tick.platform_position,
                under_way_amount=under_way_amount(tick.orders, side),
                open_exits=decided.exits_of(asset),
                balance_is_unread=side in conditions.balances.unread,
                book_amount=decided.book_quantity(asset) * price,
                platform_is_known=decided.platform_positions is not None,
            )
            for side in Side
        }

    def _none(self, tick: Tick, proposal: Proposal, allowed: ActionProbabilities) -> NoneDraw:
        return none_draw(tick, proposal, allowed, self._identifiers.new(), sample_rate=self._limits.none_sample_rate)

    def _bucket(self, strategy_id: str) -> TokenBucket:
        if strategy_id not in self._buckets:
            limits = self._limits
            self._buckets[strategy_id] = TokenBucket(per_minute=limits.rate_per_minute, burst=limits.burst)
        return self._buckets[strategy_id]

    def _deciding_settings(self, strategy: StrategyDefinition) -> Mapping[str, Any]:
        known = self._settings.get(strategy.strategy_id)
        if known is None or known[0] is not strategy:
            known = self._settings[strategy.strategy_id] = strategy, deciding_settings(strategy)
        return known[1]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the guards were asked of each side, and what they have left to draw."""

    position_amount: float
    requests: Mapping[Side, OpeningRequest]
    refused: Mapping[Side, Reason]
    allowed: ActionProbabilities
