"""Recorded candles from a CSV file, checked line by line."""

from __future__ import annotations

import csv
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

COLUMNS = ("timestamp", "open", "high", "low", "close", "volume")
MOST_SECONDS = 3600
EPOCH_MS_FROM = 1e11
"""Numbers from here on are milliseconds since 1970, smaller ones seconds."""


class CandleFileError(Exception):
    """A candle file that cannot be used; the text names the file, the line and the column."""


@dataclass(frozen=True, slots=True)
class Candle:
    """One candle. `start` is aware UTC; numbers as written in the file."""

    line: int
    start: datetime
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass(frozen=True, slots=True)
class CandleFile:
    """All candles of a file, in time order.

    Attributes:
        asset: from the file's name: `btcusdt-5m.csv` is BTCUSDT.
        interval: the least distance of two candles.
        gaps: candles that are missing between the first and the last.
    """

    asset: str
    interval: timedelta
    candles: tuple[Candle, ...]
    gaps: int


def read_candles(path: Path) -> CandleFile:
    """Read and check a file with the columns timestamp, open, high, low, close, volume (more are ignored, any order).

    A timestamp is the candle's start: ISO 8601 (without a zone it is UTC) or seconds or milliseconds since 1970.

    Raises:
        CandleFileError: with file, line and column, what was found and what is allowed.
    """
    asset = asset_of(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            candles = tuple(_rows(path, csv.DictReader(file)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CandleFileError(f"{path}: cannot be read as CSV: {error}") from error
    if len(candles) < 2:
        raise CandleFileError(f"{path}: {len(candles)} candles; at least 2 are needed to find their interval")
    interval = _interval(path, candles)
    return CandleFile(asset, interval, candles, _gaps(candles, interval))


def asset_of(path: Path) -> str:
    """The asset that a file's name starts with.

    Raises:
        CandleFileError: when it is not 4 to 20 letters and digits.

    Example:
        >>> asset_of(Path("data/btcusdt-5m.csv"))
        'BTCUSDT'
    """
    match = re.match(r"[A-Za-z0-9]{4,20}(?![A-Za-z0-9])", path.stem)
    if match is None:
        raise CandleFileError(
            f"{path}: the file's name must start with the asset, 4 to 20 letters and digits, such as btcusdt-5m.csv"
        )
    return match.group().upper()


def _rows(path: Path, reader: csv.DictReader[str]) -> Iterator[Candle]:
    reader.fieldnames = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    missing = [name for name in COLUMNS if name not in reader.fieldnames]
    if missing:
        raise CandleFileError(
            f"{path} line 1: no column {', '.join(missing)}; found: {', '.join(reader.fieldnames) or 'nothing'}"
        )
    previous: Candle | None = None
    for row in reader:
        candle = _candle(_Line(path, reader.line_num), row)
        if previous is not None and candle.start <= previous.start:
            raise _Line(path, reader.line_num).error(
                "timestamp", row["timestamp"], f"a time after the line before, {previous.start.isoformat()}"
            )
        previous = candle
        yield candle


@dataclass(frozen=True, slots=True)
class _Line:
    path: Path
    number: int

    def error(self, column: str, value: str | None, allowed: str) -> CandleFileError:
        return CandleFileError(f"{self.path} line {self.number}, column {column}: {value!r}; allowed: {allowed}")


def _candle(line: _Line, row: Mapping[str, str | None]) -> Candle:
    prices = {name: _number(line, row, name) for name in COLUMNS[1:]}
    for name in COLUMNS[1:5]:
        if prices[name] <= 0:
            raise line.error(name, row[name], "a price above 0")
    if prices["volume"] < 0:
        raise line.error("volume", row["volume"], "0 or more")
    if prices["high"] < max(prices["open"], prices["close"], prices["low"]):
        raise line.error("high", row["high"], "not under open, close or low")
    if prices["low"] > min(prices["open"], prices["close"]):
        raise line.error("low", row["low"], "not over open or close")
    return Candle(line.number, _moment(line, row["timestamp"]), **prices)


def _number(line: _Line, row: Mapping[str, str | None], column: str) -> float:
    text = row[column]
    try:
        value = float(text or "")
    except ValueError:
        raise line.error(column, text, "a number") from None
    if not math.isfinite(value):
        raise line.error(column, text, "a finite number")
    return value


def _moment(line: _Line, text: str | None) -> datetime:
    try:
        moment = _parse_moment((text or "").strip())
    except (ValueError, OverflowError, OSError):
        allowed = "ISO 8601 such as 2023-01-02T16:45:00Z, or seconds or milliseconds since 1970"
        raise line.error("timestamp", text, allowed) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _parse_moment(text: str) -> datetime:
    if not re.fullmatch(r"\d{9,}(\.\d+)?", text):
        return datetime.fromisoformat(text)
    number = float(text)
    return datetime.fromtimestamp(number / 1000 if number >= EPOCH_MS_FROM else number, UTC)


def _interval(path: Path, candles: tuple[Candle, ...]) -> timedelta:
    interval = min(later.start - earlier.start for earlier, later in itertools.pairwise(candles))
    if interval > timedelta(seconds=MOST_SECONDS) or interval % timedelta(seconds=60):
        raise CandleFileError(
            f"{path}, column timestamp: the candles are {interval} apart; allowed: whole minutes, at most one hour"
        )
    first = candles[0].start
    for candle in candles:
        if (candle.start - first) % interval:
            raise _Line(path, candle.line).error(
                "timestamp", candle.start.isoformat(), f"a multiple of {interval} after {first.isoformat()}"
            )
    return interval


def _gaps(candles: tuple[Candle, ...], interval: timedelta) -> int:
    return (candles[-1].start - candles[0].start) // interval + 1 - len(candles)
