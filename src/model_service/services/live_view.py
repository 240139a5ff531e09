"""How good active versions are, as this process last saw it: quality and drift side by side."""

from __future__ import annotations

from dataclasses import dataclass

from model_service.models.drift import DriftReport
from model_service.services.drift import DriftWatch
from model_service.services.live_state import LiveQuality
from model_service.services.quality import QualityWatch


@dataclass(frozen=True, slots=True)
class LiveAnswers:
    """What is asked of the two watches."""

    quality: QualityWatch
    features: DriftWatch

    def live(self, strategy_id: str) -> LiveQuality | None:
        """Of the version that speaks; None while none does."""
        return self.quality.latest.get(strategy_id)

    def drift(self, strategy_id: str) -> DriftReport | None:
        """How far recent features are from its training rows; None before the first look."""
        return self.features.report(strategy_id)
