"""The gateway towards operators: what it shows, what it may be asked, what it tells, and to whom."""
