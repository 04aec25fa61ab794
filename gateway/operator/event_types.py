"""The events and alarms that the gateway tells of itself, declared: names, severities, fields.

Pure data. What must stay true: an alarm is a state with an end, an event is a moment; severities are those of OPC UA
(1 to 1000, above 800 urgent); a name never changes its meaning, for clients filter by it. Nothing to do after a crash.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.operator import names
from protocols.opcua.surface import DataType, EventType, Variable


class Group(enum.Enum):
    """Who has to know: everybody who works the grid, everybody, or who looks after security."""

    PROCESS = "process"
    SYSTEM = "system"
    SECURITY = "security"


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of events or alarms. source: key of the object that it is about, unless it is about a feeder."""

    name: str
    group: Group
    severity: int
    source: str
    description: str
    fields: tuple[Variable, ...] = ()
    alarm: bool = False


def _text(name: str, description: str) -> Variable:
    return Variable(name, DataType.STRING, description)


def _number(name: str, description: str, unit: str) -> Variable:
    return Variable(name, DataType.DOUBLE, description, unit)


_INSTANCE = _text("InstanceId", "the procedure")
_ACTOR = _text("Actor", "who")
_REASON = _text("Reason", "why")
_DEVICE = _text("Device", "name of the device")
_FEEDER = _text("Feeder", "name of the feeder")
_COUNT = Variable("Count", DataType.UINT32, "how many")
_OVERRIDE = (
    _INSTANCE,
    _text("Decision", "what was decided"),
    _ACTOR,
    _text("Role", "role in which"),
    _REASON,
)
_CONSUMED = (*_OVERRIDE, _text("Step", "step that took it"), _text("Outcome", "what the step made of it"))
_CALLER = (
    _text("User", "name that was given"),
    _text("Address", "where from"),
    _text("Application", "name of the client"),
    _text("Certificate", "SHA-256 thumbprint of the client's certificate"),
)
_SHED, _STRESS, _GATEWAY, _SECURITY = names.SHEDDING, names.STRESS, names.GATEWAY, names.SECURITY

