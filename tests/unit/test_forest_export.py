"""A forest's graph sends every float32 the way that scikit-learn's float64 thresholds do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from model_service.learning.pipelines import PipelineModel
from tests.support.families import fitted, planted_block, served_scores


def test_two_neighbouring_floats_go_their_own_ways() -> None:
    """A threshold half-way between two neighbours is no float32; rounded up it would send both to one side."""
    train, start = planted_block(800, 1), np.float32(1024.0)
    neighbours = [start]
    for _ in range(7):
        neighbours.append(np.nextafter(neighbours[-1], np.float32(np.inf)))
    which = np.arange(800) % 8
    inputs = np.tile(np.array(neighbours, dtype=np.float32)[which][:, None], train.inputs.shape[1])
    block = replace(train, inputs=inputs, labels=(which % 2).astype(np.int8))
    model = fitted("random_forest", block, hyperparameters={"n_estimators": 20, "min_samples_leaf": 1})
    native, served = model.scores(inputs[:8]), served_scores(model, inputs[:8])
    assert np.all(np.abs(np.diff(native)) > 0.5), "every neighbour is told from the next"
    assert served == pytest.approx(native, abs=1e-6)


def test_a_large_forest_agrees_too() -> None:
    large = {"n_estimators": 100, "max_depth": 11, "min_samples_leaf": 1}
    model = fitted("random_forest", planted_block(4000, 1), hyperparameters=large)
    assert isinstance(model, PipelineModel)
    leaves = sum(tree.get_n_leaves() for tree in model.pipeline[-1].estimators_)
    assert leaves > 10_000
    fresh = planted_block(200, 2).inputs
    assert served_scores(model, fresh) == pytest.approx(model.scores(fresh), abs=1e-6)
