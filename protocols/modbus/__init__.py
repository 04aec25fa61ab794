"""Modbus TCP: transport on pymodbus, point decoding and block planning, and the driver."""
