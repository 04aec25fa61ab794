"""Every error that asyncua can raise is one of ours, and none that leaves doubt is called known."""

from __future__ import annotations

import pytest
from asyncua import ua
from asyncua.common import utils
from asyncua.crypto import uacrypto
from asyncua.ua import uaerrors
from cryptography.exceptions import InvalidSignature

from protocols.errors import (
    ConnectionLost,
    FieldError,
    InvalidRequest,
    LinkDown,
    MalformedReply,
    NoReply,
    ReplyTimeout,
)
from protocols.opcua.faults import ENDED, KNOWN_REFUSALS, NEVER_BEGUN, TIMED_OUT, StatusRefused, field_error

STATUS = [
    one for one in vars(uaerrors).values() if isinstance(one, type) and issubclass(one, uaerrors.UaStatusCodeError)
]
STATUS = [one for one in STATUS if isinstance(vars(one).get("code"), int)]


def test_every_status_error_of_the_library_is_one_of_ours():
    assert len(STATUS) > 200
    for kind in STATUS:
        mapped = field_error(kind())
        known = isinstance(mapped, StatusRefused) and mapped.known
        assert known is (kind.code in KNOWN_REFUSALS), kind
        if not mapped.sent:
            assert kind.code in NEVER_BEGUN, kind


@pytest.mark.parametrize(
    "name",
    [
        "BadTimeout", "BadRequestTimeout", "BadConnectionClosed", "BadInternalError", "BadUnexpectedError",
        "BadCommunicationError", "BadSessionClosed", "BadShutdown", "BadDeviceFailure", "BadOutOfMemory",
    ],
)  # fmt: skip
def test_these_leave_doubt(name):
    mapped = field_error(uaerrors.UaStatusCodeError(getattr(ua.StatusCodes, name)))
    assert mapped.sent
    assert isinstance(mapped, NoReply) or (isinstance(mapped, StatusRefused) and not mapped.known)


def test_the_tables_do_not_overlap():
    tables = (KNOWN_REFUSALS, NEVER_BEGUN, ENDED, TIMED_OUT)
    assert sum(map(len, tables)) == len(frozenset().union(*tables))


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (TimeoutError(), ReplyTimeout),
        (ConnectionError("gone"), ConnectionLost),
        (OSError(113, "no route"), ConnectionLost),
        (utils.SocketClosedException(), ConnectionLost),
        (utils.NotEnoughData(), MalformedReply),
        (utils.ServiceError(ua.StatusCodes.BadTimeout), ReplyTimeout),
        (uaerrors.UaStructParsingError(), MalformedReply),
        (uaerrors.UaStringParsingError(), MalformedReply),
        (uaerrors.UaInvalidParameterError(), InvalidRequest),
        (uaerrors.UaError("anything"), MalformedReply),
        (uacrypto.InvalidSignature(), MalformedReply),
        (InvalidSignature(), MalformedReply),
        (ValueError("from a parser"), MalformedReply),
        (LinkDown("already ours"), LinkDown),
    ],
)
def test_what_else_can_be_raised(error, ours):
    assert type(field_error(error)) is ours


def test_no_exception_of_the_library_is_missing():
    found = {
        one
        for module in (uaerrors, utils)
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Exception) and one.__module__.startswith("asyncua")
    }
    for kind in found - {uaerrors.UaStatusCodeErrors}:
        raised = kind(ua.StatusCodes.BadTimeout) if kind is utils.ServiceError or hasattr(kind, "code") else kind()
        assert isinstance(field_error(raised), FieldError), kind
    assert isinstance(field_error(uaerrors.UaStatusCodeErrors([ua.StatusCodes.BadTimeout])), ReplyTimeout)
