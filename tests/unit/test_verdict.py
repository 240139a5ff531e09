"""How far a candidate was, in words that are true to the last digit."""

from __future__ import annotations

import pytest

from model_service.models.job import Comparison, GateCondition
from model_service.models.verdict import digits, judged, margin, rejection, requirement, shortfalls


def condition(
    value: float | None,
    threshold: float | None,
    comparison: Comparison | None = "at_least",
    *,
    passed: bool = False,
    name: str = "accuracy",
    detail: str = "",
) -> GateCondition:
    return GateCondition(
        number=2, condition=name, value=value, threshold=threshold, passed=passed, comparison=comparison, detail=detail
    )


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (condition(0.6103, 0.75), "accuracy: 0.61, at least 0.75 is asked for; missed by 0.140"),
        (condition(0.7499996, 0.75), "accuracy: 0.7499996, at least 0.75 is asked for; missed by 4e-07"),
        (condition(29, 30), "accuracy: 29, at least 30 is asked for; missed by 1"),
        (condition(0, 0, "above"), "accuracy: 0, over 0 is asked for"),
        (condition(-0.00051, -0.0005, "above"), "accuracy: -0.00051, over -0.0005 is asked for; missed by 0.0000100"),
        (condition(12345, 200, "at_most"), "accuracy: 12,345, at most 200 is asked for; missed by 12,145"),
        (condition(None, 0, "above", detail="no trade was taken"), "accuracy: no trade was taken"),
        (condition(None, 0, "above"), "accuracy: not known"),
    ],
)
def test_a_shortfall_names_what_was_found_asked_for_and_missed(found: GateCondition, sentence: str) -> None:
    assert shortfalls([condition(1, 0, passed=True), found]) == [sentence]


def test_a_list_has_room_for_one_reason_and_the_accuracy_comes_first() -> None:
    trades, accuracy = condition(0, 30, name="trades taken"), condition(0.61, 0.75)
    bound = condition(0, 0, "above", name="accuracy above the majority class (lower bound 95 %)")
    assert rejection([condition(1, 0, passed=True)]) is None
    assert rejection([trades]) == "trades taken 0 against 30"
    assert rejection([trades, accuracy]) == "accuracy 0.61 against 0.75; 1 more condition not met"
    assert rejection([trades, bound, accuracy]) == "accuracy 0.61 against 0.75; 2 more conditions not met"
    assert rejection([bound]) == "accuracy above the majority class 0, not over 0"
    assert rejection([condition(None, 0, name="value (bound)")]) == "value is not defined"


def test_the_margin_is_above_zero_on_the_side_that_passes() -> None:
    assert margin(condition(0.8, 0.75, passed=True)) == pytest.approx(0.05)
    assert margin(condition(0.02, 0.1, "at_most", passed=True)) == pytest.approx(0.08)
    assert margin(condition(0.7, 0.75)) == pytest.approx(-0.05)
    assert margin(condition(None, 0.75)) is None
    assert margin(condition(0.7, None)) is None


@pytest.mark.parametrize(
    ("comparison", "text"),
    [("at_least", "at least 30"), ("above", "over 30"), ("at_most", "at most 30"), ("below", "under 30"), (None, "30")],
)
def test_what_is_asked_for_says_which_way(comparison: Comparison | None, text: str) -> None:
    assert requirement(condition(1, 30, comparison)) == text
    assert requirement(condition(1, None, comparison)) == ""


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (3.0, "3"), (12345.0, "12,345"), (0.61, "0.610"), (999.7, "1,000"), (1234.56, "1,235"),
        (12.345, "12.3"), (-0.00012345, "-0.000123"), (0.00001, "0.0000100"), (1.19e-7, "1.2e-07"), (1e20, "1e+20"),
    ],
)  # fmt: skip
def test_numbers_have_the_digits_that_people_read(value: float, text: str) -> None:
    assert digits(value) == text


def test_conditions_of_an_older_version_may_lack_members() -> None:
    (found,) = judged([{"number": 2, "passed": False}])
    assert (found.condition, found.value, found.comparison) == ("", None, None)
