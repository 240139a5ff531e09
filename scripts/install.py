"""Make the virtual environment: `python3 scripts/install.py runtime|dev FOLDER`.

Uses uv when it is on PATH, else `python3 -m venv` and pip. Needs nothing but Python; everything that is installed is
pinned with its hash. Says what it does on standard error, so that standard output stays the program's own.
"""

from __future__ import annotations

import collections
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

OLDEST = (3, 11)
REQUIREMENTS = {
    "runtime": ("requirements.txt", "requirements-build.txt"),
    "dev": ("requirements-dev.txt", "requirements-build.txt"),
}
PROGRESS = re.compile(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9][\w.-]*)==")


class InstallationError(Exception):
    """The environment could not be made; the text says why and what to do."""


def main() -> int:
    """Make the environment; 0 when it is ready, 1 with one explanation when not."""
    kind, folder = sys.argv[1], Path(sys.argv[2])
    files = REQUIREMENTS[kind]
    started = time.monotonic()
    tool = shutil.which("uv")
    total = len({name for file in files for name in pinned_names(Path(file))})
    say(f"Installing {total} pinned packages into {folder} with {'uv' if tool else 'pip'}; this happens once.")
    try:
        install_with_uv(tool, folder, files) if tool else install_with_pip(folder, files, total)
    except InstallationError as failure:
        say(str(failure))
        return 1
    say(f"Installed in {time.monotonic() - started:.0f} s.")
    return 0


def pinned_names(file: Path) -> list[str]:
    """The names of the packages that a requirements file pins."""
    return re.findall(r"^([a-z0-9][\w.-]*)==", file.read_text(encoding="utf-8"), flags=re.MULTILINE)


def install_with_uv(uv: str, folder: Path, files: Iterable[str]) -> None:
    """Environment and packages by uv, which shows its own progress."""
    python = str(folder / "bin" / "python")
    if not works(python):
        run([uv, "venv", "--quiet", "--clear", "--python", ">=" + ".".join(map(str, OLDEST)), str(folder)])
    pip = [uv, "pip", "install", "--python", python]
    run([*pip, "--require-hashes", *requirements(files)])
    run([*pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."])


def install_with_pip(folder: Path, files: Iterable[str], total: int) -> None:
    """Environment by the standard library, packages by the pip that comes with it."""
    python = str(folder / "bin" / "python")
    if not works(python, "-m", "pip"):
        make_environment(folder)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--progress-bar", "off"]
    run_with_progress([*pip, "--require-hashes", *requirements(files)], total)
    run([*pip, "--quiet", "--no-deps", "--no-build-isolation", "--editable", "."])


def make_environment(folder: Path) -> None:
    """A fresh environment with pip in it."""
    if sys.version_info < OLDEST:
        raise InstallationError(
            f"{sys.executable} is Python {sys.version.split()[0]}; {'.'.join(map(str, OLDEST))} or newer is needed. "
            "Name another with `make PYTHON=python3.11 ...`, or install uv."
        )
    command = [sys.executable, "-m", "venv", "--clear", str(folder)]
    made = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if made.returncode:
        raise InstallationError(f"{made.stdout.strip()}\nOn Debian and Ubuntu: apt-get install python3-venv")


def works(*command: str) -> bool:
    """Whether the command can be started and ends well."""
    try:
        return subprocess.run([*command, "--version"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def requirements(files: Iterable[str]) -> list[str]:
    """The files as arguments of an installer."""
    return [argument for file in files for argument in ("--requirement", file)]


def run(command: list[str]) -> None:
    """Run a command with its output on standard error."""
    if subprocess.run(command, check=False, stdout=sys.stderr).returncode:
        raise InstallationError(f"This did not work: {' '.join(command)}")


def run_with_progress(command: list[str], total: int) -> None:
    """Run pip and show how many of the packages it has come to."""
    last_lines: collections.deque[str] = collections.deque(maxlen=15)
    seen: set[str] = set()
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            last_lines.append(line)
            if found := PROGRESS.match(line):
                seen.add(found[1])
                show(len(seen), total, found[1])
            elif line.startswith("Installing collected packages"):
                show(total, total, "all are here, unpacking")
    finish_line()
    if pip.returncode:
        raise InstallationError(f"{''.join(last_lines)}pip ended with {pip.returncode}; the lines above say why.")


def show(count: int, total: int, what: str) -> None:
    """One line that is written over on a terminal; elsewhere every tenth package."""
    if sys.stderr.isatty():
        print(f"\r\033[K  {count}/{total} {what}", end="", file=sys.stderr, flush=True)
    elif count % 10 == 0 or count == total:
        say(f"  {count}/{total} {what}")


def finish_line() -> None:
    """Clear the line that was written over."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line for whoever waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
