"""A Modbus TCP server as a well-behaved device has one, and as an ill-behaved one on purpose.

Layers, from the wire inwards:

* ``Connection`` (``server.py``): one TCP connection. Takes bytes in any cut (split, coalesced, pipelined), finds MBAP
  frames, answers in order, all answers of one segment in one write.
* ``Device`` (``device.py``): one unit, and its ``Faults``: what it does wrong on purpose.
* ``functions.py``: the function codes, on the data tables of ``memory.py``.
"""

from simulators.modbus.device import DROP_REPLY, GARBLE_REPLY, Device, Faults, Garble, WriteHook
from simulators.modbus.functions import DEVICE_FAILURE, ILLEGAL_VALUE
from simulators.modbus.memory import Memory, Space
from simulators.modbus.points import BreakerPoints, Point, parse_point
from simulators.modbus.server import MAX_CONNECTIONS, Connection, Listener

__all__ = [
    "DEVICE_FAILURE",
    "DROP_REPLY",
    "GARBLE_REPLY",
    "ILLEGAL_VALUE",
    "MAX_CONNECTIONS",
    "BreakerPoints",
    "Connection",
    "Device",
    "Faults",
    "Garble",
    "Listener",
    "Memory",
    "Point",
    "Space",
    "WriteHook",
    "parse_point",
]
