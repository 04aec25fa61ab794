"""The objects that a gateway shows to operators, as data: folders and objects of the types that are declared beside this.

What must stay true: no folder has more than ``FOLDER_AT_MOST`` children, for clients browse whole folders; each key is
there once; the surface depends on the site's files alone, so a restart gives the same nodes. Pure: there is nothing to
lose in a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from config.models import Feeder, Site
from gateway.operator import names
from gateway.operator.event_types import EVENT_TYPES
from gateway.operator.gateway_types import GATEWAY, ORCHESTRATION, ORCHESTRATIONS, SECURITY, STRESS, TIMER, TIMERS
from gateway.operator.shedding_types import BREAKER, SHEDDING
from protocols.opcua.surface import Folder, Object, Surface

FOLDER_AT_MOST = 200

Thing = TypeVar("Thing")

TYPES = (
    GATEWAY,
    STRESS,
    SHEDDING,
    SECURITY,
    BREAKER,
    ORCHESTRATIONS,
    ORCHESTRATION,
    TIMERS,
    TIMER,
)


def build_surface(site: Site) -> Surface:
    """All that operators of this site find."""
    folders = [Folder(names.FEEDERS, "Feeders", description="The breakers, by device.")]
    objects = [
        Object(names.GATEWAY, "Gateway", "", names.GATEWAY_TYPE),
        Object(names.STRESS, "GridStress", "", names.STRESS_TYPE),
        Object(names.SHEDDING, "LoadShedding", "", names.SHEDDING_TYPE),
        Object(names.SECURITY, "Security", "", names.SECURITY_TYPE),
        Object(names.ORCHESTRATIONS, "Orchestrations", "", names.ORCHESTRATIONS_TYPE),
        Object(names.TIMERS, "Timers", "", names.TIMERS_TYPE),
    ]
    for folder, feeders in _by_device(site, folders):
        for feeder in feeders:
            key = names.feeder_key(feeder.name)
            objects.append(Object(key, feeder.name, folder, names.BREAKER_TYPE))
    return Surface(names.NAMESPACE, TYPES, EVENT_TYPES, tuple(folders), tuple(objects))


def _by_device(site: Site, folders: list[Folder]) -> Iterator[tuple[str, Sequence[Feeder]]]:
    """Key of a folder and the feeders in it; makes the folders."""
    devices: dict[str, list[Feeder]] = {}
    for feeder in site.feeders:
        devices.setdefault(feeder.device, []).append(feeder)
    for parent, some in _ranges(names.FEEDERS, "Folder/Devices", list(devices), folders):
        for device in some:
            key = f"Folder/Device/{device}"
            folders.append(Folder(key, device, parent, f"The breakers of device {device}."))
            yield from _ranges(key, f"Folder/Breakers/{device}", devices[device], folders)


def _ranges(
    parent: str, prefix: str, things: Sequence[Thing], folders: list[Folder]
) -> Iterator[tuple[str, Sequence[Thing]]]:
    """The parent itself where all things fit in, else a folder in it for each range of them, which it makes."""
    if len(things) <= FOLDER_AT_MOST:
        yield parent, things
        return
    for first in range(0, len(things), FOLDER_AT_MOST):
        some = things[first : first + FOLDER_AT_MOST]
        name = f"{first + 1}-{first + len(some)}"
        folders.append(Folder(f"{prefix}/{name}", name, parent))
        yield f"{prefix}/{name}", some
