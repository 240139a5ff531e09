"""One table of parameters as TOML has it: what of it can be used, and one line for each key that cannot."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from model_service.config.allowed import without_none
from model_service.config.assets import names_balances
from model_service.config.strategies import StrategyDefinition
from model_service.config.strategy_keys import (
    ENABLED,
    OF_THE_SERVICE,
    allowed_of,
    file_keys,
    may_be_none,
    meaning_of,
    table_of,
)

FIELDS: Mapping[str, FieldInfo] = dict(file_keys())
Values = dict[str, Any]


@dataclass
class Table:
    """The keys of one table that are known and of the right kind, and what is wrong with the others.

    Attributes:
        path: how messages name the table, for example `strategies.momentum_v1`.
        values: as `StrategyDefinition` takes them; sub-tables inside.
        keys: the dotted names of what is set, of the wrong ones too.
        faults: by dotted name, what follows the name in the message.
    """

    path: str
    values: Values = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def lines(self) -> Iterator[str]:
        """One for each fault."""
        return (f"{self.path}.{key}{fault}" for key, fault in self.faults.items())


def read_table(content: Mapping[str, object], path: str, *, with_enabled: bool) -> Table:
    """Sort a table out. The kinds of values are looked at here, their limits in `over`."""
    table = Table(path)
    table.values = _sorted_out(content, StrategyDefinition, "", table, {ENABLED} if with_enabled else set())
    return table


def over(base: Values, table: Table) -> StrategyDefinition | None:
    """The definition that `base` becomes with the table over it; None, with its faults noted, where that is none.

    A fault is noted for a key of this table only, and for what does not go together, under the empty key.
    """
    values = merged(base, table.values)
    try:
        return StrategyDefinition.model_validate(values)
    except ValidationError as error:
        for item in error.errors():
            key = _key_of(item["loc"])
            reason = item["msg"].removeprefix("Value error, ")
            if key is None:
                table.faults.setdefault("", reason)
            elif key not in table.faults:
                told = item["type"] == "value_error" and not key.startswith("assets")
                given = _value_at(table.values, key)
                table.faults[key] = _wrong(key, given, reason if told else None)
        return None


def merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> Values:
    """`values` over `base`; sub-tables are merged by key, everything else is replaced as a whole."""
    result = dict(base)
    for name, value in values.items():
        known = StrategyDefinition.model_fields.get(name)
        if known is not None and table_of(known) is not None:
            result[name] = {**result[name], **value}
        else:
            result[name] = value
    return result


def without(values: Mapping[str, Any], keys: Mapping[str, object]) -> Values:
    """`values` without the dotted `keys`."""
    result: Values = {}
    for name, value in values.items():
        if name in keys:
            continue
        result[name] = value
        if isinstance(value, Mapping):
            inner = {key.partition(".")[2] for key in keys if key.startswith(f"{name}.")}
            result[name] = {key: one for key, one in value.items() if key not in inner}
    return result


def shown(value: object) -> str:
    """A value as TOML writes it, nearly."""
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, default=str, ensure_ascii=False)


def quoted(name: str) -> str:
    """A name as a TOML key."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def unknown(name: str, known: Iterator[str] | set[str]) -> str:
    """What is said of a key that does not exist."""
    allowed = sorted(known)
    near = difflib.get_close_matches(name, allowed, n=1)
    return f": there is no such key; {f'did you mean {near[0]}?' if near else 'allowed: ' + ', '.join(allowed)}"


def _sorted_out(
    content: Mapping[str, object], model: type[BaseModel], prefix: str, table: Table, extra: set[str]
) -> Values:
    known = {name for name in model.model_fields if prefix or name not in OF_THE_SERVICE} | extra
    values: Values = {}
    for name, value in content.items():
        key = f"{prefix}{quoted(name)}"
        table.keys.add(key)
        if name not in known:
            table.faults[key] = unknown(name, known) if prefix else _no_key(name, known)
        elif name in extra:
            if not isinstance(value, bool):
                table.faults[key] = f" is {shown(value)}; allowed: true or false"
            values[name] = value
        else:
            _take(name, value, model.model_fields[name], prefix, table, values)
    return values


def _no_key(name: str, known: set[str]) -> str:
    if name == "bar_seconds":
        return ": it is the same for every strategy; set MARKET_DATA_BAR_SECONDS"
    return unknown(name, known)


def _take(name: str, value: object, known: FieldInfo, prefix: str, table: Table, values: Values) -> None:
    key = f"{prefix}{name}"
    inner = table_of(known)
    if inner is not None:
        if not isinstance(value, Mapping):
            table.faults[key] = f" is {shown(value)}; allowed: a table [{table.path}.{key}]"
        else:
            table.keys.discard(key)
            values[name] = _sorted_out(value, inner, f"{key}.", table, set())
        return
    if isinstance(value, str) and value.lower() == "none" and may_be_none(known):
        values[name] = None
    elif key == "assets" and isinstance(value, str) and names_balances([value]):
        values |= {"assets": [], "assets_from_balances": True}
    elif _is_of_another_kind(value, known) or (key == "assets" and value == []):
        table.faults[key] = _wrong(key, value, None)
    else:
        values |= {"assets_from_balances": False} if key == "assets" else {}
        values[name] = value


def _is_of_another_kind(value: object, known: FieldInfo) -> bool:
    """Whether a conversion would be needed, which hides mistakes: a text for a number, a switch for a number."""
    kind = without_none(known.annotation)
    if get_origin(kind) is Mapping and isinstance(value, Mapping):
        inner = FieldInfo.from_annotation(get_args(kind)[1])
        return any(_is_of_another_kind(one, inner) for one in value.values())
    if kind in (int, float, Decimal):
        return isinstance(value, bool) or not isinstance(value, (int, float))
    return kind is bool and not isinstance(value, bool)


def _wrong(key: str, value: object, reason: str | None) -> str:
    known = FIELDS[key]
    return f" is {shown(value)}; {reason or f'allowed: {allowed_of(key, known)}'} ({meaning_of(key, known)})"


def _key_of(place: tuple[int | str, ...]) -> str | None:
    """The key that an error belongs to, however deep inside its value it was found; None for the whole strategy."""
    for length in range(len(place), 0, -1):
        key = ".".join(str(part) for part in place[:length])
        if key in FIELDS:
            return key
    return None


def _value_at(values: Mapping[str, Any], key: str) -> object:
    value: Any = values
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
