"""RTUs that speak OPC UA: a server of their own each, with its certificate, and with faults on purpose.

Layers, from the wire inwards:

* ``server.py``: connections, sessions, subscriptions. What asyncua's server does is bent there into what a device does,
  well-behaved or not; every use of its inner parts is in that file and in ``space.py``.
* ``space.py``: an address space, small as an embedded device has it, built without asyncua's slow ways.
* ``rtu.py``: one device: its nodes and what they show, what it was asked, its faults. Knows no asyncua.
* ``front.py``: what the breakers show on nodes, and what writes and calls mean to them.
* ``points.py``: how a site's files write nodes and commands. ``certificates.py``: the devices' own certificates.

This file imports none of them: asyncua takes half a second to load, which a site without OPC UA need not wait for.
"""
