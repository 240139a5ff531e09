"""`model-service why`: from ticks to filled orders, and what held the others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import plain_errors

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
NO_STRATEGY = (
    "no strategy has started yet. Check TRADING_STRATEGIES (`model-service config show`), and `model-service status` "
    "for what the service waits for."
)


def why(
    strategy: Annotated[str | None, typer.Option(help="Only this strategy; all when left out.")] = None,
    asset: Annotated[str | None, typer.Option(help="Only this asset, such as BTCUSDT.")] = None,
    since: Annotated[str, typer.Option(help="How far back (90s, 15m, 1h, 2d), or since when, in ISO 8601.")] = "1h",
    as_json: Annotated[bool, typer.Option("--json", help="Print the answers as JSON.")] = False,
) -> None:
    """Show why there was no signal: from ticks to filled orders, with numbers and thresholds."""
    query = urlencode({**start(since), **({"asset": asset} if asset else {})})
    with plain_errors():
        names = [strategy] if strategy is not None else _strategies()
        answers = [request("GET", f"/api/v1/strategies/{quote(name, safe='')}/decisions?{query}") for name in names]
        if as_json:
            print_json({"strategies": answers})
        elif answers:
            _show(answers)
        else:
            typer.echo(NO_STRATEGY)


def start(text: str) -> Mapping[str, str]:
    """Where the time begins, as the interface takes it: the service's clock counts back, which may not be ours.

    Raises typer.BadParameter.

    >>> start("15m"), start("2026-03-02T12:00:00Z")
    ({'last_seconds': '900'}, {'since': '2026-03-02T12:00:00Z'})
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text.strip())
    if found is not None:
        return {"last_seconds": str(int(found[1]) * SECONDS[found[2]])}
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is no time; give how far back (90s, 15m, 1h, 2d) or a time such as 2026-03-02T12:00:00Z",
            param_hint="--since",
        ) from None
    return {"since": text}


def _strategies() -> Sequence[str]:
    return [row["strategy_id"] for row in request("GET", "/api/v1/strategies")["strategies"]]


def _show(answers: Sequence[Mapping[str, Any]]) -> None:
    from model_service.cli import tables, why_page

    console = tables.make_console()
    for index, answer in enumerate(answers):
        if index:
            console.print()
        for part in why_page.page(answer):
            console.print(part)
