"""Blocks of rows and fits of one family, without the run around them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from model_service.learning.estimators import Block, FitRequest, FittedModel, fit_model, known_inputs
from model_service.models.artifact import INPUT_NAME, OUTPUT_NAME
from model_service.models.features import MODEL_INPUT_NAMES

FAMILIES = ("xgboost", "random_forest", "logistic_regression", "sgd_classifier")
INCREMENTAL = ("xgboost", "sgd_classifier")
WIDTH = len(MODEL_INPUT_NAMES)
EDGE = MODEL_INPUT_NAMES.index("book_imbalance")


def planted_block(count: int, seed: int, *, strength: float = 2.0) -> Block:
    """Noise in all inputs; the log-odds of label 1 are `strength` times the book imbalance; 3 % of values unknown."""
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((count, WIDTH)).astype(np.float32)
    labels = (rng.random(count) < 1 / (1 + np.exp(-strength * inputs[:, EDGE]))).astype(np.int8)
    inputs[rng.random(inputs.shape) < 0.03] = np.nan
    return Block(inputs, labels, np.ones(count, dtype=np.float32))


def fitted(model_type: str, train: Block | None = None, **changes: Any) -> FittedModel:
    """A model of the family on 800 planted rows, or on those given."""
    defaults: dict[str, Any] = {
        "train": train or planted_block(800, 1), "early_stopping": planted_block(200, 2), "seed": 7, "threads": 1,
        "on_round": lambda done, most: None, "hyperparameters": {},
    }  # fmt: skip
    return fit_model(FitRequest(model_type, **{**defaults, **changes}))


def served_scores(model: FittedModel, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the serving graph says of the rows, as `LoadedModel` asks it."""
    session = onnxruntime.InferenceSession(model.onnx(), providers=["CPUExecutionProvider"])
    (probabilities,) = session.run([OUTPUT_NAME], {INPUT_NAME: known_inputs(inputs)})
    return np.asarray(probabilities, dtype=np.float64)[:, 1]


def extreme_inputs() -> NDArray[np.float32]:
    """Planted rows, with every kind of float that a row may hold among them, whole rows of it too."""
    rng = np.random.default_rng(3)
    inputs = planted_block(600, 4).inputs.copy()
    values = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3.4e38, -3.4e38, 1e-45, 0.0], dtype=np.float32)
    hit = rng.random(inputs.shape) < 0.2
    inputs[hit] = rng.choice(values, int(hit.sum()))
    inputs[: len(values)] = values[:, None]
    return inputs
