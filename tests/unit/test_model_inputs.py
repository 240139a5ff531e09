"""A model reads its own features by name and its own directions, whatever the list is today."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_service.models.features import DIRECTIONAL_NAMES, FEATURE_NAMES, TODAY, align_to_side
from model_service.models.inputs import ModelInputs, UnknownFeatures, Vector, feature_set_name
from model_service.models.manifest import describe_inputs, read_inputs

VECTOR = ("a", "b", "c", "d")
CHOICES = st.lists(st.sampled_from(FEATURE_NAMES), unique=True, max_size=len(FEATURE_NAMES))


def rows(count: int, seed: int) -> tuple[Vector, Vector]:
    """Vectors of today's width, some values unknown, and signs."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, len(FEATURE_NAMES))).astype(np.float32)
    vectors[rng.random(vectors.shape) < 0.1] = np.nan
    return vectors, rng.choice([-1.0, 1.0], count).astype(np.float32)


def by_hand(inputs: ModelInputs, vectors: Vector, signs: Vector) -> list[list[float]]:
    """What `ModelInputs.rows` must say, one value at a time."""
    found = []
    for vector, sign in zip(vectors.tolist(), signs.tolist(), strict=True):
        named = dict(zip(FEATURE_NAMES, vector, strict=True))
        found.append([named[name] * (sign if name in inputs.directional else 1.0) for name in inputs.features] + [sign])
    return found


def format_1(features: tuple[str, ...], directional: frozenset[str]) -> dict[str, Any]:
    return {"feature_set": feature_set_name(features, directional), "model_inputs": [*features, "side"]}


@given(CHOICES, st.integers(0, 5), st.integers(0, 10**6))
def test_any_choice_in_any_order_reads_its_own_columns(features: list[str], count: int, seed: int) -> None:
    directional = [name for name in features if random.Random(f"{seed} {name}").random() < 0.5]
    inputs = ModelInputs(features, directional, FEATURE_NAMES)
    vectors, signs = rows(count, seed)
    before = vectors.copy()
    found = inputs.rows(vectors, signs)
    assert found.dtype == np.float32
    assert found.shape == (count, len(features) + 1)
    np.testing.assert_array_equal(found, np.reshape(by_hand(inputs, vectors, signs), found.shape))
    np.testing.assert_array_equal(vectors, before)
    for vector in vectors:
        twice = inputs.rows(np.stack([vector, vector]), np.array([1.0, -1.0]))
        np.testing.assert_array_equal(inputs.both_sides(vector), twice)


def test_one_vector_of_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) given"):
        ModelInputs(["b"], [], VECTOR).both_sides(np.zeros(3, dtype=np.float32))


def test_worked_by_hand() -> None:
    inputs = ModelInputs(["d", "a"], ["a"], VECTOR)
    found = inputs.rows(np.array([[1, 2, 3, 4], [5, 6, 7, math.nan]], np.float32), np.array([1, -1], np.int8))
    np.testing.assert_array_equal(found, [[4, 1, 1], [math.nan, -5, -1]])
    assert inputs.names == ("d", "a", "side")


def test_todays_inputs_are_the_whole_list() -> None:
    vectors, signs = rows(7, 1)
    assert TODAY.names == (*FEATURE_NAMES, "side")
    np.testing.assert_array_equal(align_to_side(vectors, signs), np.array(by_hand(TODAY, vectors, signs), np.float32))


@pytest.mark.parametrize(
    ("features", "directional", "message"),
    [
        (["a", "gone", "b", "lost"], [], "does not compute gone, lost"),
        (["a", "b", "a"], [], "twice"),
        (["a"], ["b"], r"\['b'\] are no features"),
    ],
)
def test_inputs_that_cannot_be_are_refused(features: list[str], directional: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelInputs(features, directional, VECTOR)


def test_a_feature_cannot_be_called_side() -> None:
    with pytest.raises(ValueError, match="twice"):
        ModelInputs(["side"], [], ["side"])


@given(CHOICES)
def test_a_manifest_gives_back_what_it_was_told(features: list[str]) -> None:
    inputs = ModelInputs(features, features[::2], FEATURE_NAMES)
    again = read_inputs(json.loads(json.dumps(describe_inputs(inputs))))
    assert (again.features, again.directional) == (inputs.features, inputs.directional)


def test_a_model_keeps_its_own_directions() -> None:
    """Declared otherwise since: what it was trained on is what it is asked about."""
    turned = DIRECTIONAL_NAMES.symmetric_difference({"return_1m", "spread_percent"})
    inputs = read_inputs(describe_inputs(ModelInputs(FEATURE_NAMES, turned, FEATURE_NAMES)))
    assert inputs.directional == turned


def test_a_manifest_without_directions_has_todays_when_its_name_proves_them() -> None:
    shorter = ("spread_percent", "return_1m", "book_imbalance")
    inputs = read_inputs(format_1(shorter, frozenset({"return_1m", "book_imbalance"})))
    assert inputs.features == shorter
    assert inputs.directional == {"return_1m", "book_imbalance"}


def test_a_manifest_without_directions_is_refused_when_its_name_says_others() -> None:
    manifest = format_1(("spread_percent", "return_1m"), frozenset())
    with pytest.raises(UnknownFeatures, match=manifest["feature_set"]):
        read_inputs(manifest)


def test_an_unknown_feature_is_named_whatever_the_format() -> None:
    manifest = format_1(("moon_phase", "return_1m"), frozenset())
    for declared in (manifest, {**manifest, "directional": []}):
        with pytest.raises(UnknownFeatures, match="does not compute moon_phase"):
            read_inputs(declared)


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"feature_set": "f1-0", "model_inputs": []},
        {"feature_set": "f1-0", "model_inputs": ["return_1m"]},
        {"feature_set": "f1-0", "model_inputs": ["side", "return_1m"]},
        {"feature_set": "f1-0", "model_inputs": [7, "side"]},
        {"feature_set": "f1-0", "model_inputs": 7},
        {"feature_set": "f1-0", "model_inputs": ["return_1m", "side"], "directional": 7},
        {"feature_set": "f1-0", "model_inputs": ["return_1m", "side"], "directional": ["atr_14"]},
    ],
)
def test_what_is_no_manifest_is_refused(manifest: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        read_inputs(manifest)
