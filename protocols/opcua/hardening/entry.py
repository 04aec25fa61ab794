"""Finding the server, and coming in: GetEndpoints, FindServers, CreateSession, ActivateSession, CloseSession.

The first two are answered to everybody who can open a connection; they say nothing that is not on the sign at the door.
A session is made only on a secured channel, whose certificate must be the one that the request shows, trusted now, and
made for the application that it says it is. It is served only after somebody logged in.
"""

from __future__ import annotations

import asyncio
import hmac
import os
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
from asyncua import ua
from cryptography.exceptions import InvalidSignature

from protocols.opcua.certificates import CertificateRefused
from protocols.opcua.hardening import publisher
from protocols.opcua.hardening.channel import POLICIES, Identity, leaf
from protocols.opcua.hardening.core import Core
from protocols.opcua.hardening.errors import fault
from protocols.opcua.hardening.login import Refusal, log_in, token_policies
from protocols.opcua.hardening.session import Session, State
from protocols.opcua.hardening.telling import printable
from protocols.opcua.pki import thumbprint
from protocols.opcua.surface import Caller, Doing

if TYPE_CHECKING:
    from protocols.opcua.hardening.connection import Connection

_log = structlog.get_logger(__name__)
_TRANSPORT = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"
_LEAST_NONCE = 32


def endpoint_url(core: Core, asked: str | None, port: int) -> str:
    """Our URL, under the host name that the client used for us (it may reach us by another one than we know)."""
    host = None
    if asked and len(asked) <= 4096:
        try:
            host = urlsplit(asked).hostname
        except ValueError:
            host = None
    host = host or core.settings.host
    return f"opc.tcp://{f'[{host}]' if ':' in host else host}:{port}/gridlatch"


def application(core: Core, url: str) -> ua.ApplicationDescription:
    """What we say we are."""
    return ua.ApplicationDescription(
        ApplicationUri=core.settings.application_uri,
        ProductUri=core.settings.product_uri,
        ApplicationName=ua.LocalizedText(core.settings.server_name),
        ApplicationType=ua.ApplicationType.Server,
        DiscoveryUrls=[url],
    )


def endpoints(core: Core, identity: Identity, url: str) -> list[ua.EndpointDescription]:
    """The three endpoints, all of them SignAndEncrypt."""
    offered = []
    for policy, level in POLICIES:
        endpoint = ua.EndpointDescription()
        endpoint.EndpointUrl = url
        endpoint.Server = application(core, url)
        endpoint.ServerCertificate = identity.der
        endpoint.SecurityMode = ua.MessageSecurityMode.SignAndEncrypt
        endpoint.SecurityPolicyUri = policy.URI
        endpoint.UserIdentityTokens = token_policies(policy.URI, core.settings)
        endpoint.TransportProfileUri = _TRANSPORT
        endpoint.SecurityLevel = level
        offered.append(endpoint)
    return offered


def get_endpoints(core: Core, connection: Connection, parameters: Any) -> Any:
    """The sign at the door."""
    profiles = parameters.ProfileUris or []
    response = ua.GetEndpointsResponse()
    if not profiles or _TRANSPORT in profiles:
        url = endpoint_url(core, parameters.EndpointUrl, connection.port)
        response.Endpoints = endpoints(core, connection.identity, url)
    return response


def find_servers(core: Core, connection: Connection, parameters: Any) -> Any:
    """This one, and no other."""
    response = ua.FindServersResponse()
    wanted = parameters.ServerUris or []
    if not wanted or core.settings.application_uri in wanted:
        response.Servers = [application(core, endpoint_url(core, parameters.EndpointUrl, connection.port))]
    return response


