"""Decoding what strangers send: asyncua's decoders, with a budget.

asyncua decodes whatever the bytes say: an array of two thousand million nulls in six bytes, a negative length that turns
the reader back, Variants in Variants until the stack ends, text that is not UTF-8 and breaks whoever writes it down
later. All of these decoders take their bytes by ``Buffer.read`` and start nested parts at few places, so a Buffer that
counts closes all of it at once; the three places that read nothing, or lose the Buffer, are replaced here, for such
Buffers alone (asyncua's clients in this process decode as before).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from asyncua import ua
from asyncua.common.utils import Buffer, NotEnoughData
from asyncua.ua import ua_binary

from protocols.opcua.hardening.errors import UaStatusCodeError, fault


class Guarded(Buffer):
    """A Buffer that allows a number of reads and a depth. Errors: BadEncodingLimitsExceeded, BadDecodingError."""

    def __init__(self, data: bytes, elements: int, depth: int) -> None:
        super().__init__(data)
        self.left = elements
        self.depth = depth

    def read(self, size: int) -> bytes:
        """The next size bytes; they cost one element, long ones more."""
        self.left -= 1 + size // 32
        if self.left < 0:
            raise fault(ua.StatusCodes.BadEncodingLimitsExceeded)
        if size < 0 or size > self._size:
            raise fault(ua.StatusCodes.BadDecodingError)
        data: bytes = super().read(size)
        return data

    def copy(self, size: int = -1) -> Guarded:
        """A view of the next size bytes, with what is left of the budget; who decodes it gives back the rest."""
        if size > self._size:
            raise fault(ua.StatusCodes.BadDecodingError)
        view = Guarded.__new__(Guarded)
        Buffer.__init__(view, self._data, self._cur_pos, self._size if size < 0 else size)
        view.left = self.left
        view.depth = self.depth
        return view

    def enter(self) -> None:
        """One level deeper."""
        self.depth -= 1
        if self.depth < 0:
            raise fault(ua.StatusCodes.BadEncodingLimitsExceeded)

    def leave(self) -> None:
        """One level up."""
        self.depth += 1


def decode(kind: type[Any], data: Guarded) -> Any:
    """A structure from bytes. Errors: UaStatusCodeError, whatever is wrong with the bytes."""
    return _decoded(lambda: ua_binary.struct_from_binary(kind, data))


def decode_node_id(data: Guarded) -> ua.NodeId:
    """A NodeId from bytes. Errors: as ``decode``."""
    found: ua.NodeId = _decoded(lambda: ua_binary.nodeid_from_binary(data))
    return found


def _decoded(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except UaStatusCodeError:
        raise
    except Exception as error:  # asyncua's decoders raise ValueError, KeyError, TypeError ... for bad bytes
        raise fault(ua.StatusCodes.BadDecodingError) from error


_plain_null = ua_binary._Null.unpack
_plain_string = ua_binary._String.unpack
_plain_variant = ua_binary.variant_from_binary
_plain_extension = ua_binary.extensionobject_from_binary


def _null(data: Any) -> None:
    if isinstance(data, Guarded):
        data.read(0)
    _plain_null(data)


def _string(data: Any) -> str | None:
    if not isinstance(data, Guarded):
        return _plain_string(data)
    raw = ua_binary._Bytes.unpack(data)
    if raw is None:
        return None
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise fault(ua.StatusCodes.BadDecodingError) from error


def _nested(plain: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decode_nested(data: Any) -> Any:
        if not isinstance(data, Guarded):
            return plain(data)
        data.enter()
        value = plain(data)
        data.leave()
        return value

    return decode_nested


def _extension(data: Any) -> Any:
    """asyncua's, but the body's budget is the Buffer's own, and unknown types stay bytes."""
    if not isinstance(data, Guarded):
        return _plain_extension(data)
    data.enter()
    kind = ua_binary.nodeid_from_binary(data)
    encoding = data.read(1)[0]
    body = None
    if encoding & 1:
        length = ua_binary.Primitives.Int32.unpack(data)
        if length > len(data):
            raise fault(ua.StatusCodes.BadDecodingError)
        body = data.copy(max(length, 0))
        data.skip(max(length, 0))
    value: Any
    if kind.Identifier == 0:
        value = ua.ExtensionObject()
    elif kind in ua.extension_objects_by_typeid:
        if body is None:
            raise fault(ua.StatusCodes.BadDecodingError)
        value = ua_binary.from_binary(ua.extension_objects_by_typeid[kind], body)
        data.left = body.left
    else:
        value = ua.ExtensionObject(TypeId=kind, Body=cast(Any, None if body is None else body.read(len(body))))
    data.leave()
    return value


def install() -> None:
    """Put these decoders in place of asyncua's, once; decoders that asyncua has built and kept are forgotten."""
    if ua_binary.extensionobject_from_binary is _extension:
        return
    library: Any = ua_binary
    library._Null.unpack = staticmethod(_null)
    library._String.unpack = staticmethod(_string)
    library.variant_from_binary = _nested(_plain_variant)
    library.extensionobject_from_binary = _extension
    library.MAX_RESHAPE_ELEMENTS = 10_000
    for kept in (
        "_create_uatype_deserializer",
        "_create_uatype_array_deserializer",
        "_create_list_deserializer",
        "_create_type_deserializer",
        "_create_dataclass_deserializer",
    ):
        getattr(ua_binary, kept).cache_clear()


__all__ = ["Buffer", "Guarded", "NotEnoughData", "decode", "install"]
