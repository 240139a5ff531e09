"""docs/guards.md and the code name the same guards, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model_service.policies.reasons import ReasonCode
from model_service.services.decision_funnel import DECIDING
from model_service.services.guard_readings import MEASURES
from model_service.services.reason_text import TEXTS

PAGE = Path(__file__).parents[2] / "docs" / "guards.md"
NO_GUARDS = ("completed", "exit", "policy")
WORDS = {"at_most": "at most", "at_least": "at least", "above": "above"}


def rows() -> Iterator[str]:
    for name, _, codes in DECIDING:
        for code in () if name in NO_GUARDS else codes:
            yield row(code)


def row(code: ReasonCode) -> str:
    measure, comparison = MEASURES.get(code, ("-", ""))
    setting = TEXTS[code].setting
    return f"| `{code.value}` | {measure} | {WORDS.get(comparison, '-')} | {f'`{setting}`' if setting else '-'} |"


def test_the_page_has_every_guard_with_what_it_measures_and_its_setting() -> None:
    expected = list(rows())
    assert [line for line in PAGE.read_text().splitlines() if line.startswith("| `")] == expected