def create_session(core: Core, connection: Connection, parameters: Any) -> Any:
    """A session that may log in. Errors: UaStatusCodeError."""
    channel = connection.channel
    if not channel.secured:
        core.telling.tell(Doing.SESSION_REFUSED, connection.caller(), "a session was asked for without security")
        raise fault(ua.StatusCodes.BadSecurityPolicyRejected)
    description = parameters.ClientDescription
    uri = description.ApplicationUri if description is not None else None
    caller = Caller("", "", frozenset(), thumbprint(channel.certificate), connection.address, printable(uri))
    _check_certificate(core, connection, caller, parameters, uri)
    if len(parameters.ClientNonce or b"") < _LEAST_NONCE:
        raise fault(ua.StatusCodes.BadNonceInvalid)
    if connection.session is not None and connection.session.state is not State.CLOSED:
        core.telling.tell(Doing.SESSION_REFUSED, caller, "a second session on one connection was refused")
        raise fault(ua.StatusCodes.BadTooManySessions)
    if len(core.sessions) >= core.settings.max_sessions and not _make_room(core):
        core.telling.tell(Doing.SESSION_REFUSED, caller, f"all {core.settings.max_sessions} sessions are taken")
        raise fault(ua.StatusCodes.BadTooManySessions)
    wished = float(parameters.RequestedSessionTimeout or 0) / 1000
    most = core.settings.idle_timeout_s
    timeout = max(min(wished if wished > 0 else most, most), min(core.limits.session_timeout_min_s, most))
    session = Session(caller, timeout, core.monotonic(), core.now_us())
    session.certificate, session.uri = channel.certificate, uri or ""
    core.sessions[session.id] = session
    connection.attach(session)
    return _session_response(core, connection, session, parameters)


def _make_room(core: Core) -> bool:
    """End a session that nobody has logged in to: the oldest, of the certificate that has most of them. So who has a
    trusted certificate and no user keeps nobody else out."""
    waiting = [session for session in core.sessions.values() if not session.active]
    if not waiting:
        return False
    held = Counter(session.caller.certificate for session in waiting)
    oldest = max(waiting, key=lambda session: held[session.caller.certificate])  # the first of the largest
    end = core.endings.get(oldest.id)
    why = f"all {core.settings.max_sessions} sessions are taken: one that nobody had logged in to made room"
    core.telling.tell(Doing.SESSION_REFUSED, oldest.caller, why)
    close_session(core, oldest, Doing.SESSION_REFUSED, why)
    if end is not None:
        end("made room for others")
    return True


def _check_certificate(core: Core, connection: Connection, caller: Caller, parameters: Any, uri: str | None) -> None:
    channel = connection.channel
    shown = leaf(parameters.ClientCertificate)
    if not hmac.compare_digest(shown, channel.certificate):
        what = "someone else's certificate" if shown else "no certificate"
        core.telling.tell(Doing.ATTACK, caller, f"a session was asked for with {what}; the channel's is another one")
        raise fault(ua.StatusCodes.BadSecurityChecksFailed)
    try:
        core.pki.check(channel.certificate, uri or "", core.now())
    except CertificateRefused as error:
        core.telling.tell(Doing.CERTIFICATE_REFUSED, caller, str(error))
        raise fault(ua.StatusCodes.BadSecurityChecksFailed) from error


def _session_response(core: Core, connection: Connection, session: Session, parameters: Any) -> Any:
    channel = connection.channel
    response = ua.CreateSessionResponse()
    result = response.Parameters
    result.SessionId = session.id
    result.AuthenticationToken = session.token_node()
    result.RevisedSessionTimeout = session.timeout_s * 1000
    result.ServerNonce = session.nonce
    result.ServerCertificate = connection.identity.der
    result.MaxRequestMessageSize = core.limits.message_after
    url = endpoint_url(core, parameters.EndpointUrl, connection.port)
    result.ServerEndpoints = endpoints(core, connection.identity, url)
    data = channel.certificate + parameters.ClientNonce
    result.ServerSignature.Signature = channel.policy.asymmetric_cryptography.signature(data)
    result.ServerSignature.Algorithm = channel.policy.AsymmetricSignatureURI
    return response


async def activate_session(core: Core, connection: Connection, session: Session, parameters: Any) -> Any:
    """Log in. Errors: UaStatusCodeError, one and the same for whatever was wrong with the user."""
    channel = connection.channel
    nonce = session.nonce
    signature = parameters.ClientSignature
    try:
        channel.policy.asymmetric_cryptography.Verifier.verify(
            connection.identity.der + nonce, signature.Signature or b"" if signature is not None else b""
        )
    except (InvalidSignature, ValueError) as error:
        core.telling.tell(Doing.ATTACK, session.caller, "a log-in that the channel's certificate didn't sign")
        raise fault(ua.StatusCodes.BadApplicationSignatureInvalid) from error
    try:
        person = await log_in(parameters, channel, nonce, core.settings, core.doorman, core.now())
        if session.state is State.CLOSED:
            raise fault(ua.StatusCodes.BadSessionClosed)
        if session.active and person.name != session.caller.user:
            raise Refusal("another user in a session that is in use", person.name)
        _check_room(core, session, person.name)
    except Refusal as refusal:
        caller = _named(session.caller, printable(refusal.user), frozenset())
        who = f"log-in of {printable(refusal.user)!r}" if refusal.user else "log-in"
        core.telling.tell(refusal.doing, caller, f"{who} refused: {refusal}")
        raise fault(ua.StatusCodes.BadUserAccessDenied) from refusal
    session.nonce = os.urandom(len(nonce))
    session.touch(core.monotonic(), core.now_us())
    first = not session.active
    session.caller = _named(session.caller, person.name, person.roles)
    session.user = person.user
    session.state = State.ACTIVE
    channel.allow_long(True)
    connection.logged_in()
    if first:
        who = person.name or "an anonymous reader"
        core.telling.tell(Doing.LOGIN, session.caller, f"{who} logged in")
    response = ua.ActivateSessionResponse()
    response.Parameters.ServerNonce = session.nonce
    return response


