"""One demo from its start to its last line."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from model_service.config.clock import Identifiers, SeededIdentifiers, VirtualClock
from model_service.config.settings import Settings
from model_service.config.strategies import StrategyDefinition, strategies_from
from model_service.database.connection import Database
from model_service.demo.candle_feed import CandleFeed
from model_service.demo.candles import CandleFile, read_candles
from model_service.demo.driver import Lockstep
from model_service.demo.ending import Ending
from model_service.demo.feed import MarketFeed
from model_service.demo.market import DEFAULT_ASSETS, SimulatedMarket
from model_service.demo.paper_orders import PaperOrders, PaperRules
from model_service.demo.reference import bayes_for_version
from model_service.demo.setup import TRAINING_SECONDS, candle_settings, fresh_folder, simulated_settings
from model_service.demo.status import DemoStatus
from model_service.demo.summary import Summary, read_summary, report_lines, summary_json
from model_service.demo.until import Until
from model_service.demo.view import Frame, View, view_for
from model_service.messaging.transport import Transport

DAY_OF_STEPS = 8640
EXIT_REACHED, EXIT_NOT_REACHED = 0, 1
LOOK_EVERY_STEPS = 6
SHOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the command line asks for.

    Attributes:
        speed: virtual seconds per real second; None: as fast as possible.
        port: of the HTTP interface; None: none.
        candles: a file in place of the simulated market.
    """

    state_dir: Path
    seed: int = 7
    until: Until = Until.PROMOTED
    speed: float | None = None
    strategies: int = 1
    candles: Path | None = None
    as_json: bool = False
    port: int | None = None


