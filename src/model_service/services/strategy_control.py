"""Takes a changed strategy file into the running service: all of it at once, or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

import structlog

from model_service.config.strategy_file import ConfiguredStrategy, StrategiesRefused, StrategyText
from model_service.services.errors import Refused
from model_service.services.markets import Markets
from model_service.services.modes import Modes
from model_service.services.roster import StrategyRoster
from model_service.services.strategy_changes import Asked, StrategyChange, asked_for, changes
from model_service.services.training import TrainingService

log = structlog.get_logger()
LOOK_SECONDS = 1.0
"""Time between two looks at the file. A changed one is taken when two looks in a row see the same."""


class StrategySource(Protocol):
    """Where the strategies are asked for."""

    async def read(self) -> StrategyText | None:
        """The file as it is now; None where there is none. Raises StrategiesRefused when it cannot be read."""
        ...

    def parse(self, text: StrategyText | None) -> tuple[ConfiguredStrategy, ...]:
        """The strategies in force with it. Raises StrategiesRefused."""
        ...


class StrategyStore(Protocol):
    """What strategies were last asked to be."""

    async def stored(self) -> Mapping[str, Asked]:
        """By name, of every strategy that there ever was."""
        ...

    async def record(self, changes: Sequence[StrategyChange], actor: str, now: datetime) -> None:
        """The changes and their audit, in one transaction."""
        ...


class StrategyControl:
    """Changes the roster, and does around a change what has to be done before and after it.

    Args:
        text: of the file, as the roster was made from it.
    """

    def __init__(
        self,
        roster: StrategyRoster,
        source: StrategySource,
        text: StrategyText | None,
        store: StrategyStore,
        modes: Modes,
        training: TrainingService,
        markets: Markets,
    ) -> None:
        self._roster = roster
        self._source = source
        self._store = store
        self._modes = modes
        self._training = training
        self._markets = markets
        self._settled = _digest(text)
        self._seen = self._settled
        self._refused: str | None = None
        self._faults: tuple[str, ...] = ()
        self._leaving: set[str] = set()
        self._next_look: datetime | None = None
        self._at_once: str | None = None
        # People and the watch over the file come side by side; each change is made whole before the next one begins.
        self._lock = asyncio.Lock()

    @property
    def notices(self) -> tuple[str, ...]:
        """What is not as it was asked for, one sentence each. Shown without a key, so without anything of the file."""
        count = len(self._faults)
        if not count:
            return ()
        faults = "1 fault" if count == 1 else f"{count} faults"
        return (f"the strategy file was refused ({faults}, see the log): the strategies of before go on",)

    async def start(self, now: datetime) -> None:
        """Take up what strategies were before, and note what has changed since. Raises DatabaseUnavailable."""
        stored = await self._store.stored()
        self._roster.remember(one.definition for one in stored.values())
        made = changes(stored, asked_for(self._roster.configured))
        if made:
            await self._store.record(made, "start", now)
            _log_changes(made, "start")
        await self._markets.ensure(_assets(self._roster), now)

    def reload_soon(self, actor: str) -> None:
        """Let the next step take the file as it is, changed or not; for a signal handler, which cannot wait."""
        self._at_once = actor

    async def step(self, now: datetime) -> None:
        """Look at the file when a look is due. Raises DatabaseUnavailable; the next step begins again there."""
        async with self._lock:
            await self._cancel_trainings(now)
            if self._at_once is None and self._next_look is not None and now < self._next_look:
                return
            self._next_look = now + timedelta(seconds=LOOK_SECONDS)
            try:
                await self._look(now)
            except StrategiesRefused:
                return

    async def reload(self, actor: str, now: datetime) -> Sequence[StrategyChange]:
        """Take the file as it is now; returns what has changed.

        Raises:
            Refused: there is no file, or it cannot be used; `faults` of its details says why. Nothing has changed then.
        """
        async with self._lock:
            try:
                text = await self._read()
                if text is None:
                    raise Refused("no_strategy_file", "There is no strategy file; TRADING_STRATEGIES_FILE is not set.")
                return await self._take(text, actor, now)
            except StrategiesRefused as error:
                message = "The strategy file cannot be used; the strategies of before go on."
                raise Refused("strategies_refused", message, {"faults": list(error.lines)}, kind="conflict") from error

    async def _look(self, now: datetime) -> None:
        text = await self._read()
        if self._at_once is not None:
            await self._take(text, self._at_once, now)
            self._at_once = None
            return
        digest = _digest(text)
        # A file that is being written grows between two looks; half of it could be a valid file of fewer strategies.
        is_still = digest == self._seen
        self._seen = digest
        if is_still and digest == self._settled:
            self._refused, self._faults = None, ()
        elif is_still and digest != self._refused:
            await self._take(text, "file", now)

    async def _read(self) -> StrategyText | None:
        try:
            return await self._source.read()
        except StrategiesRefused as error:
            self._at_once = None
            # Not there for a moment, as while another file takes its name, is not worth a word.
            digest = "".join(error.lines)
            if digest in (self._seen, self._refused):
                self._refuse(error, digest)
            self._seen = digest
            raise

    async def _take(self, text: StrategyText | None, actor: str, now: datetime) -> Sequence[StrategyChange]:
        digest = _digest(text)
        try:
            configured = self._source.parse(text)
        except StrategiesRefused as error:
            self._at_once = None
            self._refuse(error, digest)
            raise
        made = await self._apply(configured, actor, now)
        self._settled, self._refused, self._faults = digest, None, ()
        return made

    def _refuse(self, error: StrategiesRefused, digest: str) -> None:
        self._faults = error.lines
        if digest != self._refused:
            log.error("strategies_refused", faults=list(error.lines))
        self._refused = digest

    async def _apply(
        self, configured: Sequence[ConfiguredStrategy], actor: str, now: datetime
    ) -> Sequence[StrategyChange]:
        after = asked_for(configured)
        made = changes(asked_for(self._roster.configured), after)
        if not made:
            return made
        # Everything that can fail comes before the roster changes, and may be done again.
        await self._markets.ensure(_assets(StrategyRoster(configured)), now)
        for change in made:
            if change.kind in ("added", "enabled"):
                await self._modes.take_up(change.strategy_id, now)
        # Against the table and not against memory: the answer to a COMMIT may have been lost the last time.
        unrecorded = changes(await self._store.stored(), after)
        if unrecorded:
            await self._store.record(unrecorded, actor, now)
        self._roster.adopt(configured, now)
        _log_changes(made, actor)
        self._leaving |= {change.strategy_id for change in made if change.kind in ("removed", "disabled")}
        await self._cancel_trainings(now)
        return made

    async def _cancel_trainings(self, now: datetime) -> None:
        for strategy_id in sorted(self._leaving):
            if self._roster.get(strategy_id) is None:
                await self._training.cancel(strategy_id, now)
            self._leaving.discard(strategy_id)


def _digest(text: StrategyText | None) -> str:
    return "" if text is None else hashlib.sha256(text.content).hexdigest()


def _assets(roster: StrategyRoster) -> Iterable[str]:
    return {asset for strategy in roster.current for asset in strategy.assets}


def _log_changes(made: Sequence[StrategyChange], actor: str) -> None:
    for change in made:
        log.info(
            "strategies_changed",
            strategy=change.strategy_id,
            change=change.kind,
            actor=actor,
            values={key: list(values) for key, values in change.values.items() if change.kind != "added"},
            label_rule_changed=change.label_rule_changed,
        )
