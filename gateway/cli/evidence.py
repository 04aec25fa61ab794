"""``gridlatch audit verify FILE… | export | report | key``: the record as evidence, read out of files.

What must stay true: nothing is changed, whether a daemon runs or not; what could not be had (no signature, no record of the
export in the journal, parts in archives) is said on standard error, and what was found stands on standard output. A crash
leaves at most a file named ``.part``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

from gateway.cli.commands import ACT_TIMEOUT_S, UsageError, login_user
from gateway.cli.evidence_parser import KINDS_AT_MOST
from gateway.cli.site_paths import journal_of, socket_of
from gateway.clock import iso, to_us, wall_now
from gateway.control_client import ControlError, DaemonUnreachable, JsonValue, call
from gateway.evidence import eop004
from gateway.evidence.entry import LAST_US, Wanted, visible
from gateway.evidence.errors import CantCheck, EvidenceError, RecordError, SigningError
from gateway.evidence.exporting import MESSAGE_BYTES, Exported, export, send
from gateway.evidence.reading import KeptHead, Source, identity_of, open_record
from gateway.evidence.signing import (
    KEY_FILE,
    PUBLIC_FILE,
    Signer,
    check_line,
    fingerprint,
    load_public,
    read_head,
)
from gateway.evidence.sinks import UDP_AT_MOST, Target, to_collector, to_file, to_stream
from gateway.evidence.verifying import Finding, verify

DONE, FAILED, USAGE = 0, 1, 2
_TOLD_AT_MOST = 400
"""Characters that the daemon takes for one value of a record."""
_SIGNED = re.compile(r"gridlatch-head-1 [^\"]* sig=[A-Za-z0-9+/=]+")
_PLAIN = re.compile(r"([0-9]{1,18}):([0-9a-fA-F]{64})")


def run(options: argparse.Namespace, default_site: str) -> int:
    """Carry out one of the commands; the exit code. Errors: UsageError."""
    commands = {"verify": run_verify, "export": run_export, "report": run_report, "key": show_key}
    try:
        return commands[options.command2](options, default_site)
    except EvidenceError as error:
        _say(str(error))
        return USAGE if isinstance(error, CantCheck) else FAILED


def run_verify(options: argparse.Namespace, default_site: str) -> int:
    """Check files. Errors: UsageError, CantCheck."""
    try:
        key = None if options.key is None else load_public(options.key)
    except (SigningError, OSError) as error:
        raise UsageError(f"--key: {error}") from None
    head = None
    if options.head is not None:
        signed = _SIGNED.search(options.head)
        plain = _PLAIN.fullmatch(options.head.strip())
        if signed is not None:
            told = read_head(signed[0])
            head = KeptHead(told.batch, told.hash_hex)
            if key is None:
                _say(f"the head is signed by key {told.key}; whether that is so was not checked (--key FILE)")
            else:
                check_line(signed[0], key)
        elif plain is not None:
            head = KeptHead(int(plain[1]), plain[2].lower())
        else:
            raise UsageError("--head is a signed line (gridlatch-head-1 …) or BATCH:HASH, as in 543:0c50789e…")
    findings = verify(options.files or [journal_of(options, default_site)], head, key)
    lost = head is not None and not any(one.holds for one in findings)
    if options.json:
        print(json.dumps(_verified(findings, head), indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            _print_finding(finding)
        if lost and head is not None:
            print(f"NONE OF THEM HOLDS the head that was given: {head.batch}:{head.hash_hex}")
    return FAILED if lost or not all(one.ok for one in findings) else DONE


def _print_finding(finding: Finding) -> None:
    print(f"{visible(str(finding.file))}: {'whole' if finding.ok else 'NOT WHOLE'} ({finding.kind})")
    for sentence in finding.says:
        print(f"    {sentence}")
    for sentence in finding.unchecked:
        print(f"    not checked: {sentence}")
    if finding.batch:
        print(f"    head {finding.batch}:{finding.hash_hex}")


def _verified(findings: list[Finding], head: KeptHead | None) -> dict[str, object]:
    whole = all(one.ok for one in findings) and (head is None or any(one.holds for one in findings))
    files = [
        {
            "file": visible(str(one.file)),
            "kind": one.kind,
            "ok": one.ok,
            "says": one.says,
            "unchecked": one.unchecked,
            "journal": one.journal,
            "batch": one.batch,
            "hash": one.hash_hex,
            "records": one.records,
            "holds_head": one.holds,
            **one.details,
        }
        for one in findings
    ]
    return {"ok": whole, "files": files}


def run_export(options: argparse.Namespace, default_site: str) -> int:
    """Write or send an export. Errors: UsageError, RecordError, SinkError, SigningError."""
    target = _target(options)
    home = _home(options, default_site)
    path = options.journal or home
    if path is None:
        raise UsageError("there is no journal")  # without --journal, _home has said why
    if len(options.kind) > KINDS_AT_MOST:
        raise UsageError(f"--kind was given {len(options.kind)} times; {KINDS_AT_MOST} is the limit")
    wanted = Wanted(*_span(options), options.feeder or "", options.actor or "", tuple(options.kind))
    own = home is not None and _same(path, home)
    if own:  # first: so the export holds the record of itself
        _record(options, default_site, wanted, path)
    with open_record(path) as source:
        part = own or (home is not None and identity_of(home) == source.origin.journal)
        if part and not own:
            _record(options, default_site, wanted, path)
        elif not part:
            _say("this export is not on record: what is exported is no part of this site's journal")
        signer = _signer([path.resolve().parent, *([home.resolve().parent] if part and home is not None else [])])
        done = _write(options, target, source, wanted, signer)
        _tell_gaps(source)
    goal = visible(str(target or options.out or "standard output"))
    if options.json and goal != "standard output":
        told = {"entries": done.entries, "first": done.first, "last": done.last, "to": goal, "seal": done.seal}
        print(json.dumps(told, indent=2))
    else:
        words = f"{done.entries} entries to {goal}" + (f"; records {done.first} to {done.last}" if done.last else "")
        print(words, file=sys.stderr if goal == "standard output" else sys.stdout)
    if done.parts:
        _say(f"long entries were sent in parts: {done.parts} messages more")
    if target is not None and target.way == "udp":
        _say("UDP tells nobody what arrived: compare the collector's count, or use tcp:// or tls://")
    return DONE


def _home(options: argparse.Namespace, default_site: str) -> Path | None:
    """The site's journal; None if another one is exported and no site is known. Errors: UsageError."""
    try:
        return journal_of(options, default_site)
    except UsageError:
        if options.journal is None or options.site is not None:
            raise
        return None


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other


