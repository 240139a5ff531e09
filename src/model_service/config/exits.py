"""How a strategy lets go of its positions, beside the barriers that its labels have too."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from model_service.config.limits import LARGEST_INTEGER


class ExitParameters(BaseModel):
    """The exit policy's own part: no label knows of it. Nothing is set by default.

    Attributes:
        trailing_activation_percent: the trailing stop is armed once the best price lies so far beyond the mean entry
            price of the position, in percent of that price.
        trailing_distance_percent: so far behind the best price does it stand, in percent of the mean entry price;
            None: there is no trailing stop.
        take_profit_part_percent: share of a lot that is closed at the take-profit; the rest is left to the other exits.
            None: all of it.
        maximum_holding_hours: how long a lot is held; None: until the horizon.
        holding_profit_percent: profit at which a lot is closed before `maximum_holding_hours`; see `wanted_profit` in
            policies/exit.py. None: none is.
        cooldown_seconds: least time between two attempts to close one position.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trailing_activation_percent: float = Field(default=0.0, ge=0, lt=1000)
    trailing_distance_percent: float | None = Field(default=None, gt=0, lt=100)
    take_profit_part_percent: float | None = Field(default=None, gt=0, lt=100)
    maximum_holding_hours: float | None = Field(default=None, gt=0, le=8760)
    holding_profit_percent: float | None = Field(default=None, gt=0, lt=1000)
    cooldown_seconds: float = Field(default=0.0, ge=0, le=LARGEST_INTEGER)
