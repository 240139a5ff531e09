"""How an operation says no: in words for a person and in a code for a program. Nothing here knows of HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

RefusalKind = Literal["invalid", "conflict"]
"""invalid: the request can never be granted as it is; conflict: the present state forbids it."""


class OperationRefused(Exception):  # noqa: N818 - a refusal is an answer, not a fault
    """An operation that was not carried out; nothing was changed.

    Attributes:
        code: a stable word for programs, such as `not_enough_data`.
        message: one sentence for people: the thing, its value, what is allowed, what to do.
        details: numbers and names behind the message, fit for JSON; None when there are none.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = None if details is None else dict(details)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


class NotFound(OperationRefused):
    """There is no such version, strategy or run."""


class Refused(OperationRefused):
    """It exists, but the operation is not allowed: a file is missing, the quality is too low, the data are too few.

    Attributes:
        kind: whether the request itself or the present state is at fault.
    """

    def __init__(
        self,
        code: str,
        message: str,
        details: Mapping[str, Any] | None = None,
        *,
        kind: RefusalKind = "invalid",
    ) -> None:
        super().__init__(code, message, details)
        self.kind: RefusalKind = kind


class Unavailable(OperationRefused):
    """Something that the operation needs is away now; the same request may succeed later."""
