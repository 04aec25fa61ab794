"""Other engines at the same work: three activities, one after the other. Each module runs one in a process of its own."""
