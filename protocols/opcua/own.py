"""The gateway's own certificate with its key, as files of the pki's folder.

What must stay true: the key is readable by its owner alone, or it is not used; a certificate is only shown with the key
that belongs to it; what is replaced is kept in own/previous (the last five).

The key is written before the certificate. A crash between the two at the first start leaves a key that nobody has seen,
and the next start makes both anew; in the middle of ``new`` it leaves a pair that doesn't fit, which is told with the
way out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from protocols.opcua import certificates as certs
from protocols.opcua.certificates import CertificateRefused, thumbprint
from protocols.opcua.files import alone, make_folder, newest_first, read_file, why, write_private
from protocols.opcua.making import OWN_YEARS, key_to_pem, make_key, make_own
from protocols.opcua.trust_files import ISSUERS, ISSUERS_CRL, TRUSTED, TRUSTED_CRL

OWN_CERTIFICATE, OWN_KEY, PREVIOUS = Path("own/cert.der"), Path("own/key.pem"), Path("own/previous")
REJECTED = Path("rejected")
MOST_PREVIOUS = 5


class PkiError(Exception):
    """The folder can't be used as it is, or what was asked can't be done; the text says what to do."""


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """The gateway's own certificate. thumbprint: SHA-256, hexadecimal; expires: UTC."""

    der: bytes
    path: Path
    key_path: Path
    thumbprint: str
    sha1: str
    expires: datetime
    application_uri: str
    host_names: tuple[str, ...]


class OwnPair:
    """Certificate and key. What its methods do is told in ``Pki``, which passes them on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ensure(self, application_uri: str, host_names: Sequence[str], now: datetime) -> bool:
        """At the start: have a certificate of this URI. True if it was made now. Raises PkiError.

        host_names: names and addresses under which clients find the gateway; the first name is the common name, too.
        """
        make_folders(self.folder)
        if not (self.folder / OWN_CERTIFICATE).exists():
            self._make_own(application_uri, host_names, now, OWN_YEARS)
            return True
        own = self.read()
        if own.application_uri != application_uri:
            raise PkiError(
                f"the certificate in {own.path} was made for {own.application_uri!r}, and the site says "
                f"{application_uri!r}: make a new one with 'gridlatch certs new', or correct application_uri"
            )
        return False

    def read(self) -> OwnCertificate:
        """The certificate that is there, with a key that fits. Raises PkiError."""
        path, key_path = self.folder / OWN_CERTIFICATE, self.folder / OWN_KEY
        try:
            der = certs.der_of(read_file(path, 2 * certs.MOST_BYTES), "CERTIFICATE")
            certificate = certs.parse(der)
        except FileNotFoundError:
            raise PkiError(
                f"there is no certificate of our own in {path}; the daemon makes one when it starts"
            ) from None
        except (OSError, CertificateRefused) as error:
            raise PkiError(
                f"{path} can't be used: {why(error)}; put it back, or make one with 'gridlatch certs new'"
            ) from None
        if self._key().public_key() != certificate.public_key():
            raise PkiError(
                f"{key_path} is not the key of {path}; put back what belongs together (the last ones are in "
                f"{self.folder / PREVIOUS}), or make new ones with 'gridlatch certs new'"
            )
        facts = certs.facts(der, certificate)
        return OwnCertificate(
            der, path, key_path, facts.thumbprint, facts.sha1, facts.expires, facts.application_uri, facts.host_names
        )

    def _key(self) -> rsa.RSAPrivateKey:
        path = self.folder / OWN_KEY
        try:
            if path.stat().st_mode & 0o077:
                raise PkiError(
                    f"others than its owner may read or change {path}: 'chmod 600' it, and if somebody may have read it, "
                    "make a new one with 'gridlatch certs new'"
                )
            key = serialization.load_pem_private_key(read_file(path, certs.MOST_BYTES), None)
        except FileNotFoundError:
            raise PkiError(
                f"there is no key in {path}; put it back, or make a new one with 'gridlatch certs new'"
            ) from None
        except (OSError, ValueError, TypeError) as error:
            raise PkiError(f"{path} can't be used: {why(error)}") from None
        if not isinstance(key, rsa.RSAPrivateKey):
            raise PkiError(f"{path} is no RSA key")
        return key

    def new(
        self, application_uri: str, host_names: Sequence[str], now: datetime, years: int = OWN_YEARS
    ) -> OwnCertificate:
        """A new key and certificate; the old ones are kept in own/previous. Raises PkiError."""
        make_folders(self.folder)
        with changing(self.folder):
            self._keep_previous()
        self._make_own(application_uri, host_names, now, years)
        return self.read()

    def renew(self, now: datetime, years: int = OWN_YEARS) -> OwnCertificate:
        """The certificate that is there with new dates: same key, URI and names. The old one is kept. Raises PkiError."""
        own = self.read()
        with changing(self.folder):
            self._keep_previous()
            self._write_own(self._key(), own.application_uri, own.host_names, now, years)
        return self.read()

    def _make_own(self, application_uri: str, host_names: Sequence[str], now: datetime, years: int) -> None:
        key = make_key()
        with changing(self.folder):
            # The key first: one without a certificate was never shown to anybody, and is made anew.
            write_private(self.folder / OWN_KEY, key_to_pem(key))
            self._write_own(key, application_uri, host_names, now, years)

    def _write_own(
        self, key: rsa.RSAPrivateKey, application_uri: str, host_names: Sequence[str], now: datetime, years: int
    ) -> None:
        try:
            der = make_own(key, application_uri, host_names, now, years)
        except (ValueError, TypeError, OverflowError) as error:
            raise PkiError(
                f"no certificate can be made for {application_uri!r} at {', '.join(host_names)}: {error}"
            ) from None
        write_private(self.folder / OWN_CERTIFICATE, der, 0o644)

    def _keep_previous(self) -> None:
        """Copies of key and certificate, under the certificate's thumbprint."""
        path, key_path = self.folder / OWN_CERTIFICATE, self.folder / OWN_KEY
        if not path.exists():
            return
        make_folder(self.folder / PREVIOUS)
        der = read_file(path, 2 * certs.MOST_BYTES)
        name = thumbprint(der)[:16]
        write_private(self.folder / PREVIOUS / f"{name}.der", der)
        if key_path.exists():
            write_private(self.folder / PREVIOUS / f"{name}.pem", read_file(key_path, certs.MOST_BYTES))
        for old in newest_first(self.folder / PREVIOUS, ".der")[MOST_PREVIOUS:]:
            old.unlink()
            old.with_suffix(".pem").unlink(missing_ok=True)


def make_folders(folder: Path) -> None:
    """Have all folders of the pki, for the owner alone. Raises PkiError."""
    try:
        make_folder(folder)
        for place in (OWN_KEY.parent, TRUSTED, TRUSTED_CRL, ISSUERS, ISSUERS_CRL, REJECTED):
            for part in (*reversed(place.parents), place):
                make_folder(folder / part)
    except OSError as error:
        raise PkiError(f"{folder} can't be made: {why(error)}") from None


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """Alone with the folder; what the disk refuses is a PkiError."""
    try:
        with alone(folder):
            yield
    except OSError as error:
        raise PkiError(f"{folder} can't be changed: {why(error)}") from None
