"""`model-service demo`: the whole loop against a simulated market or recorded candles."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_service.cli.errors import CommandFailed, ExitCode, plain_errors
from model_service.demo.until import Until

if TYPE_CHECKING:
    from model_service.demo.session import DemoOptions


def demo(
    until: Annotated[Until, typer.Option(help="What to run for.")] = Until.PROMOTED,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Everything follows from it.")] = 7,
    speed: Annotated[str, typer.Option(help="Virtual seconds per second, or max.")] = "max",
    strategies: Annotated[int, typer.Option(min=1, max=50, help="How many run side by side.")] = 1,
    candles: Annotated[
        Path | None, typer.Option(help="CSV of recorded candles in place of the simulated market.", dir_okay=False)
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object as the last line; all else to standard error.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the HTTP interface; 0: none.")] = 0,
    state_dir: Annotated[Path, typer.Option(help="Folder of the demo; emptied at its start.")] = Path(
        ".model-service/demo"
    ),
) -> None:
    """Watch the loop go round once: warm-up signals, fills, outcomes, training, the gate, a model that speaks.

    Exit code 0 when what --until names was reached, 1 when not, 2 for arguments or a candle file that cannot be used.
    """
    from model_service.demo.session import DemoOptions

    options = DemoOptions(
        state_dir=state_dir,
        seed=seed,
        until=until,
        speed=parse_speed(speed),
        strategies=strategies,
        candles=candles,
        as_json=as_json,
        port=port or None,
    )
    with plain_errors():
        code, last_line = _run(options)
    if last_line is not None:
        typer.echo(last_line)
    raise typer.Exit(code)


def parse_speed(text: str) -> float | None:
    """Virtual seconds per real second; None for `max`. Raises typer.BadParameter."""
    if text.strip().lower() == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise typer.BadParameter(f"{text!r}: allowed is max, or a number above 0", param_hint="--speed")
    return speed


def _run(options: DemoOptions) -> tuple[int, str | None]:
    import asyncio

    import uvloop

    from model_service.config.logging import configure_logging
    from model_service.demo.candles import CandleFileError

    configure_logging("ERROR")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_until_stopped(options))
    except CandleFileError as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from error


async def _until_stopped(options: DemoOptions) -> tuple[int, str | None]:
    """The demo; Ctrl-C and SIGTERM end it in order, with its report."""
    import asyncio
    import signal
    import sys

    from rich.console import Console

    from model_service.demo.service import build_demo_service
    from model_service.demo.session import run_demo

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    console = Console(file=sys.stderr if options.as_json else sys.stdout, highlight=False)
    return await run_demo(options, build_demo_service, console, stop)
