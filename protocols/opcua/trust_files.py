"""Reading the folders of the trust list: which files there are, what each holds, which of them changed.

What must stay true: a file that can't be read, or holds something else, is a problem that is told, and trusts nobody;
so does a folder that can't be looked into. The number and the size of the files that are read are bounded.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from stat import S_ISREG

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from protocols.opcua.certificates import (
    MOST_BYTES,
    CertificateRefused,
    Reason,
    der_of,
    issued_by,
    parse,
    short,
    strong_hash,
    thumbprint,
    why_no_issuer,
)
from protocols.opcua.chain import Authority, Content, FileMark, Mark, TrustList
from protocols.opcua.files import read_file, why

TRUSTED, TRUSTED_CRL = Path("trusted/certs"), Path("trusted/crl")
ISSUERS, ISSUERS_CRL = Path("issuers/certs"), Path("issuers/crl")
MOST_FILES = 1000
"""So many files of one folder are read, in the order of their names; that there are more is told as a problem."""
MOST_CRL_BYTES = 4 * 1024 * 1024


def parse_crl(der: bytes) -> x509.CertificateRevocationList:
    """The revocation list in these bytes. Raises CertificateRefused."""
    try:
        crl = x509.load_der_x509_crl(der)
        extensions = list(crl.extensions)
        _ = crl.issuer.rfc4514_string(), crl.last_update_utc, crl.next_update_utc, len(crl)
        algorithm = crl.signature_hash_algorithm
    # As for certificates: a parser whose errors have no family.
    except Exception as error:  # noqa: BLE001
        raise CertificateRefused(
            Reason.MALFORMED, f"this is no revocation list that can be read: {short(str(error))}"
        ) from None
    if not strong_hash(algorithm):
        raise CertificateRefused(
            Reason.WEAK_HASH, "the revocation list is signed with a weak hash; SHA-256 is the least"
        )
    for extension in extensions:
        if extension.critical and extension.oid != ExtensionOID.AUTHORITY_KEY_IDENTIFIER:
            raise CertificateRefused(
                Reason.UNSUPPORTED,
                f"the revocation list is not a whole one (critical extension {extension.oid.dotted_string})",
            )
    return crl


def read_trust_list(folder: Path, before: TrustList | None = None) -> TrustList:
    """Read the four folders. Never raises: what can't be read is among the problems, and trusts nobody.

    before: what was read the last time; files that are as they were then are not read again.
    """
    found = TrustList()
    known = before.files if before is not None else {}
    for place in (TRUSTED, ISSUERS, TRUSTED_CRL, ISSUERS_CRL):
        try:
            marks = sorted(_marks(folder / place))
        except OSError as error:
            found.problems.append(f"{folder / place} can't be read: {error.strerror}")
            continue
        if len(marks) > MOST_FILES:
            found.problems.append(f"{folder / place} holds {len(marks)} files, and no more than {MOST_FILES} are read")
        for mark in marks[:MOST_FILES]:
            same = known.get(mark)
            found.add(mark, _read(place, mark) if same is None or isinstance(same, str) else same)
    return found


def _read(place: Path, mark: FileMark) -> Content:
    try:
        if place in (TRUSTED_CRL, ISSUERS_CRL):
            return parse_crl(der_of(read_file(Path(mark.path), MOST_CRL_BYTES), "X509 CRL"))
        der = der_of(read_file(Path(mark.path), 2 * MOST_BYTES), "CERTIFICATE")
        certificate = parse(der)
    except OSError as error:
        return f"{mark.path} can't be read: {why(error)}"
    except CertificateRefused as refused:
        return f"{mark.path}: {refused}"
    unfit = why_no_issuer(certificate)
    root = not unfit and issued_by(certificate, certificate)
    return Authority(certificate, thumbprint(der), place == TRUSTED, unfit, root)


def mark_of(folder: Path) -> Mark:
    """What changes whenever a file of the trust list comes, goes or changes. Raises OSError for folders not to be read."""
    return tuple(
        sorted(mark for place in (TRUSTED, TRUSTED_CRL, ISSUERS, ISSUERS_CRL) for mark in _marks(folder / place))
    )


def _marks(folder: Path) -> list[FileMark]:
    found: list[FileMark] = []
    # Neither a folder that isn't there yet, nor a file that another process takes away meanwhile, is an error.
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):
                    stat = entry.stat()
                    if S_ISREG(stat.st_mode):
                        mark = (entry.path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
                        found.append(FileMark(*mark))
    return found
