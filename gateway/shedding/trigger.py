"""When to shed: hysteresis on the measured loading, with the measurement's quality taken seriously.

CLEARED → ARMING at ``arm_pct``, ARMED once that lasted ``arm_for_s`` without a break; ARMED → CLEARING at
``clear_pct``, CLEARED once that lasted ``clear_for_s``. What must stay true: a value that could not be measured is
evidence of nothing, so the time during which the measurement is bad counts neither towards arming nor towards
clearing; and between the two thresholds nothing changes.

A crash here: the state lives in memory. The transformer entity keeps armed or cleared; ``resumed`` starts from that,
and a count-down that was under way starts again.
"""

from __future__ import annotations

import enum

import msgspec
from msgspec.structs import replace

from config.models import Trigger


class Zone(enum.StrEnum):
    """Where the loading stands."""

    CLEARED = "cleared"
    ARMING = "arming"
    ARMED = "armed"
    CLEARING = "clearing"


class TriggerState(msgspec.Struct, frozen=True):
    """since_us: when the present zone began, moved on by the time that the measurement was bad.

    seen_us: time of the last good measurement (0: none yet). bad: there was none since.
    """

    zone: Zone = Zone.CLEARED
    since_us: int = 0
    seen_us: int = 0
    bad: bool = False

    @property
    def armed(self) -> bool:
        """True while there is stress: armed, or not yet cleared for long enough."""
        return self.zone in (Zone.ARMED, Zone.CLEARING)


def resumed(armed: bool, now_us: int) -> TriggerState:
    """Where to go on after a restart."""
    return TriggerState(Zone.ARMED if armed else Zone.CLEARED, now_us)


def step(state: TriggerState, percent: float | None, now_us: int, settings: Trigger) -> TriggerState:
    """One more measurement: percent of capacity, None when it could not be measured."""
    if percent is None:
        return state if state.bad else replace(state, bad=True)
    # Bad since the last good measurement: nobody knows what was between that one and the first bad one.
    unseen_us = now_us - (state.seen_us or now_us) if state.bad else 0
    state = replace(state, since_us=state.since_us + unseen_us, bad=False)
    return replace(_judge(state, percent, now_us, settings), seen_us=now_us)


def _judge(state: TriggerState, percent: float, now_us: int, settings: Trigger) -> TriggerState:
    lasted_s = (now_us - state.since_us) / 1e6
    match state.zone:
        case Zone.CLEARED if percent >= settings.arm_pct:
            return _armed_if_due(TriggerState(Zone.ARMING, now_us), 0.0, settings, now_us)
        case Zone.ARMING if percent < settings.arm_pct:
            return TriggerState(Zone.CLEARED, now_us)
        case Zone.ARMING:
            return _armed_if_due(state, lasted_s, settings, now_us)
        case Zone.ARMED if percent <= settings.clear_pct:
            return _cleared_if_due(TriggerState(Zone.CLEARING, now_us), 0.0, settings, now_us)
        case Zone.CLEARING if percent > settings.clear_pct:
            return TriggerState(Zone.ARMED, now_us)
        case Zone.CLEARING:
            return _cleared_if_due(state, lasted_s, settings, now_us)
    return state


def _armed_if_due(state: TriggerState, lasted_s: float, settings: Trigger, now_us: int) -> TriggerState:
    return TriggerState(Zone.ARMED, now_us) if lasted_s >= settings.arm_for_s else state


def _cleared_if_due(state: TriggerState, lasted_s: float, settings: Trigger, now_us: int) -> TriggerState:
    return TriggerState(Zone.CLEARED, now_us) if lasted_s >= settings.clear_for_s else state
