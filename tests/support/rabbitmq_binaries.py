"""Where the tests' RabbitMQ comes from: what is installed, else Debian's packages unpacked without root."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "rabbitmq"
PARTS = "asn1 base crypto eldap inets mnesia os-mon parsetools public-key runtime-tools ssl syntax-tools tools xmerl"
PACKAGES = ("rabbitmq-server", *(f"erlang-{part}" for part in PARTS.split()))


class NoRabbitmq(Exception):
    """There is no RabbitMQ on this machine and none could be fetched; the text says what was tried."""


@dataclass(frozen=True)
class Binaries:
    """The two trees that make a broker.

    Attributes:
        server: of RabbitMQ; has `plugins/`.
        erlang: of Erlang; has `erts-*/bin/erlexec`.
    """

    server: Path
    erlang: Path

    @property
    def runtime(self) -> Path:
        """The folder of `erlexec` and `epmd`."""
        return _newest(self.erlang, "erts-*/bin/erlexec").parent


def find_binaries() -> Binaries:
    """Installed ones, else those in the project's cache, else fetched into it. Raises NoRabbitmq."""
    tried = []
    for what, find in (("installed", _installed), ("cached", _cached), ("Debian's packages", _fetched)):
        try:
            return find()
        except (FileNotFoundError, subprocess.SubprocessError) as error:
            output = getattr(error, "stderr", None) or error
            tried.append(f"{what}: {str(output).strip()}")
    raise NoRabbitmq("; ".join(tried))


def _installed() -> Binaries:
    places = [Path("/usr/lib/rabbitmq")]
    if (command := shutil.which("rabbitmq-server")) is not None:
        places.insert(0, Path(command).resolve().parents[1])
    servers = [server for place in places for server in _servers(place)]
    if not servers:
        raise FileNotFoundError("no rabbitmq-server in PATH or /usr/lib/rabbitmq")
    if (erl := shutil.which("erl")) is None:
        raise FileNotFoundError("no erl in PATH")
    ask = [erl, "-noinput", "-boot", "start_clean", "-eval", "io:put_chars(code:root_dir()), halt()."]
    root = subprocess.run(ask, capture_output=True, text=True, check=True, timeout=30).stdout
    return _checked(Binaries(servers[0], Path(root)))


def _servers(place: Path) -> list[Path]:
    return [found.parents[1] for found in (*place.glob("plugins/rabbit-*"), *place.glob("lib/*/plugins/rabbit-*"))]


def _cached() -> Binaries:
    server = _newest(CACHE, "usr/lib/rabbitmq/lib/*/plugins/rabbit-*").parents[1]
    return _checked(Binaries(server, CACHE / "usr/lib/erlang"))


def _fetched() -> Binaries:
    """Download with apt, unpack beside the cache, then rename: a half of it is never taken for the whole."""
    CACHE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rabbitmq-", dir=CACHE.parent) as name:
        folder = Path(name)
        _download(folder)
        for package in sorted(folder.glob("*.deb")):
            _call("dpkg", "-x", str(package), "unpacked", folder=folder)
        shutil.rmtree(CACHE, ignore_errors=True)
        (folder / "unpacked").rename(CACHE)
    return _cached()


def _download(folder: Path) -> None:
    try:
        _call("apt-get", "download", *PACKAGES, folder=folder)
    except subprocess.CalledProcessError:
        # A fresh container has no lists of packages; ours need no right to write the machine's.
        own = ("-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache")
        _call("apt-get", *own, "update", folder=folder)
        _call("apt-get", *own, "download", *PACKAGES, folder=folder)


def _call(*command: str, folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=150)


def _checked(binaries: Binaries) -> Binaries:
    assert binaries.runtime
    return binaries


def _newest(folder: Path, pattern: str) -> Path:
    """The last match by name. Raises FileNotFoundError."""
    if not (found := sorted(folder.glob(pattern))):
        raise FileNotFoundError(f"no {pattern} in {folder}")
    return found[-1]
