"""What the study holds to be the truth about its markets is true, as far as a large sample shows."""

from __future__ import annotations

import numpy as np
import pytest

from model_service.models import metrics
from studies.bayes import _lead, bayes_accuracy
from studies.edges import PROCESSES
from studies.market import TICKS_PER_BAR, Process, filtered_pressure, simulate
from studies.world import History, World, play

OUTCOMES = 12_000
PROMISED = {"momentum": 0.75, "imbalance": 0.675, "regime": 0.67}


def history_of(edge: str) -> History:
    return play(World(PROCESSES[edge], assets=6), OUTCOMES, np.random.default_rng(11))


@pytest.mark.parametrize("edge", list(PROMISED))
def test_the_best_possible_model_is_as_good_as_promised_and_calibrated(edge: str) -> None:
    history = history_of(edge)
    assert history.outlook is not None
    sides, labels = history.rows["side"].astype(np.int8), history.rows["label"]
    win = history.outlook.win(sides)
    assert bayes_accuracy(win) == pytest.approx(PROMISED[edge], abs=0.012)
    assert np.mean((win > 0.5) == (labels == 1)) == pytest.approx(bayes_accuracy(win), abs=0.02)
    assert metrics.ece(labels, win) < 0.035
    net = np.where(sides > 0, history.outlook.earn_buy, history.outlook.earn_sell)
    assert float(np.mean(history.rows["net_return"])) == pytest.approx(float(np.mean(net)), abs=3e-4)


def test_the_oracle_policy_earns_and_both_sides_of_a_trade_lose_what_they_pay() -> None:
    history = history_of("imbalance")
    assert history.outlook is not None
    rows, best = history.rows, history.outlook.best_sides()
    of_side = np.where(best == rows["side"], rows["net_return"], rows["opposite_net_return"])
    assert float(np.mean(np.where(best == 0, 0.0, of_side))) > 0.0005
    untouched = rows["exit_rule"] == 2
    paid = (rows["net_return"] + rows["opposite_net_return"])[untouched]
    # Two entries and two exits: four fees of 5.5 bp, and the spread of 1 bp twice; rarely the other side meets a stop.
    assert np.mean(np.abs(paid + 0.0024) < 1e-4) > 0.999


@pytest.mark.parametrize("clustered", [False, True])
def test_without_an_edge_nothing_that_was_known_tells_the_next_move(clustered: bool) -> None:
    market = simulate(Process(clustered=clustered), 20_000, 1, np.random.default_rng(12))[0]
    moves = np.diff(np.log(market.bars.close))
    noise = 1.0 / np.sqrt(len(moves))
    known = market.shown_imbalance[12 * np.arange(1, len(moves)) - 1]
    assert abs(float(np.corrcoef(known, moves[1:])[0, 1])) < 4 * noise
    assert abs(float(np.corrcoef(moves[:-1], moves[1:])[0, 1])) < 6 * noise
    sizes = np.abs(moves)
    together = float(np.corrcoef(sizes[:-1], sizes[1:])[0, 1])
    assert together > 0.1 if clustered else abs(together) < 4 * noise


def test_the_outlook_ends_where_the_label_does() -> None:
    rows = history_of("imbalance").rows
    rows = rows[rows["exit_rule"] == 2]
    phases = rows["decided_us"] // 5_000_000 % TICKS_PER_BAR
    # The mark is the close of a bar, which is the price of the tick before its end.
    leads = (rows["exit_us"] - rows["decided_us"]) // 5_000_000 - 1
    assert leads.tolist() == [_lead(int(phase), 900) for phase in phases]


def test_the_filter_knows_the_past_alone_and_is_as_sure_as_it_says() -> None:
    market = simulate(PROCESSES["momentum"], 4_000, 1, np.random.default_rng(13))[0]
    known, variance = filtered_pressure(market)
    assert np.mean((known - market.pressure) ** 2) == pytest.approx(variance, rel=0.1)
    market.returns[20_000:] += 0.01
    changed, _ = filtered_pressure(market)
    assert changed[: 20_000 + 1].tolist() == known[: 20_000 + 1].tolist()
    assert changed[20_001] != known[20_001]


def test_one_seed_gives_the_same_history_again() -> None:
    first, again = (play(World(Process(), assets=2), 500, np.random.default_rng(5)) for _ in range(2))
    assert first.rows.tobytes() == again.rows.tobytes()
    assert first.idle.tobytes() == again.idle.tobytes()
