"""What is looked at before anything starts, and what is set up once for the whole process.

What must stay true: a daemon that can't do its work with what it found says why, in a sentence, and starts nothing. A
crash here leaves nothing behind.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from pathlib import Path

import structlog

from config import Site
from gateway.clock import SystemClock, iso, to_us
from gateway.durable import EntityId
from gateway.housekeeping_folder import name_of, rights_of
from gateway.shedding.entities import SUBSTATION, TRANSFORMER, substation_id, transformer_id

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

SWITCH_INTERVAL_S = 0.0005


class StartError(Exception):
    """The daemon can't start with what it found; the text says why. Nothing was started."""


class WrongRights(StartError):
    """A file of the daemon belongs to somebody else: only a person can mend that, so no other start would go better."""


_MOUNTED = "Does a disk belong there, and is it mounted? If it does not:"


def check_rights(state_dir: Path) -> None:
    """The state folder and what lies in it of the journal can be read and written; the folder is made where it can be.

    Errors: WrongRights for a journal that is there and belongs to somebody else; StartError or OSError for what may pass
    by itself: a file system that is not mounted yet (below its empty mount point nothing can be written), or read-only.
    """
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    except PermissionError as error:
        there = next(folder for folder in state_dir.parents if os.path.exists(folder))
        raise StartError(
            f"the state folder {state_dir} can't be made: {rights_of(there)}. {_MOUNTED} "
            f"install -d -m 0700 -o {_self()} {state_dir}"
        ) from error
    try:
        usable = os.access(state_dir, os.R_OK | os.W_OK | os.X_OK, effective_ids=True)
        files = sorted(state_dir.glob("journal.db*")) if usable else []
        for path in [*files, *state_dir.glob("offline-acts.jsonl")]:
            if path.is_file():
                os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError as error:
        path = Path(str(error.filename or state_dir))
        mend = f"chown -R {_self()} {state_dir}; chmod -R u+rwX {state_dir}"
        raise WrongRights(f"{rights_of(path)}: {mend}") from error
    if not usable and not os.statvfs(state_dir).f_flag & os.ST_RDONLY:
        raise StartError(f"{rights_of(state_dir)}. {_MOUNTED} chown {_self()} {state_dir}; chmod 0700 {state_dir}")


def _self() -> str:
    return name_of(os.geteuid())


def check_owner(instances: Iterable[str], site: Site) -> None:
    """A journal of a station or transformer by another name: its procedure and its stress would be forgotten here.

    Errors: StartError.
    """
    for kind, own in ((SUBSTATION, substation_id(site)), (TRANSFORMER, transformer_id(site))):
        other = [one for one in instances if one.startswith(f"@{kind}@") and one != str(own)]
        if other:
            raise StartError(
                f"the journal in {site.gateway.state_dir} is that of {kind} {EntityId.parse(other[0]).key!r}, and this "
                f"site calls its {kind} {own.key!r}: put the name back, or choose another state_dir"
            )


def share_the_interpreter() -> None:
    """Let a thread keep the interpreter for half a millisecond only while another one waits for it.

    The journal's thread asks for it back some 40 times a commit: with Python's own 5 ms a commit beside a busy loop takes
    several times as long, and everyone waits.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def spare_the_loop() -> None:
    """Keep the garbage collector from stopping the loop: measured, full collections over 12,000 breakers took 0.4-0.8 s.

    What lives now lives on, so it is never looked at again; what comes later is looked at in larger portions.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 50, 1_000)


def spare_what_was_made() -> None:
    """What has been made since lives on, too, and is never looked at again; hardly any of it is garbage (measured: none of
    the operators' 440,000 objects)."""
    gc.freeze()


def clock_of(site: Site, journal_us: int) -> SystemClock:
    """Engine time of a site whose journal ends at this time."""
    simulated = site.gateway.simulated_clock
    if simulated is None:
        return SystemClock(not_before_us=journal_us)
    clock = SystemClock(
        rate=simulated.rate,
        origin_us=to_us(simulated.origin),
        wall_origin_us=to_us(simulated.wall_origin),
        not_before_us=journal_us,
    )
    log.warning("simulated_clock", rate=simulated.rate, now=iso(clock.now_us()))
    return clock
