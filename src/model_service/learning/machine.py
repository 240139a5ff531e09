"""What a run needs of the machine that it runs on, asked before a row is read."""

from __future__ import annotations

from model_service.learning.search import require_optuna
from model_service.models.job import TrainingJob


def require_machine(job: TrainingJob) -> None:
    """Raises RunBroken with `search_unavailable` or `device_unavailable` when the job cannot be done here."""
    if job.training_type == "full" and job.strategy.training.search_trials > 0:
        require_optuna()
    if job.strategy.model_type == "xgboost":
        from model_service.learning.boosting import require_device  # scikit-learn's families never load XGBoost

        require_device(job.device)
