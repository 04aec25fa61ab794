"""``gridlatch run`` and ``gridlatch check``: the two commands that work on a site's folder and ask no daemon."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from config import ConfigErrors, ConfigProblem, load_site
from config.models import Site
from gateway.cli.fields import count, table

_OK, _WRONG = 0, 2


def run(options: argparse.Namespace) -> int:
    """Run the daemon in the foreground until it is told to stop; gives its exit code."""
    import asyncio

    from gateway.daemon import run as run_daemon
    from gateway.starting import share_the_interpreter

    share_the_interpreter()
    try:
        return asyncio.run(run_daemon(Path(options.site)))
    except ConfigErrors as errors:
        return _show_problems(errors)


def check(options: argparse.Namespace) -> int:
    """Check the site: 0 and a summary with warnings, or 2 and every problem."""
    try:
        site = load_site(Path(options.site))
        site = dataclasses.replace(
            site, warnings=(*site.warnings, *_check_programs(site, Path(options.site)), *_check_users(site))
        )
    except ConfigErrors as errors:
        if options.json:
            problems = [
                {"file": one.file, "line": one.line, "what": one.what, "write_instead": one.write_instead}
                for one in errors.problems
            ]
            print(json.dumps({"ok": False, "problems": problems}, indent=2, ensure_ascii=False))
            return _WRONG
        return _show_problems(errors)
    if options.json:
        print(json.dumps(_summary(site), indent=2, ensure_ascii=False))
    else:
        print("\n".join(_summary_lines(site)))
    return _OK


def _check_programs(site: Site, given: Path) -> list[str]:
    """Load the site's own procedures as the daemon would; gives what replay could not bear in them.

    given: the site as it was named. Raises ConfigErrors.
    """
    if not site.gateway.programs:
        return []
    from gateway.durable import Registry
    from gateway.durable.determinism import Finding
    from gateway.programs import ProgramError, load_programs

    found: list[Finding] = []
    try:
        load_programs(Registry(found.append), site.gateway.programs, site.path)
    except ProgramError as error:
        file = given / "site.toml" if given.is_dir() else given
        lines = file.read_text(encoding="utf-8").splitlines()
        line = next((number for number, text in enumerate(lines, 1) if text.strip().startswith("programs")), 1)
        problem = ConfigProblem(str(file), line, str(error), "a program that loads: mend it, or leave it out")
        raise ConfigErrors([problem]) from None
    return [str(one) for one in found]


def _check_users(site: Site) -> list[str]:
    """What is to be said of the users of the OPC UA server, if the site has one."""
    if site.operators is None:
        return []
    from protocols.opcua.users import BrokenUserFile, UserFile

    try:
        if UserFile(site.operators.users_file).accounts():
            return []
    except BrokenUserFile as error:
        return [f"users of OPC UA: {error}"]
    return ["[operators] has no user yet, so nobody can log in: 'gridlatch users add NAME --role ROLE' makes the first"]


def _show_problems(errors: ConfigErrors) -> int:
    number = len(errors.problems)
    print(errors, file=sys.stderr)
    print(f"gridlatch: {number} problem{'s' if number != 1 else ''}; nothing was started", file=sys.stderr)
    return _WRONG


def _summary(site: Site) -> dict[str, object]:
    return {
        "ok": True,
        "site": site.name,
        "sha256": site.sha256,
        "mode": site.shedding.mode.value,
        "transformer": {"name": site.transformer.name, "capacity_kw": site.transformer.capacity_kw},
        "devices": len(site.devices),
        "measurements": len(site.measurements),
        "feeders": len(site.feeders),
        "critical": _critical(site),
        "tiers": [
            {"name": name, "rank": rank, "feeders": feeders, "rated_kw": kw} for rank, name, feeders, kw in _tiers(site)
        ],
        "warnings": list(site.warnings),
    }


def _critical(site: Site) -> int:
    return sum(feeder.critical for feeder in site.feeders)


def _tiers(site: Site) -> list[tuple[int, str, int, float]]:
    """Rank, name, number of feeders and their rated kW, for each tier."""
    rows = []
    for tier in site.tiers:
        rated = [feeder.rated_kw for feeder in site.feeders if feeder.tier == tier.name]
        rows.append((tier.rank, tier.name, len(rated), sum(rated)))
    return rows


def _summary_lines(site: Site) -> list[str]:
    rows = [(str(rank), name, count(feeders), count(kw, "kW")) for rank, name, feeders, kw in _tiers(site)]
    lines = [
        f"{site.name}: the configuration is in order.",
        f"{count(len(site.feeders))} feeders ({count(_critical(site))} critical) "
        f"on {count(len(site.devices))} devices; "
        f"transformer {site.transformer.name} with {count(site.transformer.capacity_kw, 'kW')}, "
        f"mode {site.shedding.mode.value}.",
        "",
        *table(("RANK", "TIER", "FEEDERS", "RATED"), rows, right=("RANK", "FEEDERS", "RATED")),
        "",
        f"sha256 {site.sha256}",
    ]
    if site.warnings:
        lines += ["", f"{len(site.warnings)} warning{'s' if len(site.warnings) != 1 else ''}:"]
        lines += [f"  {warning}" for warning in site.warnings]
    return lines
