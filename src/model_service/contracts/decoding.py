"""Reading foreign JSON: each helper returns one checked value or raises InvalidMessage that names the member."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import cache
from typing import Any, NoReturn

from model_service.contracts.types import InvalidMessage, Side

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_YEAR, _LAST_YEAR = 2000, 2199
_SHORTEST_EPOCH_MS = 12
_LONGEST_NUMBER = 64
_SHORT_NUMBER, _SURELY_ALLOWED = 20, (1e-9, 1e17)
_LARGEST_EXPONENT, _SMALLEST_EXPONENT = 18, -30
_SHOWN_CHARACTERS = 80
_SHOWN_BYTES = 8

ALLOWED_LEAD = timedelta(minutes=5)
"""How much later than the clock that it is held against an event may be."""


def load_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body` (UTF-8). Fractions come as Decimal, so that no digit of an amount is lost.

    Raises:
        InvalidMessage: `invalid_json` for anything else, NaN and Infinity among it.

    >>> load_object(b'{"price": 0.10}')
    {'price': Decimal('0.10')}
    """
    try:
        value = _decoder().decode(_text(body))
    except UnicodeDecodeError as error:
        start = body[:_SHOWN_BYTES].hex(" ")
        raise InvalidMessage("invalid_json", "", f"The body is not UTF-8 JSON; it begins with {start}.") from error
    except (ValueError, InvalidOperation, RecursionError) as error:
        raise InvalidMessage("invalid_json", "", f"The body is not valid JSON: {error}.") from error
    return object_value(value, "")


def _text(body: bytes) -> str:
    # As json.loads reads bytes; what begins so is UTF-8 for certain.
    encoding = "utf-8" if body.startswith(b'{"') else json.detect_encoding(body)
    return body.decode(encoding, "surrogatepass")


@cache
def _decoder() -> json.JSONDecoder:
    # Made once: json.loads makes a new one for each text when it is given a parse_float.
    return json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant)


def object_value(value: Any, path: str) -> dict[str, Any]:
    """`value` as a JSON object."""
    if not isinstance(value, dict):
        refuse(path, value, "a JSON object")
    return value


def required(obj: Mapping[str, Any], key: str, path: str) -> Any:
    """The member `key` of `obj`; `path` is that member's full path, for the error. An explicit null is missing too.

    Raises:
        InvalidMessage: `missing_field`.
    """
    value = obj.get(key)
    if value is None:
        raise InvalidMessage("missing_field", path, f"The member `{key}` is required.")
    return value


def decimal_value(value: Any, path: str) -> Decimal:
    """A finite decimal from a JSON string or number. `"0E-8"` is 0; magnitudes from 1e-30 to 1e18 are allowed.

    >>> decimal_value("0E-8", "fees") == 0
    True
    """
    allowed = "a finite decimal number, below 1e19 and not finer than 1e-30"
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        refuse(path, value, allowed)
    if isinstance(value, str) and (len(value) > _LONGEST_NUMBER or "_" in value):  # Decimal reads 1_000
        refuse(path, value, allowed)
    try:
        number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    except InvalidOperation:
        refuse(path, value, allowed)
    if not _is_reasonable(number):
        refuse(path, value, allowed)
    return number


def float_value(value: Any, path: str) -> float:
    """A finite float from a JSON string or number, under the same limits as `decimal_value`."""
    # Nearly all numbers of the market are short texts, and both ways round to the nearest float.
    if type(value) is str and len(value) <= _SHORT_NUMBER and "_" not in value:
        try:
            number = float(value)
        except ValueError:
            return float(decimal_value(value, path))
        if _SURELY_ALLOWED[0] <= abs(number) <= _SURELY_ALLOWED[1]:
            return number
    return float(decimal_value(value, path))


def positive_float(value: Any, path: str) -> float:
    """A finite float above 0, such as a price."""
    number = float_value(value, path)
    if number <= 0.0:
        refuse(path, value, "a finite number above 0")
    return number


def non_negative_float(value: Any, path: str) -> float:
    """A finite float of at least 0, such as a size or a volume."""
    number = float_value(value, path)
    if number < 0.0:
        refuse(path, value, "a finite number of at least 0")
    return number


def utc_time(value: Any, path: str) -> datetime:
    """An aware UTC time from ISO 8601 (naive means UTC) or from epoch milliseconds (a number, or digits in a string).

    >>> utc_time("2025-12-11T10:15:30.123", "timestamp").isoformat()
    '2025-12-11T10:15:30.123000+00:00'
    >>> utc_time(1765448130123, "T").isoformat()
    '2025-12-11T10:15:30.123000+00:00'
    """
    allowed = "ISO 8601 or epoch milliseconds, from the year 2000 to 2199"
    try:
        moment = _moment(value)
    except (ValueError, OverflowError):
        refuse(path, value, allowed)
    if moment is None or not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        refuse(path, value, allowed)
    return moment


def refuse_future(moment: datetime, path: str, clock: datetime, whose: str) -> None:
    """Raise InvalidMessage when `moment` is later than `clock` by more than ALLOWED_LEAD; `whose` names the clock."""
    if moment > clock + ALLOWED_LEAD:
        refuse(path, moment.isoformat(), f"at most {ALLOWED_LEAD} after {whose} {clock.isoformat()}")


def side_value(value: Any, path: str) -> Side:
    """`buy` or `sell` in any case."""
    try:
        return Side(value.lower())
    except (AttributeError, ValueError):
        refuse(path, value, "buy or sell, in any case")


def text_value(value: Any, path: str, max_length: int) -> str:
    """A text of 1 to `max_length` characters that PostgreSQL can store: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str) or not 1 <= len(value) <= max_length or not _is_storable(value):
        refuse(path, value, f"a text of 1 to {max_length} characters without NUL and lone surrogates")
    return value


def refuse(path: str, value: Any, allowed: str) -> NoReturn:
    """Raise InvalidMessage `invalid_value`, saying what was found and what is allowed."""
    found = repr(value)
    if len(found) > _SHOWN_CHARACTERS:
        found = found[:_SHOWN_CHARACTERS] + "..."
    raise InvalidMessage("invalid_value", path, f"Found {_printable(found)}; allowed is {allowed}.")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _is_reasonable(number: Decimal) -> bool:
    # A number such as 1e999999 is finite and still breaks every sum and every column that it meets.
    if not number.is_finite() or len(number.as_tuple().digits) > _LONGEST_NUMBER:
        return False
    return number == 0 or _SMALLEST_EXPONENT <= number.adjusted() <= _LARGEST_EXPONENT


def _moment(value: Any) -> datetime | None:
    if isinstance(value, str):
        if value.isascii() and value.isdigit() and len(value) >= _SHORTEST_EPOCH_MS:
            return _EPOCH + timedelta(milliseconds=int(value))
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    if isinstance(value, int) and not isinstance(value, bool):
        return _EPOCH + timedelta(milliseconds=value)
    return None


def _is_storable(value: str) -> bool:
    return "\x00" not in value and _printable(value) == value


def _printable(value: str) -> str:
    return value.encode("utf-8", errors="replace").decode("utf-8")
