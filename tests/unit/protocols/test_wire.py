"""A closed connection sends nothing more: what its kernel still held is thrown away."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from protocols.wire import reset_on_close


async def _connected(listener: socket.socket) -> tuple[asyncio.Transport, socket.socket]:
    port = listener.getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", port)
    peer, _ = listener.accept()
    peer.settimeout(5.0)
    return transport, peer


@pytest.mark.parametrize("resets", [True, False])
async def test_what_was_not_taken_by_the_device_does_not_arrive_after_the_end(resets: bool) -> None:
    """The device's window is full: the last bytes wait in our kernel, as they do when a network loses them."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        transport, peer = await _connected(listener)
        with peer:
            if resets:
                reset_on_close(transport)
            wire = transport.get_extra_info("socket")
            sent = 0
            while True:
                try:
                    sent += os.write(wire.fileno(), bytes(1 << 16))
                except BlockingIOError:
                    break
            transport.abort()
            await asyncio.sleep(0.05)
            got = 0
            try:
                while part := await asyncio.to_thread(peer.recv, 1 << 16):
                    got += len(part)
            except ConnectionResetError:
                pass
            assert (got < sent) is resets


async def test_what_is_no_connection_is_left_alone() -> None:
    reset_on_close(None)
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=ours)
        reset_on_close(transport)
        transport.close()


async def test_what_has_ended_already_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        transport, peer = await _connected(listener)
        with peer:
            wire = transport.get_extra_info("socket")
            transport.abort()
            await asyncio.sleep(0.01)
            assert wire.fileno() == -1
            reset_on_close(transport)
