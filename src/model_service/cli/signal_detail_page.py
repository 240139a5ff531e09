"""One signal in the terminal: what it was decided from, by whom, past which guards, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from model_service.cli import tables
from model_service.cli.dead_letter_text import harmless

Answer = Mapping[str, Any]
COMPARISONS = {"at_most": "at most", "at_least": "at least", "above": "above"}
STATUSES = {
    "pending": "waits in the outbox",
    "sending": "is being sent; the broker has not confirmed it yet",
    "expired": "expired before it could be sent, and was not",
    "unroutable": "came back from the broker: no queue takes it",
    "stopped": "lay in the outbox when trading was stopped, and was not sent",
}


def page(answer: Answer) -> Iterator[RenderableType]:
    """The signal from the decision to the outcome."""
    yield _header(answer)
    yield tables.section("Decision", tables.facts(_decision(answer)))
    yield tables.section("Market", tables.facts(_market(answer)))
    yield _guards(answer)
    yield _features(answer)
    yield _order(answer)
    yield _outcomes(answer)


def _market(answer: Answer) -> Iterator[tuple[str, str]]:
    yield from tables.flat(answer["market_data_snapshot"], "")
    cost = answer["metadata"].get("funding_cost_percent")
    if cost is not None:
        yield "funding over the horizon, of this side", f"{cost:+.4g} % of its value"


def _header(answer: Answer) -> RenderableType:
    what = f"{answer['side']} {answer['asset']} for {answer['amount']} in quote currency ({answer['intent']})"
    title = Text.assemble((harmless(answer["signal_id"]), "bold"), "  ", harmless(what), overflow="fold")
    return Group(title, tables.line(f"{answer['strategy_id']} at {tables.moment(answer['decided_at'])}", tables.QUIET))


def _decision(answer: Answer) -> Iterator[tuple[str, str]]:
    model = answer["model"]
    yield "policy", answer["policy"]
    if model is None:
        yield "model", "none: no model decided"
    elif model["model_type"] is None:
        yield "model", f"{model['version']}, of which no row is left"
    else:
        yield "model", f"{model['version']} ({model['model_type']}), trained {tables.moment(model['trained_at'])}"
    yield "confidence", tables.number(answer["confidence"], 4)
    if answer["intent"] == "exit":
        yield "probabilities", "none: exits are not drawn"
    else:
        chances = (f"{name} {tables.number(answer['probability_' + name], 4)}" for name in ("buy", "sell", "none"))
        yield "probabilities", ", ".join(chances)
    yield "price", str(answer["price"])
    yield from tables.flat({"metadata": answer["metadata"]})
    yield "horizon", f"{answer['horizon_seconds']:,} s"
    yield "take-profit", _percent(answer["take_profit_percent"])
    yield "stop-loss", _percent(answer["stop_loss_percent"])
    yield "fee rate", tables.number(answer["fee_rate"])
    if answer["settings"]:
        yield from tables.flat({"settings": answer["settings"]})
    yield "seed of the draws", answer["seed"]
    yield "trace", answer["trace_id"]


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{value:g} %"


def _guards(answer: Answer) -> RenderableType:
    if answer["guards"] is None:
        exits = answer["intent"] == "exit"
        text = "none: guards are for openings" if exits else "not recorded: the signal is older than this record"
        return tables.section("Guards", tables.line(text))
    made = tables.table("measure", "value", "asked for", numbers=("value",))
    for guard in answer["guards"]:
        limit = "not asked"
        if guard["threshold"] is not None:
            limit = f"{COMPARISONS.get(guard['comparison'], 'against')} {tables.number(guard['threshold'], 6)}"
        made.add_row(harmless(guard["measure"]), tables.number(guard["value"], 6), limit)
    return tables.section("Guards, all passed", made)


def _features(answer: Answer) -> RenderableType:
    if answer["features"] is None:
        return tables.section("Features", tables.line(f"of the unknown set {answer['feature_set']}"))
    made = tables.table("feature", "value", numbers=("value",))
    for item in answer["features"]:
        made.add_row(tables.line(item["feature"]), tables.number(item["value"], 6))
    note = f"set {answer['feature_set']}; a dash was not known"
    return tables.section("Features", made, tables.line(note, tables.QUIET))


def _order(answer: Answer) -> RenderableType:
    sent = f"published {tables.moment(answer['published_at'])}"
    state = sent if answer["status"] == "published" else STATUSES.get(answer["status"], str(answer["status"]))
    parts: list[RenderableType] = [tables.line(state)]
    if not answer["orders"]:
        known = answer["order_state"]
        parts.append(tables.line(f"order: {known}" if known else "order: unknown, nothing has been heard of one"))
    for order in answer["orders"]:
        names = " or ".join(name for name in (order["order_id"], order["other_order_id"]) if name)
        parts.append(tables.line(f"order {names}: {tables.words(order['status'])}, {order['filled_quantity']} filled"))
    if answer["fills"]:
        parts.append(_fills(answer["fills"]))
    return tables.section("Order", *parts)


def _fills(fills: Sequence[Answer]) -> RenderableType:
    numbers = ("quantity", "price", "fees")
    made = tables.table("filled", *numbers, numbers=numbers)
    for fill in fills:
        made.add_row(tables.moment(fill["executed_at"]), *(harmless(str(fill[name])) for name in numbers))
    return made


def _outcomes(answer: Answer) -> RenderableType:
    outcomes = answer["outcomes"]
    if not outcomes:
        exits = answer["intent"] == "exit"
        text = "none: openings are judged, and not what closes them" if exits else "none yet"
        return tables.section("Outcome", tables.line(text))
    made = tables.table("revision", "known", "by", "net return", "other side", numbers=("net return", "other side"))
    for item in outcomes:
        other = item["opposite_net_return"]
        made.add_row(
            str(item["revision"]), tables.moment(item["available_at"]), tables.words(item["exit_rule"]),
            _return(item["net_return"]), "-" if other is None else _return(other),
        )  # fmt: skip
    note = "net of costs, of the entry; the last revision holds" if len(outcomes) > 1 else "net of costs, of the entry"
    return tables.section("Outcome", made, tables.line(note, tables.QUIET))


def replay(answer: Answer | None) -> Iterator[RenderableType]:
    """Whether the decision comes out as it did, and where not; or why it cannot be made again."""
    if answer is None:
        return
    if "error" in answer:
        yield tables.section("Replay", tables.line(answer["error"]))
        return
    asked = answer["model_version"] or f"the {answer['policy']} policy"
    parts: list[RenderableType] = [_verdict(answer["identical"], answer["record"], asked)]
    if answer["refused_sides"]:
        sides = ", ".join(answer["refused_sides"])
        parts.append(tables.line(f"the guards had taken {sides} out of the draw"))
    made = tables.table("", "recorded", "recomputed", "")
    for item in answer["values"]:
        mark = Text("same") if item["identical"] else Text("differs", tables.BAD)
        made.add_row(
            tables.words(harmless(item["name"])), harmless(item["recorded"]), harmless(item["recomputed"]), mark
        )
    yield tables.section("Replay", *parts, made)


def _verdict(identical: bool, record: str, asked: str) -> Text:
    if record == "changed":
        text = "differs: the record was changed after the decision; its hash does not fit what stands there now"
        return tables.line(text, tables.BAD)
    if identical and record == "no_hash":
        return tables.line(
            f"{asked} decides the same from the stored bytes. The record is older than the hash of records, so an edit "
            "of what is not made again (fees, barriers, the message) would not be seen"
        )
    if identical:
        text = f"identical: {asked} decides the same from the stored bytes, to the last digit"
        return tables.line(text, tables.GOOD)
    return tables.line(f"differs: {asked} does not decide the same from the stored bytes", tables.BAD)


def _return(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.3f} %"