class DemoService(Protocol):
    """The service as `build` gives it."""

    @property
    def transport(self) -> Transport:
        """Where the demo's market and order-manager speak."""
        ...

    @property
    def database(self) -> Database:
        """Where the summary is read from."""
        ...

    @property
    def page(self) -> str | None:
        """Address of the page, if there is one."""
        ...

    async def start(self) -> None:
        """Begin."""
        ...

    async def step(self) -> None:
        """One deterministic pass."""
        ...

    async def stop(self) -> None:
        """End."""
        ...

    async def status(self) -> DemoStatus:
        """What the screen shows; a question to the database. Raises DatabaseUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """A demo, ready to be built."""

    feed: MarketFeed
    market: SimulatedMarket | None
    settings: Settings
    strategies: tuple[StrategyDefinition, ...]
    rules: PaperRules
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class Parts:
    """What `build` needs to make the service."""

    settings: Settings
    strategies: tuple[StrategyDefinition, ...]
    clock: VirtualClock
    identifiers: Identifiers
    training_seconds: float
    seed: int
    port: int | None


Build = Callable[[Parts], Awaitable[DemoService]]


async def run_demo(options: DemoOptions, build: Build, console: Console, stop: asyncio.Event) -> tuple[int, str | None]:
    """Run one demo until its purpose is reached, its market is over, or `stop` is set.

    Returns:
        The exit code, and with `as_json` the last line.

    Raises:
        DemoFailed, CandleFileError: with one sentence for the user.
    """
    async with AsyncExitStack() as stack:
        state = stack.enter_context(fresh_folder(options.state_dir))
        plan = plan_demo(options, state)
        clock = VirtualClock(plan.feed.start)
        service = await build(_parts(options, plan, clock))
        stack.push_async_callback(service.stop)
        await service.start()
        return await _Session(options, plan, service, clock, console, stop).run()


def plan_demo(options: DemoOptions, state: Path) -> Plan:
    """Feed, settings and strategies for `options`. Raises CandleFileError."""
    rules = PaperRules()
    if options.candles is not None:
        return _candle_plan(options, state, read_candles(options.candles), rules)
    steps = DAY_OF_STEPS if options.until is Until.END else None
    market = SimulatedMarket(options.seed, steps=steps)
    settings = simulated_settings(
        state,
        seed=options.seed,
        strategies=options.strategies,
        assets=DEFAULT_ASSETS,
        process=market.process,
        rules=rules,
    )
    note = (
        f"simulated market: {', '.join(market.assets)}; seed {options.seed}; the best possible accuracy is about 0.84"
    )
    return Plan(market, market, settings, strategies_from(settings), rules, (note,))


def _candle_plan(options: DemoOptions, state: Path, file: CandleFile, rules: PaperRules) -> Plan:
    settings = candle_settings(
        state, seed=options.seed, strategies=options.strategies, asset=file.asset, interval=file.interval, rules=rules
    )
    first, last = file.candles[0].start, file.candles[-1].start
    note = f"{len(file.candles):,} candles of {file.asset}, {file.interval} each, {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    gaps = [f"{file.gaps:,} candles are missing between them"] if file.gaps else []
    return Plan(CandleFeed(file, options.seed), None, settings, strategies_from(settings), rules, [note, *gaps])


def _parts(options: DemoOptions, plan: Plan, clock: VirtualClock) -> Parts:
    return Parts(
        settings=plan.settings,
        strategies=plan.strategies,
        clock=clock,
        identifiers=SeededIdentifiers(options.seed),
        training_seconds=TRAINING_SECONDS,
        seed=options.seed,
        port=options.port,
    )


class _Session:
    """The running demo."""

    def __init__(
        self,
        options: DemoOptions,
        plan: Plan,
        service: DemoService,
        clock: VirtualClock,
        console: Console,
        stop: asyncio.Event,
    ) -> None:
        self._options, self._plan, self._service, self._stop = options, plan, service, stop
        self._console = console
        orders = PaperOrders(plan.feed, queue=plan.settings.execution_queue, seed=options.seed, rules=plan.rules)
        self._lockstep = Lockstep(plan.feed, orders, service, service.transport, clock)
        horizon = timedelta(seconds=plan.strategies[0].horizon_seconds)
        self._ending = Ending(options.until, start=plan.feed.start, horizon=horizon)
        self._pace = Pace(options.speed)
        self._started = time.monotonic()

    async def run(self) -> tuple[int, str | None]:
        await self._lockstep.open()
        with view_for(self._console, self._service.page) as view:
            for note in self._plan.notes:
                view.say(note)
            watcher = asyncio.create_task(self._keep_showing(view), name="view")
            try:
                market_over = await self._loop(view)
                if market_over:
                    await self._finish_what_runs(view)
            finally:
                watcher.cancel()
        status = await self._service.status()
        reached = self._ending.reached(
            status, self._lockstep.now, market_over=market_over, interrupted=self._stop.is_set()
        )
        await self._lockstep.close()
        return (EXIT_REACHED if reached else EXIT_NOT_REACHED), await self._last_words()

    async def _loop(self, view: View) -> bool:
        """Step until the end; True when the market had no more."""
        while not self._stop.is_set():
            if not await self._lockstep.step():
                return True
            if self._lockstep.steps % LOOK_EVERY_STEPS == 0:
                status = await self._show(view)
                if self._ending.observe(status, self._lockstep.now):
                    return False
            await self._pace.wait(self._virtual_seconds)
        return False

    async def _finish_what_runs(self, view: View) -> None:
        """What is owed still comes in, and a training run that is under way is judged."""
        await self._lockstep.settle(10)
        if (await self._service.status()).training is not None:
            await self._lockstep.settle(TRAINING_SECONDS + 20)
        await self._show(view)

    async def _keep_showing(self, view: View) -> None:
        """The screen moves also while a step waits for a training child, or time is slow."""
        while True:
            await asyncio.sleep(SHOW_SECONDS)
            await self._show(view)

    async def _show(self, view: View) -> DemoStatus:
        status = await self._service.status()
        view.show(Frame(status, self._plan.feed.start, self._lockstep.now))
        return status

    @property
    def _virtual_seconds(self) -> float:
        return (self._lockstep.now - self._plan.feed.start).total_seconds()

    async def _last_words(self) -> str | None:
        summary = await read_summary(self._service.database)
        bayes = await self._bayes(summary)
        for line in report_lines(summary, bayes.get("bayes_accuracy")):
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)
        if not self._options.as_json:
            return None
        facts: dict[str, Any] = {
            "bayes_accuracy": None,
            "bayes_expected": None,
            **bayes,
            "seed": self._options.seed,
            "steps": self._lockstep.steps,
            "virtual_seconds": self._virtual_seconds,
            "wall_seconds": round(time.monotonic() - self._started, 3),
        }
        return json.dumps(summary_json(summary, **facts), allow_nan=False)

    async def _bayes(self, summary: Summary) -> dict[str, float]:
        version, market = summary.version, self._plan.market
        if version is None or market is None:
            return {}
        strategy = next(item for item in self._plan.strategies if item.strategy_id == version.strategy_id)
        folder = self._plan.settings.storage_path / version.version
        reference = await bayes_for_version(self._service.database, folder, market, strategy, seed=self._options.seed)
        if reference is None:
            return {}
        return {"bayes_accuracy": reference.accuracy, "bayes_expected": reference.expected}


class Pace:
    """Keeps virtual time from running ahead of `speed` virtual seconds per real second.

    Args:
        speed: None: no limit.
    """

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._start: float | None = None

    async def wait(self, virtual_seconds: float) -> None:
        """Sleep as long as virtual time is ahead; gives way to other tasks in any case."""
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = loop.time() - (virtual_seconds / self._speed if self._speed else 0.0)
        ahead = self._start + virtual_seconds / self._speed - loop.time() if self._speed else 0.0
        await asyncio.sleep(max(0.0, ahead))
