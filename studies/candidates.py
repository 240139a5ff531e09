"""Candidates of a history, as the service would make them one after the other, and how good they really are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from model_service.config.strategies import StrategyDefinition
from model_service.learning.dataset import dataset_from_rows, evaluation_span_us
from model_service.learning.incumbent import IncumbentModel, both_sides, payoff
from model_service.learning.refusal import Refused
from model_service.learning.run import train_candidate
from model_service.models import metrics
from model_service.models.artifact import LoadedModel, sha256_of
from model_service.models.decision_rule import action_floor, chosen_sides
from model_service.models.job import Candidate, DatabaseCoordinates, TrainingJob
from studies.bayes import bayes_accuracy
from studies.world import History

_NO_DATABASE = DatabaseCoordinates(host="nowhere", port=1, database="none", user="nobody")
_NEVER = 2**62


@dataclass(frozen=True)
class Made:
    """A candidate, and the model that would serve if it were promoted."""

    candidate: Candidate
    model: LoadedModel
    outcomes: int

    def as_incumbent(self) -> IncumbentModel:
        """The version that later candidates are held against."""
        return IncumbentModel(f"at_{self.outcomes}", self.model, self.candidate.trained_until_us)

    @property
    def failed(self) -> list[str]:
        """Names of the conditions of the gate that it failed."""
        return [condition.condition for condition in self.candidate.gate if not condition.passed]

    def metric(self, name: str) -> float | None:
        """A number of its evaluation; None where it was left out."""
        return next((metric.value for metric in self.candidate.metrics if metric.name == name), None)


def make_candidate(
    history: History,
    strategy: StrategyDefinition,
    outcomes: int,
    *,
    tried: int = 1,
    incumbent: IncumbentModel | None = None,
) -> Made | None:
    """The candidate of the first `outcomes` of the history; None where the run is refused."""
    rows = history.rows[:outcomes]
    job = TrainingJob(
        run_id=f"study-{outcomes}",
        strategy=strategy,
        as_of_us=_NEVER,
        database=_NO_DATABASE,
        output_directory="/nowhere",
        seed=strategy.training_seed,
        threads=1,
        candidates_tried=tried,
    )
    span = evaluation_span_us(rows)
    idle = history.idle_since(span[0]) if span else None
    try:
        candidate, files = train_candidate(job, rows, {}, {}, lambda *_: None, idle=idle, incumbent=incumbent)
    except Refused:
        return None
    hashes = {name: sha256_of(content) for name, content in files.items()}
    return Made(candidate, LoadedModel.from_files(files, hashes), outcomes)


def successive(history: History, strategy: StrategyDefinition, count: int) -> Iterator[Made]:
    """`count` candidates, one whenever as many new outcomes have come as the settings ask for.

    Refused runs make no candidate. Once one is promoted, later ones are held against the last that was.
    """
    made, tried, incumbent = 0, 0, None
    outcomes = strategy.minimum_dataset_size
    while made < count:
        result = make_candidate(history, strategy, outcomes, tried=tried + 1, incumbent=incumbent)
        outcomes += strategy.retrain_after_outcomes
        if result is None:
            continue
        made, tried = made + 1, tried + 1
        if result.candidate.gate_passed:
            incumbent, tried = result.as_incumbent(), 0
        yield result


@dataclass(frozen=True)
class Quality:
    """A model on fresh outcomes of the market that it learned in.

    Attributes:
        accuracy, bayes: of the model, and of the best possible one.
        ece: expected calibration error.
        earned, oracle: net return per decision of what it would choose, and of the oracle policy; fractions.
    """

    accuracy: float
    bayes: float
    ece: float
    earned: float
    oracle: float


def quality(model: LoadedModel, fresh: History, action_threshold: float) -> Quality:
    """Judge a model as nobody can in life: on any number of fresh rows, beside the truth.

    Both sides of each row are priced from the path; the model chooses by its own rule, the oracle policy takes the side
    whose true expected net return is larger, if it is above 0.
    """
    rows, unusable = dataset_from_rows(fresh.rows)
    best = fresh.outlook
    assert best is not None, "the truth is known of simulated markets only"
    assert not any(unusable.values()), "a simulated row was dropped, so that the outlook no longer fits"
    own, other = both_sides(model, rows)
    chosen = chosen_sides(own, other, rows.side_signs, action_floor(model.break_even, action_threshold))
    return Quality(
        accuracy=metrics.accuracy(rows.labels, (own >= 0.5).astype(np.int8)),
        bayes=bayes_accuracy(best.win(rows.side_signs)),
        ece=metrics.ece(rows.labels, own),
        earned=float(np.mean(payoff(chosen, rows))),
        oracle=float(np.mean(payoff(best.best_sides(), rows))),
    )
