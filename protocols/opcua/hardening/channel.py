"""One secure channel: asyncua's cryptography and chunks, and the rules that asyncua's server doesn't keep.

What must stay true:

* Nothing is decrypted, and no key of ours is used, before the sender's certificate was found to be trusted.
* No message is taken before a channel is open, nor with keys older than their lifetime.
* The channel's certificate, policy and mode never change; the mode is SignAndEncrypt, or None for discovery alone.
* Whatever is wrong with a chunk ends the connection, and the peer gets one and the same code for it.

Rules: OPC UA Part 6, 6.7 (secure conversation) and 7.1 (connection protocol).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto import security_policies as policies
from asyncua.ua.ua_binary import header_from_binary, struct_to_binary, uatcp_to_binary
from cryptography import x509

from protocols.opcua.hardening.codec import Guarded, decode
from protocols.opcua.hardening.errors import UaStatusCodeError, bad
from protocols.opcua.hardening.limits import Limits
from protocols.opcua.surface import Doing

_Factory: Any = policies.SecurityPolicyFactory
_None: Any = policies.SecurityPolicyNone
_Kind: Any = ua.MessageType
POLICIES: tuple[tuple[type[Any], int], ...] = (
    (policies.SecurityPolicyBasic256Sha256, 70),
    (policies.SecurityPolicyAes128Sha256RsaOaep, 75),
    (policies.SecurityPolicyAes256Sha256RsaPss, 80),
)
"""The policies that are offered, with their level; always SignAndEncrypt."""
_LEAST_BUFFER = 8192
_MISTAKE = Doing.SESSION_REFUSED
"""What a client does that is set up wrongly."""
_NONCE = 32
_RENEW_S = 1.0


class Hangup(Exception):
    """The connection ends. code: what the peer is told; the text is for the record alone. doing: as what it is recorded;
    None for what is no fault of the peer's."""

    def __init__(self, code: int, why: str, doing: Doing | None = Doing.ATTACK) -> None:
        super().__init__(why)
        self.code = code
        self.doing = doing


class Untrusted(Hangup):
    """The certificate is refused."""

    def __init__(self, certificate: bytes, why: str) -> None:
        super().__init__(ua.StatusCodes.BadSecurityChecksFailed, why, Doing.CERTIFICATE_REFUSED)
        self.certificate = certificate


@dataclass(frozen=True, slots=True)
class Identity:
    """Our own certificate and key."""

    der: bytes
    certificate: x509.Certificate
    key: Any


def leaf(chain: bytes | None) -> bytes:
    """The first certificate of a chain in DER, cut by its own length; empty when there is none or it makes no sense."""
    if not chain or len(chain) < 4 or chain[0] != 0x30:
        return b""
    if chain[1] < 0x80:
        end = 2 + chain[1]
    elif chain[1] == 0x81:
        end = 3 + chain[2]
    elif chain[1] == 0x82:
        end = 4 + int.from_bytes(chain[2:4], "big")
    else:
        return b""
    return chain[:end] if end <= len(chain) else b""


