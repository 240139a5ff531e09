"""What people may do to the service: activate, roll back, pause, resume, train. All of it is audited."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from model_service.config.clock import Clock
from model_service.models.artifact import ArtifactDamaged, ArtifactIncompatible
from model_service.services.errors import NotFound, Refused
from model_service.services.modes import Modes
from model_service.services.ports import ModelVersion, RegistryStore, TrainingType
from model_service.services.training import TrainingService
from model_service.services.triggers import Triggers


class ServiceOperations:
    """The operations of one service, each with who asks for it and why."""

    def __init__(
        self, modes: Modes, registry: RegistryStore, training: TrainingService, triggers: Triggers, clock: Clock
    ) -> None:
        self._modes = modes
        self._registry = registry
        self._training = training
        self._triggers = triggers
        self._clock = clock

    async def activate(self, version: str, *, strategy_id: str | None, force: bool, actor: str, reason: str) -> None:
        """Let a version speak for its strategy.

        Raises:
            NotFound: when there is no such version.
            Refused: when it belongs to another strategy, has not passed the gate and is not forced, reads a feature
                that this service does not compute, or its files are damaged. Nothing has changed then.
        """
        row = await self._registry.get(version)
        if row is None:
            raise NotFound("unknown_version", f"There is no version {version}; GET /api/v1/models lists them.")
        target = self._target(row, strategy_id)
        self._check(row, force)
        await self._switch(target, row, actor=actor, reason=reason, forced=force and not row.gate_passed)

    async def rollback(self, strategy_id: str, actor: str, reason: str) -> str:
        """Let the version speak that spoke before the active one; returns it.

        Raises:
            NotFound: when there is no such strategy.
            Refused: when there is no version to go back to, or its files are damaged. Nothing has changed then.
        """
        self._modes.known(strategy_id)
        active = self._modes.active(strategy_id)
        before = await self._registry.previous(strategy_id, active.version if active is not None else None)
        if before is None:
            raise Refused(
                "nothing_to_roll_back_to",
                f"No version spoke for {strategy_id} before the present one.",
                kind="conflict",
            )
        await self._switch(strategy_id, before, actor=actor, reason=reason, forced=False)
        return before.version

    async def request_training(
        self, strategy_id: str, training_type: TrainingType, *, actor: str
    ) -> tuple[UUID, Literal["triggered", "queued"]]:
        """Ask for a run by hand.

        Raises:
            NotFound: when there is no such strategy.
            Refused: when there are fewer samples than a full run needs; the refusal is recorded as a run.
        """
        now = self._clock.now()
        await self._check_data(strategy_id, training_type, now)
        answer = await self._training.request(strategy_id, training_type, "manual", f"asked for by {actor}", now)
        await self._audit(actor, "train", strategy_id, {"training_type": training_type, "run_id": str(answer[0])})
        return answer

    async def pause(self, strategy_id: str, actor: str, reason: str) -> None:
        """Stop the openings of a strategy. Raises NotFound when there is no such strategy."""
        self._modes.known(strategy_id)
        before = self._modes.mode(strategy_id)
        await self._modes.pause(strategy_id, actor=actor, reason=reason, now=self._clock.now())
        await self._audit(actor, "pause", strategy_id, {"from": before, "to": "paused", "reason": reason})

    async def resume(self, strategy_id: str, actor: str, reason: str) -> None:
        """Let a paused strategy speak again. Raises NotFound, or Refused when it is not paused."""
        self._modes.known(strategy_id)
        before = self._modes.mode(strategy_id)
        if before != "paused":
            raise Refused("not_paused", f"{strategy_id} is in mode {before}, not paused.", kind="conflict")
        await self._modes.resume(strategy_id, actor=actor, reason=reason, now=self._clock.now())
        details = {"from": before, "to": self._modes.mode(strategy_id), "reason": reason}
        await self._audit(actor, "resume", strategy_id, details)

    async def _check_data(self, strategy_id: str, training_type: TrainingType, now: datetime) -> None:
        wanted = self._modes.known(strategy_id).minimum_dataset_size
        samples = await self._training.sample_count(strategy_id)
        if training_type == "incremental" or samples >= wanted:
            return
        hint = f"{strategy_id} has {samples} labelled outcomes; a full run needs {wanted}."
        run_id = await self._training.refuse(strategy_id, training_type, "manual", "not_enough_data", hint, now)
        details = {"samples": samples, "minimum": wanted, "training_id": str(run_id)}
        raise Refused("not_enough_data", hint, details)

    def next_scheduled(self, strategy_id: str | None) -> datetime | None:
        """The next slot of the schedule, which is the same for every strategy; None when there is no schedule."""
        return self._triggers.next_scheduled(self._clock.now())

    def _target(self, row: ModelVersion, strategy_id: str | None) -> str:
        target = strategy_id or row.strategy_id
        if target is None:
            raise Refused(
                "strategy_needed", f"{row.version} is a general model; name the strategy_id it shall speak for."
            )
        self._modes.known(target)
        if row.strategy_id not in (None, target):
            message = f"{row.version} was made for {row.strategy_id} and cannot speak for {target}."
            raise Refused("other_strategy", message, {"version_strategy_id": row.strategy_id})
        return target

    def _check(self, row: ModelVersion, force: bool) -> None:
        if not row.gate_passed and not force:
            message = (
                f"{row.version} has not passed the promotion gate; its detail lists the conditions. force overrides it."
            )
            raise Refused("gate_not_passed", message)

    async def _switch(self, strategy_id: str, row: ModelVersion, *, actor: str, reason: str, forced: bool) -> None:
        before = self._modes.active(strategy_id)
        try:
            await self._modes.activate(
                strategy_id, row, actor=actor, reason=reason, forced=forced, now=self._clock.now()
            )
        except ArtifactIncompatible as error:
            message = f"{row.version} cannot speak here: {error}. The present version keeps speaking."
            raise Refused("other_features", message) from error
        except ArtifactDamaged as error:
            message = f"The files of {row.version} do not verify: {error}. The present version keeps speaking."
            raise Refused("artifact_damaged", message) from error
        details = {"from": before.version if before else None, "to": row.version, "reason": reason, "forced": forced}
        await self._audit(actor, "activate", strategy_id, details)

    async def _audit(self, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
        await self._registry.audit(actor, action, subject, details, self._clock.now())
