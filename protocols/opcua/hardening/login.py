"""Identity tokens: what a client shows to log in, taken apart and given to the doorman.

Three ways in: a password, encrypted for our certificate together with this session's nonce; a person's certificate, with
a signature over our certificate and the nonce; nobody at all, where the site lets anonymous readers in. What is refused
is refused in one and the same way (``Refusal``); the reason is for the record.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncua import ua
from asyncua.crypto import uacrypto
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from protocols.opcua.hardening.channel import Channel
from protocols.opcua.hardening.limits import ServerSettings
from protocols.opcua.surface import Doing
from protocols.opcua.users import Doorman, LoginRefused, User, Why

ANONYMOUS, PASSWORD, CERTIFICATE = "anonymous", "username", "certificate"
_LONGEST_PASSWORD = 1024


class Refusal(Exception):
    """Nobody is let in. user: the name that was tried; the text is for the record, never for the client."""

    def __init__(self, why: str, user: str = "", doing: Doing = Doing.LOGIN_REFUSED) -> None:
        super().__init__(why)
        self.user = user
        self.doing = doing


@dataclass(frozen=True, slots=True)
class Person:
    """Who logged in; an anonymous reader has no name, no roles, and is no user."""

    name: str
    roles: frozenset[str]
    user: User | None = None


def token_policies(policy_uri: str, settings: ServerSettings) -> list[ua.UserTokenPolicy]:
    """What an endpoint offers to log in with; secrets are protected by the endpoint's own policy."""
    kinds = [(PASSWORD, ua.UserTokenType.UserName), (CERTIFICATE, ua.UserTokenType.Certificate)]
    if settings.anonymous_read:
        kinds.append((ANONYMOUS, ua.UserTokenType.Anonymous))
    offered = []
    for name, kind in kinds:
        policy = ua.UserTokenPolicy()
        policy.PolicyId = name
        policy.TokenType = kind
        policy.SecurityPolicyUri = None if name == ANONYMOUS else policy_uri
        offered.append(policy)
    return offered


async def log_in(
    parameters: ua.ActivateSessionParameters,
    channel: Channel,
    nonce: bytes,
    settings: ServerSettings,
    doorman: Doorman,
    now: datetime,
) -> Person:
    """Who this is. now: the wall clock. Errors: Refusal."""
    token = parameters.UserIdentityToken
    try:
        match token:
            case ua.UserNameIdentityToken():
                name = token.UserName or ""
                password = _password(token, channel, nonce)
                user = await doorman.by_password(name, password)
            case ua.X509IdentityToken():
                name = "(certificate)"
                _verify(token, parameters.UserTokenSignature, channel, nonce)
                user = await doorman.by_certificate(token.CertificateData, now)
            case ua.AnonymousIdentityToken() | None:
                return _nobody(settings)
            case ua.ExtensionObject() if token.TypeId.is_null():
                return _nobody(settings)
            case _:
                raise Refusal("an identity token of a kind that isn't offered")
    except LoginRefused as error:
        locked = error.locks_out or error.why is Why.LOCKED_OUT
        doing = Doing.LOCKED_OUT if locked else Doing.LOGIN_REFUSED
        raise Refusal(str(error), name, doing) from error
    return Person(user.name, user.roles, user)


def _nobody(settings: ServerSettings) -> Person:
    if not settings.anonymous_read:
        raise Refusal("anonymous, which this site doesn't allow")
    return Person("", frozenset())


def _password(token: ua.UserNameIdentityToken, channel: Channel, nonce: bytes) -> str:
    """The password of a token. Part 4, 7.41.2.2: length, password, nonce, encrypted block by block."""
    user = token.UserName or ""
    if token.EncryptionAlgorithm != channel.policy.AsymmetricEncryptionURI:
        raise Refusal("a password that wasn't encrypted as the endpoint says", user)
    secret = token.Password or b""
    key = channel.identity.key
    block = key.key_size // 8
    if not secret or len(secret) % block or len(secret) > 8 * block:
        raise Refusal("a password token of a wrong length", user)
    oaep256 = channel.policy.AsymmetricEncryptionURI.endswith("sha2-256")
    decrypt: Any = uacrypto.decrypt_rsa_oaep_sha256 if oaep256 else uacrypto.decrypt_rsa_oaep
    try:
        plain = b"".join(decrypt(key, secret[at : at + block]) for at in range(0, len(secret), block))
    except ValueError as error:
        raise Refusal("a password token that doesn't decrypt", user) from error
    length = int.from_bytes(plain[:4], "little")
    rest = plain[4 : 4 + length]
    size = length - len(nonce)
    if not 0 <= size <= _LONGEST_PASSWORD or len(rest) != length:
        raise Refusal("a password token of a wrong length", user)
    if not hmac.compare_digest(rest[size:], nonce):
        raise Refusal("a password token that was made for another session", user)
    try:
        return rest[:size].decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal("a password that isn't UTF-8", user) from error


def _verify(token: ua.X509IdentityToken, signature: ua.SignatureData, channel: Channel, nonce: bytes) -> None:
    """The client holds the key of the certificate that it shows."""
    if signature is None or signature.Algorithm != channel.policy.AsymmetricSignatureURI or not signature.Signature:
        raise Refusal("a user certificate without a signature of the endpoint's algorithm")
    if not token.CertificateData or len(token.CertificateData) > channel.rules.certificate:
        raise Refusal("a user certificate of a wrong length")
    try:
        certificate = x509.load_der_x509_certificate(token.CertificateData)
        verify_signature(certificate, channel.policy, channel.identity.der + nonce, signature.Signature)
    except (ValueError, TypeError, AttributeError, InvalidSignature) as error:
        raise Refusal("a user certificate with a signature that isn't its own") from error


def verify_signature(certificate: Any, policy: Any, data: bytes, signature: bytes) -> None:
    """Check a signature of this policy's algorithm. Errors: InvalidSignature; ValueError, AttributeError for other keys."""
    pss = policy.AsymmetricSignatureURI.endswith("rsa-pss-sha2-256")
    verify: Any = uacrypto.verify_pss_sha256 if pss else uacrypto.verify_sha256
    verify(certificate, data, signature)
