"""What can go wrong with an OPC UA device, in the words of ``protocols/errors.py``.

What must stay true: whatever asyncua raises becomes one of ours, and what a command may have done is never called known
when it isn't. A server may answer a Call or a Write with any of some 250 status codes. Those in ``KNOWN_REFUSALS`` are
said before anything is carried out (Part 4, 5.11.4 and 5.12.2, and the services' own checks); after any other Bad code,
such as BadInternalError or BadTimeout, the breaker may have moved: the outcome is in doubt, and its position is read.
"""

from __future__ import annotations

from asyncua import ua
from asyncua.common.utils import NotEnoughData, ServiceError
from asyncua.ua.uaerrors import (
    UaError,
    UaInvalidParameterError,
    UaStatusCodeError,
    UaStringParsingError,
    UaStructParsingError,
)
from cryptography.exceptions import InvalidSignature

from protocols.errors import (
    ConnectionLost,
    DeviceRefused,
    FieldError,
    InvalidRequest,
    MalformedReply,
    NotSent,
    ReplyTimeout,
)

_C = ua.StatusCodes

KNOWN_REFUSALS = frozenset(
    {
        _C.BadNodeIdInvalid,
        _C.BadNodeIdUnknown,
        _C.BadAttributeIdInvalid,
        _C.BadIndexRangeInvalid,
        _C.BadNotReadable,
        _C.BadNotWritable,
        _C.BadWriteNotSupported,
        _C.BadTypeMismatch,
        _C.BadOutOfRange,
        _C.BadMethodInvalid,
        _C.BadArgumentsMissing,
        _C.BadTooManyArguments,
        _C.BadInvalidArgument,
        _C.BadNotExecutable,
        _C.BadInvalidState,
        _C.BadStateNotActive,
        _C.BadObjectDeleted,
        _C.BadUserAccessDenied,
        _C.BadSecurityModeInsufficient,
        _C.BadLocked,
        _C.BadRequiresLock,
        _C.BadNotSupported,
        _C.BadNotImplemented,
        _C.BadServiceUnsupported,
        _C.BadRequestNotAllowed,
        _C.BadRequestTooLarge,
        _C.BadTooManyOperations,
        _C.BadNothingToDo,
        _C.BadTcpServerTooBusy,
        _C.BadServerTooBusy,
        _C.BadLicenseNotAvailable,
    }
)
"""The device looked at the command and didn't carry it out: REFUSED. All other Bad codes leave doubt."""

NEVER_BEGUN = frozenset({_C.BadSessionIdInvalid, _C.BadSessionNotActivated, _C.BadSecureChannelIdInvalid})
"""The session is looked at before the request: nothing was carried out, and nothing more goes over this session."""

ENDED = frozenset(
    {
        _C.BadSessionClosed,
        _C.BadSecureChannelClosed,
        _C.BadConnectionClosed,
        _C.BadConnectionRejected,
        _C.BadDisconnect,
        _C.BadShutdown,
        _C.BadServerHalted,
        _C.BadCommunicationError,
        _C.BadRequestInterrupted,
        _C.BadTcpInternalError,
        _C.BadTcpNotEnoughResources,
    }
)
"""The conversation ended while the request was on its way."""

TIMED_OUT = frozenset({_C.BadTimeout, _C.BadRequestTimeout})


class SessionGone(NotSent):
    """The device knows the session no more, and did nothing of what was asked over it."""

    breaks_link = True


class StatusRefused(DeviceRefused):
    """The device answered with a status that is not Good. code: the status code; known: whether it surely did nothing."""

    def __init__(self, code: int, what: str = "") -> None:
        FieldError.__init__(self, f"{what}{': ' if what else ''}{name_of(code)}")
        self.code = code
        self.known = code in KNOWN_REFUSALS


class SelectionRefused(StatusRefused):
    """The device doesn't let itself be selected: nothing was operated, whatever the code."""

    def __init__(self, code: int) -> None:
        super().__init__(code, "the selection")
        self.known = True


def name_of(code: int) -> str:
    """The name of a status code, ``BadTimeout``; its number where the standard has none."""
    name, _ = ua.status_codes.get_name_and_doc(code)
    return f"status {code:08X}" if name.startswith("Unknown") else str(name)


def by_status(code: int) -> FieldError:
    """What a service that failed with this status says."""
    if code in NEVER_BEGUN:
        return SessionGone(f"the session is gone: {name_of(code)}")
    if code in ENDED:
        return ConnectionLost(f"the conversation ended: {name_of(code)}")
    if code in TIMED_OUT:
        return ReplyTimeout(f"the device gave up: {name_of(code)}")
    return StatusRefused(code)


def field_error(error: Exception) -> FieldError:
    """Ours for whatever was raised while a request was carried out."""
    match error:
        case FieldError():
            return error
        case UaStatusCodeError() | ServiceError():
            return by_status(error.code) if isinstance(error.code, int) else MalformedReply(str(error))
        case UaInvalidParameterError():
            return InvalidRequest(_words(error))
        case TimeoutError():
            return ReplyTimeout("no answer in time")
        case OSError():
            return ConnectionLost(_words(error))
        case UaStructParsingError() | UaStringParsingError() | NotEnoughData() | InvalidSignature():
            return MalformedReply(_words(error))
        case UaError():
            return ConnectionLost(_words(error)) if "ocket" in type(error).__name__ else MalformedReply(_words(error))
        case _:
            # A library that reads what a stranger sent has errors of many families; each of them says the same.
            return MalformedReply(_words(error))


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
