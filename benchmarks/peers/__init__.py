"""Other engines, and ours, at the same cases. Each module runs one in a process of its own (see ``beside_peers.py``)."""
