"""An operator at a terminal: asyncua's command-line tools, as they are installed, at a real daemon.

What the tools can't do, so that nobody looks for it in the server:

* Without a fifth part of ``--security`` they ask the server for its certificate over an unsecured channel and take
  whatever comes. With it they talk to that server alone.
* Their ``--timeout`` is 1 s if nothing else is said; a log-in (scrypt) may take longer on a busy box.
* ``--namespace`` does nothing: indices are written into node ids and browse paths.
* ``uacall`` splits arguments at commas, so a reason can't hold one. Of a refusal it prints the code, not the sentence
  (that is in the history of events).
* ``uasubscribe`` has queues of one value at an interval of 500 ms: of quick moves it shows the last.
* The password stands in the process list.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from certificate_kit import make
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from operators_client import PASSWORD, gridlatch
from station import SMALL, TRAVEL_S, Ran, Station, station, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOST, PORT = "127.0.68.2", 48690
FIRST_RTU = "127.0.68.11"
URL = f"opc.tcp://{HOST}:{PORT}"
URI = "urn:example.org:FreeOpcUa:opcua-asyncio"
"""What the tools say they are; there is no option for another one, so the certificate has to name it."""
RTUS, BREAKERS = 2, 5
SCRIPTS = Path(sysconfig.get_path("scripts"))


@dataclass
class Terminal:
    """Where the operator types. feeders: names of all of them."""

    station: Station
    feeders: list[str]

    def security(self, mode: str = "SignAndEncrypt", policy: str = "Basic256Sha256", server: str = "server") -> str:
        """The option's value, with the server's certificate."""
        folder = self.station.folder
        return f"{policy},{mode},{folder}/terminal.der,{folder}/terminal.pem,{folder}/{server}.der"

    def command(
        self, tool: str, *arguments: str, user: str = "ola", password: str = PASSWORD, security: str | None = None
    ) -> list[str]:
        """What is typed. security: empty for none."""
        wanted = self.security() if security is None else security
        who = ["--user", user, "--password", password] if user else []
        return [str(SCRIPTS / tool), "-u", URL, "--timeout", "20", "--security", wanted, *who, *arguments]

    async def run(self, tool: str, *arguments: str, **who: str) -> Ran:
        """Type it, and wait for its end."""
        command = self.command(tool, *arguments, **who)

        def run() -> Ran:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
            return Ran(done.returncode, done.stdout, done.stderr)

        return await asyncio.to_thread(run)

    async def says(self, tool: str, *arguments: str, **who: str) -> str:
        """What it wrote; it must have worked."""
        done = await self.run(tool, *arguments, **who)
        assert done.code == 0, done.out + done.err
        return done.out


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def terminal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Terminal]:
    """Ten breakers, a daemon with the operators' server, users, and a certificate that it trusts."""
    folder: Path = tmp_path_factory.mktemp("tools")
    operators = ("--peak-pct", "40", "--operators", f"{HOST}:{PORT}")
    async with station(folder, RTUS, BREAKERS, 15690, FIRST_RTU, SMALL, operators, TRAVEL_S) as made:
        now = datetime.now(UTC)
        for name, uri in (("terminal", URI), ("stranger", URI)):
            party = make(name, uris=(uri,), begins=now - timedelta(days=1), ends=now + timedelta(days=90))
            (folder / f"{name}.der").write_bytes(party.der)
            key = party.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}.pem").write_bytes(key)
        gridlatch(folder, "certs", "trust", str(folder / "terminal.der"))
        for name, role in (("ola", "OPERATOR"), ("vic", "VIEWER")):
            gridlatch(folder, "users", "add", name, "--role", role, "--password-stdin", given=PASSWORD + "\n")
        made.start_daemon()
        await made.wait_serving()
        await made.wait_links_up()

        async def listens() -> bool:
            said = (await made.ask("status"))["operators"]
            assert isinstance(said, dict)
            return said["open"] is True

        await until(listens, "the OPC UA server to open", 90.0)
        (folder / "server.der").write_bytes((folder / "pki/own/cert.der").read_bytes())
        feeders = [str(row["feeder"]) for row in await made.pages("breakers.list", "breakers")]
        assert len(feeders) == RTUS * BREAKERS
        yield Terminal(made, feeders)
        assert made.stop_daemon() == 0


