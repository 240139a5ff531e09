"""Fixtures: a private RabbitMQ for the session, and private brokers that a test may stop and kill."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from tests.support.rabbitmq_binaries import Binaries, NoRabbitmq, find_binaries

READY_SECONDS = 60.0
STOP_SECONDS = 30.0
# Outlives nobody: the guard's standard input ends when the test process dies, however that happens.
GUARD = 'cat > /dev/null; kill -9 "$@" 2> /dev/null'

EVALUATE = """
    [Node, Text] = init:get_plain_arguments(),
    {ok, Tokens, _} = erl_scan:string(Text ++ "."),
    {ok, Parsed} = erl_parse:parse_exprs(Tokens),
    io:format("~p~n", [rpc:call(list_to_atom(Node), erl_eval, exprs, [Parsed, []])]),
    halt().
"""
"""What a helper node does: it lets the broker's node evaluate the text of an expression."""


class PrivateBroker:
    """A RabbitMQ node of our own on free ports of 127.0.0.1, without plugins; its data survive `stop` and `kill`.

    Args:
        binaries: what to run.
        folder: for everything that the node writes; the caller removes it.
    """

    def __init__(self, binaries: Binaries, folder: Path) -> None:
        self._binaries = binaries
        self._folder = folder
        self.port, self._distribution_port, self._epmd_port = free_ports(3)
        self._node: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        _write_configuration(folder, self.port)

    @property
    def url(self) -> str:
        """For AMQP."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def _node_name(self) -> str:
        return f"model-service-{self.port}@localhost"

    @property
    def is_running(self) -> bool:
        """Whether it was started and not ended since."""
        return self._node is not None

    async def start(self) -> None:
        """Start and wait until a client can connect. Raises RuntimeError with the end of the log when none can."""
        assert self._node is None, "the broker runs already"
        runtime = self._binaries.runtime
        self._epmd = self._spawn([str(runtime / "epmd"), "-port", str(self._epmd_port), "-address", "127.0.0.1"])
        self._node = self._spawn([str(runtime / "erlexec"), *_node_arguments()])
        pids = [str(process.pid) for process in (self._node, self._epmd)]
        # In a session of its own too: a signal to the whole group of the test process must not end it first.
        self._guard = subprocess.Popen(
            ["sh", "-c", GUARD, "guard", *pids], stdin=subprocess.PIPE, start_new_session=True
        )
        deadline = time.monotonic() + READY_SECONDS
        while not (_is_listened_on(self.port) and await _accepts(self.url)):
            if self._node.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"RabbitMQ did not start on port {self.port}:\n{self._log_tail()}")
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Shut down in order."""
        if self._node is not None:
            self._node.terminate()
            try:
                await asyncio.to_thread(self._node.wait, STOP_SECONDS)
            finally:
                self.kill()

    def pause(self) -> None:
        """Stop the node's process: connections stay open and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused node go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it with SIGKILL, epmd too."""
        for process in (self._guard, self._node, self._epmd):
            if process is not None:
                process.send_signal(signal.SIGKILL)
                process.communicate()
        self._guard = self._node = self._epmd = None

    async def evaluate(self, expression: str) -> str:
        """What an Erlang expression gives inside the node, as `rabbitmqctl eval` would say it. Raises RuntimeError."""
        helper = [str(self._binaries.runtime / "erlexec"), *_helper_arguments(self._node_name, expression)]
        # Without the server's libraries on its path: the helper only asks.
        environment = {name: value for name, value in self._environment().items() if name != "ERL_LIBS"}
        done = await asyncio.to_thread(
            subprocess.run, helper, cwd=self._folder, env=environment, capture_output=True, timeout=STOP_SECONDS
        )
        said = done.stdout.decode(errors="replace").strip()
        if done.returncode != 0 or not said.startswith("{value,"):
            raise RuntimeError(f"RabbitMQ did not evaluate {expression!r}: {said} {done.stderr.decode()[-500:]}")
        return said

    async def set_memory_alarm(self, on: bool) -> None:
        """Let the node believe that it lacks memory, which blocks publishers, or that it has enough again."""
        await self.evaluate(f"vm_memory_monitor:set_vm_memory_high_watermark({0.0 if on else 0.9})")

    def _signal(self, number: signal.Signals) -> None:
        assert self._node is not None, "the broker does not run"
        self._node.send_signal(number)

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._folder / "output").open("ab") as output:
            return subprocess.Popen(
                command,
                cwd=self._folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self) -> dict[str, str]:
        """What RabbitMQ's and Erlang's own start scripts would set, and nothing of the machine's RABBITMQ_*."""
        return {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "HOME": str(self._folder),
            "ROOTDIR": str(self._binaries.erlang),
            "BINDIR": str(self._binaries.runtime),
            "EMU": "beam",
            "PROGNAME": "erl",
            "ERL_LIBS": str(self._binaries.server / "plugins"),
            "ERL_EPMD_PORT": str(self._epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_CRASH_DUMP_SECONDS": "0",
            "ERL_MAX_ETS_TABLES": "50000",
            "ERL_MAX_PORTS": "65536",
            "RABBITMQ_HOME": str(self._binaries.server),
            "RABBITMQ_PLUGINS_DIR": str(self._binaries.server / "plugins"),
            "RABBITMQ_NODENAME": self._node_name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._folder / "none.config"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
        }

    def _log_tail(self) -> str:
        logs = [self._folder / "output", *sorted((self._folder / "log").glob("*.log"))]
        return "\n".join(log.read_text(errors="replace")[-3000:] for log in logs if log.exists())


@pytest.fixture(scope="session")
def rabbitmq_binaries() -> Binaries:
    """The binaries of a RabbitMQ; the test is skipped where there are none, or fails when REQUIRE_RABBITMQ=1."""
    try:
        return find_binaries()
    except NoRabbitmq as error:
        message = f"NO RABBITMQ, NOTHING OF IT WAS TESTED: {error}"
        if os.environ.get("REQUIRE_RABBITMQ") == "1":
            pytest.fail(message)
        pytest.skip(message)


@pytest.fixture(scope="session")
def rabbitmq_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A RabbitMQ for the session: the one that AMQP_URL names, else a private one. Tests name their queues uniquely."""
    if given := os.environ.get("AMQP_URL"):
        yield given
        return
    broker = _make_broker(request.getfixturevalue("rabbitmq_binaries"))
    try:
        asyncio.run(broker.start())
        yield broker.url
    finally:
        _remove(broker)


@pytest.fixture(scope="session")
def private_node(rabbitmq_binaries: Binaries) -> Iterator[PrivateBroker]:
    """A broker beside the session's, not started yet."""
    broker = _make_broker(rabbitmq_binaries)
    yield broker
    _remove(broker)


@pytest_asyncio.fixture
async def private_broker(private_node: PrivateBroker) -> AsyncIterator[PrivateBroker]:
    """A running broker that the test may stop, kill, pause and start again; tests name their queues uniquely."""
    if not private_node.is_running:
        await private_node.start()
    yield private_node
    if private_node.is_running:
        private_node.resume()


def _make_broker(binaries: Binaries) -> PrivateBroker:
    return PrivateBroker(binaries, Path(tempfile.mkdtemp(prefix="model-service-rabbitmq-")))


def _remove(broker: PrivateBroker) -> None:
    broker.kill()
    shutil.rmtree(broker._folder, ignore_errors=True)


def _node_arguments() -> list[str]:
    return [
        *("-noinput", "-boot", "start_sasl", "-s", "rabbit", "boot", "+W", "w", "+B", "i"),
        *("+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-kernel", "prevent_overlapping_partitions", "false"),
        *("-syslog", "logger", "[]", "-syslog", "syslog_error_logger", "false"),
    ]


def _helper_arguments(node: str, expression: str) -> list[str]:
    return [
        *("-noinput", "-hidden", "-boot", "start_clean", "-sname", f"helper-{uuid4().hex}@localhost"),
        *("-kernel", "inet_dist_use_interface", "{127,0,0,1}", "-eval", EVALUATE, "-extra", node, expression),
    ]


def _write_configuration(folder: Path, port: int) -> None:
    (folder / "rabbitmq.conf").write_text(
        f"listeners.tcp.local = 127.0.0.1:{port}\n"
        "disk_free_limit.absolute = 1MB\n"
        "collect_statistics_interval = 60000\n"
        "log.file.level = info\n"
    )
    (folder / "enabled_plugins").write_text("[].\n")


def _is_listened_on(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


async def _accepts(url: str) -> bool:
    try:
        async with asyncio.timeout(5):
            await (await aio_pika.connect(url)).close()
    except (*CONNECTION_EXCEPTIONS, EOFError, TimeoutError):
        return False
    return True


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(listening.getsockname()[1]) for listening in sockets]
    finally:
        for listening in sockets:
            listening.close()
