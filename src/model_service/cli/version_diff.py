"""Two versions side by side: what differs, and what is the same in both is said in one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from model_service.cli import tables

Answer = Mapping[str, Any]
WHO = ("model_type", "strategy_id", "parent_version", "trained_at", "gate_passed", "is_active", "feature_set")
CONFIG_ELSEWHERE = frozenset({"hyperparameters", "strategy", "libraries"})
RULE = ("horizon_seconds", "take_profit_percent", "stop_loss_percent", "fee_rate", "fee_rates", "minimum_net_return")
"""What a label is made by (`config.label_rule`), as the strategy of the training had it."""
ROWS = ("rows", "rows_train", "rows_test", "rows_warmup", "rows_reduction", "share_of_wins", "span_horizons")
SPAN = ("first_decided_us", "last_decided_us")


def difference(first: Answer, second: Answer) -> dict[str, Any]:
    """What differs, as JSON. Each pair is [of the first, of the second]; null where one has none.

    `metrics` holds every metric of either, with bounds; all else only what is not the same in both.
    """
    return {
        "versions": [first["version"], second["version"]],
        "versions_differ_in": _pairs({name: first[name] for name in WHO}, {name: second[name] for name in WHO}),
        "metrics": _metrics(first, second),
        "hyperparameters": _pairs(_hyperparameters(first), _hyperparameters(second)),
        "training": _pairs(_configuration(first), _configuration(second)),
        "features": _features(first, second),
        "dataset": _pairs(_dataset(first), _dataset(second)),
        "label_rule": _pairs(_rule(first), _rule(second)),
        "gate": _gate(first, second),
    }


def page(first: Answer, second: Answer) -> Iterator[RenderableType]:
    """The same for people, part by part."""
    found = difference(first, second)
    names = first["version"], second["version"]
    yield Text.assemble((names[0], "bold"), " against ", (names[1], "bold"))
    yield from _section("Versions", names, found["versions_differ_in"])
    yield _metrics_table(names, found["metrics"])
    yield from _section("Hyperparameters", names, found["hyperparameters"])
    yield from _section("Training", names, found["training"])
    yield _features_text(names, found["features"])
    yield from _section("Rows", names, found["dataset"])
    yield from _section("Label rule", names, found["label_rule"])
    yield _gate_table(names, found["gate"])


def _pairs(first: Answer, second: Answer) -> dict[str, list[Any]]:
    names = list(dict.fromkeys([*first, *second]))
    return {name: [first.get(name), second.get(name)] for name in names if first.get(name) != second.get(name)}


def _hyperparameters(version: Answer) -> Answer:
    known: Answer = version["training_config"].get("hyperparameters") or {}
    return known


def _configuration(version: Answer) -> Answer:
    return {name: value for name, value in version["training_config"].items() if name not in CONFIG_ELSEWHERE}


def _rule(version: Answer) -> Answer:
    strategy = version["training_config"].get("strategy") or {}
    return {name: strategy[name] for name in RULE if name in strategy}


def _dataset(version: Answer) -> Answer:
    report = version["report"]
    known = {name: report[name] for name in (*ROWS, *SPAN, "dropped", "fingerprint") if name in report}
    return {"training_dataset_size": version["training_dataset_size"], **known}


def _features(first: Answer, second: Answer) -> dict[str, Any]:
    ours, theirs = first["features"], second["features"]
    if ours is None or theirs is None:
        return {
            "known": False,
            "only_first": [],
            "only_second": [],
            "same_order": first["feature_set"] == second["feature_set"],
        }
    return {
        "known": True,
        "only_first": [name for name in ours if name not in theirs],
        "only_second": [name for name in theirs if name not in ours],
        "same_order": ours == theirs,
    }


def _metrics(first: Answer, second: Answer) -> list[dict[str, Any]]:
    ours, theirs = _by_name(first), _by_name(second)
    return [
        {
            "slice": part,
            "metric_type": kind,
            "metric_name": name,
            "values": [_value(side.get((part, kind, name))) for side in (ours, theirs)],
        }
        for part, kind, name in dict.fromkeys([*ours, *theirs])
    ]


def _by_name(version: Answer) -> dict[tuple[str, str, str], Answer]:
    return {(one["slice"], one["metric_type"], one["metric_name"]): one for one in version["quality_metrics"]}


def _value(metric: Answer | None) -> dict[str, Any] | None:
    return None if metric is None else {
        "value": metric["metric_value"], "lower": metric.get("lower"), "upper": metric.get("upper"),
        "rows": metric.get("evaluation_dataset_size"),
    }  # fmt: skip


def _gate(first: Answer, second: Answer) -> list[dict[str, Any]]:
    ours, theirs = ({one["condition"]: one for one in version["gate"]} for version in (first, second))
    members = ("value", "threshold", "passed")
    return [
        {
            "condition": name,
            "verdicts": [
                None if name not in side else {member: side[name].get(member) for member in members}
                for side in (ours, theirs)
            ],
        }
        for name in dict.fromkeys([*ours, *theirs])
    ]


def _section(title: str, names: Sequence[str], pairs: Mapping[str, Sequence[Any]]) -> Iterator[RenderableType]:
    flat = [dict(_flat(pairs, side)) for side in (0, 1)]
    if not pairs:
        yield tables.section(title, tables.line("the same in both", tables.QUIET))
        return
    shown = tables.table("", *names)
    for name in dict.fromkeys([*flat[0], *flat[1]]):
        if flat[0].get(name) != flat[1].get(name):
            shown.add_row(tables.words(name.removesuffix("_us")), *(tables.line(side.get(name, "-")) for side in flat))
    yield tables.section(title, shown)


def _flat(pairs: Mapping[str, Sequence[Any]], side: int) -> Iterator[tuple[str, str]]:
    for name, pair in pairs.items():
        if pair[side] is not None:
            yield from tables.flat(pair[side], name)


def _metrics_table(names: Sequence[str], metrics: Sequence[Answer]) -> RenderableType:
    shown = tables.table("", names[0], "interval", names[1], "interval", "change", numbers=[*names, "change"])
    for one in metrics:
        cells = []
        for value in one["values"]:
            known = value or {}
            cells += [tables.number(known.get("value")), tables.interval(known.get("lower"), known.get("upper"))]
        before, after = one["values"]
        change = "" if before is None or after is None else f"{after['value'] - before['value']:+.3g}"
        shown.add_row(f"{one['slice']} {one['metric_name']}", *cells, change)
    return tables.section("Metrics", shown)


def _features_text(names: Sequence[str], features: Answer) -> RenderableType:
    lines = [
        f"only {name}: {', '.join(features[member])}"
        for name, member in zip(names, ("only_first", "only_second"), strict=True)
        if features[member]
    ]
    if not features["known"]:
        lines = ["the names of one set are not known any more"]
    elif not lines:
        lines = ["the same in both" if features["same_order"] else "the same, in another order"]
    return tables.section("Features", *(tables.line(text) for text in lines))


def _gate_table(names: Sequence[str], gate: Sequence[Answer]) -> RenderableType:
    shown = tables.table("condition", *names, "asked for")
    for one in gate:
        asked = [tables.number(verdict["threshold"]) for verdict in one["verdicts"] if verdict]
        shown.add_row(
            tables.line(one["condition"]), *(_verdict(verdict) for verdict in one["verdicts"]),
            " / ".join(dict.fromkeys(asked)),
        )  # fmt: skip
    return tables.section("Gate", shown)


def _verdict(verdict: Answer | None) -> Text:
    if verdict is None:
        return Text("-")
    word = "pass" if verdict["passed"] else "FAIL"
    return Text(f"{word} {tables.number(verdict['value'])}", tables.GOOD if verdict["passed"] else tables.BAD)
