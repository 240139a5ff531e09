"""The real service under the demo: built by the composition root, moved step by step, with HTTP if that is wanted."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack

from model_service import main, runtime
from model_service.database.connection import Database
from model_service.demo.session import DemoService, Parts
from model_service.demo.status import DemoStatus, StrategyLine, TrainingLine, Verdict
from model_service.messaging.transport import Transport
from model_service.models.job import GateCondition


async def build_demo_service(parts: Parts) -> DemoService:
    """The service in virtual time, on an embedded database that need not survive the machine.

    Raises:
        EmbeddedPostgresError, StartRefused: each with one sentence for the user.
    """
    host, port = parts.settings.model_service_host, parts.port
    listener = main.bind(host, port) if port is not None else None
    service = await main.build_service(
        parts.settings,
        strategies=parts.strategies,
        clock=parts.clock,
        identifiers=parts.identifiers,
        seed=parts.seed,
        training_seconds=parts.training_seconds,
        durable=False,
    )
    return _RunningService(service, parts, listener)


class _RunningService:
    """Fulfils what a session needs."""

    def __init__(self, service: runtime.Service, parts: Parts, listener: socket.socket | None) -> None:
        self._service, self._parts, self._listener = service, parts, listener
        self._stack = AsyncExitStack()
        self._verdicts: dict[str, Verdict] = {}

    @property
    def transport(self) -> Transport:
        """The service's own."""
        return self._service.transport

    @property
    def database(self) -> Database:
        """The service's own."""
        return self._service.database

    @property
    def page(self) -> str | None:
        """Address of the HTTP interface."""
        if self._listener is None:
            return None
        host, port = self._listener.getsockname()[:2]
        return f"http://{host}:{port}/"

    async def start(self) -> None:
        """Start the service, then its HTTP interface."""
        self._stack.push_async_callback(self._service.stop)
        await self._service.start()
        if self._listener is not None:
            self._serve(self._listener)

    async def step(self) -> None:
        """One deterministic pass."""
        await self._service.step()

    async def stop(self) -> None:
        """Stop the HTTP interface, then the service."""
        await self._stack.aclose()

    async def status(self) -> DemoStatus:
        """Counts, modes, training and verdicts; the newest verdict is the last one."""
        status = await self._service.status()
        return DemoStatus(
            strategies=tuple(
                StrategyLine(
                    one["strategy_id"],
                    one["mode"],
                    one["version"],
                    float(one["warmup_result"]),
                    one["outcomes_wanted"],
                )
                for one in status.strategies
            ),
            signals=status.published,
            fills=status.fills,
            outcomes=status.outcomes,
            runs=status.runs,
            model_signals=status.model_signals,
            realized_pnl=float(status.realized_pnl),
            training=_training(status),
            verdicts=self._judged(status),
        )

    def _serve(self, listener: socket.socket) -> None:
        server = main.http_server(self._service, main.api_key(self._parts.settings))
        task = asyncio.create_task(server.serve(sockets=[listener]), name="http")

        async def end() -> None:
            server.should_exit = True
            await asyncio.wait({task})

        self._stack.push_async_callback(end)

    def _judged(self, status: runtime.ServiceStatus) -> tuple[Verdict, ...]:
        for strategy_id, gate in status.gates.items():
            verdict = Verdict(strategy_id, tuple(GateCondition.model_validate(condition) for condition in gate))
            if self._verdicts.get(strategy_id) != verdict:
                self._verdicts.pop(strategy_id, None)
                self._verdicts[strategy_id] = verdict
        return tuple(self._verdicts.values())


def _training(status: runtime.ServiceStatus) -> TrainingLine | None:
    training = status.training
    if training is None:
        return None
    return TrainingLine(training["strategy_id"], training["phase"], training["fraction"], training["note"])
