"""The scikit-learn families: imputer, scaler and estimator in one pipeline, exported whole."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import skops.io
from numpy.typing import NDArray
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from model_service.learning.estimators import FitRequest
from model_service.learning.explain_pipeline import explainer_of
from model_service.learning.explanation import Explainer
from model_service.learning.onnx_trees import ML_OPSET, OPSET
from model_service.learning.refusal import Refused
from model_service.learning.skops_bytes import canonical_skops, read_skops
from model_service.models.artifact import INPUT_NAME

INCREMENT_EPOCHS = 5
_ESTIMATOR = "estimator"


@dataclass(frozen=True)
class PipelineModel:
    """A fitted pipeline. Unknown inputs become the training block's median, in scikit-learn and in the graph alike."""

    pipeline: Pipeline
    inputs: int
    native_file: str = "model.skops"

    def native(self) -> bytes:
        """skops' format, which is read without pickle; the same model gives the same bytes."""
        return canonical_skops(skops.io.dumps(self.pipeline))

    def onnx(self) -> bytes:
        """The whole pipeline as an ONNX graph."""
        graph = convert_sklearn(
            self.pipeline,
            name="model",
            initial_types=[(INPUT_NAME, FloatTensorType([None, self.inputs]))],
            options={id(self.pipeline): {"zipmap": False}},
            target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
        )
        return bytes(graph.SerializeToString(deterministic=True))

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of label 1 before calibration, float64 (n,)."""
        return np.asarray(self.pipeline.predict_proba(inputs)[:, 1], dtype=np.float64)

    def explainer(self) -> Explainer:
        """The pipeline, asked for its reasons."""
        return explainer_of(self.pipeline)

    def details(self) -> Mapping[str, Any]:
        """Hyperparameters of the estimator."""
        parameters = self.pipeline.named_steps[_ESTIMATOR].get_params()
        plain = {name: value for name, value in parameters.items() if isinstance(value, int | float | str)}
        return {"hyperparameters": plain}


def fit_pipeline(request: FitRequest) -> PipelineModel:
    """Fit a pipeline, or run further epochs of a parent's SGD. Raises Refused with `parent_incompatible`."""
    width = request.train.inputs.shape[1]
    if request.parent is not None:
        return PipelineModel(_continued(request), width)
    pipeline = Pipeline(
        [
            ("imputer", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scaler", StandardScaler()),
            (_ESTIMATOR, _estimator(request)),
        ]
    )
    request.on_round(0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        pipeline.fit(
            request.train.inputs, request.train.labels, **{f"{_ESTIMATOR}__sample_weight": request.train.weights}
        )
    if request.model_type == "random_forest":
        # Threads add up the trees' votes in any order, which changes the last bits.
        pipeline.set_params(**{f"{_ESTIMATOR}__n_jobs": 1})
    request.on_round(1, 1)
    return PipelineModel(pipeline, width)


def _estimator(request: FitRequest) -> Any:
    if request.model_type == "random_forest":
        return RandomForestClassifier(
            n_estimators=200,
            max_depth=6,
            min_samples_leaf=max(20, len(request.train.labels) // 200),
            max_features="sqrt",
            n_jobs=request.threads,
            random_state=request.seed,
        )
    if request.model_type == "logistic_regression":
        return LogisticRegression(C=0.1, max_iter=500, random_state=request.seed)
    return SGDClassifier(
        loss="log_loss", penalty="l2", alpha=0.01, max_iter=200, tol=1e-4, average=True, random_state=request.seed
    )


def _continued(request: FitRequest) -> Pipeline:
    pipeline = _parent_pipeline(request.parent or b"", request.train.inputs.shape[1])
    scaled = pipeline[:-1].transform(request.train.inputs)
    for epoch in range(INCREMENT_EPOCHS):
        pipeline[-1].partial_fit(scaled, request.train.labels, sample_weight=request.train.weights)
        request.on_round(epoch + 1, INCREMENT_EPOCHS)
    return pipeline


def _parent_pipeline(content: bytes, width: int) -> Pipeline:
    try:
        pipeline = read_skops(content)
    except ValueError as error:
        raise Refused(
            "parent_incompatible", "the parent's model.skops cannot be read; request a full training."
        ) from error
    if not isinstance(pipeline, Pipeline) or pipeline.n_features_in_ != width:
        raise Refused("parent_incompatible", "the parent reads other features; request a full training.")
    return pipeline
