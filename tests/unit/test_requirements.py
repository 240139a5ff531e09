"""The pinned requirements: hashed, complete, and naming no place to install from."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("requirements.txt", "requirements-dev.txt", "requirements-build.txt")


def blocks(name: str) -> dict[str, str]:
    """Each pinned requirement by its first line, with what belongs to it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    parts = re.split(r"^(?=\S)", text, flags=re.MULTILINE)
    return {part.splitlines()[0].rstrip(" \\"): part for part in parts if part.strip()}


def pinned_names(name: str) -> set[str]:
    """The names of the packages in a file."""
    return {pin.partition("==")[0] for pin in blocks(name)}


def project() -> dict[str, Any]:
    """The project table of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def required_names(requirements: list[str]) -> set[str]:
    """The names in a list of requirements."""
    return {re.split(r"[^A-Za-z0-9_-]", requirement)[0].lower() for requirement in requirements}


@pytest.mark.parametrize("name", FILES)
def test_everything_is_pinned_with_hashes(name: str) -> None:
    for pin, block in blocks(name).items():
        assert re.match(r"^[a-z0-9-]+==\S+( ; .+)?$", pin), pin
        assert "--hash=sha256:" in block, pin


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_a_place(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert not re.search(r"://|^-|\s@\s|index-url|find-links|trusted-host", text, flags=re.MULTILINE)


def test_what_the_project_asks_for_is_there() -> None:
    runtime = required_names(project()["dependencies"] + project()["optional-dependencies"]["cpu"])
    assert runtime <= pinned_names("requirements.txt")
    assert runtime | required_names(project()["optional-dependencies"]["dev"]) <= pinned_names("requirements-dev.txt")


def test_tests_run_with_the_versions_that_are_shipped() -> None:
    assert set(blocks("requirements.txt")) <= set(blocks("requirements-dev.txt"))


def test_only_one_package_brings_the_folder_xgboost() -> None:
    for name in FILES:
        assert "xgboost" not in pinned_names(name)
