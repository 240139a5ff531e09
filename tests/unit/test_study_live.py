"""Live quality's promises, quickly: a stable model keeps the word, a fallen one loses it soon. Seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest

from studies.live import SETTINGS, Setting, run_stable, run_turned

SEEDS = range(5)


def test_a_stable_model_keeps_the_word_for_five_thousand_outcomes() -> None:
    results = [run_stable(SETTINGS["six-assets"], seed) for seed in range(2)]
    assert sum(one["detector"] is not None for one in results) <= 1


@pytest.mark.parametrize("setting", [SETTINGS["six-assets"], SETTINGS["strong-one-asset"]])
def test_a_model_whose_edge_turns_loses_the_word_within_a_hundred_outcomes(setting: Setting) -> None:
    delays = [run_turned(setting, -1.0, seed)["delay"] or np.inf for seed in SEEDS]
    assert np.median(delays) <= 100


def test_a_model_whose_edge_is_gone_loses_the_word_within_a_hundred_outcomes() -> None:
    delays = [run_turned(SETTINGS["six-assets"], 0.0, seed)["delay"] or np.inf for seed in SEEDS]
    assert np.median(delays) <= 100
