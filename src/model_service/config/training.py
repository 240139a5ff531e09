"""How a strategy's models are fitted: hyperparameters, weights, constraints and how much is searched."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


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

    model_config = ConfigDict(frozen=True, extra="forbid")

    hyperparameters: Mapping[str, float | int | str | bool] = Field(default_factory=dict)
    class_weight: Literal["none", "balanced"] | float = "none"
    recency_half_life_hours: float | None = Field(default=None, gt=0)
    monotone_constraints: Mapping[str, Literal[-1, 1]] = Field(default_factory=dict)
    early_stopping_rounds: int = Field(default=40, ge=1)
    search_trials: int = Field(default=0, ge=0)
    walk_forward_folds: int = Field(default=4, ge=0)
