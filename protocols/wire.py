"""What a TCP connection to a device must do when it is closed: take along what has not arrived.

A kernel goes on sending what it has accepted, for minutes, after the connection was closed and the process has ended. A
command that was judged as lost, by a readback over a new connection, would then reach the breaker all the same: late, and
against whatever was ordered since. So a connection to a device is closed by a reset (``SO_LINGER`` of 0 s), which throws
away what is unsent or unacknowledged, whoever closes it: we, a library, or the kernel after a crash.

What no end of a wire can take back is a frame on its way through the network; it arrives before the reset, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct

_AT_ONCE = struct.pack("ii", 1, 0)


def reset_on_close(transport: asyncio.BaseTransport | None) -> None:
    """From now on nothing leaves after the end of this connection. Without effect on what is no TCP connection."""
    wire: socket.socket | None = None if transport is None else transport.get_extra_info("socket")
    if wire is not None and wire.family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # it has ended already, before anything was sent
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
