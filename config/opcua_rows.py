"""The columns of devices.csv that say how an OPC UA device is reached, and the table ``[opcua_client]``.

    protocol        modbus (default) or opcua; the rest is for opcua alone
    path            of the endpoint: /freeopcua/server, empty for opc.tcp://host:port
    namespace       URI of the namespace in which its points are, where a point names none
    server_cert     file of the one certificate that it is known by, DER or PEM, relative to the site's folder
    application_uri of that certificate, where it is to be checked
    policy          Basic256Sha256 (default), Aes128_Sha256_RsaOaep or Aes256_Sha256_RsaPss; always signed and encrypted
    user            with secret_file: a file that holds the password alone and that others can't read

What must stay true: a device without a pinned certificate is never taken; no byte of a secret is read here, so none can
be in a hash or a message.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from config.device_models import OpcUaAccess, OpcUaPolicy
from config.kinds import Choice, Kind, Text, Uri
from config.problems import Wrong, shorten
from config.source import Files

LARGEST_CERTIFICATE_BYTES = 64 * 1024


class Policy:
    """A security policy by its name; those that protect nothing any more are refused with the reason."""

    def of_value(self, value: object) -> OpcUaPolicy:
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no policy", OpcUaPolicy.BASIC256SHA256)
        return self.of_text(value)

    def of_text(self, text: str) -> OpcUaPolicy:
        if text.lower() in ("none", "basic128rsa15", "basic256"):
            what = f"policy {text} would let anybody in between operate the breakers"
            raise Wrong(what, " or ".join(OpcUaPolicy))
        return OpcUaPolicy(Choice(OpcUaPolicy).of_text(text))


class EndpointPath:
    """The path of an endpoint; it starts with a slash."""

    def of_value(self, value: object) -> str:
        if not isinstance(value, str):
            raise Wrong(f"{shorten(value)} is no path", "/freeopcua/server")
        return self.of_text(value)

    def of_text(self, text: str) -> str:
        path = Text(limit=255).of_text(text)
        if not path.startswith("/") or " " in path:
            raise Wrong(f"{shorten(text)} is no path of an endpoint", f"/{path.lstrip('/').replace(' ', '_')[:60]}")
        return path


OPCUA_COLUMNS: Mapping[str, Kind] = {
    "path": EndpointPath(),
    "namespace": Uri(),
    "server_cert": Text(limit=4096),
    "application_uri": Uri(),
    "policy": Policy(),
    "user": Text(),
    "secret_file": Text(limit=4096),
}
MODBUS_ONLY = ("max_block_registers", "max_block_bits", "max_gap")


def access_of(
    given: Mapping[str, object], files: Files, folder: Path, note: Callable[[str, str], None]
) -> OpcUaAccess | None:
    """How the device of one row is reached; None after noting each thing that is wrong as (what, write instead).

    given: the cells of ``OPCUA_COLUMNS`` that are not empty.
    """
    values = dict(given)
    good = True
    if "server_cert" not in values:
        note("an OPC UA device needs server_cert, the one certificate it is known by", "pki/devices/NAME.der")
        good = False
    else:
        try:
            path = _absolute(folder, values["server_cert"])
            values |= {"server_cert": path, "server_cert_sha256": _certificate(files, path)}
        except Wrong as wrong:
            note(f"server_cert: {wrong.what}", wrong.write_instead)
            good = False
    if ("user" in values) != ("secret_file" in values):
        here, missing = ("user", "secret_file") if "user" in values else ("secret_file", "user")
        note(f"{here} without {missing}", "both of them, or neither; a secret_file holds the password of the user")
        good = False
    elif "secret_file" in values:
        values["secret_file"] = _absolute(folder, values["secret_file"])
        try:
            _secret(values["secret_file"])
        except Wrong as wrong:
            note(f"secret_file: {wrong.what}", wrong.write_instead)
            good = False
    return _made(OpcUaAccess, values) if good else None


def _made(model: Callable[..., OpcUaAccess], checked: Mapping[str, object]) -> OpcUaAccess:
    return model(**checked)


def _absolute(folder: Path, name: object) -> Path:
    return Path(os.path.normpath(folder / str(name)))


def _certificate(files: Files, path: Path) -> str:
    """The SHA-256 of the file, which counts into the hash of the site: a certificate swapped is a site changed."""
    raw = files.read_bytes(path, LARGEST_CERTIFICATE_BYTES)
    if b"PRIVATE KEY" in raw:
        raise Wrong(f"{path} holds a private key", "the file with the certificate of the device alone")
    # A DER certificate is a SEQUENCE longer than 255 bytes; whether it is a good one is asked when it is used.
    if not raw.startswith((b"\x30\x82", b"-----BEGIN CERTIFICATE-----")):
        raise Wrong(f"{path} holds no certificate", "a file in DER or PEM, as the device hands it out")
    return hashlib.sha256(raw).hexdigest()


def _secret(path: object) -> None:
    file = Path(str(path))
    try:
        mode = file.stat().st_mode
    except (OSError, ValueError):
        raise Wrong(f"there is no file {file}", "the path of a file that holds the password") from None
    if not stat.S_ISREG(mode):
        raise Wrong(f"{file} is not a regular file", "the path of a file that holds the password")
    if mode & 0o007:
        raise Wrong(f"{file} can be read by everybody", f"chmod 0640 {file}")
