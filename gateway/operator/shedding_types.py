"""Types of what operators work with: the load-shedding procedure, and a feeder's breaker.

Names of a breaker's variables are those of IEC 61850 where it has one (XCBR: Pos, Loc, BlkOpn, BlkCls, OpCnt). What must
stay true: a name, and the order of a method's arguments, are for good, since clients keep them. Data alone: there is
nothing to lose in a crash.
"""

from __future__ import annotations

from gateway.operator import names
from protocols.opcua.surface import Argument, DataType, Method, ObjectType, Variable

_BOOLEAN, _UINT32, _DOUBLE = DataType.BOOLEAN, DataType.UINT32, DataType.DOUBLE
_STRING, _TIME, _DBPOS = DataType.STRING, DataType.TIME, DataType.DBPOS

_REASON = Argument("Reason", _STRING, "Why; it is kept in the journal with your name. At most 400 characters.")
_INSTANCE = Argument("InstanceId", _STRING, "Id of the orchestration.")
_OUTCOME = Argument(
    "Outcome",
    _STRING,
    "done: read back in the end position; refused, expired, not_sent: nothing moved; failed: the end position was not "
    "reached; unknown: reading will tell.",
)

SHEDDING = ObjectType(
    names.SHEDDING_TYPE,
    "The load-shedding procedure that has the station, what is shed, and what operators tell it.",
    (
        Variable("Running", _BOOLEAN, "True while a procedure has the station."),
        Variable("Instance", _STRING, "Id of this procedure; empty without one. So are the texts below."),
        Variable("Status", _STRING, "Its runtime status: Running, Suspended, ..."),
        Variable("Since", _TIME, "Since when it has the station."),
        Variable("Cause", _STRING, "Why it was started."),
        Variable("Phase", _STRING, "Phase of the procedure, in a word."),
        Variable("Tier", _STRING, "Tier that is being shed; empty while none is."),
        Variable("WaitsFor", _STRING, "What the procedure waits for."),
        Variable("Until", _TIME, "Until when it waits, in engine time; Bad where the clock sets no end."),
        Variable("Sentence", _STRING, "What goes on, in a sentence."),
        Variable(
            "ShedKw",
            _DOUBLE,
            "Load of all feeders that procedures have opened and that are open now, as it was before opening.",
            "kW",
            history=True,
        ),
        Variable("ShedMW", _DOUBLE, "The same in MW.", "MW"),
        Variable("TargetMW", _DOUBLE, "What the running procedure is to shed; Bad without one.", "MW"),
        Variable("ShortfallMW", _DOUBLE, "What is missing to the target; Bad without a procedure.", "MW"),
        Variable("FeedersShed", _UINT32, "Feeders that the running procedure has shed and not given back."),
        Variable(
            "Overrides",
            _STRING,
            "What became of the last overrides, oldest first, a JSON object each: decision, actor, reason, at, "
            "outcome, step.",
            array=True,
        ),
        Variable("LastNote", _STRING, "What the station did last, or why it does not start a procedure."),
        Variable("LastEnded", _STRING, "Id of the procedure that ended last."),
        Variable("LastResult", _STRING, "Its result, as a JSON object; empty if none has ended."),
        Variable("Tiers", _STRING, "The site's tiers, in the order in which they are shed.", array=True),
        Variable("BreakersTotal", _UINT32, "Breakers of the site."),
        Variable("BreakersClosed", _UINT32, "Breakers last read closed."),
        Variable("BreakersOpen", _UINT32, "Breakers last read open."),
        Variable("BreakersIntermediate", _UINT32, "Breakers last read between the two."),
        Variable("BreakersBad", _UINT32, "Breakers whose contacts contradict each other."),
        Variable("BreakersUnknown", _UINT32, "Breakers that were never read."),
        Variable("BreakersFailed", _UINT32, "Breakers whose last command failed."),
        Variable("BreakersUnresolved", _UINT32, "Breakers with a command whose outcome is not known yet."),
        Variable("BreakersBlocked", _UINT32, "Breakers that a person has blocked for remote operation."),
        Variable("BreakersLocal", _UINT32, "Breakers whose switch stands at local."),
    ),
    (
        Method(
            "StartShedding",
            "Start the load-shedding procedure, with a target or with tiers, not both.",
            (
                Argument("TargetMW", _DOUBLE, "Load to shed, in MW; NaN: not given.", optional=True),
                Argument("Tiers", _STRING, "Tiers to shed; empty: not given.", array=True, optional=True),
                _REASON,
            ),
            (Argument("InstanceId", _STRING, "Id of the procedure that was started."),),
        ),
        Method(
            "Override",
            "Tell a running procedure what you decide. Answered once the procedure has taken it, or after a while.",
            (
                Argument("InstanceId", _STRING, "Id of the procedure; empty: the one that runs.", optional=True),
                Argument(
                    "Decision",
                    _STRING,
                    "cancel, cancel-and-restore, hold, resume, skip, force-open or force-close.",
                ),
                Argument("Feeder", _STRING, "Feeder for skip and the two forces; else empty.", optional=True),
                _REASON,
                Argument("ExpiresS", _DOUBLE, "Not acted upon after so many seconds; 0 or NaN: no end.", optional=True),
            ),
            (
                Argument("Consumed", _BOOLEAN, "True: the procedure has taken it. False: it is kept for it."),
                Argument("Step", _STRING, "The step that took it."),
                Argument("Outcome", _STRING, "What became of it."),
            ),
        ),
        Method(
            "SetMode",
            "Arm the gateway, or make it watch only.",
            (Argument("Mode", _STRING, "armed or monitor."), _REASON),
            (),
        ),
        Method("Release", "Let commands go that are held back after a restart.", (_REASON,), ()),
        Method(
            "RaiseEvent",
            "Raise an external event for an orchestration.",
            (
                _INSTANCE,
                Argument("Event", _STRING, "Name of the event."),
                Argument("DataJson", _STRING, "Its data, as JSON; empty: null.", optional=True),
            ),
            (),
        ),
        Method("Suspend", "Let an orchestration stand still.", (_INSTANCE, _REASON), ()),
        Method("Resume", "Let a suspended orchestration go on.", (_INSTANCE, _REASON), ()),
        Method("Terminate", "End an orchestration; what it has opened stays open.", (_INSTANCE, _REASON), ()),
    ),
)

