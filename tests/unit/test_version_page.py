"""A version in the terminal: everything is there, at any width, and nothing is cut."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any

import pytest
from rich.console import Console, RenderableType

from model_service.cli import version_evidence, version_list, version_page, version_rows
from model_service.models.features import MODEL_INPUT_NAMES
from tests.support.version_answers import version_answer

WIDTHS = [60, 80, 140]


def printed(parts: RenderableType | Iterable[RenderableType], width: int = 80) -> str:
    """What stands on a terminal of that width."""
    screen = io.StringIO()
    console = Console(file=screen, width=width, highlight=False, markup=False, emoji=False)
    for part in parts if isinstance(parts, Iterable) and not isinstance(parts, str) else [parts]:
        console.print(part)
    return screen.getvalue()


def page(answer: dict[str, Any], width: int = 80, **options: Any) -> str:
    return printed(version_page.page(answer, **{"everything": False, **options}), width)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("everything", [True, False])
def test_nothing_is_cut_at_any_width(width: int, good: bool, everything: bool) -> None:
    answer = version_answer(good=good)
    text = page(answer, width, everything=everything)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\u2026" not in text
    words = set(text.split())
    for condition in answer["gate"]:
        assert words >= set(condition["condition"].split())
    for metric in answer["quality_metrics"]:
        if metric["slice"] == "test" and width >= 80:
            assert metric["metric_name"] in words


def test_the_gate_says_value_threshold_and_margin() -> None:
    lines = page(version_answer(), 140).splitlines()
    (rows,) = [line for line in lines if line.startswith("  pass  1  test rows  ")]
    assert rows.split()[-5:] == ["370", "at", "least", "200", "+170"]
    (accuracy,) = [line.split() for line in lines if line.startswith("  pass  2  accuracy  ")]
    assert (accuracy[3], accuracy[4:7]) == (accuracy[3], ["at", "least", "0.75"])
    assert float(accuracy[-1]) == pytest.approx(float(accuracy[3]) - 0.75, abs=0.001)
    assert "Gate: all conditions met" in lines


def test_a_candidate_that_was_refused_says_first_how_far_it_was() -> None:
    answer = version_answer(good=False)
    text = page(answer, 140)
    head = text.partition("Gate")[0]
    assert f"v1  rejected: {answer['rejection']}" in head
    assert answer["rejection"].startswith("accuracy 0.")
    assert len(answer["shortfalls"]) >= 3
    assert all(f"- {sentence}" in head for sentence in answer["shortfalls"])
    assert f"Gate: {len(answer['shortfalls'])} of {len(answer['gate'])} conditions not met" in text
    assert "FAIL  2  accuracy  " in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_active": True}, "speaks now"),
        ({"is_active": True, "gate_passed": False}, "speaks now, forced past the gate"),
        ({"is_active": False}, "has passed the gate, does not speak now"),
        ({"parent_version": "v1", "version": "v1.1"}, "increment of v1"),
    ],
)
def test_the_head_says_where_it_stands(changes: dict[str, Any], words: str) -> None:
    assert words in page(version_answer(**changes)).partition("Gate")[0]


def test_metrics_stand_with_their_intervals_and_how_these_were_found() -> None:
    answer = version_answer()
    text = page(answer, 140)
    (line,) = [line.split() for line in text.splitlines() if line.startswith("    accuracy  ")][:1]
    (found,) = [m for m in answer["quality_metrics"] if (m["slice"], m["metric_name"]) == ("test", "accuracy")]
    assert [float(line[1]), float(line[2]), float(line[4])] == pytest.approx(
        [found["metric_value"], found["lower"], found["upper"]], abs=0.001
    )
    assert f"  {line[5]}: 90 % by {found['method']}" in text
    live = text.partition("Metrics, live")[2]
    assert live.splitlines()[3].split() == ["accuracy", "0.700", "0.610", "..", "0.790"]
    assert "accuracy_lower" not in text


def test_fifteen_features_are_shown_and_all_of_them_on_request() -> None:
    some, every = page(version_answer()), page(version_answer(), everything=True)
    shown = some.partition("Importance")[2].partition("Baselines")[0]
    assert sum(name in shown.split() for name in MODEL_INPUT_NAMES) == 15
    assert "26 more with --all" in shown
    assert shown.splitlines()[2].split()[0] == "book_imbalance"
    shown = every.partition("Importance")[2].partition("Baselines")[0]
    assert all(name in shown.split() for name in MODEL_INPUT_NAMES)
    assert "Training configuration" in every
    assert "dataset_fingerprint" in every
    assert "Training configuration" not in some


def test_the_line_of_a_bin_marks_what_was_predicted_and_what_happened() -> None:
    part = {"lower": 0.0, "upper": 0.5, "share_of_wins": 0.25, "mean_probability": 1.0}
    drawn = version_evidence.reliability_line(part, ascii_only=True)
    assert len(drawn) == version_evidence.BAR
    assert (drawn.index("o"), drawn.index("|"), drawn.count("-")) == (6, version_evidence.BAR - 1, 12)


def test_a_terminal_that_knows_ascii_alone_gets_no_more() -> None:
    assert page(version_answer(), ascii_only=True, everything=True).isascii()


def test_the_rows_are_told_in_words_and_what_is_new_is_told_too() -> None:
    report = {**version_answer()["report"], "duplicates": 7, "gaps": {"longest_hours": 3.5, "count": 2}}
    facts = dict(version_rows.dataset_facts(report))
    assert facts["rows"] == "2,000, 2,000 of the warm-up, 0 that reduced a position"
    assert facts["dropped"] == "not yet known 2"
    assert facts["span"].startswith("2025-10-09 08:53:20 UTC to 2025-10-09")
    assert (facts["duplicates"], facts["gaps"]) == ("7", "longest hours 3.5, count 2")
    assert "importance" not in facts


SKIPPED = {"fold": 1, "skipped": "fitting keeps 20 rows after purging, 100 are needed"}
JUDGED = {"first_decided_us": 10**15, "accuracy": 0.7, "extra": None}
FOLDS = [SKIPPED, *({"fold": index, "rows_test": 100 * index, **JUDGED} for index in range(2, 7))]


@pytest.mark.parametrize("report", [FOLDS, {"folds": FOLDS, "rounds": 40}])
def test_a_walk_forward_report_is_shown_whatever_its_members(report: Any) -> None:
    text = printed(version_evidence.walk_forward(report))
    assert all(f"fold {index}" in text for index in range(1, 7))
    assert set(text.split()) >= {"600", "2001-09-09", "purging,"}
    assert "extra" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    assert ("rounds 40" in text) is isinstance(report, dict)


def test_what_strangers_named_cannot_steer_the_terminal() -> None:
    text = page(version_answer(strategy_id="\x1b[2Jmine", shortfalls=["\x1b]0;x\x07"], is_active=False))
    assert "\x1b" not in text
    assert "\\x1b[2Jmine" in text


def test_a_version_of_an_older_program_has_fewer_sections() -> None:
    text = page(version_answer(report={"rows": 2000}, quality_metrics=[], gate=[], training_config={}))
    assert "Gate: all conditions met" not in text
    assert "Importance" not in text
    assert "2,000" in text


@pytest.mark.parametrize("width", [80, 140])
def test_the_list_says_why_in_short(width: int) -> None:
    models = [version_answer(), version_answer(good=False, version="v2")]
    text = printed(version_list.listing(models), width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert set(text.split()) >= {"*", "v1", "passed", "v2", "0.760", "against", *models[1]["rejection"].split()}
