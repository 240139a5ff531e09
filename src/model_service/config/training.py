"""How a strategy's models are fitted: hyperparameters, weights, constraints and how much is searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from model_service.config.hyperparameters import Value, hyperparameter_fault, monotone_fault
from model_service.config.json_object import json_object
from model_service.config.limits import LONGEST_HOURS

LARGEST_CLASS_WEIGHT = 1000.0
ClassWeight = Literal["none", "balanced"] | Annotated[float, Field(gt=0, le=LARGEST_CLASS_WEIGHT)]
CLASS_WEIGHT_WORDS = f"none, balanced, or a number over 0 to {LARGEST_CLASS_WEIGHT:g}"


class TrainingParameters(BaseModel):
    """What shapes a fit, beside the rows; the same for every run of a strategy until somebody changes it.

    Attributes:
        hyperparameters: over the family's defaults, by the library's own names.
        class_weight: `balanced` gives both classes of the training block the same total weight; a number is the weight
            of label 1 against 1 of label 0.
        recency_half_life_hours: a row that is older by so much counts half; None: age does not count.
        monotone_constraints: by feature name, +1 or -1: the score may only rise, or only fall, with the aligned value.
        early_stopping_rounds: boosting ends after so many rounds without a better loss.
        search_trials: so many sets of hyperparameters are tried inside the training block (extra `tune`); 0: none.
        walk_forward_folds: expanding folds of the walk-forward report; 0: no report.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hyperparameters: Mapping[str, Value] = Field(default_factory=dict)
    class_weight: ClassWeight = "none"
    recency_half_life_hours: float | None = Field(default=None, gt=0, le=LONGEST_HOURS)
    monotone_constraints: Mapping[str, Literal[-1, 1]] = Field(default_factory=dict)
    early_stopping_rounds: int = Field(default=40, ge=1, le=1000)
    search_trials: int = Field(default=0, ge=0, le=1000)
    walk_forward_folds: int = Field(default=4, ge=0, le=20)

    def fault(self, model_type: str) -> str | None:
        """What of this the model type cannot take, in words; None when it can take all."""
        faults = {
            "hyperparameters": hyperparameter_fault(model_type, self.hyperparameters),
            "monotone_constraints": monotone_fault(model_type, self.monotone_constraints),
        }
        return next((f"{name}: {fault}" for name, fault in faults.items() if fault), None)


def parse_hyperparameters(value: object, model_type: str | None) -> Mapping[str, Any]:
    """The hyperparameters in a JSON object, or in the text of one; nothing when the model type is itself at fault.

    Raises:
        ValueError: no such object, or one that the model type cannot take; the text says what is allowed.
    """
    given = json_object(value, '{"max_depth": 4, "eta": 0.03}')
    if model_type is None:
        return {}
    _raise_if(hyperparameter_fault(model_type, given))
    return given


def parse_monotone_constraints(value: object, model_type: str | None) -> Mapping[str, Any]:
    """By feature name +1 or -1; whether the features exist is not known here. Otherwise as `parse_hyperparameters`."""
    given = json_object(value, '{"book_imbalance": 1}')
    if model_type is None:
        return {}
    _raise_if(monotone_fault(model_type, given))
    return given


def parse_class_weight(value: object) -> object:
    """`none`, `balanced` or a number. Raises ValueError."""
    if isinstance(value, str) and value in ("none", "balanced"):
        return value
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = 0.0
    if not 0.0 < number <= LARGEST_CLASS_WEIGHT:
        raise ValueError(f"allowed: {CLASS_WEIGHT_WORDS}")
    return number


def _raise_if(fault: str | None) -> None:
    if fault:
        raise ValueError(fault)
