"""Exports: whole, harmless, bounded, and sealed so that no byte of them can change unseen."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from xml.etree import ElementTree

import pytest
from unit.gateway.evidence.records import AT, EVERY, NASTY, SECOND, exported, write

from gateway.evidence import comfede
from gateway.evidence.entry import Entry, Wanted, payload_text
from gateway.evidence.errors import NotSealed, SinkError
from gateway.evidence.formats import CLOSINGS, FORMATS
from gateway.evidence.reading import open_record
from gateway.evidence.seal import check_export
from gateway.evidence.signing import Signer
from gateway.evidence.sinks import to_file

NAMESPACE = "{urn:gridlatch:comfede:1}"


def told_of(content: bytes, form: str) -> list[tuple[int, str, object]]:
    """Number, kind and payload of each entry, read back by other parsers than ours; the seal left out."""
    text = content.decode()
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
        return [(int(row["seq"] or 0), row["kind"], row["payload"]) for row in rows if row["kind"] != "seal"]
    if form == "jsonl":
        lines = [json.loads(line) for line in text.split("\n") if line]
        told = [line for line in lines if "seal" not in line]
        return [(one["seq"] or 0, one["kind"], one.get("payload", one.get("payload_base64"))) for one in told]
    if form == "comfede":
        entries = ElementTree.fromstring(text).findall(f"{NAMESPACE}Entry")
        found: list[tuple[int, str, object]] = []
        for one in entries:
            values = {da.get("name"): da.get("val") for da in one.iter(f"{NAMESPACE}DA")}
            found.append((int(one.get("entryId", "")), str(values["kind"]), values["payload"]))
        return found
    lines = [line for line in text.split("\n") if line and " - seal - " not in line]
    return [
        (int(line.split('seq="')[1].split('"')[0]), line.split(" ")[5], line.split("\ufeff", 1)[1]) for line in lines
    ]


@pytest.mark.parametrize("form", EVERY)
def test_every_record_is_in_it_whole(journal: Path, form: str) -> None:
    told = told_of(exported(journal, form), form)
    assert [seq for seq, _, _ in told] == list(range(1, 9))
    payloads = {seq: payload for seq, _, payload in told}
    refused = payloads[4] if form == "jsonl" else json.loads(str(payloads[4]))
    assert isinstance(refused, dict)
    assert refused["refused"] == NASTY
    assert str(payloads[6]).removeprefix("base64:") == "/wAgbm8gSlNPTg=="
    pretty = payloads[7] if form == "jsonl" else json.loads(str(payloads[7]))
    assert pretty == {"a": [1, 2]}


@pytest.mark.parametrize("form", EVERY)
def test_every_entry_is_one_line_of_printable_characters(journal: Path, form: str) -> None:
    text = exported(journal, form).decode()
    lines = [line.replace("\ufeff", "") for line in text.split("\n")]
    assert all(line.isprintable() for line in lines)
    assert len(lines) == 8 + 2 + {"csv": 1, "comfede": 3}.get(form, 0)


def test_no_cell_is_a_formula(journal: Path) -> None:
    rows = list(csv.reader(io.StringIO(exported(journal, "csv").decode(), newline="")))
    assert not [cell for row in rows for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))]
    assert any(cell == "'=1+1" for row in rows for cell in row)


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("signed", [True, False])
def test_every_flipped_byte_is_found(journal: Path, tmp_path: Path, form: str, signed: bool) -> None:
    signer = Signer.open(tmp_path) if signed else None
    content = exported(journal, form, Wanted(kinds=("audit",)), signer)
    file = tmp_path / "x"
    file.write_bytes(content)
    told = check_export(file, CLOSINGS, None)
    assert (told.entries, told.first, told.last, bool(told.signed_by)) == (1, 2, 2, signed)
    assert told.filter == {"kinds": ["audit"]}
    with file.open("r+b", buffering=0) as opened:
        for at, byte in enumerate(content):
            os.pwrite(opened.fileno(), bytes([byte ^ 1 << at % 8]), at)
            with pytest.raises(NotSealed):
                check_export(file, CLOSINGS, None)
            os.pwrite(opened.fileno(), bytes([byte]), at)
    check_export(file, CLOSINGS, None)


@pytest.mark.parametrize("form", EVERY)
def test_every_removed_added_or_moved_line_is_found(journal: Path, tmp_path: Path, form: str) -> None:
    lines = exported(journal, form).splitlines(keepends=True)
    file = tmp_path / "x"
    changed = [lines[:at] + lines[at + 1 :] for at in range(len(lines))]
    changed += [[*lines[:at], lines[at], *lines[at:]] for at in range(len(lines))]
    changed += [[*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]] for at in range(len(lines) - 1)]
    changed += [lines[:at] for at in range(len(lines))]
    changed += [[*lines, b"\n"], [b"\n", *lines], [line.replace(b"\n", b"\r\n") for line in lines]]
    for one in changed:
        file.write_bytes(b"".join(one))
        with pytest.raises(NotSealed):
            check_export(file, CLOSINGS, None)


def test_a_seal_that_was_made_anew_needs_the_key(journal: Path, tmp_path: Path) -> None:
    signer = Signer.open(tmp_path)
    (tmp_path / "other").mkdir()
    other = Signer.open(tmp_path / "other")
    file = tmp_path / "x"
    file.write_bytes(exported(journal, "csv", signer=signer))
    assert check_export(file, CLOSINGS, signer.public).signed_by == signer.fingerprint
    file.write_bytes(exported(journal, "csv"))
    with pytest.raises(NotSealed, match="not signed"):
        check_export(file, CLOSINGS, signer.public)
    file.write_bytes(exported(journal, "csv", signer=other))
    with pytest.raises(NotSealed, match=f"signed by key {other.fingerprint}, not by {signer.fingerprint}"):
        check_export(file, CLOSINGS, signer.public)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (Wanted(), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Wanted(since_us=AT + SECOND, until_us=AT + 3 * SECOND), [2, 3, 4]),
        (Wanted(since_us=AT + 1), [2, 3, 4, 5, 6, 7, 8]),
        (Wanted(until_us=AT - 1), []),
        (Wanted(since_us=AT + 100 * SECOND), []),
        (Wanted(feeder="F1"), [3, 5]),
        (Wanted(feeder="F2"), [4]),
        (Wanted(actor="jane"), [2, 3]),
        (Wanted(actor="root"), [2]),
        (Wanted(actor="eve", kinds=("audit",)), []),
        (Wanted(kinds=("audit", "audit_refused")), [2, 4]),
    ],
)
def test_only_what_is_wanted(journal: Path, wanted: Wanted, numbers: list[int]) -> None:
    with open_record(journal) as source:
        assert [entry.seq for entry in source.entries(wanted)] == numbers


def test_the_xml_is_what_its_schema_declares(journal: Path) -> None:
    """Each element stands where the schema has it, with all attributes that it requires and no others."""
    xs = "{http://www.w3.org/2001/XMLSchema}"
    schema = ElementTree.parse(comfede.SCHEMA).getroot()
    types = {one.get("name"): one for one in schema.findall(f"{xs}complexType")}

    def check(element: ElementTree.Element, declared: ElementTree.Element) -> None:
        kind = types.get(declared.get("type", ""))
        if kind is None:
            kind = declared.find(f"{xs}complexType")
        if kind is None:
            assert declared.get("type") == "xs:string"
            assert not element.attrib
            assert len(element) == 0
            return
        attributes = {one.get("name"): one for one in kind.findall(f"{xs}attribute")}
        assert set(element.attrib) == set(attributes)
        inner = kind.findall(f"{xs}sequence/{xs}element")
        names = [child.tag.removeprefix(NAMESPACE) for child in element]
        order = [one.get("name") for one in inner]
        assert names == sorted(names, key=order.index)
        for one in inner:
            count = names.count(str(one.get("name")))
            assert int(one.get("minOccurs", "1")) <= count
            assert count == 1 or one.get("maxOccurs") == "unbounded" or one.get("minOccurs") == "0"
        for child, name in zip(element, names, strict=True):
            check(child, inner[order.index(name)])

    root = ElementTree.fromstring(exported(journal, "comfede"))
    check(root, schema.findall(f"{xs}element")[0])
    assert all(datetime.fromisoformat(one.get("timeOfEntry", "")) for one in root.findall(f"{NAMESPACE}Entry"))


@pytest.mark.parametrize("instance", ["=x", "\t=x", "＝x", "-1", " +1"])
def test_what_a_spreadsheet_takes_for_a_formula(instance: str) -> None:
    row = FORMATS["csv"].entry(Entry.of(1, instance, "k", AT, b"{}")).decode()
    (cells,) = csv.reader(io.StringIO(row))
    assert not cells[4].lstrip(" ").startswith(("=", "+", "-", "@", "＝"))


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff", b"[1]", b'"x"', b"[" * 100_000])
def test_any_payload_can_be_told(payload: bytes) -> None:
    entry = Entry.of(1, "", "k", AT, payload)
    assert payload_text(payload).isprintable()
    for form in FORMATS.values():
        assert form.entry(entry).count(b"\n") == 1


def test_evidence_is_not_written_over(journal: Path, tmp_path: Path) -> None:
    out = tmp_path / "record.csv"
    with to_file(out) as sink:
        sink.put(b"first")
    with pytest.raises(SinkError, match="exists already"), to_file(out) as sink:
        sink.put(b"second")
    assert out.read_bytes() == b"first"
    with pytest.raises(ZeroDivisionError), to_file(tmp_path / "half") as sink:
        raise ZeroDivisionError
    assert not (tmp_path / "half").exists()
    with pytest.raises(SinkError, match="can't be written"), to_file(tmp_path / "no" / "such") as sink:
        sink.put(b"")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_where_files_have_one_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_links(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    with to_file(tmp_path / "x") as sink:
        sink.put(b"whole")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x").read_bytes() == b"whole"
    sink = to_file(tmp_path / "y")
    sink.__enter__().put(b"second")
    (tmp_path / "y").write_bytes(b"somebody else's")
    with pytest.raises(SinkError, match="exists meanwhile"):
        sink.__exit__(None, None, None)
    assert (tmp_path / "y").read_bytes() == b"somebody else's"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x", "y"]


def test_two_exports_to_one_name_do_not_meet(tmp_path: Path) -> None:
    slow = to_file(tmp_path / "x")
    slow.__enter__().put(b"slow")
    with to_file(tmp_path / "x") as fast:
        fast.put(b"fast")
    with pytest.raises(SinkError, match="exists meanwhile"):
        slow.__exit__(None, None, None)
    assert (tmp_path / "x").read_bytes() == b"fast"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(tmp_path / "nowhere")
    with pytest.raises(SinkError, match="exists already"), to_file(tmp_path / "x"):
        pass
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a FAT file system")
@pytest.mark.skipif(shutil.which("mkfs.vfat") is None, reason="mkfs.vfat (package dosfstools) is not installed")
@pytest.mark.timeout(60)
def test_on_a_real_fat_file_system(tmp_path: Path) -> None:
    image, folder = tmp_path / "image", tmp_path / "stick"
    image.write_bytes(bytes(4 << 20))
    folder.mkdir()
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    mounted = subprocess.run(["mount", "-o", "loop", str(image), str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no loop mount of a FAT file system here: {mounted.stderr.strip()}")
    try:
        with to_file(folder / "record.csv") as sink:
            sink.put(b"whole")
        with pytest.raises(SinkError, match="exists already"), to_file(folder / "record.csv") as sink:
            sink.put(b"other")
        assert (folder / "record.csv").read_bytes() == b"whole"
        assert [one.name for one in folder.iterdir()] == ["record.csv"]
    finally:
        subprocess.run(["umount", str(folder)], check=True)


MEASURED = """
import resource, sys
from pathlib import Path
from gateway.evidence import comfede
from gateway.evidence.entry import Wanted
from gateway.evidence.exporting import export
from gateway.evidence.reading import open_record
from gateway.evidence.sinks import to_file

def most_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

with open_record(Path(sys.argv[1])) as source, to_file(Path(sys.argv[2])) as sink:
    next(iter(source.entries(Wanted())))
    before = most_kib()
    done = export(source, "jsonl", Wanted(), sink, "2026-01-14T09:00:00.000Z", None)
print(done.entries, most_kib() - before)
"""


@pytest.mark.timeout(180)
def test_memory_does_not_grow_with_what_is_exported(tmp_path: Path) -> None:
    path, out = tmp_path / "journal.db", tmp_path / "x.jsonl"
    content = json.dumps({"operations": [{"name": "observe", "input": {"text": "x" * 400}}]}).encode()
    asyncio.run(write(path, [[("@breaker@F1", "operations", content)] * 10_000] * 10))
    command = [sys.executable, "-c", MEASURED, str(path), str(out)]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=150)
    entries, grown_kib = map(int, told.stdout.split())
    assert entries == 100_000
    assert out.stat().st_size > 50_000_000
    assert grown_kib < 12_000
    assert check_export(out, CLOSINGS, None).entries == 100_000
