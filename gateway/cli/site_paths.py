"""Where a site's daemon is reached and where its journal lies, read from ``site.toml`` without checking the rest of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from gateway.cli.commands import UsageError

DEFAULT_SOCKET = "state/gridlatch.sock"
DEFAULT_STATE_DIR = "state"
JOURNAL = "journal.db"


def socket_of(options: argparse.Namespace, default_site: str) -> Path:
    """The control socket: as given, or as the site says. Raises UsageError."""
    if options.socket is not None:
        return Path(options.socket)
    folder, gateway = _gateway_of(options, default_site, "; say --site DIR, --socket PATH or set GRIDLATCH_SITE")
    return folder / str(gateway.get("socket", DEFAULT_SOCKET))


def journal_of(options: argparse.Namespace, default_site: str) -> Path:
    """The journal of the site. Raises UsageError."""
    folder, gateway = _gateway_of(options, default_site, "; say --site DIR or set GRIDLATCH_SITE")
    return folder / str(gateway.get("state_dir", DEFAULT_STATE_DIR)) / JOURNAL


def _gateway_of(options: argparse.Namespace, default_site: str, advice: str) -> tuple[Path, Mapping[str, object]]:
    """The site's folder and its table [gateway]."""
    site = Path(options.site or os.environ.get("GRIDLATCH_SITE") or default_site)
    import tomllib

    try:
        file = site / "site.toml" if site.is_dir() else site
        gateway = tomllib.loads(file.read_text(encoding="utf-8")).get("gateway", {})
    except FileNotFoundError:
        raise UsageError(f"there is no site at {site}{advice}") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"the site at {site} can't be read: {error}") from None
    return file.absolute().parent, gateway if isinstance(gateway, dict) else {}
