"""``gridlatch certs``: whom the OPC UA server trusts, and the gateway's own certificate. Asks no daemon.

A certificate is named by its thumbprint, SHA-256 or SHA-1 (what most OPC UA tools show), or its first eight digits or
more; ``trust`` takes a file as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gateway.cli.commands import UsageError
from gateway.cli.fields import moment, plain, table
from gateway.cli.site_files import FAILED, NOT_FOUND, REFUSED, complain, operators_of, tell
from gateway.clock import wall_now
from protocols.opcua.pki import (
    Certificate,
    CertificateRefused,
    Facts,
    NotFound,
    OwnCertificate,
    Pki,
    PkiError,
    Place,
    host_names_of,
)

_SOON_DAYS = 60


@dataclass(frozen=True, slots=True)
class _Where:
    """The folder, and what a new certificate of the gateway is made for."""

    pki: Pki
    application_uri: str
    host_names: tuple[str, ...]


def certs(options: argparse.Namespace, default_site: str) -> int:
    """Run one of the commands; gives its exit code. Raises UsageError."""
    if options.pki is not None:
        where = _Where(Pki(Path(options.pki)), "", tuple(host_names_of("")))
    else:
        operators = operators_of(options, default_site)
        where = _Where(Pki(operators.pki_dir), operators.application_uri, tuple(host_names_of(operators.host)))
    try:
        return _COMMANDS[options.command2](options, where)
    except NotFound as error:
        return complain(str(error), NOT_FOUND)
    except CertificateRefused as error:
        return complain(f"refused: {error}; nothing was changed", REFUSED)
    except PkiError as error:
        return complain(str(error), FAILED)


def _list(options: argparse.Namespace, where: _Where) -> int:
    now = wall_now()
    found = where.pki.list()
    problems = [f"{one.path}: {one.problem}" for one in found if one.facts is None]
    problems += [problem for problem in where.pki.problems() if problem not in problems]
    rows = [
        (
            one.place.value,
            one.facts.thumbprint[:16],
            _until(one.facts, now),
            plain(one.facts.application_uri),
            plain(one.facts.subject),
        )
        for one in found
        if one.facts is not None
    ]
    lines = (
        table(("PLACE", "SHA-256", "GOOD UNTIL", "APPLICATION", "SUBJECT"), rows) if rows else ["No certificate yet."]
    )
    lines += [f"! {problem}" for problem in problems]
    return tell(options, {"certificates": [_json(one) for one in found], "problems": problems}, lines)


def _show(options: argparse.Namespace, where: _Where) -> int:
    found = where.pki.find(options.certificate) if options.certificate else _own(where)
    return tell(options, _json(found), _told(found))


def _own(where: _Where) -> Certificate:
    own = where.pki.own()
    return where.pki.find(own.thumbprint, Place.OWN)


def _trust(options: argparse.Namespace, where: _Where) -> int:
    given, now = options.certificate, wall_now()
    path = Path(given)
    found = where.pki.trust(path if path.exists() else given, now, issuer=options.issuer)
    assert found.facts is not None  # it was read before it was trusted
    lines = [f"Trusted from now on: {plain(found.facts.subject)}"]
    if found.place is Place.ISSUER:
        lines = [f"Taken in as an issuer that completes chains: {plain(found.facts.subject)}"]
    lines.append(f"It lies in {found.path}")
    doubt = _doubt(where.pki, found, now)
    if doubt:
        lines.append(f"! {doubt}")
    return tell(options, {**_json(found), "doubt": doubt}, lines)


def _doubt(pki: Pki, found: Certificate, now: datetime) -> str:
    """Why the certificate would not get in all the same, or what an authority still lacks."""
    assert found.facts is not None
    if found.facts.is_ca:
        return "what it issues gets in only while its revocation list is here, too: 'gridlatch certs crl FILE'"
    why = pki.why_not(found, now)
    return f"it would not get in yet: {why}" if why else ""


def _crl(options: argparse.Namespace, where: _Where) -> int:
    taken = where.pki.add_crl(Path(options.file), wall_now())
    result: dict[str, object] = {
        "issuer": taken.issuer,
        "issued": taken.issued.isoformat(),
        "expires": taken.expires.isoformat(),
        "revoked": taken.revoked,
    }
    number = f"{taken.revoked} certificate{'s' if taken.revoked != 1 else ''} revoked"
    return tell(
        options,
        result,
        [f"The revocation list of {taken.issuer} is in use: {number}, good until {_moment(taken.expires)}."],
    )


def _reject(options: argparse.Namespace, where: _Where) -> int:
    found = where.pki.reject(options.certificate)
    assert found.facts is not None  # it was found by its thumbprint
    return tell(
        options,
        _json(found),
        [
            f"No longer trusted: {plain(found.facts.subject)}",
            "A session that is open goes on until it ends; no new one begins.",
        ],
    )


def _new(options: argparse.Namespace, where: _Where) -> int:
    uri = options.uri or where.application_uri
    if not uri:
        raise UsageError("with --pki, say whom the certificate is for: --uri URI")
    own = where.pki.new(uri, options.host or where.host_names, wall_now(), options.years)
    return _made(options, own, "A new key and certificate were made")


def _renew(options: argparse.Namespace, where: _Where) -> int:
    return _made(
        options, where.pki.renew(wall_now(), options.years), "The certificate was renewed, its key is the old one"
    )


def _made(options: argparse.Namespace, own: OwnCertificate, how: str) -> int:
    result: dict[str, object] = {
        "thumbprint": own.thumbprint,
        "sha1": own.sha1,
        "application_uri": own.application_uri,
        "host_names": list(own.host_names),
        "expires": own.expires.isoformat(),
        "path": str(own.path),
    }
    lines = [
        f"{how}.",
        f"application  {own.application_uri}",
        f"hosts        {', '.join(own.host_names)}",
        f"good until   {_moment(own.expires)}",
        f"SHA-256      {own.thumbprint}",
        f"SHA-1        {own.sha1}",
        "The daemon uses it from its next start on, and each client has to trust it anew.",
    ]
    previous = own.path.parent / "previous"
    if previous.exists():
        lines.append(f"What was there before is in {previous}.")
    return tell(options, result, lines)


_COMMANDS: dict[str, Callable[[argparse.Namespace, _Where], int]] = {
    "list": _list,
    "show": _show,
    "trust": _trust,
    "crl": _crl,
    "reject": _reject,
    "new": _new,
    "renew": _renew,
}


def _json(one: Certificate) -> dict[str, object]:
    told: dict[str, object] = {"place": one.place.value, "path": str(one.path)}
    if one.facts is None:
        return {**told, "problem": one.problem}
    facts = one.facts
    return {
        **told,
        "thumbprint": facts.thumbprint,
        "sha1": facts.sha1,
        "subject": facts.subject,
        "issuer": facts.issuer,
        "self_signed": facts.self_signed,
        "authority": facts.is_ca,
        "application_uri": facts.application_uri,
        "host_names": list(facts.host_names),
        "not_before": facts.not_before.isoformat(),
        "expires": facts.expires.isoformat(),
        "key_bits": facts.key_bits,
    }


def _told(one: Certificate) -> list[str]:
    if one.facts is None:
        return [f"{one.path}: {one.problem}"]
    facts = one.facts
    kind = "an authority" if facts.is_ca else "self-signed" if facts.self_signed else f"issued by {plain(facts.issuer)}"
    return [
        f"subject      {plain(facts.subject)}",
        f"kind         {kind}",
        f"application  {plain(facts.application_uri)}",
        f"hosts        {plain(', '.join(facts.host_names))}",
        f"good from    {_moment(facts.not_before)}",
        f"good until   {_moment(facts.expires)}",
        f"key          RSA, {facts.key_bits} bits" if facts.key_bits else "key          no RSA key",
        f"SHA-256      {facts.thumbprint}",
        f"SHA-1        {facts.sha1}",
        f"place        {one.place.value}: {one.path}",
    ]


def _until(facts: Facts, now: datetime) -> str:
    """When it expires, and a mark where somebody should care."""
    until = facts.expires.strftime("%Y-%m-%d")
    if now > facts.expires:
        return f"{until} EXPIRED"
    if now < facts.not_before:
        return f"{until} not valid yet"
    days = (facts.expires - now).days
    return f"{until} in {days} d" if days < _SOON_DAYS else until


def _moment(when: datetime) -> str:
    return moment(when.isoformat())