KINDS: tuple[Kind, ...] = (
    Kind(
        "ShedStarted",
        Group.PROCESS,
        600,
        _SHED,
        "a load-shedding procedure has the station",
        (_INSTANCE, _REASON),
    ),
    Kind(
        "ShedFinished",
        Group.PROCESS,
        500,
        _SHED,
        "a load-shedding procedure has given the station back",
        (
            _INSTANCE,
            _text("Status", "how it ended"),
            _REASON,
            Variable("Opened", DataType.UINT32, "feeders opened"),
            Variable("Closed", DataType.UINT32, "feeders closed again"),
            _number("PeakShedKw", "most that was shed at once", "kW"),
            _number("StillShedKw", "what is shed still", "kW"),
        ),
    ),
    Kind(
        "TierShed",
        Group.PROCESS,
        600,
        _SHED,
        "a procedure begins to open the feeders of a tier",
        (_INSTANCE, _text("Tier", "name of the tier"), _number("ShedKw", "shed so far", "kW")),
    ),
    Kind(
        "PhaseChanged",
        Group.PROCESS,
        300,
        _SHED,
        "a procedure does something else now",
        (_INSTANCE, _text("Phase", "what it does"), _text("Tier", "name of the tier"), _text("Until", "at the latest")),
    ),
    Kind("OverrideRaised", Group.PROCESS, 400, _SHED, "somebody overrides a procedure", _OVERRIDE),
    Kind("OverrideConsumed", Group.PROCESS, 400, _SHED, "a step has taken an override", _CONSUMED),
    Kind("OverrideExpired", Group.PROCESS, 500, _SHED, "an override has outlived its time", _CONSUMED),
    Kind("DeviceLost", Group.PROCESS, 600, _GATEWAY, "a device does not answer", (_DEVICE, _REASON)),
    Kind("DeviceBack", Group.PROCESS, 300, _GATEWAY, "a device answers again", (_DEVICE, _REASON)),
    Kind(
        "ModeChanged",
        Group.PROCESS,
        600,
        _GATEWAY,
        "the gateway acts from now on, or only looks",
        (
            _text("Mode", "monitor or armed"),
            _REASON,
        ),
    ),
    Kind(
        "HoldChanged",
        Group.PROCESS,
        700,
        _GATEWAY,
        "outputs are held, or released",
        (
            Variable("Held", DataType.BOOLEAN, "no command leaves"),
            _REASON,
        ),
    ),
    Kind(
        "OperatorActed",
        Group.PROCESS,
        200,
        _GATEWAY,
        "somebody asked the gateway to do something",
        (
            _ACTOR,
            _text("Operation", "what was asked for"),
            _text("Subject", "feeder, orchestration or mode"),
            _REASON,
            Variable("Refused", DataType.BOOLEAN, "it was not done"),
        ),
    ),
    Kind("EventsSuppressed", Group.SYSTEM, 400, _GATEWAY, "more happened at once than is told one by one", (_COUNT,)),
    Kind("DeedsSuppressed", Group.SECURITY, 600, _SECURITY, "more was tried at the door than is told", (_COUNT,)),
    Kind("LoggedIn", Group.SECURITY, 100, _SECURITY, "somebody logged in", _CALLER),
    Kind("LoggedOut", Group.SECURITY, 100, _SECURITY, "a session ended", _CALLER),
    Kind("LoginFailed", Group.SECURITY, 500, _SECURITY, "a log-in was refused", _CALLER),
    Kind("CertificateRefused", Group.SECURITY, 500, _SECURITY, "a client's certificate was refused", _CALLER),
    Kind("SessionRefused", Group.SECURITY, 400, _SECURITY, "a session was refused", _CALLER),
    Kind("CallRefused", Group.SECURITY, 400, _SECURITY, "somebody tried what their roles don't allow", _CALLER),
    Kind("LockedOut", Group.SECURITY, 700, _SECURITY, "a user is locked out after failed log-ins", _CALLER),
    Kind("AttackSeen", Group.SECURITY, 800, _SECURITY, "something that no honest client does", _CALLER),
    Kind("BreakerFailedAlarm", Group.PROCESS, 700, "", "a breaker did not do as told", (_FEEDER,), alarm=True),
    Kind(
        "BreakerUnresolvedAlarm",
        Group.PROCESS,
        800,
        "",
        "nobody knows what a command to a breaker did",
        (_FEEDER,),
        alarm=True,
    ),
    Kind("DeviceLostAlarm", Group.PROCESS, 600, _GATEWAY, "a device does not answer", (_DEVICE,), alarm=True),
    Kind("GridStressAlarm", Group.PROCESS, 800, _STRESS, "the transformer is near its limit", alarm=True),
    Kind("JournalTroubleAlarm", Group.SYSTEM, 900, _GATEWAY, "the journal is late, or has failed", alarm=True),
    Kind(
        "JournalIntegrityAlarm",
        Group.SYSTEM,
        900,
        _GATEWAY,
        "a check found the journal damaged, or a person accepted the loss of its tail",
        alarm=True,
    ),
    Kind("JournalMarkAlarm", Group.SYSTEM, 700, _GATEWAY, "a loss of the journal's tail would go unseen", alarm=True),
    Kind("JournalWalAlarm", Group.SYSTEM, 600, _GATEWAY, "the journal's write-ahead log is too long", alarm=True),
    Kind("JournalCareAlarm", Group.SYSTEM, 600, _GATEWAY, "check, archiving or the like failed", alarm=True),
    Kind("DiskSpaceAlarm", Group.SYSTEM, 500, _GATEWAY, "the disk budget, or the disk, is nearly used up", alarm=True),
    Kind("AuditTroubleAlarm", Group.SYSTEM, 800, _GATEWAY, "something could not be recorded", alarm=True),
    Kind("ClockUnsyncedAlarm", Group.SYSTEM, 500, _GATEWAY, "no time service disciplines the clock", alarm=True),
    Kind("CertificateExpiresAlarm", Group.SYSTEM, 600, _GATEWAY, "the gateway's certificate ends soon", alarm=True),
    Kind("RestorationWaitsAlarm", Group.PROCESS, 600, _GATEWAY, "giving load back gets no further", alarm=True),
)

BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS}
EVENT_TYPES: tuple[EventType, ...] = tuple(
    EventType(kind.name, kind.description, kind.fields, kind.alarm) for kind in KINDS
)
"""As the model of the address space takes them."""
