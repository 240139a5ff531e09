"""Two versions side by side: what differs is there, what is the same is not, and the text says what the JSON says."""

from __future__ import annotations

import json
from typing import Any

from model_service.cli import version_diff, version_list
from tests.support.version_answers import version_answer
from tests.unit.test_version_page import printed


def second(**changes: Any) -> dict[str, Any]:
    """Another version of another family, made from noise."""
    answer = version_answer(good=False, version="v2", **changes)
    config = answer["training_config"]
    strategy = {**config["strategy"], "horizon_seconds": 60}
    hyperparameters = {**config["hyperparameters"], "max_depth": 2}
    return {**answer, "training_config": {**config, "strategy": strategy, "hyperparameters": hyperparameters}}


def test_a_version_against_itself_differs_in_nothing() -> None:
    one = version_answer()
    found = version_diff.difference(one, one)
    for part in ("versions_differ_in", "hyperparameters", "training", "dataset", "label_rule"):
        assert found[part] == {}, part
    assert found["features"] == {"known": True, "only_first": [], "only_second": [], "same_order": True}
    assert all(one["values"][0] == one["values"][1] for one in found["metrics"])
    assert printed(version_diff.page(one, one), 120).count("the same in both") >= 5


def test_what_differs_is_named_with_both_values() -> None:
    one, other = version_answer(), second()
    found = version_diff.difference(one, other)
    assert json.loads(json.dumps(found)) == found
    assert found["hyperparameters"]["max_depth"] == [
        one["training_config"]["hyperparameters"].get("max_depth"), 2,
    ]  # fmt: skip
    assert found["label_rule"] == {"horizon_seconds": [300, 60]}
    assert found["versions_differ_in"]["gate_passed"] == [True, False]
    assert found["dataset"]["fingerprint"][0] != found["dataset"]["fingerprint"][1]
    verdicts = {one["condition"]: [side["passed"] for side in one["verdicts"]] for one in found["gate"]}
    assert [True, False] in verdicts.values()


def test_every_metric_of_either_stands_there_with_its_interval() -> None:
    one, other = version_answer(), second()
    other["quality_metrics"] = [metric for metric in other["quality_metrics"] if metric["slice"] == "test"]
    found = version_diff.difference(one, other)["metrics"]
    named = {(metric["slice"], metric["metric_name"]): metric["values"] for metric in found}
    for metric in one["quality_metrics"]:
        ours = named[metric["slice"], metric["metric_name"]][0]
        assert ours["value"] == metric["metric_value"]
        assert (ours["lower"], ours["upper"]) == (metric.get("lower"), metric.get("upper"))
    assert named["live", "accuracy"][1] is None
    text = printed(version_diff.page(one, other), 140)
    assert "v1 against v2" in text
    assert "test accuracy_at_threshold" in text
    assert "\u2026" not in text


def test_features_of_one_only_are_named() -> None:
    one, other = version_answer(), second(features=["return_1m", "moon_phase"])
    found = version_diff.difference(one, other)["features"]
    assert found["only_second"] == ["moon_phase"]
    assert "return_1m" not in found["only_first"]
    assert "only v2: moon_phase" in printed(version_diff.page(one, other), 120)
    forgotten = version_diff.difference(one, second(features=None))["features"]
    assert (forgotten["known"], forgotten["same_order"]) == (False, True)


def test_a_history_says_who_and_why_and_shows_no_control_characters() -> None:
    row = {
        "activated_at": "2026-11-23T15:52:43Z", "strategy_id": "momentum_v1", "previous_version": None,
        "version": "v2", "actor": "http:ada", "reason": "better \x1b[31m since noon", "forced": True,
    }  # fmt: skip
    text = printed(version_list.history([row, {**row, "strategy_id": None, "version": None, "forced": False}]), 140)
    assert "\x1b" not in text
    assert "warm-up  v2       http:ada" in text
    assert "(forced past the gate)" in text
    assert "(general)" in text


def test_verifications_name_the_fault_and_count() -> None:
    broken = {"fault": "serving.onnx is missing", "found_bytes": None}
    found: list[dict[str, Any]] = [
        {"version": "v1", "state": "intact", "files_removed_at": None, "files": [{"fault": None, "found_bytes": 1234}]},
        {"version": "v2", "state": "damaged", "files_removed_at": None, "files": [broken]},
        {"version": "v3", "state": "removed", "files_removed_at": "2026-11-23T15:52:43Z", "files": []},
    ]
    text = printed(version_list.verifications(found), 100)
    assert "1,234" in text
    assert "serving.onnx is missing" in text
    assert "by retention, 2026-11-23 15:52:43 UTC" in text
    assert text.splitlines()[-1] == "3 verified, 1 damaged"
