"""What a demo runs for."""

from enum import StrEnum


class Until(StrEnum):
    """`promoted`: a model speaks; `end`: the market is over; `never`: somebody stops it."""

    PROMOTED = "promoted"
    END = "end"
    NEVER = "never"
