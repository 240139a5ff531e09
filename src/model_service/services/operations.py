"""What people may do to the service: activate, roll back, pause, stop, resume, train. All of it is audited."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog

from model_service.config.clock import Clock
from model_service.models.artifact import ArtifactDamaged
from model_service.services.activation_refusals import GENERAL, changed, files_removed, unusable
from model_service.services.errors import NotFound, Refused
from model_service.services.halts import HaltStore, Resumed, Stopped
from model_service.services.modes import Modes
from model_service.services.ports import (
    NOBODY,
    ActiveVersionChanged,
    ModelVersion,
    NothingToActivate,
    RegistryStore,
    TrainingType,
)
from model_service.services.roster import StrategyRoster
from model_service.services.strategy_changes import StrategyChange
from model_service.services.strategy_control import StrategyControl
from model_service.services.strategy_view import StrategyView, strategy_view
from model_service.services.training import TrainingService
from model_service.services.triggers import Triggers

log = structlog.get_logger()
EVERYTHING = "every strategy"
"""The subject of the audit log for what holds for all."""


class ServiceOperations:
    """The operations of one service, each with who asks for it and why."""

    def __init__(
        self,
        modes: Modes,
        registry: RegistryStore,
        training: TrainingService,
        triggers: Triggers,
        roster: StrategyRoster,
        control: StrategyControl,
        clock: Clock,
        halts: HaltStore,
    ) -> None:
        self._modes = modes
        self._registry = registry
        self._training = training
        self._triggers = triggers
        self._roster = roster
        self._control = control
        self._clock = clock
        self._halts = halts

    async def activate(
        self, version: str, *, strategy_id: str | None, force: bool, actor: str, reason: str,
        expected: str | None = None,
    ) -> None:  # fmt: skip
        """Let a version speak for its strategy; a general model for every strategy that has no version of its own.

        Args:
            expected: the version that has to be active until then, NOBODY for none; None: whichever.

        Raises:
            NotFound: when there is no such version.
            Refused: when it belongs to another strategy, has not passed the gate and is not forced, reads a feature
                that this service does not compute, its files are damaged or were removed, or another version is active
                than expected. Nothing has changed then.
            Unavailable: when the whole model folder is away.
        """
        row = await self._version(version)
        self._require_target(row, strategy_id)
        if not row.gate_passed and not force:
            raise Refused("gate_not_passed", _gate_message(row.version))
        forced = force and not row.gate_passed
        await self._switch(row.strategy_id, row, actor=actor, reason=reason, forced=forced, expected=expected)

    async def rollback(
        self, strategy_id: str, actor: str, reason: str, *, to: str | None = None, expected: str | None = None
    ) -> str:
        """Let the version speak that spoke before the active one, or `to`; returns it.

        Args:
            expected: as for `activate`.

        Raises:
            NotFound: when there is no such strategy or version.
            Refused: when there is no version to go back to, or as for `activate`. Nothing has changed then.
            Unavailable: when the whole model folder is away.
        """
        self._modes.known(strategy_id)
        active = self._modes.active(strategy_id)
        speaks = active.version if active is not None else None
        if expected is not None and expected != (speaks or NOBODY):
            raise changed(strategy_id, expected, speaks)
        if to is None:
            row = await self._registry.previous(strategy_id, speaks)
            if row is None:
                message = f"No version spoke for {strategy_id} before the present one; name one, or promote one."
                raise Refused("nothing_to_roll_back_to", message, kind="conflict")
        else:
            row = await self._version(to)
            self._require_target(row, strategy_id)
            await self._require_rollback(row, speaks)
        # What is gone back to was found beneath this version: if another speaks by now, it is not the one before.
        own = active is None or active.strategy_id is not None
        beneath = expected or ((speaks or NOBODY) if own else NOBODY)
        await self._switch(strategy_id, row, actor=actor, reason=reason, forced=False, expected=beneath)
        return row.version

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
        """Let a strategy speak again that is paused, or halted by its own loss limit.

        Raises NotFound, or Refused when it is neither. A stop of every strategy holds on.
        """
        self._modes.known(strategy_id)
        before = self._modes.mode(strategy_id)
        resumed = await self._halts.resume(strategy_id, actor, reason, self._clock.now())
        if before != "paused" and not resumed.ended:
            held = " A halt of every strategy holds it: resume that." if resumed.holding else ""
            raise Refused("not_paused", f"{strategy_id} is in mode {before}, not paused.{held}", kind="conflict")
        if before == "paused":
            await self._modes.resume(strategy_id, actor=actor, reason=reason, now=self._clock.now())
        details = {"from": before, "to": self._modes.mode(strategy_id), "reason": reason, **_ended(resumed)}
        await self._audit(actor, "resume", strategy_id, details)

    async def reload_strategies(self, actor: str) -> Sequence[StrategyChange]:
        """Take the strategy file as it is now; what has changed. Raises Refused, with nothing changed."""
        return await self._control.reload(actor, self._clock.now())

    def strategy_view(self, strategy_id: str) -> StrategyView:
        """A strategy as it is in force. Raises NotFound when nobody remembers one of that name."""
        found = strategy_view(self._roster, strategy_id)
        if found is None:
            raise NotFound("unknown_strategy", "There is no strategy of that name; GET /api/v1/strategies lists them.")
        return found

    async def stop(self, actor: str, reason: str) -> Stopped:
        """Stop the openings of every strategy, in every process on the database, until somebody resumes."""
        stopped = await self._halts.stop(actor, reason, self._clock.now())
        log.warning("trading_stopped", actor=actor, reason=reason, withdrawn=stopped.withdrawn)
        details = {"reason": reason, "halt_id": stopped.halt.halt_id, "withdrawn": stopped.withdrawn}
        await self._audit(actor, "stop", EVERYTHING, details)
        return stopped

    async def resume_all(self, actor: str, reason: str) -> Resumed:
        """End a stop, and the loss limit of all strategies; pauses and loss limits of single ones hold on.

        Raises Refused when there is neither.
        """
        resumed = await self._halts.resume(None, actor, reason, self._clock.now())
        if not resumed.ended:
            raise Refused("not_stopped", "No halt of every strategy holds.", kind="conflict")
        log.info("trading_resumed", actor=actor, reason=reason)
        await self._audit(actor, "resume", EVERYTHING, {"reason": reason, **_ended(resumed)})
        return resumed

    async def _check_data(self, strategy_id: str, training_type: TrainingType, now: datetime) -> None:
        wanted = self._modes.known(strategy_id).minimum_dataset_size
        samples = await self._training.sample_count(strategy_id)
        if training_type == "incremental" or samples >= wanted:
            return
        hint = f"{strategy_id} has {samples} labelled outcomes; a full run needs {wanted}."
        run_id = await self._training.refuse(strategy_id, training_type, "manual", "not_enough_data", hint, now)
        details = {"samples": samples, "minimum": wanted, "training_id": str(run_id)}
        raise Refused("not_enough_data", hint, details)

    async def outcomes_wanted(self, strategy_id: str) -> int | None:
        """Outcomes until the next training by their number; None for a strategy that is not configured."""
        return await self._triggers.outcomes_wanted(strategy_id)

    def next_scheduled(self, strategy_id: str | None) -> datetime | None:
        """The next slot of the schedule, which is the same for every strategy; None when there is no schedule."""
        return self._triggers.next_scheduled(self._clock.now())

    async def _version(self, version: str) -> ModelVersion:
        row = await self._registry.get(version)
        if row is None:
            raise NotFound("unknown_version", f"There is no version {version}; GET /api/v1/models lists them.")
        return row

    def _require_target(self, row: ModelVersion, strategy_id: str | None) -> None:
        if row.strategy_id is None:
            if strategy_id is not None:
                message = f"{row.version} is a general model and speaks for no single strategy; leave strategy_id out."
                raise Refused("general_version", message)
            return
        self._modes.known(strategy_id or row.strategy_id)
        if strategy_id not in (None, row.strategy_id):
            message = f"{row.version} was made for {row.strategy_id} and cannot speak for {strategy_id}."
            raise Refused("other_strategy", message, {"version_strategy_id": row.strategy_id})

    async def _require_rollback(self, row: ModelVersion, speaks: str | None) -> None:
        if row.version == speaks:
            raise Refused("already_active", f"{row.version} speaks already.", kind="conflict")
        if not row.gate_passed and not await self._registry.has_spoken(row.version):
            raise Refused("gate_not_passed", _gate_message(row.version))

    async def _switch(
        self, strategy_id: str | None, row: ModelVersion, *, actor: str, reason: str, forced: bool, expected: str | None
    ) -> None:
        before = None if strategy_id is None else self._modes.active(strategy_id)
        subject, now = strategy_id or GENERAL, self._clock.now()
        if row.files_removed_at is not None:
            raise files_removed(row.version, row.files_removed_at)
        try:
            if strategy_id is None:
                await self._modes.activate_general(
                    row, actor=actor, reason=reason, forced=forced, now=now, expected=expected
                )
            else:
                await self._modes.activate(
                    strategy_id, row, actor=actor, reason=reason, forced=forced, now=now, expected=expected
                )
        except ArtifactDamaged as error:
            raise unusable(row.version, error) from error
        except ActiveVersionChanged as error:
            raise changed(subject, expected, error.active) from error
        except NothingToActivate as error:
            raise files_removed(row.version, None) from error
        details = {"from": before.version if before else None, "to": row.version, "reason": reason, "forced": forced}
        await self._audit(actor, "activate", subject, details)

    async def _audit(self, actor: str, action: str, subject: str, details: dict[str, Any]) -> None:
        await self._registry.audit(actor, action, subject, details, self._clock.now())


def _gate_message(version: str) -> str:
    return f"{version} has not passed the promotion gate; its detail lists the conditions. force overrides it."


def _ended(resumed: Resumed) -> dict[str, Any]:
    return {"halts": [halt.halt_id for halt in resumed.ended]} if resumed.ended else {}
