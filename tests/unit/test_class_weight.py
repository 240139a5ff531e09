"""Class weights change how much labels count, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from model_service.learning.class_weight import weight_of_wins, with_class_weight
from model_service.learning.run import prepare
from tests.support.training_rows import imbalance_rows, training_job, training_strategy

LABELS = np.array([1, 0, 0, 0, 1, 0], dtype=np.int8)
WEIGHTS = np.array([0.5, 1.5, 1.0, 1.0, 1.0, 1.0], dtype=np.float32)
ALL = np.arange(6)


def test_none_changes_nothing() -> None:
    assert weight_of_wins(WEIGHTS, LABELS, "none") == 1.0
    assert with_class_weight(WEIGHTS, LABELS, 1.0, ALL) is WEIGHTS


def test_balanced_gives_both_classes_the_same_weight() -> None:
    factor = weight_of_wins(WEIGHTS, LABELS, "balanced")
    assert factor == pytest.approx(4.5 / 1.5)
    weighted = with_class_weight(WEIGHTS, LABELS, factor, ALL)
    assert weighted[LABELS == 1].sum() == pytest.approx(weighted[LABELS == 0].sum())
    assert weighted.sum() == pytest.approx(WEIGHTS.sum())


def test_a_number_is_the_weight_of_a_win_against_a_loss() -> None:
    weighted = with_class_weight(WEIGHTS, LABELS, weight_of_wins(WEIGHTS, LABELS, 3.0), ALL)
    assert weighted / WEIGHTS == pytest.approx(np.where(LABELS == 1, 3.0, 1.0) * 6 / 9)


def test_only_the_training_block_says_what_is_balanced() -> None:
    """The later rows are all wins here; they get the same factor, and do not move it."""
    rows = imbalance_rows(2000, 3, assets=3)
    strategy = training_strategy(training={"class_weight": "balanced"})
    plain, plan = prepare(training_job(), rows, {}).plan, prepare(training_job(strategy=strategy), rows, {}).plan
    train = plan.split.train
    wins = rows["label"][train] == 1
    assert plan.weights[train][wins].sum() == pytest.approx(plan.weights[train][~wins].sum(), rel=1e-5)
    factor = plain.weights[train][~wins].sum() / plain.weights[train][wins].sum()
    assert plan.report["weight_of_wins"] == pytest.approx(factor, rel=1e-5)
    ratio = plan.weights / plain.weights
    assert ratio[rows["label"] == 1] == pytest.approx(factor * ratio[rows["label"] == 0][0], rel=1e-4)
