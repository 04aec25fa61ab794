"""What can go wrong with a device, split by what the caller must do. Every library exception becomes one of these.

    FieldError
    ├── NotSent            no frame left, nothing moves: say so, and try later if it is still wanted
    │   ├── LinkDown       no connection, and none to be had soon
    │   ├── Expired        the deadline passed while it waited
    │   └── InvalidRequest no device could be asked this: a mistake of ours or of the point list
    ├── NoReply            the frame left (or may have left), no valid answer came: the outcome is UNKNOWN, read
    │   ├── ReplyTimeout   silence until the deadline
    │   ├── ConnectionLost the peer closed, or the driver was stopped, while it was pending
    │   └── MalformedReply an answer came and it is not the answer to this request
    └── DeviceRefused      the device answered with an exception: known, and the link is fine

After any NoReply the connection is given up (``breaks_link``): an answer that comes late then has nowhere to arrive,
and can't be taken for the answer to another request.
"""

from __future__ import annotations

from typing import ClassVar


class FieldError(Exception):
    """Base of all. sent: a frame left, or may have left. breaks_link: the connection can't be trusted any more."""

    sent: ClassVar[bool] = False
    breaks_link: ClassVar[bool] = False


class NotSent(FieldError):
    """No frame left."""


class LinkDown(NotSent):
    """There is no connection to the device."""


class Expired(NotSent):
    """The deadline passed before the request could leave."""


class InvalidRequest(NotSent):
    """The request can't be put into a frame."""


class NoReply(FieldError):
    """A frame left, and there is no valid answer."""

    sent = True
    breaks_link = True


class ReplyTimeout(NoReply):
    """The device was silent until the deadline."""


class ConnectionLost(NoReply):
    """The connection ended while the answer was awaited."""


class MalformedReply(NoReply):
    """The answer does not fit the request: function code, byte count, length or echo."""


EXCEPTION_NAMES = {
    0x01: "illegal function",
    0x02: "illegal data address",
    0x03: "illegal data value",
    0x04: "server device failure",
    0x05: "acknowledge",
    0x06: "server device busy",
    0x07: "negative acknowledge",
    0x08: "memory parity error",
    0x0A: "gateway path unavailable",
    0x0B: "gateway target device failed to respond",
}
"""Modbus Application Protocol V1.1b3, section 7; 07 from the older specification."""

ILLEGAL_ADDRESS = 0x02
ACKNOWLEDGE = 0x05
GATEWAY_TARGET_SILENT = 0x0B


class DeviceRefused(FieldError):
    """The device answered with an exception. code: the Modbus exception code."""

    sent = True

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code:02X}, {EXCEPTION_NAMES.get(code, 'not in the standard')}")
        self.code = code