BREAKER = ObjectType(
    names.BREAKER_TYPE,
    "A feeder's breaker. What is read (Pos) and what was asked for (Commanded) are never mixed.",
    (
        Variable(
            "Pos",
            _DBPOS,
            "Position as read back: 0 intermediate, 1 open, 2 closed, 3 bad (contacts contradict each other). Source "
            "time: when a reading last differed from the one before. Uncertain: older than it may be; Bad: unreadable.",
            history=True,
        ),
        Variable("Commanded", _DBPOS, "Position that was last asked for; Bad: none was, or it does not hold any more."),
        Variable("Quality", _STRING, "good: read in time; uncertain: older than it may be; bad: can't be read."),
        Variable(
            "Age",
            _DOUBLE,
            "Seconds since the breaker was read, at least: 0 while it is read in time, then in steps (5, 10, 30 s, 1, "
            "2, 5, 10, 30 min, 1, 3, 6, 12, 24 h), looked at every few seconds. Bad: never read.",
            "s",
        ),
        Variable("Loc", _BOOLEAN, "True: the switch stands at local, so nothing can be commanded. Bad: not told."),
        Variable("BlkOpn", _BOOLEAN, "True: a person has blocked opening."),
        Variable("BlkCls", _BOOLEAN, "True: a person has blocked closing."),
        Variable("OpCnt", _UINT32, "The device's own counter of operations. Bad: not told."),
        Variable("Tier", _STRING, "Tier of the feeder; empty: no tier sheds it."),
        Variable(
            "MW",
            _DOUBLE,
            "Measured load; looked at every few seconds, told when it has moved by 1 % of the rated load and by at "
            "least 0.1 kW. Bad: not measured.",
            "MW",
        ),
        Variable(
            "Outcome",
            _STRING,
            "How the last command ended: done, refused, not_sent, failed, expired; operating while one is under way, "
            "unknown until reading decides. Empty: none was given.",
        ),
        Variable(
            "Reason", _STRING, "Who gave the last command and what became of it; who blocks the breaker, and why."
        ),
        Variable("Critical", _BOOLEAN, "True: never shed (hospital, pumps, gas)."),
        Variable("Sheddable", _BOOLEAN, "True: a procedure may shed it."),
        Variable("Device", _STRING, "Field device that serves it."),
        Variable("Intents", _UINT32, "Operations that this gateway has ever intended."),
        Variable("LockedOut", _BOOLEAN, "True: locked out after failed closes."),
    ),
    (
        Method("Open", "Open the breaker.", (_REASON,), (_OUTCOME, Argument("Position", _DBPOS, "As read back."))),
        Method("Close", "Close the breaker.", (_REASON,), (_OUTCOME, Argument("Position", _DBPOS, "As read back."))),
        Method("Block", "Forbid remote operation of the breaker, for work on the feeder.", (_REASON,), ()),
        Method("Unblock", "Permit remote operation again.", (_REASON,), ()),
    ),
)
