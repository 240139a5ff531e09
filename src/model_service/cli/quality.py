"""`model-service quality`: is the model that speaks still as good as its test said?"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from model_service.cli.client import print_json, request
from model_service.cli.errors import plain_errors


def quality(
    strategy: Annotated[str | None, typer.Option(help="Only this strategy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Show live quality: metrics with intervals, what the detectors read, how far features have drifted."""
    with plain_errors():
        answers = [_of(name) for name in ([strategy] if strategy else _strategies())]
        if as_json:
            print_json({"strategies": answers})
            return
        from model_service.cli import quality_page, tables

        console = tables.make_console()
        for answer in answers:
            for part in quality_page.page(answer):
                console.print(part)


def _strategies() -> list[str]:
    return [row["strategy_id"] for row in request("GET", "/api/v1/strategies")["strategies"]]


def _of(strategy: str) -> dict[str, Any]:
    return dict(request("GET", f"/api/v1/strategies/{quote(strategy, safe='')}/quality"))
