"""Stand-ins for substation hardware: RTUs with breakers on Modbus TCP, the load behind them, and faults on demand.

A process of its own (``python -m simulators run``), so that a gateway can't tell it from devices and its counters outlive
a gateway that was killed. What must stay true: nothing here imports the gateway, its drivers or its configuration
package, so that a mistake of theirs can't hide itself; every random choice comes from a seed, so that a run can be
repeated.

On a crash of this process the plant is gone and starts anew with every breaker closed: it keeps nothing on disk.
"""
