"""Bytes that no honest client sends: frames that lie, messages in chunks without end, and arguments that are bombs."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from asyncua import ua
from asyncua.common.connection import MessageChunk
from asyncua.ua.ua_binary import struct_to_binary
from opcua_house import Peer, Place, fresh_address

KB = 1024
HELLO = struct.pack("<IIIIIi", 0, 65535, 65535, 0, 0, 1) + b"x"


def frame(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    """A frame whose header may lie about its size."""
    return kind + (len(body) + 8 if size is None else size).to_bytes(4, "little") + body


class Raw:
    """A bare TCP connection."""

    def __init__(self, house: Place, address: str = "") -> None:
        self.house = house
        self.address = address or fresh_address()

    async def __aenter__(self) -> Raw:
        where = self.house.host, self.house.port
        self.reader, self.writer = await asyncio.open_connection(*where, local_addr=(self.address, 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def refused(self, longest_s: float = 2.0) -> bytes:
        """Wait until the server has hung up; what it said before."""
        try:
            async with asyncio.timeout(longest_s):
                return await self.reader.read()
        except ConnectionError:
            return b""


def chunks(peer: Peer, body: bytes, last: bool = True, size: int = 8000) -> list[bytes]:
    """A message of this body in sealed chunks; without the last one it never ends."""
    connection = peer.wire._connection
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    sealed = []
    for index, part in enumerate(parts):
        final = last and index == len(parts) - 1
        kind = ua.ChunkType.Single if final else ua.ChunkType.Intermediate
        chunk = MessageChunk(
            connection.security_policy.symmetric_cryptography, part, ua.MessageType.SecureMessage, kind
        )
        chunk.SecurityHeader.TokenId = connection.security_token.TokenId
        chunk.MessageHeader.ChannelId = connection.security_token.ChannelId
        chunk.SequenceHeader.RequestId = 99
        connection._sequence_number += 1
        chunk.SequenceHeader.SequenceNumber = connection._sequence_number
        sealed.append(chunk.to_binary())
    return sealed


def send(peer: Peer, data: bytes) -> None:
    """Bytes on the wire, if there still is one."""
    if peer.wire.transport is not None:
        peer.wire.transport.write(data)


async def ask_raw(peer: Peer, kind: int, body: bytes) -> Any:
    """A request whose parameters are these bytes: nothing, or the error that came back."""
    request = ua.ReadRequest()
    request.TypeId = ua.FourByteNodeId(kind)
    peer.wire._setup_request_header(request.RequestHeader, 5)
    head = struct_to_binary(request)
    head = head[: len(head) - len(struct_to_binary(request.Parameters))]
    return await send_body(peer, head + body)


async def send_body(peer: Peer, body: bytes) -> Any:
    """The bytes of a whole request, sealed."""
    wire = peer.wire
    wire._request_id += 1
    future = asyncio.get_running_loop().create_future()
    wire._callbackmap[wire._request_id] = future
    send(peer, wire._connection.message_to_binary(body, ua.MessageType.SecureMessage, wire._request_id))
    data = await asyncio.wait_for(future, 5)
    wire.check_answer(data, "")
    return data


CALL = ua.ObjectIds.CallRequest_Encoding_DefaultBinary
READ = ua.ObjectIds.ReadRequest_Encoding_DefaultBinary


def call_with(*variants: bytes, of: str = "Feeder/F1") -> bytes:
    """The parameters of a Call with these bytes as arguments. of: the object, a breaker."""
    target = struct_to_binary_node(of) + struct_to_binary_node("Type/BreakerType/Open")
    return struct.pack("<i", 1) + target + struct.pack("<i", len(variants)) + b"".join(variants)


def struct_to_binary_node(text: str) -> bytes:
    """A NodeId of our namespace, encoded."""
    return b"\x03" + struct.pack("<Hi", 2, len(text)) + text.encode()


BOMBS = {
    "two thousand million nulls": b"\x80" + struct.pack("<i", 2**31 - 1),
    "a million nulls": b"\x80" + struct.pack("<i", 1_000_000),
    "variants in variants": b"\x18" * 5000,
    "variants in arrays of variants": (b"\x98" + struct.pack("<i", 1)) * 2000,
    "a text of negative length": b"\x0c" + struct.pack("<i", -77),
    "an array of negative length": b"\x81" + struct.pack("<i", -77) + bytes(200),
    "a text longer than the message": b"\x0c" + struct.pack("<i", 2**31 - 1),
    "malformed UTF-8": b"\x0c" + struct.pack("<i", 4) + b"\xff\xfe\xc0\x80",
    "half of a surrogate pair": b"\x0c" + struct.pack("<i", 3) + b"\xed\xa0\x80",
    "a cut-off UTF-8 sequence": b"\x0c" + struct.pack("<i", 2) + b"a\xe2",
    "an extension that says it is longer": b"\x16\x00\x00\x01" + struct.pack("<i", 2**30),
    "an extension of negative length": b"\x16\x01\x00\x2a\x01\x01" + struct.pack("<i", -9),
    "extensions in extensions": b"\x16" + (b"\x01\x00\x2a\x01\x01" + struct.pack("<i", 500)) * 300,
    "an unknown type": b"\x3f" + struct.pack("<i", -1),
    "dimensions of a thousand million": b"\xc6" + struct.pack("<ii", 1, 5) + struct.pack("<iii", 2, 30_000, 30_000),
    "diagnostics in diagnostics": b"\x19" + b"\x40" * 5000,
    "data values in variants": b"\x17\x01" * 3000,
    "a hundred thousand variants": b"\x98" + struct.pack("<i", 100_000) + b"\x01\x01" * 100_000,
    "nothing": b"",
}
