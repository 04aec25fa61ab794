"""Whatever happens to a good site's files: it loads, or it gives ConfigErrors. Never anything else."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config import ConfigErrors, Site, load_site

EXAMPLE = Path(__file__).parents[3] / "config" / "examples" / "substation"
FILES = ["site.toml", "devices.csv", "feeders.csv", "measurements.csv"]
SPICE = [
    b"\0", b"\xff", b'"', b"'", b'"""', b"[", b"]]", b"[[tier]]\n", b",", b",,,,", b"\n", b"\r\n", b"#", b"=", b"nan",
    b"inf", b"-1", b"1e999", b"9" * 5000, b"true", b"{", b"}", b"\\u0000", "٣".encode(), b"2014-01-16", b".", b":",
    b"..", b"../" * 80, b"tier = 3\n", b"site = []\n", b"gateway = 1\n", b"[a.b.c]\n", b"\xed\xa0\x80", b"[" * 3000,
    b"x" * 300, b"[gateway.simulated_clock]\n", b"[[files]]\n", b'programs = ["\xc3\xa9.py"]\n',
]  # fmt: skip

places = st.floats(0, 1, allow_nan=False)
mutations = st.one_of(
    st.tuples(st.just("insert"), places, st.sampled_from(SPICE) | st.binary(max_size=6)),
    st.tuples(st.just("delete"), places, st.integers(1, 400).map(bytes)),
    st.tuples(st.just("overwrite"), places, st.sampled_from(SPICE) | st.binary(max_size=6)),
    st.tuples(st.just("copy"), places, st.integers(1, 200).map(bytes)),
    st.tuples(st.just("cut"), places, st.just(b"")),
)


def mutate(raw: bytes, kind: str, place: float, material: bytes) -> bytes:
    at = int(place * len(raw))
    match kind:
        case "insert":
            return raw[:at] + material + raw[at:]
        case "delete":
            return raw[:at] + raw[at + len(material) :]
        case "overwrite":
            return raw[:at] + material + raw[at + len(material) :]
        case "copy":
            return raw[:at] + raw[at : at + len(material)] + raw[at:]
        case _:
            return raw[:at]


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def load(folder: Path) -> tuple[Site | None, ConfigErrors | None]:
    try:
        return load_site(folder), None
    except ConfigErrors as errors:
        return None, errors


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.sampled_from(FILES), changes=st.lists(mutations, min_size=1, max_size=4))
def test_any_mutation_loads_or_gives_config_errors(folder: Path, file: str, changes: list) -> None:
    shutil.copytree(EXAMPLE, folder, dirs_exist_ok=True)
    raw = (folder / file).read_bytes()
    for change in changes:
        raw = mutate(raw, *change)
    (folder / file).write_bytes(raw)
    loaded, errors = load(folder)
    if errors is not None:
        assert errors.problems
        for problem in errors.problems:
            assert problem.file
            assert problem.line >= 1
            assert problem.what
            assert problem.write_instead
            assert "\n" not in str(problem)
    else:
        assert isinstance(loaded, Site)
        assert not any(feeder.critical and feeder.tier for feeder in loaded.feeders)