class Channel(SecureConnection):
    """The channel of one connection."""

    def __init__(
        self,
        limits: Limits,
        identity: Identity,
        check: Callable[[bytes], None],
        new_id: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """check: raises Untrusted for a certificate that isn't trusted. new_id: a channel id never used before."""
        self.rules = limits
        super().__init__(
            _None(),
            TransportLimits(limits.chunk, limits.chunk, 0, limits.message_before),
        )
        self.identity = identity
        self.certificate = b""
        """The peer's, trusted; empty on a channel for discovery."""
        self._check = check
        self._new_id = new_id
        self._monotonic = monotonic
        self._opened_at = 0.0
        self._good_until = 0.0
        self._greeted = False
        self._longest_answer = limits.response
        self.allow_long(False)

    # -- what asyncua calls

    def get_new_channel_id(self) -> int:
        """For ``SecureConnection.open``, which asks its server."""
        return self._new_id()

    def select_policy(self, uri: str, peer_certificate: bytes | None, mode: Any = None) -> None:
        """The policy was chosen before a byte was decrypted, and stays."""

    def _check_sym_header(self, security_hdr: ua.SymmetricAlgorithmHeader) -> None:
        # Token 0 is what asyncua's empty "next token" is called: it would take it for a renewal.
        if not self.is_open() or security_hdr.TokenId == 0:
            raise Hangup(ua.StatusCodes.BadTcpSecureChannelUnknown, "a message without a secure channel")
        if self._monotonic() > self._good_until:
            raise Hangup(ua.StatusCodes.BadSecureChannelTokenUnknown, "the keys of the channel have expired", None)
        super()._check_sym_header(security_hdr)

    # -- what the connection calls

    @property
    def secured(self) -> bool:
        """True when sessions may be created on it."""
        return bool(self.is_open()) and bool(self.certificate)

    @property
    def policy(self) -> Any:
        """The security policy in use."""
        return self.security_policy

    def allow_long(self, after: bool) -> None:
        """Longer messages once somebody has logged in."""
        size = self.rules.message_after if after else self.rules.message_before
        self._limits.max_message_size = size
        self._limits.max_chunk_count = max(4, 2 * size // _LEAST_BUFFER)

    def hello(self, frame: bytes) -> bytes:
        """Hello → Acknowledge. Errors: Hangup."""
        if self._greeted:
            raise Hangup(ua.StatusCodes.BadTcpMessageTypeInvalid, "a second Hello")
        self._greeted = True
        hello = decode(ua.Hello, Guarded(frame[8:], 100, 1))
        if hello.ReceiveBufferSize < _LEAST_BUFFER or hello.SendBufferSize < _LEAST_BUFFER:
            raise Hangup(ua.StatusCodes.BadConnectionRejected, "buffers below 8192 bytes", _MISTAKE)
        if hello.EndpointUrl is not None and len(hello.EndpointUrl) > 4096:
            raise Hangup(ua.StatusCodes.BadTcpEndpointUrlInvalid, "an endpoint URL of more than 4096 bytes")
        self._limits.max_send_buffer = min(hello.ReceiveBufferSize, self.rules.chunk)
        self._limits.max_recv_buffer = min(hello.SendBufferSize, self.rules.chunk)
        for longest in (hello.MaxMessageSize, hello.MaxChunkCount * (self._limits.max_send_buffer - 1024)):
            if longest:
                self._longest_answer = min(self._longest_answer, longest)
        ack: Any = ua.Acknowledge()
        ack.ReceiveBufferSize = self._limits.max_recv_buffer
        ack.SendBufferSize = self._limits.max_send_buffer
        ack.MaxMessageSize = self.rules.message_after
        ack.MaxChunkCount = 2 * self.rules.message_after // _LEAST_BUFFER
        answer: bytes = uatcp_to_binary(_Kind.Acknowledge, ack)
        return answer

    def open_request(self, frame: bytes) -> bytes:
        """OpenSecureChannel, first or renewal: the answer. Errors: Hangup, Untrusted."""
        if not self._greeted:
            raise Hangup(ua.StatusCodes.BadTcpMessageTypeInvalid, "no Hello")
        if frame[3:4] != b"F":
            raise Hangup(ua.StatusCodes.BadSecurityChecksFailed, "an OpenSecureChannel in several chunks")
        header = decode(ua.AsymmetricAlgorithmHeader, Guarded(frame[12:], 4000, 2))
        renewal = bool(self.is_open())
        if renewal and self._monotonic() < self._opened_at + _RENEW_S:
            raise Hangup(ua.StatusCodes.BadSecurityChecksFailed, "renewed too often")
        self._choose(header, renewal)
        message = self._decrypted(frame)
        if message is None:
            raise Hangup(ua.StatusCodes.BadSecurityChecksFailed, "an OpenSecureChannel in several chunks")
        request = self._request(message.body().read(len(message.body())), renewal)
        result = self.open(request.Parameters, self)
        self._opened_at = self._monotonic()
        self._good_until = self._opened_at + result.SecurityToken.RevisedLifetime / 1000 * 1.25
        response = ua.OpenSecureChannelResponse()
        response.ResponseHeader.RequestHandle = request.RequestHeader.RequestHandle
        response.Parameters = result
        data: bytes = self.message_to_binary(struct_to_binary(response), _Kind.SecureOpen, message.request_id())
        return data

    def _choose(self, header: ua.AsymmetricAlgorithmHeader, renewal: bool) -> None:
        """The policy that the header asks for. The certificate is checked before anything is decrypted."""
        uri, chain = header.SecurityPolicyURI, header.SenderCertificate or b""
        if renewal and (uri != self.security_policy.URI or (self.certificate and leaf(chain) != self.certificate)):
            raise Hangup(ua.StatusCodes.BadSecurityChecksFailed, "a renewal with another policy or certificate")
        if uri == _None.URI:
            self.security_policy = _None()
            return
        policy = next((known for known, _level in POLICIES if uri == known.URI), None)
        if policy is None:
            raise Hangup(ua.StatusCodes.BadSecurityPolicyRejected, "a security policy that isn't offered", _MISTAKE)
        if len(chain) > self.rules.certificate:
            raise Untrusted(b"", f"a certificate of {len(chain)} bytes")
        certificate = leaf(chain)
        if not certificate:
            raise Untrusted(b"", "no certificate")
        thumb = header.ReceiverCertificateThumbPrint or b""
        if not hmac.compare_digest(thumb, hashlib.sha1(self.identity.der).digest()):
            raise Hangup(ua.StatusCodes.BadSecurityChecksFailed, "addressed to another certificate than ours", _MISTAKE)
        self._check(certificate)
        if not renewal:
            mode = ua.MessageSecurityMode.SignAndEncrypt
            factory = _Factory(policy, mode, self.identity.certificate, self.identity.key)
            self.security_policy = factory.create(certificate)
            self.certificate = certificate

    def _decrypted(self, frame: bytes) -> Any:
        buffer = Buffer(frame)
        header = header_from_binary(buffer)
        try:
            message = self.receive_from_header_and_body(header, buffer)
        except (Hangup, UaStatusCodeError):
            raise
        except Exception as error:  # any error of a decryption looks the same from outside
            raise Hangup(ua.StatusCodes.BadSecurityChecksFailed, f"not decrypted: {type(error).__name__}") from error
        return message if isinstance(message, ua.Message) else None

    def _request(self, body: bytes, renewal: bool) -> Any:
        data = Guarded(body, 200, 4)
        request = decode(ua.OpenSecureChannelRequest, data)
        parameters = request.Parameters
        secured = self.security_policy.URI != _None.URI
        mode = ua.MessageSecurityMode.SignAndEncrypt if secured else ua.MessageSecurityMode.None_
        if parameters.SecurityMode != mode:
            raise Hangup(ua.StatusCodes.BadSecurityModeRejected, f"security mode {parameters.SecurityMode!r}", _MISTAKE)
        kind = ua.SecurityTokenRequestType.Renew if renewal else ua.SecurityTokenRequestType.Issue
        if parameters.RequestType != kind:
            raise Hangup(ua.StatusCodes.BadRequestTypeInvalid, "issue and renewal mixed up")
        if secured and len(parameters.ClientNonce or b"") != _NONCE:
            raise Hangup(ua.StatusCodes.BadNonceInvalid, "a nonce of a wrong length")
        wished = parameters.RequestedLifetime / 1000
        life = min(max(wished, self.rules.channel_lifetime_min_s), self.rules.channel_lifetime_s)
        parameters.RequestedLifetime = int(life * 1000)
        return request

    def message(self, frame: bytes) -> tuple[int, bytes] | None:
        """A chunk of a message: (request id, body) when it is the last one. Errors: Hangup."""
        try:
            message = self._decrypted(frame)
        except UaStatusCodeError as error:
            raise Hangup(ua.StatusCodes.BadTcpMessageTooLarge, "too long, or too many chunks") from error
        if message is None:
            return None
        body = message.body()
        return message.request_id(), body.read(len(body))

    def answer(self, response: Any, handle: int, request_id: int) -> bytes:
        """A response as bytes for the wire; one that is too large becomes a fault that says so."""
        response.ResponseHeader.RequestHandle = handle
        data = struct_to_binary(response)
        if len(data) > self._longest_answer:
            response = ua.ServiceFault()
            response.ResponseHeader.RequestHandle = handle
            response.ResponseHeader.ServiceResult = bad(ua.StatusCodes.BadResponseTooLarge)
            data = struct_to_binary(response)
        sealed: bytes = self.message_to_binary(data, _Kind.SecureMessage, request_id)
        return sealed


def error_frame(code: int) -> bytes:
    """The ERR message that ends a connection; it carries the code and no reason."""
    data: bytes = uatcp_to_binary(_Kind.Error, ua.ErrorMessage(bad(code), ua.String("")))
    return data
