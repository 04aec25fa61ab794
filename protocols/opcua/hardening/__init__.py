"""The door of the OPC UA server for operators: everything between the socket and a request that may be answered.

asyncua's server (2.1.0) is not safe as it comes: guessable tokens that take over sessions, trust asked of the wrong
certificate, foreign subscriptions that anybody deletes, unbounded buffers. This package keeps asyncua's address space,
binary codec and cryptography, and replaces what stands in front of them: framing, channels, sessions, the services and
subscriptions. **Every use of a name that asyncua doesn't promise is in here**, and ``check_version`` refuses a release
that this wasn't written against.

What must stay true:

* A request is served only on the connection whose session it names, with that session's own random token, over a channel
  whose certificate is the session's and is trusted now.
* Nobody is let in but by ``Doorman``; a client learns nothing of why it was refused, the gateway learns all of it.
* Whatever comes in, memory and the time of one turn of the loop stay bounded (``limits``), and the loop goes on.

On a crash nothing is kept: sessions and subscriptions end with the process, clients come again.
"""

from asyncua.server.address_space import AttributeValue, NodeData

from protocols.opcua.hardening.limits import Limits, ServerSettings
from protocols.opcua.hardening.server import HardenedServer
from protocols.opcua.hardening.space import Cell, Space
from protocols.opcua.hardening.version import UnknownAsyncua, check_version

__all__ = [
    "AttributeValue",
    "Cell",
    "HardenedServer",
    "Limits",
    "NodeData",
    "ServerSettings",
    "Space",
    "UnknownAsyncua",
    "check_version",
]
