"""What a prediction costs around the bare onnxruntime call on the same two rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnxruntime

from benchmarks.figure import Figure, paired
from model_service.learning.run import train_candidate
from model_service.models.artifact import LoadedModel
from model_service.models.features import FEATURE_NAMES, align_to_side
from tests.support.training_rows import imbalance_rows, training_job

SIDES = np.array([1, -1], dtype=np.int8)


def run() -> Iterator[Figure]:
    """`predict_vs_onnxruntime`: both sides of one decision through LoadedModel against the session alone."""
    candidate, files = train_candidate(training_job(), imbalance_rows(2000, seed=3), {}, {}, lambda *_: None)
    model = LoadedModel.from_files(files, candidate.files)
    features = np.zeros((2, len(FEATURE_NAMES)), dtype=np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(files["serving.onnx"], options)
    inputs = {"features": align_to_side(features, SIDES)}
    yield paired(
        "predict_vs_onnxruntime",
        lambda: model.predict(features, SIDES),
        lambda: session.run(None, inputs),
        calls=500,
        repetitions=15,
    )
