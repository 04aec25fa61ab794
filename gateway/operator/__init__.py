"""What operators see and do over OPC UA: the objects of a gateway, their values, what may be asked of them, and by whom.

Nothing in here knows an OPC UA library: the words of ``protocols.opcua.surface`` are all that is used. What must stay
true: what people see was committed before; every call goes through the operations of the control socket, so it is refused
for the same reasons and leaves the same record. On a crash nothing here has to be found again: it is made anew from what
the journal brings back.
"""
