"""The substation and its transformer: mode, stress, and the one procedure that may run at a time.

Theory of operation
===================
The transformer entity keeps whether its loading is *armed* or *cleared* (``trigger.py`` decides; only changes come
here) and signals the substation. The substation starts the procedure when all of this holds: stress is on, the mode is
armed, nothing runs, the station is not held after a restart, and fewer than ``max_sheds_per_hour`` were started within
the last hour. It looks again whenever one of these changes, and when it is asked to (``evaluate``), since an hour
passes silently.

A procedure that was started by hand must *claim* the station first and is refused while another one has it. The claim
ends with ``finished``; who finds that a claiming procedure has ended without saying so (terminated, failed) says it in
its place.

What must stay true: never two procedures; in mode monitor none is started; each refusal has a reason that people can
read in ``last_note``. A crash here: the state is journaled with the start of the procedure, in one turn.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from config.models import Mode
from gateway.shedding.breaker_model import HOUR_US

CONSUMED_LIMIT = 32
PROTOCOL = "LoadSheddingProtocol"
RESTORED = "restored"
"""Status of a procedure that gave everything back."""


class Transformer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Zone as last told. measured: False while the load can't be measured. since_us: of the last change."""

    armed: bool = False
    measured: bool = True
    load_pct: float = 0.0
    since_us: int = 0


class Loading(msgspec.Struct, frozen=True):
    """Message ``observe`` of the transformer: what the trigger decided, and the loading that made it so."""

    armed: bool
    measured: bool = True
    load_pct: float = 0.0


class Running(msgspec.Struct, frozen=True):
    """The procedure that has the station."""

    instance: str
    since_us: int
    reason: str


class Substation(msgspec.Struct, frozen=True, omit_defaults=True):
    """State of the substation. mode is None until someone set it: then the site's holds.

    held: why nothing is started until someone releases it. quiet: why nothing is started until the present stress is
    over (a procedure ended without having restored: a person decided so, or has to). sheds: times of the procedures
    started within the last hour. last_ended: the procedure of last_result. consumed: overrides and what became of them.
    """

    mode: Mode | None = None
    stress: bool = False
    load_pct: float = 0.0
    running: Running | None = None
    held: str = ""
    quiet: str = ""
    sheds: tuple[int, ...] = ()
    started: int = 0
    last_note: str = ""
    last_result: dict[str, object] | None = None
    last_ended: str = ""
    consumed: tuple[dict[str, object], ...] = ()


class Start(msgspec.Struct, frozen=True):
    """Start this procedure, under this id, with this input."""

    instance: str
    input: dict[str, object]


def evaluate(
    state: Substation, site_mode: Mode, station: str, max_sheds_per_hour: int, now_us: int
) -> tuple[Substation, Start | None]:
    """Start the procedure if it is time; else note why not."""
    if not state.stress or state.running is not None:
        return state, None
    why = _why_not(state, site_mode, max_sheds_per_hour, now_us)
    if why:
        return (state if state.last_note == why else replace(state, last_note=why)), None
    return start(state, station, {"reason": f"loading {state.load_pct:.1f} %"}, now_us)


def _why_not(state: Substation, site_mode: Mode, max_sheds_per_hour: int, now_us: int) -> str:
    if (state.mode or site_mode) is not Mode.ARMED:
        return "stress is on; nothing is started in mode monitor"
    if state.held:
        return f"stress is on; held: {state.held}"
    if state.quiet:
        return f"stress is on; nothing is started until it has cleared or someone releases: {state.quiet}"
    if len(within_hour(state.sheds, now_us)) >= max_sheds_per_hour:
        return f"stress is on; {max_sheds_per_hour} procedures were started within the last hour: the cap of this site"
    return ""


def procedure_id(station: str, number: int) -> str:
    """Id of the station's n-th procedure; a name for people may hold what is awkward in an id."""
    return f"shed-{re.sub(r'[^A-Za-z0-9_.-]+', '-', station)}-{number:06d}"


def start(state: Substation, station: str, order: dict[str, object], now_us: int) -> tuple[Substation, Start | None]:
    """Start the procedure now; the caller has checked that it may."""
    number = state.started + 1
    instance = procedure_id(station, number)
    reason = str(order.get("reason", ""))
    after = replace(
        state,
        running=Running(instance, now_us, reason),
        started=number,
        sheds=(*within_hour(state.sheds, now_us), now_us),
        last_note=f"started {instance}: {reason}",
    )
    return after, Start(instance, order)


def within_hour(times: tuple[int, ...], now_us: int) -> tuple[int, ...]:
    """Those of the last hour."""
    return tuple(at_us for at_us in times if at_us > now_us - HOUR_US)


def claim(state: Substation, instance: str, now_us: int) -> tuple[Substation, str]:
    """A procedure asks for the station; returns why it is refused, empty when it has it."""
    running = state.running
    if running is not None and running.instance != instance:
        return state, f"{running.instance} runs already"
    if running is not None:
        return state, ""
    return replace(state, running=Running(instance, now_us, "started by hand")), ""


def finished(state: Substation, instance: str, result: dict[str, object]) -> Substation:
    """The procedure ended; nothing happens if it did not have the station."""
    if state.running is None or state.running.instance != instance:
        return state
    status = str(result.get("status", ""))
    note = f"{instance} ended: {status}"
    # Who gives back under stress does not want the same stress to shed it all again.
    quiet = "" if status == RESTORED and not result.get("given_back") else note
    return replace(state, running=None, last_result=result, last_ended=instance, last_note=note, quiet=quiet)


def stress(state: Substation, on: bool, load_pct: float) -> Substation:
    """The transformer's zone changed; once it has cleared, what a procedure left behind is no reason to keep quiet."""
    return replace(state, stress=on, load_pct=load_pct, quiet=state.quiet if on else "")


def consume(state: Substation, record: dict[str, object]) -> Substation:
    """Remember what became of an override."""
    return replace(state, consumed=(*state.consumed, record)[-CONSUMED_LIMIT:])
