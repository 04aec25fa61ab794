"""Puts the operators' side together: certificates, users, the OPC UA server, the door of the gateway.

Loaded by the daemon of a site with a table [operators] only, for the libraries behind it take their time and memory.
What must stay true: whatever keeps the server from serving (a certificate that can't be made, a port that is taken) is
said in a sentence before anything starts; there is no user whom nobody made. A crash here leaves at most a certificate
that the next start uses.
"""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import structlog

import protocols.opcua
from config.models import Operators
from gateway import __version__
from gateway.clock import to_us, wall_now
from gateway.operations.desk import Desk
from gateway.operator.door import Door, RunningServer
from gateway.starting import StartError
from protocols.opcua.pki import OWN_CERTIFICATE, OwnCertificate, Pki, PkiError
from protocols.opcua.surface import Backend, Surface
from protocols.opcua.users import Doorman, UserError, UserFile

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()

EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
_LIBRARY = find_spec("asyncua")
GUESTS = (*(_LIBRARY.submodule_search_locations or () if _LIBRARY else ()), *protocols.opcua.__path__)
"""Folders of the code whose failures must not end control."""


class Files:
    """Certificates and users of a site, as files. Satisfies the door's ``Keys``."""

    def __init__(self, settings: Operators) -> None:
        self.pki = Pki(settings.pki_dir)
        self.users = UserFile(settings.users_file)
        self.doorman = Doorman(self.users, settings.lock_out_after, settings.lock_out_s)
        self._own: tuple[int, OwnCertificate] | None = None
        self._add = f"gridlatch users add NAME --role OPERATOR ({settings.users_file})"

    def own(self) -> OwnCertificate:
        """The server's own certificate. Reading it takes 50 ms: done again only when its file has changed."""
        path = self.pki.folder / OWN_CERTIFICATE
        changed = path.stat().st_mtime_ns
        if self._own is None or self._own[0] != changed:
            self._own = changed, self.pki.own()
        return self._own[1]

    def thumbprint(self) -> str:
        """SHA-256 of the server's own certificate."""
        return self._present().thumbprint

    def expires_us(self) -> int:
        """When it expires."""
        return to_us(self._present().expires)

    def _present(self) -> OwnCertificate:
        """As ``own``; one that has become unreadable is that which the server was started with."""
        try:
            return self.own()
        except (PkiError, OSError):
            if self._own is None:
                raise
            return self._own[1]

    def warnings(self) -> list[str]:
        """No user, an unreadable file of users, certificates that are of no use."""
        told = list(self.pki.problems())
        try:
            self.own()
        except (PkiError, OSError) as error:
            told.append(f"the OPC UA server's certificate can't be read any more: {error}")
        try:
            if not self.users.accounts():
                told.append(f"nobody can log in by OPC UA: there is no user yet; make one with {self._add}")
        except UserError as error:
            told.append(f"users of OPC UA: {error}")
        return told

    def close(self) -> None:
        """No more log-ins."""
        self.doorman.close()


def prepare(settings: Operators) -> Files:
    """Everything that can be known before the start: the certificate is there, the port is free.

    Errors: StartError.
    """
    files = Files(settings)
    names = [socket.gethostname()]
    if settings.host not in EVERYWHERE:
        names.insert(0, settings.host)
    try:
        made = files.pki.ensure_own(settings.application_uri, names, wall_now())
        own = files.own()
    except (PkiError, OSError) as error:
        raise StartError(f"the OPC UA server has no certificate: {error}") from error
    if made:
        log.info("device_certificate_made", thumbprint=own.thumbprint, file=str(own.path), expires=str(own.expires))
    _check_port(settings)
    for warning in files.warnings():
        log.warning("operators_warning", warning=warning)
    return files


def _check_port(settings: Operators) -> None:
    try:
        found = socket.getaddrinfo(
            settings.host or None, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        raise StartError(f"the OPC UA server can't listen at {where} ([operators] host, port): {error}") from error


def make_door(settings: Operators, files: Files, desk: Desk) -> Door:
    """The door of a running gateway, still closed."""

    async def make_server(surface: Surface, backend: Backend) -> RunningServer:
        # Its libraries take a second or two to load: control does not wait for them.
        server = await asyncio.to_thread(import_module, "protocols.opcua.server")
        wanted = server.ServerSettings(
            host=settings.host,
            port=settings.port,
            application_uri=settings.application_uri,
            anonymous_read=settings.anonymous_read,
            max_sessions=settings.max_sessions,
            idle_timeout_s=settings.idle_timeout_s,
            server_name=f"gridlatch {desk.field.site.name}",
            version=__version__,
        )
        made: RunningServer = server.OperatorServer(wanted, files.pki, files.doorman, surface, backend, now=wall_now)
        return made

    return Door(settings, desk, files, make_server)


def is_guest(error: BaseException) -> bool:
    """Whether this failed below the OPC UA library: the outermost code of the failure, asyncio's aside, is its own."""
    first = next(_places(error), "")
    return first.startswith(GUESTS)


def _places(error: BaseException) -> Iterator[str]:
    own = str(Path(asyncio.__file__).parent)
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if not frame.f_code.co_filename.startswith(own):
            yield frame.f_code.co_filename
