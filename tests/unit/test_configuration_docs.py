"""env.example and docs/configuration.md say what the settings class says."""

from __future__ import annotations

from pathlib import Path

import pytest

from model_service.config import documentation
from model_service.config.loading import ACCEPTED_BUT_UNUSED, load_settings
from model_service.config.settings import Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("path", ["env.example", "docs/configuration.md", "docs/strategies.md"])
def test_the_committed_files_are_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == documentation.generated_files()[Path(path)]


def test_the_check_fails_on_a_stale_file_and_writing_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert documentation.main([]) == 0
    assert documentation.main(["--check"]) == 0
    Path("env.example").write_text("MODEL_SERVICE_PORT=1\n", encoding="utf-8")
    assert documentation.main(["--check"]) == 1


def test_env_example_copied_unchanged_gives_the_defaults() -> None:
    lines = [line for line in documentation.environment_example().splitlines() if line and not line.startswith("#")]
    environ = dict(line.split("=", 1) for line in lines)
    assert set(environ) == {name.upper() for name in Settings.model_fields}
    assert load_settings(environ) == load_settings({})


def test_every_setting_stands_in_exactly_one_group() -> None:
    in_groups = [name for _, names in documentation.groups() for name in names]
    assert in_groups == list(Settings.model_fields)
    assert all(names for _, names in documentation.groups())


def test_the_page_explains_every_variable() -> None:
    page = documentation.configuration_page()
    for name, field in Settings.model_fields.items():
        assert field.description, f"{name} has no description"
        assert page.count(f"| `{name.upper()}` |") == 1
    assert all(f"- `{name}`" in page for name in ACCEPTED_BUT_UNUSED)
