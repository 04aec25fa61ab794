"""A heatwave, played from end to end before the eyes of whoever watches: ``python -m simulators.heatwave``.

The simulator and a real gateway run as two processes on a site made for the occasion. A hot afternoon overloads the
transformer, the gateway sheds, loses its power in the middle of a cooldown, comes back, takes an operator's word, and
gives everything back in the evening. In the end the breakers' own counters are held against the gateway's journal.

``scenario`` says what is played and when, ``station`` holds the two processes, ``view`` is what they show, ``play`` is the
story, ``narrator`` tells what is new, ``faults`` makes it harder, ``checks`` judges, ``screen`` draws.

What must stay true: nothing here imports the gateway: it is started as a program, asked over its control socket and told
by its command line, as by anybody else. Every process that was started is ended, whatever happens; none other is.
"""
