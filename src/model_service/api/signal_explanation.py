"""The answer that explains a decision."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from model_service.api.schemas import Body, Number
from model_service.services.explanations import ExplainedDecision


class Contribution(Body):
    """One input of the model: as it was stored, as the model saw it for this side, and what it added to the sum."""

    feature: str
    value: Number = Field(description="null: not known at the decision.")
    aligned: Number = Field(description="Directional features change their sign for a sale.")
    contribution: float


class ExplainedSide(Body):
    """One side: `base_value` and the contributions make `total`, that `score`, and the calibration `probability`."""

    side: Literal["buy", "sell"]
    total: float
    score: float = Field(description="Probability before calibration.")
    probability: float = Field(description="Calibrated probability of a profit.")
    expected_net_return: float = Field(description="Mean net return of acting, a fraction of the entry.")
    contributions: list[Contribution] = Field(description="In the order of the model's inputs.")


class DecisionExplanation(Body):
    """What a version says of a decision, and why; `side` is null for a draw of `none`."""

    decision_id: UUID
    strategy_id: str
    asset: str
    side: Literal["buy", "sell"] | None
    intent: Literal["open", "reduce", "exit"] | None
    decided_at: datetime
    policy: str
    model_version: str | None = Field(description="The version that decided; null when no model did.")
    probability_buy: float
    probability_sell: float
    probability_none: float
    version: str = Field(description="The version that explains.")
    model_type: str
    unit: Annotated[Literal["log_odds", "probability"], Field(description="What contributions add up to.")]
    method: str
    base_value: float = Field(description="What the version says of an average row.")
    calibration: str
    break_even: float = Field(description="Calibrated probability at which acting earns nothing.")
    buy: ExplainedSide
    sell: ExplainedSide


def answer(explained: ExplainedDecision) -> DecisionExplanation:
    """The body for an explained decision."""
    decision = {
        name: getattr(explained.decision, name)
        for name in explained.decision.__dataclass_fields__
        if name in DecisionExplanation.model_fields
    }
    return DecisionExplanation.model_validate({**explained.explanation.model_dump(), **decision})
