"""The strategies in force: those of TRADING_STRATEGIES and those of TRADING_STRATEGIES_FILE, checked all at once.

A parameter is looked for in the strategy's own table, then in [defaults], then in the settings of the environment.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import ValidationError

from model_service.config.extras import missing_for_search
from model_service.config.hyperparameters import unknown_feature_fault
from model_service.config.loading import SettingsError
from model_service.config.settings import Settings
from model_service.config.strategies import StrategyDefinition, strategy_from
from model_service.config.strategy_checks import (
    OF_FILE,
    amounts_fault,
    dask_faults,
    device_fault,
    exchange_minimum_fault,
    horizon_fault,
    trailing_fault,
)
from model_service.config.strategy_keys import ENABLED, KEYS
from model_service.config.strategy_names import NAME_ALLOWED, is_strategy_name
from model_service.config.strategy_tables import (
    FIELDS,
    Table,
    merged,
    over,
    quoted,
    read_table,
    shown,
    unknown,
    without,
)

Source = Literal["file", "defaults", "environment", "default"]
LOOKED_AT = frozenset(
    {"assets_from_balances", "bar_seconds", "model_type", "take_profit_percent", "stop_loss_percent"}
    | {"exits_enabled", "exits"}
)
SECTIONS = {"defaults", "strategies"}
PLACE = re.compile(r"^(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$", re.DOTALL)


ADVICE = (
    ("Invalid value", 'a value is a number, true or false, a "text" in quotes, a list in [ ] or a table in { }'),
    ("Invalid statement", "a line is key = value, [table], or a comment after #; other signs in a name need quotes"),
    ("Expected '='", "write key = value, one to a line"),
    ("Expected newline", "write one key = value to a line; a text needs quotes"),
    ("Unterminated string", "end the text with the quote that it begins with"),
    ("Illegal character", "end the text with the quote that it begins with, on the same line"),
    ("Unclosed array", "end the list with ]"),
    ("Unclosed inline table", "end the table with }"),
    ("Expected ']", "a table's name stands in brackets: [strategies.NAME]"),
    ("Cannot overwrite a value", "each key may stand once in a table; take one away"),
    ("Cannot declare", "each table may stand once; put its keys together under one [table]"),
    ("Unescaped '\\'", "write \\\\ for a backslash, or 'text' in single quotes"),
)
"""By how the parser's message begins: what to do."""


class StrategiesRefused(SettingsError):  # noqa: N818 - an answer to the person who wrote the file
    """A strategy file that cannot be used; `lines` say what is wrong, one line for each fault."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


@dataclass(frozen=True, slots=True)
class StrategyText:
    """The content of a strategy file, and what messages call the file."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class ConfiguredStrategy:
    """A strategy as it was asked for.

    Attributes:
        enabled: False: it opens nothing, its positions are still closed.
        sources: by dotted key, where the value came from. Empty where nobody has looked that up.
    """

    definition: StrategyDefinition
    enabled: bool = True
    sources: Mapping[str, Source] = field(default_factory=dict)


def configured_strategies(
    settings: Settings, text: StrategyText | None, features: Collection[str]
) -> tuple[ConfiguredStrategy, ...]:
    """The strategies of the environment and of the file, in that order.

    TRADING_STRATEGIES counts where it is set; a strategy that only it names has the parameters of the environment.
    Without a file all have them.

    Args:
        features: what monotone constraints may name.

    Raises:
        StrategiesRefused: with all that is wrong with the file.
    """
    if text is None:
        return tuple(_of_environment(settings, name) for name in settings.trading_strategies)
    return _File(text.name, settings, features).read(_parsed(text))


def values_by_key(definition: StrategyDefinition) -> dict[str, Any]:
    """A definition as the file would have it: dotted keys, JSON values; assets of balances by their word."""
    dumped = definition.model_dump(mode="json")
    values = {key: _at(dumped, key) for key in FIELDS}
    if definition.assets_from_balances:
        values["assets"] = "account_balances"
    return values


def _of_environment(settings: Settings, name: str) -> ConfiguredStrategy:
    return ConfiguredStrategy(strategy_from(settings, name), sources=_sources(settings, set(), set()))


def _sources(settings: Settings, own: Collection[str], defaults: Collection[str]) -> dict[str, Source]:
    def source(key: str) -> Source:
        if key in own:
            return "file"
        if key in defaults:
            return "defaults"
        names = KEYS[key].settings if key in KEYS else ()
        return "environment" if {name.lower() for name in names} & settings.model_fields_set else "default"

    return {key: source(key) for key in FIELDS}


def _parsed(text: StrategyText) -> Mapping[str, object]:
    try:
        return tomllib.loads(text.content.decode())
    except UnicodeDecodeError as error:
        line = text.content.count(b"\n", 0, error.start) + 1
        raise StrategiesRefused([f"{text.name}: line {line}: it is no UTF-8 text"]) from error
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        raise StrategiesRefused([f"{text.name}: {_place(said, text.content)}; {_advice(said)}"]) from error


def _place(said: str, content: bytes) -> str:
    found = PLACE.match(said)
    if found is None:
        return said
    if found["line"] is None:
        lines = content.decode().split("\n")
        return f"line {len(lines)}, column {len(lines[-1]) + 1}: {found['what']} (end of the file)"
    return f"line {found['line']}, column {found['column']}: {found['what']}"


def _advice(said: str) -> str:
    return next((advice for begin, advice in ADVICE if said.startswith(begin)), "docs/strategies.md has examples")


