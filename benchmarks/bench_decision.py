"""What a prediction and a whole decision cost around the bare onnxruntime call on the same two rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from statistics import median

import numpy as np
import onnxruntime

from benchmarks.decision_workload import (
    START,
    NothingKept,
    OnePolicy,
    acting_strategy,
    asset_names,
    at_once,
    generator,
    refresh,
    trained_model,
    warm_market,
)
from benchmarks.figure import Figure, paired
from model_service.models.artifact import LoadedModel
from model_service.models.features import FEATURE_NAMES, align_to_side
from model_service.policies.model import ModelPolicy

SIDES = np.array([1, -1], dtype=np.int8)
ASSETS = 20
TICKS = 25
REPETITIONS = 21
DECIDE_LIMIT = 8.0


def run() -> Iterator[Figure]:
    """`predict_vs_onnxruntime`: both sides of one decision through LoadedModel against the session alone.

    `decide_vs_predict`: CPU from the tick to the finished signal, for each of the twenty assets of a strategy, against
    the same: snapshot, features, both sides, guards, draw, signal and its record, without the database.
    """
    model, graph = trained_model()
    features = np.zeros(len(FEATURE_NAMES), dtype=np.float32)
    bare = _bare_call(graph, features)
    yield paired("predict_vs_onnxruntime", lambda: model.predict_sides(features), bare, calls=500, repetitions=15)
    yield _decide_vs_predict(model, bare)


def _bare_call(graph: bytes, features: np.typing.NDArray[np.float32]) -> Callable[[], object]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options)
    inputs = {"features": align_to_side(np.stack([features, features]), SIDES)}
    return lambda: session.run(None, inputs)


def _decide_vs_predict(model: LoadedModel, bare: Callable[[], object]) -> Figure:
    names = asset_names(ASSETS)
    markets = {name: warm_market(name) for name in names}
    store = NothingKept()
    policy = OnePolicy(ModelPolicy(model, "v1"), "model")
    source = generator([acting_strategy("bench", names, 600.0)], markets, policy, store, tick_seconds=2.0)
    now = START

    def ours() -> float:
        nonlocal now
        for market in markets.values():
            refresh(market, now + timedelta(seconds=2))
        started = time.process_time()
        for _ in range(TICKS):
            now += timedelta(seconds=2)
            at_once(source.step(now))
        return (time.process_time() - started) / TICKS / ASSETS

    def floor() -> float:
        started = time.process_time()
        for _ in range(TICKS * ASSETS):
            bare()
        return (time.process_time() - started) / TICKS / ASSETS

    ours(), floor()
    pairs = [(ours(), floor()) for _ in range(REPETITIONS)]
    assert store.signals > 0.9 * (store.signals + store.silent), "hardly a tick became a signal: nothing is measured"
    return Figure(
        "decide_vs_predict",
        round(median(mine / other for mine, other in pairs), 3),
        round(median(mine for mine, _ in pairs) * 1e6, 2),
        round(median(other for _, other in pairs) * 1e6, 2),
        "microseconds per asset",
        REPETITIONS,
        DECIDE_LIMIT,
    )