def _write(
    options: argparse.Namespace, target: Target | None, source: Source, wanted: Wanted, signer: Signer | None
) -> Exported:
    now = iso(to_us(wall_now()))
    if target is not None:
        limit = options.max_message or MESSAGE_BYTES
        limit = min(limit, UDP_AT_MOST) if target.way == "udp" else limit
        with to_collector(target, options.tls_ca, options.tls_cert) as sink:
            return send(source, wanted, sink, now, signer, limit)
    with to_stream(sys.stdout.buffer) if options.out is None else to_file(options.out) as sink:
        return export(source, options.format, wanted, sink, now, signer)


def _target(options: argparse.Namespace) -> Target | None:
    if options.to is None:
        for name in ("tls_ca", "tls_cert", "max_message"):
            if getattr(options, name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} belongs to --to")
        return None
    if options.format != "syslog":
        raise UsageError("--to sends syslog messages: it goes with --format syslog")
    try:
        target = Target.of(options.to)
    except ValueError as error:
        raise UsageError(f"--to: {error}") from None
    if target.way != "tls" and (options.tls_ca or options.tls_cert):
        raise UsageError("--tls-ca and --tls-cert go with --to tls://HOST:PORT")
    return target


def _span(options: argparse.Namespace) -> tuple[int, int]:
    since_us = 0 if options.since is None else to_us(options.since)
    until_us = LAST_US if options.until is None else to_us(options.until)
    if since_us > until_us:
        raise UsageError("--since is later than --until: nothing lies between")
    return since_us, until_us


