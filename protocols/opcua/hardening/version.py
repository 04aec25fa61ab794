"""Which asyncua this package was written against. It uses names of asyncua that are private or undocumented; another
release may have other ones, and a hole that was closed could be open again without a word. So: this one, or none."""

from __future__ import annotations

from importlib.metadata import version

WRITTEN_AGAINST = "2.1."


class UnknownAsyncua(RuntimeError):
    """The installed asyncua is not the one that the hardening was written and tested against."""


def check_version(installed: str | None = None) -> None:
    """Refuse any asyncua but 2.1.x. Errors: UnknownAsyncua."""
    found = version("asyncua") if installed is None else installed
    if not found.startswith(WRITTEN_AGAINST):
        raise UnknownAsyncua(
            f"asyncua {found} is installed; the OPC UA server is hardened for {WRITTEN_AGAINST}x alone and does not start "
            f"with another one. Install asyncua=={WRITTEN_AGAINST}0, or run the security tests and change WRITTEN_AGAINST."
        )
