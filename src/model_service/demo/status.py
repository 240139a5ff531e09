"""What the demo shows of the service at one moment, whatever the screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from model_service.models.job import GateCondition


@dataclass(frozen=True, slots=True)
class StrategyLine:
    """One strategy: who speaks for it, what its warm-up has brought so far, and the outcomes until the next training.

    `warmup_result` is quote currency after fees, of closed positions.
    """

    strategy_id: str
    mode: str
    version: str | None
    warmup_result: float = 0.0
    outcomes_wanted: int | None = None


@dataclass(frozen=True, slots=True)
class TrainingLine:
    """A run that is under way; `fraction` is 0 to 1."""

    strategy_id: str
    phase: str
    fraction: float
    note: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's newest judgement of a candidate of one strategy."""

    strategy_id: str
    conditions: tuple[GateCondition, ...]

    @property
    def passed(self) -> bool:
        """Whether every condition did."""
        return all(condition.passed for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class DemoStatus:
    """Counts since the start, over all strategies; `realized_pnl` is quote currency after fees."""

    strategies: tuple[StrategyLine, ...]
    signals: int = 0
    fills: int = 0
    outcomes: int = 0
    runs: int = 0
    model_signals: int = 0
    realized_pnl: float = 0.0
    training: TrainingLine | None = None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def active_version(self) -> str | None:
        """The first strategy's active version, or None while none has one."""
        return next((line.version for line in self.strategies if line.version is not None), None)


def describe_condition(condition: GateCondition) -> str:
    """One condition in words, such as `passed  2 accuracy: 0.81 (needs 0.75)`.

    Example:
        >>> describe_condition(GateCondition(number=2, condition="accuracy", value=0.8, threshold=0.75, passed=True))
        'passed  2 accuracy: 0.8 (needs 0.75)'
    """
    word = "passed" if condition.passed else "FAILED"
    text = f"{word}  {condition.number} {condition.condition}: {number(condition.value)}"
    text += f" (needs {number(condition.threshold)})" if condition.threshold is not None else ""
    return text + (f"; {condition.detail}" if condition.detail else "")


def number(value: float | None) -> str:
    """Four significant digits, or a dash for what is not known."""
    return "-" if value is None else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds.

    Example:
        >>> duration(3725.4)
        '1:02:05'
    """
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def count_lines(counts: Sequence[tuple[str, int]]) -> list[str]:
    """`name  count` in columns, in the order given."""
    width = max((len(name) for name, _ in counts), default=0)
    return [f"  {name:<{width}}  {count:>9,}" for name, count in counts]
