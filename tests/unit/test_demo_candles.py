"""Recorded candles: read with line and column in every complaint, and told as the gateway would."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model_service.demo.candle_feed import CandleFeed
from model_service.demo.candles import CandleFileError, asset_of, read_candles

HEADER = "timestamp,open,high,low,close,volume\n"
GOOD = (
    "2023-01-02T16:45:00Z,100,102,99,101,10\n"
    "2023-01-02T16:50:00Z,101,103,100,102,20\n"
    "2023-01-02T17:00:00Z,102,102,101,101.5,0\n"
)  # fmt: skip


def write(tmp_path: Path, text: str, name: str = "btcusdt-5m.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_reads_candles_interval_asset_and_gaps(tmp_path: Path) -> None:
    file = read_candles(write(tmp_path, HEADER + GOOD))
    assert (file.asset, file.interval, file.gaps) == ("BTCUSDT", timedelta(minutes=5), 1)
    assert file.candles[0].start == datetime(2023, 1, 2, 16, 45, tzinfo=UTC)
    assert [candle.close for candle in file.candles] == [101, 102, 101.5]


def test_columns_may_come_in_any_order_and_case(tmp_path: Path) -> None:
    text = (
        "Volume,Close,extra,Low,High,Open,Timestamp\n1,101,x,99,102,100,1672678800\n2,102,x,100,103,101,1672678860000\n"
    )
    file = read_candles(write(tmp_path, text))
    assert file.interval == timedelta(minutes=1)
    assert file.candles[0].start == datetime(2023, 1, 2, 17, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("2023-01-02T17:05:00Z,1,x,1,1,1", r"line 5, column high: 'x'; allowed: a number"),
        ("2023-01-02T17:05:00Z,1,nan,1,1,1", r"line 5, column high: 'nan'; allowed: a finite number"),
        ("2023-01-02T17:05:00Z,1,2,0,1,1", r"line 5, column low: '0'; allowed: a price above 0"),
        ("2023-01-02T17:05:00Z,3,2,1,1,1", r"line 5, column high: '2'; allowed: not under"),
        ("2023-01-02T17:05:00Z,2,3,2,1,1", r"line 5, column low: '2'; allowed: not over"),
        ("2023-01-02T17:05:00Z,1,2,1,1,-1", r"line 5, column volume: '-1'; allowed: 0 or more"),
        ("2023-01-02T17:05:00Z,1,2,1,1", r"line 5, column volume: None; allowed: a number"),
        ("yesterday,1,2,1,1,1", r"line 5, column timestamp: 'yesterday'; allowed: ISO 8601"),
        ("2023-01-02T17:00:00Z,1,2,1,1,1", r"line 5, column timestamp: .*; allowed: a time after the line before"),
        ("2023-01-02T17:06:00Z,1,2,1,1,1", r"line 5, column timestamp: .*; allowed: a multiple of 0:05:00"),
    ],
)  # fmt: skip
def test_complaints_name_line_and_column(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(CandleFileError, match=complaint):
        read_candles(write(tmp_path, HEADER + GOOD + line + "\n"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column timestamp"),
        ("timestamp,open,high,low,close\n", "no column volume"),
        (HEADER, "0 candles; at least 2"),
        (HEADER + "2023-01-02T16:45:00Z,1,1,1,1,1\n2023-01-02T19:45:00Z,1,1,1,1,1\n", "3:00:00 apart"),
        (HEADER + "2023-01-02T16:45:00Z,1,1,1,1,1\n2023-01-02T16:45:01Z,1,1,1,1,1\n", "0:00:01 apart"),
    ],
)
def test_complaints_about_the_whole_file(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(CandleFileError, match=complaint):
        read_candles(write(tmp_path, text))


def test_a_missing_file_is_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(CandleFileError, match="cannot be read"):
        read_candles(tmp_path / "btcusdt-5m.csv")


@pytest.mark.parametrize("name", ["5m.csv", "a-b.csv", "thisnameismuchtoolongforanasset.csv"])
def test_the_name_must_start_with_an_asset(name: str) -> None:
    with pytest.raises(CandleFileError, match="must start with the asset"):
        asset_of(Path(name))


def test_the_feed_tells_each_candle_at_its_end(tmp_path: Path) -> None:
    feed = CandleFeed(read_candles(write(tmp_path, HEADER + GOOD)), seed=7)
    steps = [step for _ in range(3) if (step := feed.advance()) is not None]
    assert feed.advance() is None
    assert [step.at for step in steps] == [
        datetime(2023, 1, 2, 16, 50, tzinfo=UTC),
        datetime(2023, 1, 2, 16, 55, tzinfo=UTC),
        datetime(2023, 1, 2, 17, 5, tzinfo=UTC),
    ]
    kline, ticker = (json.loads(message.body)["payload"] for message in steps[1].messages)
    assert (kline["interval"], kline["close"], kline["end"] - kline["start"]) == ("5", "102.0", 299_999)
    assert ticker["volume24h"] == "30.0"
    assert float(ticker["ask1Price"]) / float(ticker["bid1Price"]) - 1 == pytest.approx(1e-4, rel=1e-3)
    quote = feed.quote("BTCUSDT")
    assert quote is not None
    assert quote.bid < 101.5 < quote.ask
    assert feed.quote("ETHUSDT") is None


def test_the_days_volume_forgets_what_is_older(tmp_path: Path) -> None:
    start = datetime(2023, 1, 2, tzinfo=UTC)
    rows = [f"{(start + timedelta(hours=hour)).isoformat()},1,1,1,1,1" for hour in range(30)]
    feed = CandleFeed(read_candles(write(tmp_path, HEADER + "\n".join(rows))), seed=7)
    steps = [feed.advance() for _ in range(30)]
    assert steps[-1] is not None
    assert json.loads(steps[-1].messages[1].body)["payload"]["volume24h"] == "24.0"