def _signer(folders: list[Path]) -> Signer | None:
    """The device's key, if it lies in one of these folders and may be read."""
    for folder in folders:
        try:
            return Signer.load(folder / KEY_FILE)
        except FileNotFoundError:
            continue
        except OSError as error:
            _say(f"not signed: {folder / KEY_FILE} can't be read: {error.strerror}")
        except SigningError as error:
            _say(f"not signed: {error}")
        return None
    _say(f"not signed: there is no {KEY_FILE} beside the journal")
    return None


def _record(options: argparse.Namespace, default_site: str, wanted: Wanted, path: Path) -> None:
    """Have a running daemon write down who exports what, ahead of it."""
    goal = visible(str(options.to or (options.out and options.out.absolute()) or "standard output"))
    words = {"from": visible(path.name), "to": goal, "filter": json.dumps(wanted.as_json(), ensure_ascii=False)}
    told: dict[str, JsonValue] = {"format": options.format, "actor": login_user()}
    told |= {
        key: text if len(text) <= _TOLD_AT_MOST else f"{text[: _TOLD_AT_MOST - 1]}…" for key, text in words.items()
    }
    try:
        call(socket_of(options, default_site), "audit.exported", told, ACT_TIMEOUT_S)
    except (DaemonUnreachable, ControlError) as error:
        _say(f"this export is not on record in the journal: {error}")


def _tell_gaps(source: Source) -> None:
    if source.archives:
        names = ", ".join(source.archives[:3]) + (" …" if source.archives[3:] else "")
        _say(
            f"records up to {source.origin.archived_to} are in {len(source.archives)} archives, not in this export, but "
            f"for a few that stayed: export each by --journal ({names})"
        )


def run_report(options: argparse.Namespace, default_site: str) -> int:
    """A draft for people. Errors: UsageError, RecordError, SinkError, TooLong."""
    since_us, until_us = _span(options)
    if not options.instance and not since_us:
        raise UsageError("say which procedure (INSTANCE), or since when (--since TIME)")
    with open_record(options.journal or journal_of(options, default_site)) as source:
        if options.instance:
            span = source.span_of(options.instance)
            if span is None:
                raise RecordError(f"there is no {options.instance} in this record")
            since_us, until_us = max(since_us, span[0]), min(until_us, span[1])
        found = eop004.gather(source.entries(Wanted(since_us, until_us)), options.instance)
        head = f"{source.origin.head.batch}:{source.origin.head.hash_hex}"
        text = eop004.draft(found, head, source.origin.archived_to)
    with to_stream(sys.stdout.buffer) if options.out is None else to_file(options.out) as sink:
        sink.put(text.encode())
    if options.out is not None:
        print(f"The draft is in {options.out}")
    return DONE


def show_key(options: argparse.Namespace, default_site: str) -> int:
    """The public half, of a new key if one is asked for. Errors: UsageError, SigningError, RecordError."""
    path = journal_of(options, default_site).with_name(PUBLIC_FILE)
    if options.new:
        try:
            Signer.make(path.parent)
        except OSError as error:
            raise SigningError(f"no key can be made in {path.parent}: {error.strerror}") from None
        _say("the daemon signs with the new key from its next start on, and records the change")
    try:
        text, key = path.read_text(), load_public(path)
    except OSError as error:
        advice = "; the daemon makes it at its first start" if isinstance(error, FileNotFoundError) else ""
        raise RecordError(f"{path} can't be read: {error.strerror}{advice}") from None
    if options.json:
        print(json.dumps({"file": str(path), "fingerprint": fingerprint(key), "pem": text}, indent=2))
    else:
        print(f"{path}, key {fingerprint(key)}\n{text}", end="")
    return DONE


def _say(sentence: str) -> None:
    print(f"gridlatch: {visible(sentence)}", file=sys.stderr)
