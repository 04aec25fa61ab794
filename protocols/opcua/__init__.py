"""OPC UA: the operators' server above, the client for breakers below, and who may do what with either."""
