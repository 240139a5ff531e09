"""The families of models behind one door: fit or continue, then score natively and export for serving (METHOD 6)."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from model_service.config.hyperparameters import Value
from model_service.learning.explanation import Explainer
from model_service.learning.refusal import Refused

OnRound = Callable[[int, int], None]
"""Called with the rounds done and the rounds at most, at least every ten rounds."""


@dataclass(frozen=True)
class Block:
    """Rows as a model reads them: inputs float32 (n, F + 1), labels int8 (n,), weights float32 (n,) with mean 1."""

    inputs: NDArray[np.float32]
    labels: NDArray[np.int8]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class FitRequest:
    """What a family needs to fit.

    Attributes:
        model_type: the family.
        train, early_stopping: the blocks; the second serves boosting alone, which without it runs all its rounds.
        seed, threads: the same pair gives the same bytes.
        on_round: where to say how far it is.
        parent: the native file of the version to continue from; None for a full training.
        hyperparameters: over the defaults of `config/hyperparameters.py`.
        early_stopping_rounds: boosting ends after so many rounds without a better loss.
        monotone_constraints: by feature name, +1 or -1.
        device: where boosting computes, `cpu` or `cuda`.
    """

    model_type: str
    train: Block
    early_stopping: Block | None
    seed: int
    threads: int
    on_round: OnRound
    parent: bytes | None = None
    hyperparameters: Mapping[str, Value] = field(default_factory=dict)
    early_stopping_rounds: int = 40
    monotone_constraints: Mapping[str, int] = field(default_factory=dict)
    device: str = "cpu"


class FittedModel(Protocol):
    """A fitted model of any family."""

    @property
    def native_file(self) -> str:
        """Name of the native file in the artifact."""

    def native(self) -> bytes:
        """Content of the native file, for users and increments; never read when deciding."""

    def onnx(self) -> bytes:
        """Content of `serving.onnx`."""

    def scores(self, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probability of label 1 before calibration by the native model, float64 (n,); what is infinite is unknown."""

    def explainer(self) -> Explainer:
        """The native model, asked for its reasons."""

    def details(self) -> Mapping[str, Any]:
        """Hyperparameters and what fitting found, for `training_config`."""


@dataclass(frozen=True)
class _Family:
    fit: Callable[[FitRequest], FittedModel]
    module: str
    increments: bool
    libraries: tuple[str, ...]
    native_file: str = field(default="model.skops")


def known_inputs(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same rows with NaN for what is infinite, as `LoadedModel` reads them; no copy when nothing is."""
    infinite = np.isinf(inputs)
    return np.where(infinite, np.float32(np.nan), inputs) if bool(np.any(infinite)) else inputs


def fit_model(request: FitRequest) -> FittedModel:
    """Fit the family of the request. Raises Refused with `increment_unsupported` or `increment_round_cap`."""
    family = _FAMILIES[request.model_type]
    if request.parent is not None:
        refuse_increment(request.model_type)
    return family.fit(request)


def load_libraries(model_type: str) -> None:
    """Import what the family needs, before the rows are in memory: OpenBLAS, loaded into too little, spins for ever."""
    importlib.import_module(_FAMILIES[model_type].module)


def refuse_increment(model_type: str) -> None:
    """Raises Refused with `increment_unsupported` when the family cannot continue from a parent."""
    if not _FAMILIES[model_type].increments:
        able = ", ".join(name for name, family in _FAMILIES.items() if family.increments)
        hint = f"{model_type} cannot continue from a version ({able} can); request a full training."
        raise Refused("increment_unsupported", hint)


def native_file(model_type: str) -> str:
    """Name of the family's native file."""
    return _FAMILIES[model_type].native_file


def libraries_of(model_type: str) -> tuple[str, ...]:
    """Names of the packages that shape the family's bytes."""
    return _FAMILIES[model_type].libraries


def _fit_xgboost(request: FitRequest) -> FittedModel:
    from model_service.learning.boosting import fit_boosted

    return fit_boosted(request)


def _fit_scikit(request: FitRequest) -> FittedModel:
    from model_service.learning.pipelines import fit_pipeline

    return fit_pipeline(request)


_SCIKIT = ("numpy", "onnx", "onnxruntime", "scikit-learn", "skl2onnx", "skops")
_FAMILIES: Mapping[str, _Family] = {
    "xgboost": _Family(
        _fit_xgboost, "model_service.learning.boosting", True, ("numpy", "onnx", "onnxruntime", "xgboost"), "model.json"
    ),
    "random_forest": _Family(_fit_scikit, "model_service.learning.pipelines", False, _SCIKIT),
    "logistic_regression": _Family(_fit_scikit, "model_service.learning.pipelines", False, _SCIKIT),
    "sgd_classifier": _Family(_fit_scikit, "model_service.learning.pipelines", True, _SCIKIT),
}
