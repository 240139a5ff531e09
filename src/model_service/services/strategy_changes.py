"""What is different between two sets of strategies, as the log and the audit show it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from model_service.config.strategies import StrategyDefinition
from model_service.config.strategy_file import ConfiguredStrategy, values_by_key
from model_service.services.roster import StrategyState

ChangeKind = Literal["added", "changed", "removed", "enabled", "disabled"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A strategy as it is, or was, asked for."""

    definition: StrategyDefinition
    state: StrategyState


@dataclass(frozen=True, slots=True)
class StrategyChange:
    """One strategy that is not what it was.

    Attributes:
        after: as it is from now on; a removed one with its last definition.
        values: by dotted key, what it was and what it is; of a new strategy every key, with None before.
        label_rule_changed: its earlier outcomes are labelled by another rule and teach it nothing any more.
    """

    kind: ChangeKind
    after: Asked
    values: Mapping[str, tuple[Any, Any]]
    label_rule_changed: bool = False

    @property
    def strategy_id(self) -> str:
        """Its name."""
        return self.after.definition.strategy_id

    @property
    def details(self) -> dict[str, Any]:
        """For the audit, as JSON."""
        values = {key: {"from": before, "to": after} for key, (before, after) in self.values.items()}
        return {"values": values, "label_rule_changed": self.label_rule_changed}


def asked_for(configured: Iterable[ConfiguredStrategy]) -> dict[str, Asked]:
    """By name."""
    return {
        one.definition.strategy_id: Asked(one.definition, "enabled" if one.enabled else "disabled")
        for one in configured
    }


def changes(before: Mapping[str, Asked], after: Mapping[str, Asked]) -> list[StrategyChange]:
    """What has to happen for `before` to become `after`, in the order of the names; a removed one may stand in both."""
    found = []
    for name in sorted({*before, *after}):
        change = _change(before.get(name), after.get(name))
        if change is not None:
            found.append(change)
    return found


def _change(before: Asked | None, after: Asked | None) -> StrategyChange | None:
    if after is None:
        if before is None or before.state == "removed":
            return None
        return StrategyChange("removed", Asked(before.definition, "removed"), {})
    if before is None:
        values = {key: (None, value) for key, value in values_by_key(after.definition).items()}
        return StrategyChange("added", after, values)
    values = _different(before.definition, after.definition)
    rule_changed = before.definition.label_rules != after.definition.label_rules
    kind: ChangeKind = "changed"
    if before.state == "removed":
        kind = "added"
    elif before.state != after.state:
        kind = "enabled" if after.state == "enabled" else "disabled"
    elif not values:
        return None
    return StrategyChange(kind, after, values, rule_changed)


def _different(before: StrategyDefinition, after: StrategyDefinition) -> dict[str, tuple[Any, Any]]:
    old, new = values_by_key(before), values_by_key(after)
    return {key: (old[key], new[key]) for key in new if old[key] != new[key]}
