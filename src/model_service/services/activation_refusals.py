"""Why a version does not take the word, and what to do: the same words for a promotion and for a rollback."""

from __future__ import annotations

from datetime import datetime

from model_service.models.artifact import ArtifactDamaged, ArtifactIncompatible, ArtifactUnreachable
from model_service.services.errors import OperationRefused, Refused, Unavailable

GENERAL = "every strategy without a version of its own"
"""For whom a general model speaks, where a strategy would be named."""


def unusable(version: str, error: ArtifactDamaged) -> OperationRefused:
    """Its files cannot be loaded: damaged, of other features, or out of reach."""
    if isinstance(error, ArtifactUnreachable):
        message = (
            f"{version} cannot be loaded: {error}. Is the volume of MODEL_STORAGE_PATH mounted? "
            "The present version keeps speaking."
        )
        return Unavailable("model_folder_unreachable", message)
    if isinstance(error, ArtifactIncompatible):
        message = f"{version} cannot speak here: {error}. The present version keeps speaking."
        return Refused("other_features", message)
    message = (
        f"The files of {version} do not verify: {error}. The present version keeps speaking. "
        f"GET /api/v1/models/{version}/verification names every file at fault: put it back from a copy, choose another "
        "version, or train a new one."
    )
    return Refused("artifact_damaged", message)


def files_removed(version: str, at: datetime | None) -> Refused:
    """Retention has removed its files."""
    when = f" on {at:%Y-%m-%d %H:%M} UTC" if at is not None else ""
    message = (
        f"The files of {version} were removed{when} (MODEL_RETENTION_VERSIONS), so it cannot speak again. "
        "Choose a version that has its files, or train a new one."
    )
    return Refused("files_removed", message, {"files_removed_at": None if at is None else at.isoformat()})


def changed(subject: str, expected: str | None, active: str | None) -> Refused:
    """Another version is active than whoever asks takes for granted."""
    message = (
        f"{active or 'No version'} is active for {subject} now, not {expected}: somebody else has changed it. "
        "Look at it, then ask again if you still want to."
    )
    details = {"expected_version": expected, "active_version": active}
    return Refused("active_version_changed", message, details, kind="conflict")