class _File:
    """Reads one file; notes every fault before it gives up."""

    def __init__(self, name: str, settings: Settings, features: Collection[str]) -> None:
        self._name = name
        self._settings = settings
        self._features = features
        self._lines: list[str] = []

    def read(self, content: Mapping[str, object]) -> tuple[ConfiguredStrategy, ...]:
        self._note(f"{quoted(key)}{unknown(key, SECTIONS)}" for key in content if key not in SECTIONS)
        defaults = self._defaults(content.get("defaults", {}))
        tables = self._tables(content.get("strategies", {}))
        named = self._named(tables)
        strategies = [
            self._strategy(name, tables[name], defaults) if name in tables else _of_environment(self._settings, name)
            for name in named
        ]
        if self._lines:
            raise StrategiesRefused(self._lines)
        return tuple(one for one in strategies if one is not None)

    def _named(self, tables: Mapping[str, object]) -> Sequence[str]:
        explicit = "trading_strategies" in self._settings.model_fields_set
        names = list(self._settings.trading_strategies) if explicit else []
        names += [name for name in tables if name not in names]
        if not names and not self._lines:
            self._note(["it has no strategy; add a table [strategies.NAME], or set TRADING_STRATEGIES"])
        return names

    def _tables(self, given: object) -> Mapping[str, Mapping[str, object]]:
        if not isinstance(given, Mapping):
            self._note([f"strategies is {shown(given)}; allowed: a table for each strategy, [strategies.NAME]"])
            return {}
        tables = {name: table for name, table in given.items() if isinstance(table, Mapping)}
        self._note(
            f"strategies.{quoted(name)} is {shown(table)}; allowed: a table [strategies.{quoted(name)}]"
            for name, table in given.items()
            if name not in tables
        )
        return tables

    def _defaults(self, given: object) -> Table:
        if not isinstance(given, Mapping):
            self._note([f"defaults is {shown(given)}; allowed: a table [defaults]"])
            return Table("defaults")
        table = read_table(given, "defaults", with_enabled=False)
        over(self._base("defaults"), table)
        # What does not go together may be mended by each strategy's own table.
        table.faults.pop("", None)
        self._note(table.lines)
        table.values = without(table.values, table.faults)
        return table

    def _base(self, name: str) -> dict[str, Any]:
        return strategy_from(self._settings, name).model_copy(update={"strategy_id": name}).model_dump()

    def _strategy(self, name: str, content: Mapping[str, object], defaults: Table) -> ConfiguredStrategy | None:
        table = read_table(content, f"strategies.{quoted(name)}", with_enabled=True)
        if not is_strategy_name(name):
            self._note([f"{table.path}: {shown(name)} is no name of a strategy; allowed: {NAME_ALLOWED}"])
            return None
        enabled = table.values.pop(ENABLED, True)
        base = merged(self._base(name), defaults.values)
        definition = over(base, table)
        apart = table.faults.pop("", None)
        self._note(table.lines)
        if table.faults or defaults.faults:
            return None
        faults = [apart] if apart is not None else []
        # What else does not go together is to be told at once, so the part that is at fault is left out.
        judged = definition or _what_is_needed(merged(base, table.values))
        faults += self._together(judged) if judged is not None else ()
        self._note(f"{table.path}: {fault}" for fault in faults)
        if definition is None:
            return None
        return ConfiguredStrategy(definition, enabled, _sources(self._settings, table.keys, defaults.keys))

    def _together(self, one: StrategyDefinition) -> Iterator[str]:
        settings = self._settings
        on_dask = settings.training_engine == "dask"
        whole = one.take_profit_percent is not None and one.exits.take_profit_part_percent is None
        trails = one.exits_enabled and one.exits.trailing_distance_percent is not None
        faults = [
            amounts_fault(one.minimum_amount, one.maximum_amount, OF_FILE)
            or exchange_minimum_fault(
                one.exchange_minimum_amount, one.exchange_minimum_amounts, one.maximum_amount, OF_FILE
            ),
            horizon_fault(one.horizon_seconds, one.bar_seconds, OF_FILE),
            trailing_fault(one.exits.trailing_activation_percent, one.take_profit_percent, OF_FILE)
            if whole and trails and one.take_profit_percent is not None
            else None,
            device_fault(one.model_type, settings.model_training_device, OF_FILE),
            *(dask_faults(one.model_type, one.training.search_trials, OF_FILE) if on_dask else ()),
        ]
        unknown_feature = unknown_feature_fault(one.training.monotone_constraints, self._features)
        yield from (fault for fault in faults if fault is not None)
        unsearchable = missing_for_search() if one.training.search_trials else None
        if unsearchable is not None:
            yield f"training.search_trials: {unsearchable}"
        if unknown_feature is not None:
            yield f"training.monotone_constraints: {unknown_feature}"

    def _note(self, faults: Collection[str] | Iterator[str]) -> None:
        self._lines += [f"{self._name}: {fault}" for fault in faults]


def _what_is_needed(values: Mapping[str, Any]) -> StrategyDefinition | None:
    """The definition without everything that has a default and that `_together` does not look at."""
    fields = StrategyDefinition.model_fields
    left_out = {name: None for name, known in fields.items() if not known.is_required() and name not in LOOKED_AT}
    try:
        return StrategyDefinition.model_validate(without(values, left_out))
    except ValidationError:
        return None


def _at(values: Mapping[str, Any], key: str) -> Any:
    value: Any = values
    for name in key.split("."):
        value = value[name]
    return value
