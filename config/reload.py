"""What can be re-read while the daemon runs, and what needs a restart.

At SIGHUP the daemon loads the site anew and takes over: the settings of trigger, shedding (its mode is armed by a
person, not by a file) and restoration, the care of the journal, the log level, descriptions of tiers, and of each feeder
tier, critical, sheddable, rated_kw, group, customers and load_class. Everything else is bound to connections, tasks or
the journal.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from config.models import Feeder, Site, Tier

NAMED_AT_MOST = 5


def restart_needed(old: Site, new: Site) -> list[str]:
    """What differs between two sites that can't be re-read at runtime, one sentence each; empty if all can be."""
    found = [
        f"{name} changed"
        for name, differs in (
            ("site.name", old.name != new.name),
            ("the site's folder", Path(old.path) != Path(new.path)),
            ("operators", old.operators != new.operators),
            ("opcua_client", old.opcua_client != new.opcua_client),
            ("shedding.mode", old.shedding.mode != new.shedding.mode),
        )
        if differs
    ]
    for field in type(old.gateway).__dataclass_fields__:
        if field != "log_level" and getattr(old.gateway, field) != getattr(new.gateway, field):
            found.append(f"gateway.{field} changed")
    for field in type(old.transformer).__dataclass_fields__:
        if getattr(old.transformer, field) != getattr(new.transformer, field):
            found.append(f"transformer.{field} changed")
    found += _differences(
        "tier", {t.name: _bound_tier(t) for t in old.tiers}, {t.name: _bound_tier(t) for t in new.tiers}
    )
    found += _differences(
        "device",
        {d.name: replace(d, line=0) for d in old.devices},
        {d.name: replace(d, line=0) for d in new.devices},
    )
    found += _differences("measurement", {m.name: m for m in old.measurements}, {m.name: m for m in new.measurements})
    found += _differences(
        "feeder", {f.name: _bound_feeder(f) for f in old.feeders}, {f.name: _bound_feeder(f) for f in new.feeders}
    )
    return found


def _bound_tier(tier: Tier) -> Tier:
    """The tier without what can be re-read."""
    return replace(tier, description="")


def _bound_feeder(feeder: Feeder) -> object:
    """What of a feeder can't be re-read."""
    return feeder.device, feeder.points, feeder.travel_s, feeder.ufls_stage


def _differences(kind: str, old: dict[str, object], new: dict[str, object]) -> list[str]:
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    changed = [name for name in old if name in new and old[name] != new[name]]
    return [
        f"{kind}s {verb}: {_listed(names)}"
        for verb, names in (("added", added), ("removed", removed), ("changed", changed))
        if names
    ]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - NAMED_AT_MOST
    return ", ".join(names[:NAMED_AT_MOST]) + (f" and {more} more" if more > 0 else "")
