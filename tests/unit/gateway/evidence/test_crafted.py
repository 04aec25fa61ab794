"""Exports that were made to mislead: mutated at random and with method, in each format. None is believed."""

from __future__ import annotations

import hashlib
import json
import random
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from unit.gateway.evidence.records import ALL, EVERY, exported

from gateway.cli import main
from gateway.evidence.entry import Wanted
from gateway.evidence.errors import NotSealed
from gateway.evidence.formats import CLOSINGS
from gateway.evidence.seal import MAGIC, check_export
from gateway.evidence.signing import Signer
from gateway.evidence.verifying import verify

SEED = 20_260_114
ROUNDS = 250
SEAL = re.compile(rb"gridlatch-seal-1 [ -~]*?sha256=[0-9a-f]{64}(?: sig=[A-Za-z0-9+/=]{88})?")
NO_FILTERS = [
    "",
    "[]",
    "null",
    "1",
    '"x"',
    "NaN",
    "Infinity",
    "{",
    "[" * 9_000,
    '{"feeder":' * 3_000,
    '{"since":' + "9" * 6_000 + "}",
    "9" * 6_000,
    '{"since":1}',
    '{"since":NaN}',
    '{"since":null}',
    '{"since":{"a":[1]}}',
    '{"kinds":"audit"}',
    '{"kinds":[1]}',
    '{"kinds":[["audit"]]}',
    '{"kinds":{"audit":1}}',
    '{"kinds":[]}',
    '{"feeder":"F1","feeder":"F2"}',
    '{"feeder":""}',
    '{"actor":"jane","feeder":"F1"}',
    '{"other":"x"}',
    '{"feeder": "F1"}',
    '{"feeder":"\\ud800"}',
    '{"feeder":"\\u0046"}',
    "\ufeff{}",
    "{}{}",
    " {}",
]


def fields_of(content: bytes) -> dict[str, str]:
    found = SEAL.search(content)
    assert found is not None
    words = found[0].decode().partition(" sig=")[0].split(" ")[1:]
    return dict(word.partition("=")[::2] for word in words)


def sealed_anew(content: bytes, form: str, fields: dict[str, str]) -> bytes:
    """The content under a seal with these fields, whose hash is right: what somebody without the key can make."""
    found = SEAL.search(content)
    assert found is not None
    body = content[: len(content) - len(CLOSINGS[form](found[0].decode()))]
    text = f"{MAGIC} " + " ".join(f"{name}={value}" for name, value in fields.items() if name != "sha256")
    digest = hashlib.sha256(body + text.encode()).hexdigest()
    return body + CLOSINGS[form](f"{text} sha256={digest}")


def believed(file: Path, content: bytes) -> bool:
    """Whether the check takes it for whole; any error but NotSealed fails the test."""
    file.write_bytes(content)
    try:
        check_export(file, CLOSINGS, None)
    except NotSealed:
        return False
    return True


def mutated(chance: random.Random, content: bytes) -> bytes:
    """One change somewhere, of a kind that knows lines, fields and numbers."""
    content = content or b"x=1\n"
    at = chance.randrange(len(content))
    lines = content.splitlines(keepends=True)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(9):
        case 0:
            return content[:at] + bytes([content[at] ^ 1 << chance.randrange(8)]) + content[at + 1 :]
        case 1:
            return content[:at] + content[at + chance.randint(1, 40) :]
        case 2:
            return content[:at] + chance.randbytes(chance.randint(1, 40)) + content[at:]
        case 3:
            return content[:at]
        case 4:
            lines[one], lines[other] = lines[other], lines[one]
            return b"".join(lines)
        case 5:
            return b"".join([*lines[:one], lines[other], *lines[one:]])
        case 6:
            found = chance.choice(list(re.finditer(rb"\d+|.", content, re.DOTALL)))
            number = chance.choice([b"0", b"1", b"9" * 18, b"9" * 5_000, b"-1", b"1e9", b"NaN"])
            return content[: found.start()] + number + content[found.end() :]
        case 7:
            words = list(re.finditer(rb'[a-z_]+=[^ "<]*|.', content, re.DOTALL))
            found, put = chance.choice(words), chance.choice(words)[0]
            return content[: found.start()] + put + content[found.end() :]
        case _:
            return content + chance.choice([content, lines[one], b"\n", b"\x00", b"</EventData>"])


