"""Reading the configuration again while the daemon runs (SIGHUP).

All or nothing: a site with an error, or with a change that needs a restart, leaves everything as it was; each problem is
named in the log, in the journal and in the status. A crash here: the next start reads the files as they are then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from config import ConfigErrors, Site, load_site, restart_needed
from gateway import logs
from gateway.durable import Engine
from gateway.notify import Notifier
from gateway.shedding.field import Field
from gateway.supervision import record

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

PROBLEMS_SHOWN = 10


class Reload:
    """Replaces the site of a running gateway. refused: why the files as they are now are not in use; empty if they are.
    listeners: called with the new site once it is in use."""

    def __init__(self, engine: Engine, field: Field, notifier: Notifier, reconciled: asyncio.Event) -> None:
        self.refused = ""
        self.listeners: list[Callable[[Site], None]] = []
        self._engine = engine
        self._field = field
        self._notifier = notifier
        self._reconciled = reconciled
        self._one_at_a_time = asyncio.Lock()

    async def run(self) -> None:
        """Read again; what can't be changed at run time stays as it is, and is named."""
        await self._reconciled.wait()
        async with self._one_at_a_time:
            self._notifier.reloading()
            before = self._field.site
            try:
                new = await asyncio.to_thread(load_site, before.path)  # 12,000 rows take longer than a poll may wait
            except ConfigErrors as errors:
                self._refuse([str(one) for one in errors.problems])
            else:
                waiting = restart_needed(before, new)
                if waiting:
                    self._refuse([f"{change}: needs a restart" for change in waiting])
                else:
                    self._use(new, before)
            told = self.refused or "the configuration was read again"
            site = self._field.site
            self._notifier.ready(f"{site.name}: configuration {site.sha256[:12]}; {told}")

    def _refuse(self, problems: list[str]) -> None:
        shown = problems[:PROBLEMS_SHOWN]
        self.refused = f"the changed configuration is not in use: {'; '.join(shown)}"
        if len(problems) > len(shown):
            self.refused += f" and {len(problems) - len(shown)} more"
        log.error("reload_refused", problems=shown, number=len(problems))
        record(self._engine, "reload_refused", problems=shown, number=len(problems))

    def _use(self, new: Site, before: Site) -> None:
        self.refused = ""
        self._field.use(new)
        logs.set_level(new.gateway.log_level)
        for listener in self.listeners:
            listener(new)
        record(self._engine, "reloaded", config_sha256=new.sha256, before=before.sha256)
        log.info("reloaded", config_sha256=new.sha256)
