"""The scikit-learn families: what makes inputs usable and the estimator in one pipeline, exported whole."""

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
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.pipeline import Pipeline

from model_service.config.hyperparameters import chosen_hyperparameters
from model_service.learning.estimators import FitRequest, known_inputs
from model_service.learning.explain_pipeline import explainer_of
from model_service.learning.explanation import Explainer
from model_service.learning.onnx_trees import ML_OPSET, OPSET
from model_service.learning.refusal import Refused
from model_service.learning.robust_inputs import input_steps
from model_service.learning.skops_bytes import canonical_skops, read_skops
from model_service.models.artifact import INPUT_NAME

INCREMENT_EPOCHS = 5
LEAST_LEAF_ROWS = 20
_ESTIMATOR = "estimator"
_TREES_AT_ONCE = 10


@dataclass(frozen=True)
class PipelineModel:
    """A fitted pipeline. Unknown inputs become the training block's median, in scikit-learn and in the graph alike.

    Attributes:
        used: hyperparameters of the fit.
    """

    pipeline: Pipeline
    inputs: int
    used: Mapping[str, Any]
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
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is clipped by the next step
            return np.asarray(self.pipeline.predict_proba(known_inputs(inputs))[:, 1], dtype=np.float64)

    def explainer(self) -> Explainer:
        """The pipeline, asked for its reasons."""
        return explainer_of(self.pipeline)

    def details(self) -> Mapping[str, Any]:
        """Hyperparameters of the estimator."""
        return {"hyperparameters": dict(self.used)}


def fit_pipeline(request: FitRequest) -> PipelineModel:
    """Fit a pipeline, or run further epochs of a parent's SGD. Raises Refused with `parent_incompatible`."""
    width = request.train.inputs.shape[1]
    used = _used(request)
    if request.parent is not None:
        return PipelineModel(_continued(request, used), width, used)
    steps = input_steps(request.train.inputs, scaled=request.model_type != "random_forest")
    inputs = _through(steps, request.train.inputs)
    estimator = _FITS[request.model_type](request, used, inputs)
    return PipelineModel(Pipeline([*steps, (_ESTIMATOR, estimator)]), width, used)


def _used(request: FitRequest) -> dict[str, Any]:
    used: dict[str, Any] = chosen_hyperparameters(request.model_type, request.hyperparameters)
    if request.model_type == "random_forest":
        drawn = min(used["max_samples"], len(request.train.labels))
        used["max_samples"] = drawn
        used["min_samples_leaf"] = used["min_samples_leaf"] or max(LEAST_LEAF_ROWS, drawn // 200)
    return used


def _through(steps: list[tuple[str, Any]], inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    values = inputs
    with np.errstate(over="ignore", invalid="ignore"):
        for _, step in steps:
            values = step.transform(values)
    return values


def _fit_forest(request: FitRequest, used: Mapping[str, Any], inputs: NDArray[np.float32]) -> RandomForestClassifier:
    """Grown a few trees at a time, so that progress can be told; the trees are those of one call."""
    forest = RandomForestClassifier(**{**used, "n_estimators": 0}, warm_start=True, random_state=request.seed)
    most = used["n_estimators"]
    forest.n_jobs = request.threads
    while forest.n_estimators < most:
        forest.n_estimators = min(most, forest.n_estimators + _TREES_AT_ONCE)
        forest.fit(inputs, request.train.labels, sample_weight=request.train.weights)
        request.on_round(forest.n_estimators, most)
    # Threads add up the trees' votes in any order, which changes the last bits.
    return forest.set_params(n_jobs=1)


def _fit_logistic(request: FitRequest, used: Mapping[str, Any], inputs: NDArray[np.float32]) -> LogisticRegression:
    return _fitted(LogisticRegression(C=used["C"], max_iter=used["max_iter"], tol=1e-6), request, inputs)


def _fit_sgd(request: FitRequest, used: Mapping[str, Any], inputs: NDArray[np.float32]) -> SGDClassifier:
    estimator = SGDClassifier(
        loss="log_loss", tol=1e-4, max_iter=used["max_iter"], random_state=request.seed, **_sgd_parameters(used)
    )
    return _fitted(estimator, request, inputs)


_FITS = {"random_forest": _fit_forest, "logistic_regression": _fit_logistic, "sgd_classifier": _fit_sgd}


def _sgd_parameters(used: Mapping[str, Any]) -> dict[str, Any]:
    ratio = used["l1_ratio"]
    penalty = {"penalty": "elasticnet", "l1_ratio": ratio} if ratio > 0 else {"penalty": "l2"}
    return {"alpha": used["alpha"], "average": used["average"], **penalty}


def _fitted(estimator: Any, request: FitRequest, inputs: NDArray[np.float32]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        estimator.fit(inputs, request.train.labels, sample_weight=request.train.weights)
    request.on_round(1, 1)
    return estimator


def _continued(request: FitRequest, used: Mapping[str, Any]) -> Pipeline:
    pipeline = _parent_pipeline(request.parent or b"", request.train.inputs.shape[1])
    inputs = _through(pipeline.steps[:-1], request.train.inputs)
    estimator = pipeline[-1].set_params(**_sgd_parameters(used), random_state=request.seed)
    for epoch in range(INCREMENT_EPOCHS):
        estimator.partial_fit(inputs, request.train.labels, sample_weight=request.train.weights)
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
