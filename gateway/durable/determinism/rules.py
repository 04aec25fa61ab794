"""What replay can't bear: the rules, the names that break them, and what to write instead.

One table for both checks, the one that reads source (``lint.py``) and the one at run time (``guard.py``), so that both
speak the same words. Names are dotted, as they are after all import aliases are resolved; the interpreter's own start
with ``builtins.``. What must stay true: nothing stands here that a replay repeats exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rule:
    """id: its name in findings and in ``allow(...)``; why: what is wrong, after the name; instead: what to write."""

    id: str
    why: str
    instead: str

    def words(self, name: str) -> str:
        """What is wrong with this name."""
        return f"{name} {self.why}"


CLOCK: Final = Rule("clock", "reads the clock, which has moved on at replay", "context.current_utc_datetime")
RANDOM: Final = Rule(
    "random",
    "is chance, and another one at replay",
    "random.Random(context.new_uuid()), or an activity that draws",
)
UUID: Final = Rule("uuid", "makes another id at replay", "context.new_uuid()")
IO: Final = Rule(
    "io", "touches the world, which replay must not do again", "an activity: yield context.call_activity(...)"
)
LOG: Final = Rule("log", "says it again at every replay", "context.log, which is silent at replay")
SLEEP: Final = Rule("sleep", "stops the whole engine", "yield context.create_timer(timedelta(...))")
THREAD: Final = Rule(
    "thread", "runs beside the orchestrator, in no order that replay knows", "activities, and context.task_all([...])"
)
ENVIRONMENT: Final = Rule(
    "environment", "may differ at replay", "the orchestration's input, or an activity that reads it"
)
SET_ORDER: Final = Rule("set-order", "has another order in each process", "sorted(...)")
FOREIGN: Final = Rule(
    "foreign",
    "is no task of the context: nobody would resume it",
    "yield a task of the context; for several: context.task_all([...])",
)
ASYNC: Final = Rule("async", "is async: it can't be replayed", "def, and yield instead of await")
GLOBAL: Final = Rule(
    "global",
    "outlives the orchestration, and replay changes it again",
    "a local variable, an entity, or the input of continue_as_new",
)
HASH: Final = Rule("hash", "differs in each process", "the value itself, or hashlib")

RULES: Final = {
    rule.id: rule
    for rule in (CLOCK, RANDOM, UUID, IO, LOG, SLEEP, THREAD, ENVIRONMENT, SET_ORDER, FOREIGN, ASYNC, GLOBAL, HASH)
}


def _each(prefix: str, names: str, rule: Rule) -> dict[str, Rule]:
    return {f"{prefix}.{name}": rule for name in names.split()}


# Refused wherever they are named, called or not.
NAMES: Final[dict[str, Rule]] = {
    **_each(
        "time",
        "time time_ns monotonic monotonic_ns perf_counter perf_counter_ns process_time process_time_ns thread_time"
        " thread_time_ns clock_gettime clock_gettime_ns",
        CLOCK,
    ),
    **_each("datetime.datetime", "now utcnow today", CLOCK),
    **_each("datetime.date", "today", CLOCK),
    **_each("pandas.Timestamp", "now utcnow today", CLOCK),
    **_each("arrow", "now utcnow", CLOCK),
    **_each("pendulum", "now today", CLOCK),
    **_each("os", "urandom getrandom", RANDOM),
    **_each("uuid", "uuid1 uuid4 uuid6 uuid7 getnode", UUID),
    **_each("builtins", "open input", IO),
    **_each("io", "open open_code FileIO", IO),
    **_each(
        "os",
        "listdir scandir walk stat lstat open read write remove unlink rename replace mkdir makedirs rmdir removedirs"
        " chmod chown link symlink readlink truncate utime access statvfs system popen kill",
        IO,
    ),
    **_each("os.path", "exists lexists isfile isdir islink getsize getmtime getatime getctime realpath", IO),
    **_each(
        "pathlib.Path",
        "read_text read_bytes write_text write_bytes open exists is_file is_dir stat lstat iterdir glob rglob mkdir"
        " rmdir unlink touch rename replace resolve chmod symlink_to hardlink_to walk cwd home",
        IO,
    ),
    **_each("builtins", "print", LOG),
    **_each("logging", "debug info warning error critical exception log", LOG),
    **_each("logging.getLogger", "debug info warning error critical exception log", LOG),
    **_each("structlog.get_logger", "debug info warning warn error critical exception msg", LOG),
    **_each("sys.stdout", "write", LOG),
    **_each("sys.stderr", "write", LOG),
    **_each("time", "sleep", SLEEP),
    **_each("asyncio", "sleep", SLEEP),
    **_each("anyio", "sleep", SLEEP),
    **_each("trio", "sleep", SLEEP),
    **_each("threading", "Thread Timer", THREAD),
    **_each("_thread", "start_new_thread", THREAD),
    **_each("os", "fork forkpty posix_spawn posix_spawnp spawnl spawnv spawnlp spawnvp", THREAD),
    **_each(
        "asyncio",
        "create_task ensure_future gather run to_thread wait wait_for shield"
        " new_event_loop run_coroutine_threadsafe TaskGroup Runner",
        THREAD,
    ),
    **_each("os", "environ environb getenv getcwd getpid getppid getlogin uname cpu_count getloadavg", ENVIRONMENT),
    **_each("sys", "argv", ENVIRONMENT),
    **_each("getpass", "getuser", ENVIRONMENT),
    **_each("locale", "getlocale getdefaultlocale getpreferredencoding", ENVIRONMENT),
}

# Refused when anything in them is called.
MODULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(("random", "secrets", "numpy.random"), RANDOM),
    **dict.fromkeys(
        (
            *("socket", "subprocess", "requests", "urllib.request", "urllib3", "http.client", "httpx", "aiohttp"),
            *("ftplib", "smtplib", "paramiko", "sqlite3", "aiosqlite", "psycopg", "psycopg2", "pymodbus", "asyncua"),
            *("shutil", "glob", "tempfile", "fileinput"),
        ),
        IO,
    ),
    **dict.fromkeys(("multiprocessing", "concurrent.futures"), THREAD),
    "platform": ENVIRONMENT,
}
# Called in those modules without harm.
HARMLESS: Final = {
    *_each("socket", "htons htonl ntohs ntohl inet_aton inet_ntoa inet_pton inet_ntop", IO),
    *_each("glob", "escape has_magic", IO),
    *_each("subprocess", "list2cmdline", IO),
}
_NO_CALL = ("Error", "Exception", "Expired", "Timeout", "Warning")

# Called with at least so many arguments they give the same each time.
ENOUGH_ARGUMENTS: Final[dict[str, int]] = {
    "random.Random": 1,
    "numpy.random.default_rng": 1,
    "numpy.random.RandomState": 1,
    "numpy.random.SeedSequence": 1,
    "time.localtime": 1,
    "time.gmtime": 1,
    "time.ctime": 1,
    "time.asctime": 1,
    "time.strftime": 2,
}

# Called without arguments.
NAMES_OF_CALLS: Final[dict[str, Rule]] = {
    **_each("time", "localtime gmtime ctime asctime strftime", CLOCK),
    **_each("builtins", "hash id", HASH),
}

CONSTRUCTORS: Final = {
    "pathlib.Path",
    "pathlib.PosixPath",
    "logging.getLogger",
    "structlog.get_logger",
    "requests.Session",
    "httpx.Client",
    "socket.socket",
    "sqlite3.connect",
    "http.client.HTTPConnection",
    "http.client.HTTPSConnection",
}
"""What they return has methods that are looked up here under the constructor's name."""
SHARED_CONSTRUCTORS: Final = CONSTRUCTORS | {"random.Random", "random.SystemRandom", "numpy.random.default_rng"}
"""The same for one that lives in the module, where all orchestrations use it by turns."""


def rule_of(name: str) -> Rule | None:
    """The rule that is broken by naming this."""
    return NAMES.get(name)


def rule_of_call(name: str, arguments: int) -> Rule | None:
    """The rule that is broken by calling this with so many arguments."""
    if arguments >= ENOUGH_ARGUMENTS.get(name, 1_000) or name in HARMLESS or name.endswith(_NO_CALL):
        return None
    named = NAMES.get(name) or NAMES_OF_CALLS.get(name)
    if named is not None:
        return named
    module = name
    while "." in module:
        module = module.rpartition(".")[0]
        if module in MODULES:
            return MODULES[module]
    return None


def plain(name: str) -> str:
    """A dotted name as people write it."""
    return name.removeprefix("builtins.").removeprefix("datetime.").replace("pathlib.", "")
