"""Recorded candles of real markets: no model may be promoted at an accuracy threshold of 0.75, and how far was each?"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model_service.config.strategies import StrategyDefinition
from model_service.demo.candle_feed import HALF_SPREAD
from model_service.demo.candles import read_candles
from studies.bars import Bars
from studies.candidates import Made, make_candidate
from studies.decisions import Leaning, Record, Scene, act, momentum_leaning, reversion_leaning, warmup_leaning
from studies.features import Moments
from studies.findings import Finding, share_at_most
from studies.study import Result, Study
from studies.world import FEE_RATE, History, study_strategy

FILES = ("btcusdt-5m.csv", "ethbtc-5m.csv", "xrpeth-1m.csv")
THRESHOLD = 0.75
LEANINGS: dict[str, Leaning] = {
    "warm-up": warmup_leaning,
    "momentum": momentum_leaning,
    "mean reversion": reversion_leaning,
}
MODEL_TYPES = ("xgboost", "random_forest", "logistic_regression", "sgd_classifier")
HORIZONS = (900, 1800, 3600)
LOOKS = (0.4, 0.7, 1.0)
"""Shares of a file's outcomes after which a candidate is made."""
_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Case:
    """One strategy on one file."""

    file: str
    leaning: str
    model_type: str
    horizon_seconds: int
    costs: bool


CASES = tuple(Case(*values) for values in itertools.product(FILES, LEANINGS, MODEL_TYPES, HORIZONS, (True, False)))


def studies(folder: Path) -> list[Study]:
    """The study of the files in `folder`, which must all be there."""
    return [Study("candles", len(CASES), partial(_run, folder), _conclude, weight=2.0)]


def missing_files(folder: Path) -> list[str]:
    """Which of the files are not there."""
    return [name for name in FILES if not (folder / name).is_file()]


def _run(folder: Path, seed: int) -> Result:
    case = CASES[seed % len(CASES)]
    bars = recorded_bars(folder / case.file)
    record, strategy = _play(case, bars)
    history = History(record.rows, record.idle, None)
    counts = [round(look * len(record.rows)) for look in LOOKS]
    made = [make_candidate(history, strategy, count, tried=1 + index) for index, count in enumerate(counts)]
    return {
        "case": f"{case.file}, {case.leaning}, {case.model_type}, H = {case.horizon_seconds} s, "
        f"{'with costs' if case.costs else 'free'}",
        "rows": len(record.rows),
        "candidates": [_told(one) for one in made if one is not None],
    }


def _play(case: Case, bars: Bars) -> tuple[Record, StrategyDefinition]:
    strategy = study_strategy(
        TRADING_ASSETS=case.file.split("-")[0].upper(),
        TRADING_FEE_RATE=str(FEE_RATE if case.costs else 0.0),
        MARKET_DATA_BAR_SECONDS=str(bars.seconds),
        MODEL_TRAINING_MODEL_TYPE=case.model_type,
        MODEL_PREDICTION_HORIZON_SECONDS=str(case.horizon_seconds),
        MODEL_QUALITY_THRESHOLD_ACCURACY=str(THRESHOLD),
        WARMUP_SIGNAL_FREQUENCY=str(_AT_NEARLY_EVERY_BAR),
    )
    scene = _scene(bars, 2.0 * HALF_SPREAD if case.costs else 0.0)
    rng = np.random.default_rng([CASES.index(case), 0xCA])
    return act(scene, strategy, rng, leaning=LEANINGS[case.leaning], none_sample_rate=1.0), strategy


def _scene(bars: Bars, spread: float) -> Scene:
    """A strategy may decide at the end of each bar; there is no book, and the spread is assumed."""
    unknown = np.full(len(bars), np.nan)
    moments = Moments(bars.ends, bars.close, np.full(len(bars), spread), unknown, unknown)
    with np.errstate(divide="ignore"):
        return Scene(moments, bars, bars.seconds, {"log_volume_24h": np.log(_volume_of_a_day(bars))})


def _volume_of_a_day(bars: Bars) -> NDArray[np.float64]:
    total = np.concatenate(([0.0], np.cumsum(bars.volume)))
    first = np.searchsorted(bars.ends, bars.ends - _DAY_SECONDS, side="right")
    return np.asarray(total[1:] - total[first], dtype=np.float64)


@lru_cache(maxsize=len(FILES))
def recorded_bars(path: Path) -> Bars:
    """The candles of a file; gaps stay gaps. Raises CandleFileError."""
    file = read_candles(path)
    seconds = int(file.interval.total_seconds())
    columns = np.array([(bar.high, bar.low, bar.close, bar.volume) for bar in file.candles]).T
    starts = np.array([int(bar.start.timestamp()) for bar in file.candles], dtype=np.int64)
    return Bars(seconds, starts + seconds, *columns)


def _told(made: Made) -> Result:
    return {
        "outcomes": made.outcomes,
        "passed": made.candidate.gate_passed,
        "failed": made.failed,
        "accuracy": made.metric("accuracy"),
        "base_rate": made.metric("base_rate"),
        "average_return": made.metric("average_return"),
    }


def _conclude(results: Sequence[Result]) -> list[Finding]:
    """One promise over all candidates, and per file and horizon how far the best one was."""
    candidates = [(result["case"], one) for result in results for one in result["candidates"]]
    promoted = [case for case, one in candidates if one["passed"]]
    only_accuracy = sum(one["failed"] == ["accuracy"] for _, one in candidates)
    note = "; ".join(promoted) or f"{only_accuracy} failed on the accuracy threshold alone"
    return [
        share_at_most("candles", f"candidates promoted at {THRESHOLD}", len(promoted), len(candidates), 0.0, note),
        *_distances(candidates),
    ]


def _distances(candidates: Sequence[tuple[str, Result]]) -> list[Finding]:
    """Per file and cost, the highest accuracy among the candidates that beat a constant, and what stopped it."""
    groups: dict[str, list[tuple[str, Result]]] = {}
    for case, one in candidates:
        file, *_, costs = case.split(", ")
        groups.setdefault(f"{file}, {costs}", []).append((case, one))
    return [_nearest(name, group) for name, group in groups.items()]


def _nearest(name: str, group: Sequence[tuple[str, Result]]) -> Finding:
    skilled = [(case, one) for case, one in group if not any(_BASELINE in failed for failed in one["failed"])]
    case, best = max(skilled or group, key=lambda pair: pair[1]["accuracy"])
    failed = Counter(condition for _, one in group for condition in one["failed"])
    often = ", ".join(f"{condition} {count}" for condition, count in failed.most_common(3))
    note = f"{case}; {len(skilled)} of {len(group)} beat the majority class; failed most: {often}"
    return Finding(
        "candles", f"highest accuracy, {name}", "", best["accuracy"], math.nan, math.nan, len(group), None, note
    )


_BASELINE = "above the majority class"
_AT_NEARLY_EVERY_BAR = 60.0
