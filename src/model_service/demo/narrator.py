"""What is worth a line: the first signal, a training, the gate's words, a promotion, the first signal of a model."""

from __future__ import annotations

from collections.abc import Iterator

from model_service.demo.status import DemoStatus, describe_condition


class Narrator:
    """Compares each status with the one before and tells what is new."""

    def __init__(self) -> None:
        self._before: DemoStatus | None = None

    def news(self, status: DemoStatus) -> list[str]:
        """Lines about what happened since the last call, in the order of the loop."""
        before, self._before = self._before or DemoStatus(status.strategies), status
        return [
            *_first(before.signals, status.signals, "first signal published"),
            *_first(before.fills, status.fills, "first fill"),
            *_first(before.outcomes, status.outcomes, "first outcome"),
            *_training(before, status),
            *_verdicts(before, status),
            *_strategies(before, status),
            *_first(before.model_signals, status.model_signals, "first signal of a model"),
        ]


def _first(before: int, now: int, text: str) -> Iterator[str]:
    if before == 0 and now > 0:
        yield text


def _training(before: DemoStatus, status: DemoStatus) -> Iterator[str]:
    if before.training is None and status.training is not None:
        yield f"training started for {status.training.strategy_id} after {status.outcomes:,} outcomes"


def _verdicts(before: DemoStatus, status: DemoStatus) -> Iterator[str]:
    for verdict in status.verdicts:
        if verdict in before.verdicts:
            continue
        word = "passes" if verdict.passed else "is refused by"
        yield f"a candidate of {verdict.strategy_id} {word} the gate:"
        yield from (f"  {describe_condition(condition)}" for condition in verdict.conditions)


def _strategies(before: DemoStatus, status: DemoStatus) -> Iterator[str]:
    known = {line.strategy_id: line for line in before.strategies}
    for line in status.strategies:
        old = known.get(line.strategy_id)
        if line.version is not None and (old is None or old.version != line.version):
            yield f"promoted: {line.version} speaks for {line.strategy_id}"
        if old is not None and old.mode != line.mode:
            yield f"mode of {line.strategy_id}: {old.mode} -> {line.mode}"
