"""What a setting accepts, in words: for the messages of wrong settings and for the documentation."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import SecretStr
from pydantic.fields import FieldInfo

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    Decimal: "a number",
    Path: "a path",
    str: "text",
}


@dataclass(frozen=True, slots=True)
class Words:
    """Metadata of a setting that says itself what it accepts."""

    text: str


def allowed_values(field: FieldInfo) -> str:
    """The type and the limits of a setting, or its own `Words`.

    Example:
        >>> from pydantic import Field
        >>> allowed_values(FieldInfo.from_annotated_attribute(int, Field(80, ge=0, le=65535)))
        'a whole number from 0 to 65535'
    """
    own = next((item.text for item in field.metadata if isinstance(item, Words)), None)
    if own is not None:
        return own
    limits = [words for limit in field.metadata if (words := _limit(limit))]
    return " ".join([_kind(without_none(field.annotation)), " and ".join(limits).replace(" and to ", " to ")]).strip()


def is_secret(field: FieldInfo) -> bool:
    """Whether the value must never be shown."""
    return without_none(field.annotation) is SecretStr


def without_none(annotation: object) -> object:
    """The type of a setting that may be absent."""
    others = [part for part in get_args(annotation) if part is not NoneType]
    return others[0] if NoneType in get_args(annotation) and len(others) == 1 else annotation


def _kind(annotation: object) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(annotation))
    if get_origin(annotation) is tuple:
        return "names separated by commas"
    if annotation is SecretStr:
        return "secret text"
    return WORDS[annotation] if isinstance(annotation, type) else str(annotation)


def _limit(limit: object) -> str:
    match limit:
        case Ge(ge=value):
            return f"from {value}"
        case Gt(gt=value):
            return f"over {value}"
        case Le(le=value):
            return f"to {value}"
        case Lt(lt=value):
            return f"under {value}"
        case MinLen():
            return "that is not empty"
    pattern = getattr(limit, "pattern", None)
    return f"of the form {pattern}" if pattern else ""
