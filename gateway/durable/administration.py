"""What operators do to orchestrations and to what is left of them: stop, suspend, rewind, purge, clean up.

Every call returns once its effect is on disk, and says in the log who did it where the caller says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from gateway.durable import history as h
from gateway.durable.errors import GoneError, NotFoundError
from gateway.durable.housekeeping import CleanEntityStorageResult, PurgeHistoryResult
from gateway.durable.identity import check_text
from gateway.durable.instances import ORCHESTRATION, TERMINAL, Orchestration, OrchestrationRuntimeStatus
from gateway.durable.mailbox import Lane
from gateway.durable.queries import Queries


class Administration(Queries):
    """The part of a client that operators need."""

    async def terminate(self, instance_id: str, reason: str, raised_by: str = "", recursive: bool = True) -> None:
        """End an orchestration (and what it started) from outside; returns once that is on disk.

        Errors: NotFoundError, GoneError, EngineStoppedError.
        """
        await self._control(instance_id, h.ExecutionTerminated(reason, raised_by, recursive))

    async def suspend(self, instance_id: str, reason: str, raised_by: str = "") -> None:
        """Let an orchestration stand still: what comes (fired timers, too) is kept in order until it is resumed; returns
        once that is on disk. Activities that run go on.

        Errors: NotFoundError, GoneError, EngineStoppedError.
        """
        await self._control(instance_id, h.ExecutionSuspended(reason, raised_by))

    async def resume(self, instance_id: str, reason: str, raised_by: str = "") -> None:
        """Let a suspended orchestration go on; returns once that is on disk.

        Errors: NotFoundError, GoneError, EngineStoppedError.
        """
        await self._control(instance_id, h.ExecutionResumed(reason, raised_by))

    async def rewind(self, instance_id: str, reason: str, raised_by: str = "") -> None:
        """Take a failed orchestration back to before its failure and let it go on; returns once that is on disk.

        Steps that failed run again, those that succeeded do not; sub-orchestrations that failed are rewound, too. What may
        run once only and has no known outcome is not repeated: it fails, and says so. Errors: NotFoundError,
        WrongStatusError (it has not failed, or failed in a critical section), EngineStoppedError.
        """
        check_text(reason, "the reason")
        check_text(raised_by, "the name of who did it")
        await self._engine.admit()
        await self._engine.rewinding.rewind(instance_id, reason, raised_by)
        await self._engine.on_disk()

    async def _control(
        self, instance_id: str, event: h.ExecutionTerminated | h.ExecutionSuspended | h.ExecutionResumed
    ) -> None:
        check_text(event.reason, "the reason")
        check_text(event.raised_by, "the name of who did it")
        await self._engine.admit()
        instance = await self._live(instance_id)
        self._engine.ledger.send(instance, event, Lane.OPERATOR)
        await self._engine.on_disk()

    async def _live(self, instance_id: str) -> Orchestration:
        instance = self._engine.instances.get(instance_id)
        if isinstance(instance, Orchestration):
            if instance.terminal:
                await self._engine.on_disk()  # nobody is told of an end that a crash may take back
                raise GoneError(f"{instance_id} has finished: {instance.status}")
            return instance
        row = await self._row(instance_id)
        if row is None or row.kind != ORCHESTRATION:
            raise NotFoundError(f"there is no orchestration {instance_id!r}")
        raise GoneError(f"{instance_id} has finished: {row.status}")

    async def purge_instance_history(self, instance_id: str, raised_by: str = "") -> PurgeHistoryResult:
        """Remove a finished orchestration; its records stay in the log. Returns once that is on disk.

        Errors: NotFoundError, WrongStatusError (it has not finished, or something of it is still under way),
        EngineStoppedError.
        """
        check_text(raised_by, "the name of who did it")
        await self._engine.admit()
        result = await self._engine.housekeeping.purge(instance_id, raised_by)
        await self._engine.on_disk()
        return result

    async def purge_instance_history_by(
        self,
        created_time_from: datetime | None = None,
        created_time_to: datetime | None = None,
        runtime_status: Sequence[OrchestrationRuntimeStatus] | None = None,
        raised_by: str = "",
    ) -> PurgeHistoryResult:
        """Remove the finished orchestrations that were created in this time, of these statuses (all that are final, unless
        given); those of which something is still under way are left. Returns once that is on disk.

        Errors: ValueError without created_time_from or for a status that is not final; EngineStoppedError.
        """
        check_text(raised_by, "the name of who did it")
        if created_time_from is None:
            raise ValueError("created_time_from is required: say from when on, so that nothing goes by mistake")
        statuses = list(TERMINAL) if runtime_status is None else list(runtime_status)
        for status in statuses:
            if status not in TERMINAL:
                raise ValueError(f"only finished orchestrations can be purged, not those that are {status}")
        await self._engine.admit()
        result = await self._engine.housekeeping.purge_by(created_time_from, created_time_to, statuses, raised_by)
        await self._engine.on_disk()
        return result

    async def clean_entity_storage(
        self, remove_empty_entities: bool = True, release_orphaned_locks: bool = True
    ) -> CleanEntityStorageResult:
        """Remove entities that nothing is known of, and release locks whose owner is gone; returns once that is on disk.

        An entity that has ever started an activity, let a caller wait or made up an orchestration's id is kept: its ids
        must not begin anew. Errors: EngineStoppedError.
        """
        await self._engine.admit()
        result = await self._engine.housekeeping.clean_entities(remove_empty_entities, release_orphaned_locks)
        await self._engine.on_disk()
        return result