@pytest.mark.parametrize("form", EVERY)
@pytest.mark.parametrize("signed", [True, False])
def test_no_mutation_is_believed(journal: Path, tmp_path: Path, form: str, signed: bool) -> None:
    chance = random.Random(f"{SEED} {form} {signed}")
    content = exported(journal, form, ALL, Signer.open(tmp_path) if signed else None)
    assert believed(tmp_path / "x", content)
    for number in range(ROUNDS):
        changed = content
        for _ in range(chance.randint(1, 3)):
            changed = mutated(chance, changed)
        if changed != content:
            assert not believed(tmp_path / "x", changed), f"{form}, mutation {number} of seed {SEED}"


@pytest.mark.parametrize("form", EVERY)
def test_a_filter_that_no_export_has(journal: Path, tmp_path: Path, form: str) -> None:
    content = exported(journal, form)
    for told in NO_FILTERS:
        for text in (quote(told, safe=""), quote(told, safe="{}[]:,")):
            crafted = sealed_anew(content, form, {**fields_of(content), "filter": text})
            assert not believed(tmp_path / "x", crafted), told[:40]
        assert main(["audit", "verify", str(tmp_path / "x")]) == 1, told[:40]


@pytest.mark.parametrize("text", ["%FF", "%7B%22feeder%22%3A%22%ED%A0%80%22%7D", "%", "%7b%7d", "%7B%7D%00"])
def test_a_filter_in_other_bytes(journal: Path, tmp_path: Path, text: str) -> None:
    content = exported(journal, "csv")
    assert believed(tmp_path / "x", sealed_anew(content, "csv", fields_of(content)))
    assert not believed(tmp_path / "x", sealed_anew(content, "csv", {**fields_of(content), "filter": text}))


@pytest.mark.parametrize("form", EVERY)
def test_seals_made_anew_end_in_words(
    journal: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in the fields: a finding and an exit code, and with a key never whole."""
    chance = random.Random(f"{SEED} {form}")
    signer = Signer.open(tmp_path)
    content = exported(journal, form)
    fields = fields_of(content)
    hostile = ["", "0", "1", "9" * 18, "9" * 19, "-1", "0:" + "0" * 64, f"{'9' * 18}:{'f' * 64}", "f" * 32, "0" * 64]
    hostile += ["none", "csv", "jsonl", "comfede", "syslog", "x", "2026-01-14T09:00:00.000Z", "T" * 32, "%7B%7D"]
    (tmp_path / "made.pub").write_bytes((tmp_path / "device.pub").read_bytes())
    for _ in range(ROUNDS):
        changed = {name: chance.choice(hostile) if chance.random() < 0.25 else text for name, text in fields.items()}
        file = tmp_path / "x"
        file.write_bytes(sealed_anew(content, form, changed))
        found = verify([file, journal], None, None)
        assert all(sentence.isprintable() for one in found for sentence in (*one.says, *one.unchecked))
        (found_with_key,) = verify([file], None, signer.public)
        assert not found_with_key.ok
    assert main(["audit", "verify", str(file), str(journal), "--json"]) in (0, 1)
    assert "ok" in json.loads(capsys.readouterr().out)


def test_a_seal_can_t_speak_to_the_terminal(journal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = '{"feeder":"F1\x1b[2K\\nx.csv: whole (export)"}'.replace("\x1b", "\\u001b")
    content = exported(journal, "csv")
    text = quote(json.dumps(json.loads(told), ensure_ascii=False, separators=(",", ":")), safe="")
    (tmp_path / "x").write_bytes(sealed_anew(content, "csv", {**fields_of(content), "filter": text}))
    main(["audit", "verify", str(tmp_path / "x")])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert not [line for line in out.split("\n") if line.startswith("x.csv")]


def test_the_longest_filter_is_found_again(journal: Path, tmp_path: Path) -> None:
    wanted = Wanted(1, 2, "\u20ac" * 66, "\u20ac" * 66, tuple(f"{n:02}" + "\u20ac" * 66 for n in range(50)))
    assert believed(tmp_path / "x", exported(journal, "comfede", wanted))
