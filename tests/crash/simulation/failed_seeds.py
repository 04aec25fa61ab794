"""Seeds that once found something wrong, and what it was: each run tells these stories first.

A seed tells another story as soon as the harness or the number of draws changes; what it found is kept by a unit test.
"""

FAILED_SEEDS: tuple[tuple[int, str], ...] = (
    (31, "a hold that took the place of another one ended by the expiry of the first"),
    (21012, "the harness: nobody closed a feeder whose load after its outage never fits the headroom"),
    (59, "an operation counter that wrapped from 65,535 to 0 hid that a refused opening was obeyed"),
)