async def test_uals_lists_what_is_there(terminal: Terminal) -> None:
    root = await terminal.says("uals", "-n", "i=85")
    for name in ("Gateway", "GridStress", "LoadShedding", "Feeders", "Orchestrations", "Timers"):
        assert f"2:{name}" in root.split(), root
    feeders = await terminal.says("uals", "-p", "0:Objects,2:Feeders", "-d", "2")
    assert {f"2:{name}" for name in terminal.feeders} <= set(feeders.split()), "each breaker, in its device's folder"
    breaker = await terminal.says("uals", "-l", "-n", f"ns=2;s=Feeder/{terminal.feeders[0]}")
    for name in ("Pos", "Loc", "BlkOpn", "OpCnt", "MW", "Open", "Close", "Block"):
        assert f"2:{name}" in breaker.split(), breaker


async def test_uaread_reads_by_node_id_and_by_path(terminal: Terminal) -> None:
    node = f"ns=2;s=Feeder/{terminal.feeders[0]}/Pos"
    assert (await terminal.says("uaread", "-n", node)).strip().endswith("2"), "closed"
    value = await terminal.says("uaread", "-n", node, "-t", "datavalue")
    assert "StatusCode(value=0)" in value, value
    assert "SourceTimestamp=datetime" in value, value
    assert (await terminal.says("uaread", "-p", "0:Objects,2:Gateway,2:Mode")).strip() == "armed"
    missing = await terminal.run("uaread", "-n", "ns=2;s=Feeder/none/Pos")
    assert missing.code == 1
    assert "BadNodeIdUnknown" in missing.out
    written = await terminal.run("uawrite", "-n", node, "-t", "int32", "1")
    assert written.code == 1, written.out
    assert "Bad" in written.out
    assert (await terminal.says("uaread", "-n", node)).strip().endswith("2"), "nothing is written to a breaker"


@pytest.mark.parametrize("policy", ["Aes128Sha256RsaOaep", "Aes256Sha256RsaPss"])
async def test_the_other_policies_serve_as_well(terminal: Terminal, policy: str) -> None:
    mode = await terminal.says("uaread", "-n", "ns=2;s=Gateway/Mode", security=terminal.security(policy=policy))
    assert mode.strip() == "armed"


async def test_uacall_blocks_a_breaker_with_a_reason(terminal: Terminal) -> None:
    key = f"ns=2;s=Feeder/{terminal.feeders[1]}"

    async def blocked() -> str:
        return (await terminal.says("uaread", "-n", f"{key}/BlkOpn")).strip()

    assert await blocked() == "False"
    await terminal.says("uacall", "-n", key, "-m", "2:Block", "-t", "string", "work on the feeder")
    assert await blocked() == "True"
    opened = await terminal.run("uacall", "-n", key, "-m", "2:Open", "-t", "string", "must not")
    assert opened.code == 1, opened.out
    assert "BadInvalidState" in opened.out, "a blocked breaker is not opened"
    nothing = await terminal.run("uacall", "-n", key, "-m", "2:Unblock")
    assert nothing.code == 1, "no reason, no call"
    assert "BadArgumentsMissing" in nothing.out, nothing.out
    await terminal.says("uacall", "-n", key, "-m", "2:Unblock", "-t", "string", "work is done")
    assert await blocked() == "False"
    events = await terminal.says("uahistoryread", "-e", "-n", "i=2253", "--limit", "50")
    for words in ("breakers.block", "work on the feeder", "must not", "work is done"):
        assert words in events, "who did what and why, refused or not"