def _check_room(core: Core, session: Session, name: str) -> None:
    """One user (or all anonymous readers) may hold half of the sessions, so that nobody keeps all others out."""
    if session.active:
        return
    same = sum(1 for other in core.sessions.values() if other.active and other.caller.user == name)
    if same >= max(2, (core.settings.max_sessions + 1) // 2):
        raise Refusal(f"{same} sessions of this user are open already", name, Doing.SESSION_REFUSED)


def _named(caller: Caller, user: str, roles: frozenset[str]) -> Caller:
    return Caller(caller.session, user, roles, caller.certificate, caller.address, caller.application)


def close_session(core: Core, session: Session, doing: Doing, why: str) -> None:
    """The end of a session, whichever way; it owns nothing after this. A second time: nothing."""
    if session.state is State.CLOSED:
        return
    was_active = session.active
    publisher.abandon(core, session, ua.StatusCodes.BadSessionClosed)
    for subscription in list(session.subscriptions.values()):
        publisher.drop(core, subscription)
    session.state = State.CLOSED
    session.browse_rests.clear()
    session.endings.clear()
    for read in session.reads:
        read.cancel()
    core.sessions.pop(session.id, None)
    core.sending.pop(session.id, None)
    core.endings.pop(session.id, None)
    core.services.session_closed(session.id)
    if was_active:
        core.telling.tell(doing, session.caller, why)


def expire(core: Core) -> None:
    """End sessions that asked for nothing for too long; to be called once a second or so. One that nobody has logged in to
    yet ends with its connection's ``log_in_s``: a log-in that waits its turn is not idle."""
    now = core.monotonic()
    for session in list(core.sessions.values()):
        if session.active and now - session.last_request > session.timeout_s:
            end = core.endings.get(session.id)
            close_session(
                core, session, Doing.SESSION_EXPIRED, f"nothing was asked for {session.timeout_s:g} s: session ended"
            )
            if end is not None:
                end("session expired")


def recheck(core: Core) -> None:
    """End sessions of those who would not be let in any more."""
    for session in list(core.sessions.values()):
        still_welcome(core, session)


def still_welcome(core: Core, session: Session) -> bool:
    """Whether whoever is there would be let in now; if not, the session is ended: the application's certificate isn't
    trusted any more or has expired, or the user was locked, removed, given other roles or another password, or the
    certificate by which they logged in is theirs no longer. To be asked now and then, and ahead of each call."""
    now = core.now()
    why = ""
    try:
        core.pki.check(session.certificate, session.uri, now)
    except CertificateRefused as error:
        why = str(error)
    if session.active and session.user is not None and not core.doorman.still(session.user, now):
        why = f"{session.user.name} is no user any more, is locked, or has other roles, another password or certificate"
    if why:
        end = core.endings.get(session.id)
        close_session(core, session, Doing.SESSION_EXPIRED, f"session ended: {why}")
        if end is not None:
            end("not let in any more")
    return not why


async def watch(core: Core, every_s: float, recheck_s: float) -> None:
    """The task that ends idle sessions, looks again at who is there, and closes the window of what is told."""
    looked = core.monotonic()
    while True:
        await asyncio.sleep(every_s)
        try:
            expire(core)
            core.telling.roll()
            if core.monotonic() - looked >= recheck_s:
                looked = core.monotonic()
                recheck(core)
        except Exception:  # noqa: BLE001 - a mistake of ours in one round must not be the last round
            _log.exception("opcua_watch_failed")
