"""Frozen models of devices and of points: where a value is read, how a breaker is told, and by what a device is known.

Two families that never mix on one device: Modbus addresses, and nodes of OPC UA servers. Units are part of each name.
Nothing in here does I/O or checks: that is the loader's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path


class Table(enum.StrEnum):
    """Modbus data tables."""

    COIL = "coil"
    DISCRETE = "di"
    INPUT = "ir"
    HOLDING = "hr"


class RegisterType(enum.StrEnum):
    """How registers are read as a number."""

    U16 = "u16"
    S16 = "s16"
    U32 = "u32"
    S32 = "s32"
    F32 = "f32"


@dataclass(frozen=True, slots=True)
class Address:
    """One point of a device: ``di:17``, ``hr:120.3`` (bit 3), ``ir:40:u32*0.1`` (type and scale)."""

    table: Table
    number: int
    bit: int | None = None
    type: RegisterType = RegisterType.U16
    scale: float = 1.0
    offset: float = 0.0


class FieldProtocol(enum.StrEnum):
    """What a device speaks."""

    MODBUS = "modbus"
    OPCUA = "opcua"


@dataclass(frozen=True, slots=True)
class NodeRef:
    """A node of an OPC UA server: ``s=F1/Pos``, ``i=17``. namespace: its URI; "" is the namespace of the device.

    Never an index: a server may give its namespaces other indices after each restart.
    """

    namespace: str
    identifier: str


@dataclass(frozen=True, slots=True)
class NodeValue:
    """A value of a node: a Boolean (number 0 or 1), or an integer. The kinds differ: true is not 1."""

    number: int
    boolean: bool


TRUE = NodeValue(1, boolean=True)


@dataclass(frozen=True, slots=True)
class NodePoint:
    """One value read from a node: as a bit (1 where the node holds ``equals``) or as ``raw × scale + offset``."""

    node: NodeRef
    equals: NodeValue | None = None
    scale: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeCommand:
    """One command: ``value`` is written to ``node``, or ``method`` of the object ``node`` is called with it (or with
    nothing where it is None)."""

    node: NodeRef
    value: NodeValue | None
    method: NodeRef | None = None


@dataclass(frozen=True, slots=True)
class NodeBreakerPoints:
    """The points of one breaker on an OPC UA device.

    select_open, select_close: both or neither; called or written before the command itself. cancel: takes a selection
    back that was not used.
    """

    pos_closed: NodePoint
    pos_open: NodePoint
    open_cmd: NodeCommand
    close_cmd: NodeCommand
    local: NodePoint | None = None
    op_count: NodePoint | None = None
    power_kw: NodePoint | None = None
    select_open: NodeCommand | None = None
    select_close: NodeCommand | None = None
    cancel: NodeCommand | None = None


@dataclass(frozen=True, slots=True)
class BreakerPoints:
    """The points of one breaker. local, op_count and power_kw are None where the device has no such point."""

    pos_closed: Address
    pos_open: Address
    open_cmd: Address
    close_cmd: Address
    local: Address | None = None
    op_count: Address | None = None
    power_kw: Address | None = None


class OpcUaPolicy(enum.StrEnum):
    """Security policies a device may be driven with; always sign and encrypt."""

    BASIC256SHA256 = "Basic256Sha256"
    AES128 = "Aes128_Sha256_RsaOaep"
    AES256 = "Aes256_Sha256_RsaPss"


@dataclass(frozen=True, slots=True)
class OpcUaAccess:
    """How an OPC UA device is reached, and by what it is known. Paths are absolute.

    path: of the endpoint, "" or starting with a slash. namespace: URI of its nodes where a point names none.
    server_cert: the one certificate it is known by (DER or PEM), with the SHA-256 of the file. application_uri: must
    be the one of that certificate; "" where nobody cares. user: "" for none; the password stands in secret_file.
    """

    server_cert: Path
    server_cert_sha256: str
    path: str = ""
    namespace: str = ""
    application_uri: str = ""
    policy: OpcUaPolicy = OpcUaPolicy.BASIC256SHA256
    user: str = ""
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Device:
    """One device (RTU). All times are real seconds. unit, max_block_* and max_gap are Modbus's; opcua is None there."""

    name: str
    host: str
    port: int
    unit: int
    timeout_s: float = 1.0
    poll_fast_s: float = 1.0
    poll_slow_s: float = 10.0
    backoff_min_s: float = 0.2
    backoff_max_s: float = 10.0
    max_block_registers: int = 125
    max_block_bits: int = 2000
    max_gap: int = 16
    stale_after_s: float = 5.0
    line: int = 0
    opcua: OpcUaAccess | None = None

    @property
    def protocol(self) -> FieldProtocol:
        """What it speaks."""
        return FieldProtocol.MODBUS if self.opcua is None else FieldProtocol.OPCUA
