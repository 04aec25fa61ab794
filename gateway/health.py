"""What the daemon knows of its own health: for those who ask, and for the watchdog that the service manager listens to.

What must stay true: the watchdog is fed only while loop, journal, engine and watch really work; nothing here waits for the
field. Nothing is kept here that a crash could lose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from config import Site
from gateway.clock import synchronized
from gateway.durable.codec import Json
from gateway.housekeeping import Housekeeping
from gateway.notify import Notifier, Watchdog, watchdog_interval_s
from gateway.operations import Health, committed_station
from gateway.outputs import Outputs
from gateway.shedding.report import Proof, render_report
from gateway.story import tell_story

if TYPE_CHECKING:
    from gateway.daemon import Parts

WATCH_LATE_S = 5.0


def health_of(
    parts: Parts,
    site: Site,
    outputs: Outputs,
    care: Housekeeping,
    door: Callable[[], Json],
    warnings: Callable[[], list[str]],
) -> Health:
    """What can be asked of the daemon. door: the operators' OPC UA server, None without one."""

    def head() -> tuple[int, int, str]:
        now = parts.journal.head()
        return now.seq, now.batch, now.hash_hex

    async def verify() -> dict[str, Json]:
        result = await parts.journal.verify()
        return {
            "ok": result.ok,
            "batches": result.batches,
            "records": result.records,
            "batch": result.head.batch,
            "head": result.head.hash_hex,
            "problem": result.reason,
            "not_compared": result.not_compared,
        }

    async def report(proofs: list[Proof]) -> str:
        states = parts.watch.committed_breakers()
        data = await tell_story(
            parts.journal,
            parts.trend,
            parts.field,
            committed_station(parts.engine, parts.field),
            states,
            parts.journal.head().hash_hex,
            parts.engine.now_us(),
            proofs,
        )
        return await asyncio.to_thread(render_report, data)

    return Health(
        parts.engine.now_us(),
        str(site.gateway.state_dir / "journal.db"),
        head,
        synchronized,
        verify,
        report,
        outputs.why_not_released,
        outputs.release,
        warnings,
        door,
        care,
    )


def watchdog_of(parts: Parts, notifier: Notifier, outputs: Outputs) -> Watchdog:
    """Looks at every part on which control rests."""

    async def journal() -> str | None:
        await parts.journal.probe()
        return None

    async def watch() -> str | None:
        if not outputs.reconciled.is_set():
            return None
        late_s = asyncio.get_running_loop().time() - parts.watch.looked_at
        return f"nobody has looked at the load for {late_s:.1f} s" if late_s > WATCH_LATE_S else None

    async def engine() -> str | None:
        await parts.engine.on_disk()
        return None

    return Watchdog(notifier, watchdog_interval_s(), {"journal": journal, "engine": engine, "watch": watch})
