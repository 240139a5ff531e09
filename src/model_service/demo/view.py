"""The demo's screen: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from model_service.demo.narrator import Narrator
from model_service.demo.status import DemoStatus, TrainingLine, Verdict, duration, number

COUNTS_EVERY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown at one moment."""

    status: DemoStatus
    virtual_start: datetime
    virtual_now: datetime

    @property
    def virtual_seconds(self) -> float:
        """Virtual time since the start."""
        return (self.virtual_now - self.virtual_start).total_seconds()


class View(Protocol):
    """Where the demo is shown."""

    def __enter__(self) -> View: ...

    def __exit__(self, *_: object) -> None: ...

    def show(self, frame: Frame) -> None:
        """The newest state; called after each step, so it must be cheap."""
        ...

    def say(self, text: str) -> None:
        """One line that stays."""
        ...


def view_for(console: Console, page: str | None, monotonic: Callable[[], float] = time.monotonic) -> View:
    """The live view on a terminal, else plain lines. Real time moves the screen only, never the run."""
    kind = LiveView if console.is_terminal else PlainView
    return kind(console, page, monotonic)


class PlainView:
    """One line for each event of note, and the counts every ten seconds."""

    def __init__(self, console: Console, page: str | None, monotonic: Callable[[], float]) -> None:
        self._console, self._page, self._monotonic = console, page, monotonic
        self._narrator = Narrator()
        self._start = self._last_counts = monotonic()

    def __enter__(self) -> View:
        if self._page:
            self.say(f"HTTP interface: {self._page} (its key: api-key in the state folder)")
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def show(self, frame: Frame) -> None:
        """Lines for what is new."""
        now = self._monotonic()
        for line in self._narrator.news(frame.status):
            self.say(f"[{duration(frame.virtual_seconds)} virtual, {now - self._start:.1f} s real] {line}")
        if now - self._last_counts >= COUNTS_EVERY_SECONDS:
            self._last_counts = now
            stamp = f"[{duration(frame.virtual_seconds)} virtual, {now - self._start:.1f} s real]"
            self.say(f"{stamp} {counts(frame.status)}")
            self.say(f"{stamp} {warmup_line(frame.status)}")

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(Text(text), soft_wrap=True)


class LiveView:
    """A panel that is drawn four times a second by a thread of its own; news scroll by above it."""

    def __init__(self, console: Console, page: str | None, monotonic: Callable[[], float]) -> None:
        self._console, self._page, self._monotonic = console, page, monotonic
        self._narrator = Narrator()
        self._start = monotonic()
        self._frame: Frame | None = None
        self._live = Live(
            console=console, get_renderable=self._render, refresh_per_second=4, redirect_stdout=False, transient=False
        )

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, frame: Frame) -> None:
        """Keep the frame for the next drawing; print what is new."""
        self._frame = frame
        for line in self._narrator.news(frame.status):
            self.say(f"{duration(frame.virtual_seconds)}  {line}")

    def say(self, text: str) -> None:
        """One line above the panel."""
        self._console.print(Text(text))

    def _render(self) -> RenderableType:
        frame = self._frame
        if frame is None:
            return Panel("starting ...", title="model-service demo")
        return Panel(
            Group(*panel_parts(frame, self._monotonic() - self._start, self._page)),
            title="model-service demo",
            expand=False,
        )


def counts(status: DemoStatus) -> str:
    """The counts in one line."""
    training = status.training
    text = (
        f"signals {status.signals:,}  fills {status.fills:,}  outcomes {status.outcomes:,}  "
        f"model signals {status.model_signals:,}  runs {status.runs}  result after fees {status.realized_pnl:+,.2f}"
    )
    return text + (f"  training {training.phase} {training.fraction:.0%}" if training else "")


def warmup_line(status: DemoStatus) -> str:
    """What learning has cost so far, and how much of it is still wanted; of all strategies."""
    wanted = sum(line.outcomes_wanted or 0 for line in status.strategies)
    result = sum(line.warmup_result for line in status.strategies)
    return f"warm-up so far {result:+,.2f} after fees  outcomes wanted {wanted:,}"


def panel_parts(frame: Frame, real_seconds: float, page: str | None) -> list[RenderableType]:
    """The parts of the live panel, top-down."""
    status = frame.status
    parts: list[RenderableType] = [_strategies(status), Text(counts(status).split("  training")[0])]
    parts.append(_training(status.training) if status.training else Text("no training under way", style="dim"))
    parts += [_gate(verdict) for verdict in status.verdicts[-1:]]
    elapsed = f"{duration(frame.virtual_seconds)} virtual in {duration(real_seconds)} real"
    parts.append(Text(elapsed + (f"   page {page}" if page else ""), style="dim"))
    return parts


def _strategies(status: DemoStatus) -> Table:
    table = Table("strategy", "mode", "version", "warm-up so far", "outcomes wanted", box=None, pad_edge=False)
    for line in status.strategies:
        wanted = "-" if line.outcomes_wanted is None else f"{line.outcomes_wanted:,}"
        table.add_row(line.strategy_id, line.mode, line.version or "none yet", f"{line.warmup_result:+,.2f}", wanted)
    return table


def _training(training: TrainingLine) -> Table:
    grid = Table.grid(padding=(0, 1))
    bar = ProgressBar(total=1.0, completed=training.fraction, width=30)
    grid.add_row(f"training {training.strategy_id}", bar, f"{training.fraction:.0%} {training.phase} {training.note}")
    return grid


def _gate(verdict: Verdict) -> Table:
    word = "passed" if verdict.passed else "refused"
    title = f"gate: the last candidate of {verdict.strategy_id} {word}"
    table = Table("", "condition", "value", "needs", title=title, title_justify="left", box=None, pad_edge=False)
    for condition in verdict.conditions:
        tick = Text("✓", style="green") if condition.passed else Text("✗", style="red")
        table.add_row(
            tick, f"{condition.number} {condition.condition}", number(condition.value), number(condition.threshold)
        )
    return table