async def test_uacall_of_a_viewer_is_refused(terminal: Terminal) -> None:
    key = f"ns=2;s=Feeder/{terminal.feeders[2]}"
    done = await terminal.run("uacall", "-n", key, "-m", "2:Open", "-t", "string", "why not", user="vic")
    assert done.code == 1
    assert "BadUserAccessDenied" in done.out
    assert (await terminal.says("uaread", "-n", f"{key}/Pos", user="vic")).strip().endswith("2"), "but vic may look"


async def test_uasubscribe_shows_each_move_and_uahistoryread_remembers_it(terminal: Terminal) -> None:
    key = f"ns=2;s=Feeder/{terminal.feeders[3]}"
    command = terminal.command("uasubscribe", "-n", f"{key}/Pos")
    process = subprocess.Popen(  # noqa: ASYNC220 - returns at once
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    shown: list[str] = []
    try:

        async def shows(words: str) -> None:
            assert process.stdout is not None
            async with asyncio.timeout(30):
                while not (shown and re.search(words, shown[-1])):
                    line = await asyncio.to_thread(process.stdout.readline)
                    assert line, shown
                    shown.append(line)

        await shows(r"[vV]alue.*\b2\b")
        opened = await terminal.says("uacall", "-n", key, "-m", "2:Open", "-t", "string", "seen by all")
        assert "resulting" in opened
        await shows(r"[vV]alue.*\b1\b")
        await terminal.says("uacall", "-n", key, "-m", "2:Close", "-t", "string", "and back")
        await shows(r"[vV]alue.*\b2\b")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.to_thread(process.wait, 20)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
    history = await terminal.says("uahistoryread", "-n", f"{key}/Pos", "--limit", "20")
    rows = [line.split()[-2:] for line in history.splitlines() if re.match(r"\d{4}-", line)]
    assert ["Good", "1"] in rows, history
    assert rows[-1] == ["Good", "2"], history
    events = await terminal.says("uahistoryread", "-e", "-n", "i=2253", "--limit", "50")
    assert "seen by all" in events


@dataclass(frozen=True)
class Wrong:
    """What is not as it should be."""

    user: str = "ola"
    password: str = PASSWORD
    change: tuple[str, str] = ("", "")


WRONG = {
    "signed only": Wrong(change=("SignAndEncrypt", "Sign")),
    "a certificate that is not trusted": Wrong(change=("terminal", "stranger")),
    "another server's certificate": Wrong(change=("server.der", "stranger.der")),
    "a wrong password": Wrong(password="wrong-horse-battery"),
    "an unknown user": Wrong(user="nobody"),
    "no user": Wrong(user=""),
}


@pytest.mark.parametrize("what", WRONG)
async def test_who_is_not_let_in_is_shown_nothing(terminal: Terminal, what: str) -> None:
    wrong = WRONG[what]
    security = terminal.security().replace(*wrong.change) if wrong.change[0] else terminal.security()
    done = await terminal.run(
        "uaread", "-n", "ns=2;s=Gateway/Mode", user=wrong.user, password=wrong.password, security=security
    )
    assert done.code != 0, done.out
    assert "armed" not in done.out


@pytest.mark.parametrize("user", ["ola", ""])
async def test_without_security_nobody_is_let_in(terminal: Terminal, user: str) -> None:
    for tool, arguments in (("uals", ("-n", "i=85")), ("uaread", ("-n", "ns=2;s=Gateway/Mode"))):
        done = await terminal.run(tool, *arguments, user=user, security="")
        assert done.code != 0, done.out
        assert "Gateway " not in done.out
        assert "armed" not in done.out


async def test_uadiscover_shows_the_sign_at_the_door(terminal: Terminal) -> None:
    """Who may not come in may see how one does: three secured endpoints, and no other."""
    command = [str(SCRIPTS / "uadiscover"), "-u", URL, "--timeout", "20"]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    modes = re.findall(r"Security Mode: (.*)", done.stdout)
    assert len(modes) == 3, done.stdout
    assert all("SignAndEncrypt" in mode or mode.strip() == "3" for mode in modes), modes
