"""Types of the objects that tell of the gateway itself: its health, the grid's stress, its door, its orchestrations.

Each variable says in its description what it means, what its qualities mean, and how often it is told where that is not
"when it changes". What must stay true: a name is for good, since clients keep it; what is told is committed, save where
a description says that it is what was measured just now. Data alone: there is nothing to lose in a crash.
"""

from __future__ import annotations

from gateway.operator import names
from protocols.opcua.surface import Argument, DataType, Method, ObjectType, Variable

_BOOLEAN, _UINT32, _INT64 = DataType.BOOLEAN, DataType.UINT32, DataType.INT64
_DOUBLE, _STRING, _TIME = DataType.DOUBLE, DataType.STRING, DataType.TIME

GATEWAY = ObjectType(
    names.GATEWAY_TYPE,
    "The gateway itself: whether it is well, what it runs, where its journal stands.",
    (
        Variable(
            "Health",
            _STRING,
            "ok: all is as it should be; attention: see Warnings; held: no command leaves, see HeldWhy.",
        ),
        Variable("HealthSentence", _STRING, "The same in a sentence, with the reason."),
        Variable("Mode", _STRING, "armed: acts. monitor: computes and logs, and writes nothing to the field."),
        Variable("Held", _BOOLEAN, "True while commands are held back: Release lets them go, where a person may."),
        Variable("HeldWhy", _STRING, "Why they are held; empty while they are not."),
        Variable(
            "ClockSynchronised",
            _BOOLEAN,
            "Whether a time service disciplines the machine's clock; Bad where nobody can tell.",
        ),
        Variable("WallStep", _DOUBLE, "How far the wall clock was stepped since the start; timers are not moved.", "s"),
        Variable("JournalSeq", _INT64, "Number of the journal's last record. Told at most ten times a second."),
        Variable("JournalBatch", _INT64, "Number of the journal's last batch. Told as JournalSeq."),
        Variable(
            "JournalHead",
            _STRING,
            "SHA-256 of the journal's hash chain at JournalBatch, hexadecimal. Keep it elsewhere: with it a cut tail "
            "can be proven.",
        ),
        Variable("HeadBatch", _INT64, "Number of the batch whose head was signed and sent out last."),
        Variable("HeadHash", _STRING, "SHA-256 of the hash chain at HeadBatch, hexadecimal."),
        Variable(
            "HeadSignature",
            _STRING,
            "The head signed by the device's key, in one line: keep it elsewhere; gridlatch audit verify --head takes it.",
        ),
        Variable("Site", _STRING, "Name of the site."),
        Variable("Version", _STRING, "Version of gridlatch."),
        Variable("ConfigHash", _STRING, "SHA-256 over every file of the site's configuration in use, hexadecimal."),
        Variable("Started", _TIME, "When this process started, in engine time."),
        Variable("Warnings", _STRING, "What a person should see to, one sentence each.", array=True),
        Variable("DevicesTotal", _UINT32, "Field devices of the site."),
        Variable("DevicesUp", _UINT32, "Field devices whose link is up."),
        Variable("DevicesTroubled", _STRING, "Devices whose link is not up, and why; 50 of them at most.", array=True),
    ),
    (
        Method(
            "Acknowledge",
            "Say that you have seen an alarm; the same as the standard Acknowledge, by its key.",
            (
                Argument("AlarmKey", _STRING, "Key of the alarm, such as breaker_failed/F0001."),
                Argument("Comment", _STRING, "What you say to it.", optional=True),
            ),
            (),
        ),
    ),
)

STRESS = ObjectType(
    names.STRESS_TYPE,
    "The loading of the watched transformer, and what the trigger makes of it.",
    (
        Variable("Transformer", _STRING, "Name of the transformer."),
        Variable("LoadKw", _DOUBLE, "Measured load; Bad while it can't be measured.", "kW", history=True),
        Variable("CapacityKw", _DOUBLE, "Capacity of the transformer.", "kW"),
        Variable("Percent", _DOUBLE, "Load in percent of the capacity.", "%"),
        Variable("Quality", _STRING, "good: the load is measured; bad: it is not, and nothing is concluded from it."),
        Variable(
            "Zone",
            _STRING,
            "What the trigger sees at this moment: cleared, arming, armed or clearing. Not journaled: after a restart "
            "count-downs begin again.",
        ),
        Variable("Armed", _BOOLEAN, "Stress as the journal has it: True from armed until cleared."),
        Variable("Since", _TIME, "When Armed changed last."),
        Variable("HotSpot", _DOUBLE, "Temperature of the winding's hot-spot; Bad: not measured.", "°C"),
        Variable("Ambient", _DOUBLE, "Measured ambient temperature; Bad: not measured.", "°C"),
    ),
)

SECURITY = ObjectType(
    names.SECURITY_TYPE,
    "Who is at the door. For security administrators and auditors alone.",
    (
        Variable("Sessions", _UINT32, "Sessions that are open."),
        Variable("Users", _STRING, "Who is logged in: name, roles, address, since when; 50 at most.", array=True),
        Variable("FailedLogins", _UINT32, "Log-ins that were refused since the start, also of users locked out."),
        Variable("RefusedCertificates", _UINT32, "Client certificates that were refused since the start."),
        Variable("RefusedCalls", _UINT32, "Calls and reads that were refused for want of a right since the start."),
        Variable("Attacks", _UINT32, "What no honest client does, since the start; the journal tells what it was."),
        Variable("CertificateExpires", _TIME, "When this server's own certificate expires, in wall time."),
    ),
)

ORCHESTRATIONS = ObjectType(
    names.ORCHESTRATIONS_TYPE,
    "The newest orchestrations, at most 200: those that live, and those that ended since the start.",
    (
        Variable("Live", _UINT32, "Orchestrations that have not ended, also those not shown."),
        Variable("Shown", _UINT32, "Orchestrations that are shown here."),
    ),
)

ORCHESTRATION = ObjectType(
    names.ORCHESTRATION_TYPE,
    "A durable orchestration, as it is on disk.",
    (
        Variable("Name", _STRING, "Name of its code."),
        Variable("Status", _STRING, "Pending, Running, Suspended, ContinuedAsNew, Completed, Failed or Terminated."),
        Variable("CustomStatus", _STRING, "What it says of itself: its sentence, else its value in short."),
        Variable("Started", _TIME, "When it was started."),
        Variable("Updated", _TIME, "When it last did something."),
        Variable("Version", _STRING, "Version of its code; empty without one."),
        Variable("Parent", _STRING, "Orchestration that started it; empty without one."),
    ),
)

TIMERS = ObjectType(
    names.TIMERS_TYPE,
    "The durable timers that are due next, at most 200.",
    (
        Variable("Pending", _UINT32, "Timers that run, also those not shown."),
        Variable("Shown", _UINT32, "Timers that are shown here."),
    ),
)

TIMER = ObjectType(
    names.TIMER_TYPE,
    "A durable timer: it outlives the gateway.",
    (
        Variable("Instance", _STRING, "Orchestration that waits for it."),
        Variable("Due", _TIME, "When it is due, in engine time."),
        Variable(
            "Remaining",
            _DOUBLE,
            "Seconds of engine time until then when it was looked at last, rounded up to 10 s above two minutes.",
            "s",
        ),
    ),
)
