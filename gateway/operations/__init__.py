"""What people and programs may ask of the running daemon, behind the control socket.

Each operation takes a JSON object and gives one back, in the shapes that ``gateway/cli`` shows. What must stay true:
queries show committed state; an action is answered only once it is on disk, and its record names who asked for it: the
user of the connection (from the kernel) and the name that this person gave. An operation keeps nothing between two
requests, so a crash loses nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.control import Handler
from gateway.durable.codec import Json
from gateway.operations import audit, breakers, entities, instances, journal, station, stories
from gateway.operations.arguments import Arguments
from gateway.operations.desk import Desk, Health, Operation, committed_station, handler
from gateway.operations.status import status, timers
from gateway.story_feeders import parse_proofs

__all__ = ["OPERATIONS", "Desk", "Health", "committed_station", "handlers"]


async def _report(desk: Desk, args: Arguments) -> Json:
    """The event report as one HTML page; ``proofs`` are rows of evidence that the asker adds."""
    return {"html": await desk.health.report(parse_proofs(args.get("proofs")))}


async def _audit_verify(desk: Desk, _: Arguments) -> Json:
    """Check the whole hash chain of the journal."""
    return await desk.health.verify()


OPERATIONS: Mapping[str, Operation] = {
    "status": status,
    "timers": timers,
    "instances.list": instances.show_list,
    "instances.show": instances.show_one,
    "instances.timeline": stories.show_timeline,
    "instances.export": instances.export,
    "instances.start": instances.start,
    "instances.raise": instances.raise_event,
    "instances.terminate": instances.terminate,
    "instances.suspend": instances.suspend,
    "instances.resume": instances.resume,
    "instances.rewind": instances.rewind,
    "instances.restart": instances.restart,
    "instances.purge": instances.purge,
    "entities.list": entities.show_list,
    "entities.show": entities.show_one,
    "entities.clean": entities.clean,
    "breakers.list": breakers.show_list,
    "breakers.show": breakers.show_one,
    "breakers.open": breakers.switch("open"),
    "breakers.close": breakers.switch("close"),
    "breakers.block": breakers.note("block"),
    "breakers.unblock": breakers.note("unblock"),
    "why": stories.why,
    "override": station.override,
    "mode": station.set_mode,
    "release": station.release,
    "report": _report,
    "audit.list": audit.show_list,
    "audit.verify": _audit_verify,
    "audit.exported": audit.exported,
    "journal.stats": journal.stats,
    "journal.check": journal.check,
    "journal.backup": journal.backup,
    "journal.archive": journal.archive,
}


def handlers(desk: Desk) -> Mapping[str, Handler]:
    """Name → operation on this gateway, for the control server."""
    return {name: handler(desk, operation) for name, operation in OPERATIONS.items()}
