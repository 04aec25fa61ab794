"""A site with OPC UA devices: read cell by cell, its mistakes told one by one, its changes noticed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from unit.config.conftest import SiteFolder

from config import restart_needed
from config.device_models import BreakerPoints, FieldProtocol, NodeBreakerPoints, NodePoint, OpcUaPolicy

EXAMPLE = Path(__file__).parents[3] / "config" / "examples" / "opcua_substation"


@pytest.fixture
def hill(tmp_path: Path) -> SiteFolder:
    folder = tmp_path / "hillside"
    shutil.copytree(EXAMPLE, folder)
    return SiteFolder(folder)


def test_the_example_loads_without_a_warning(hill: SiteFolder) -> None:
    site = hill.load()
    assert site.warnings == ()
    bay, rtu = site.devices
    assert (bay.protocol, bay.unit, rtu.protocol, rtu.opcua) == (FieldProtocol.OPCUA, 0, FieldProtocol.MODBUS, None)
    assert bay.opcua is not None
    assert (bay.opcua.path, bay.opcua.policy, bay.opcua.user) == ("/bay", OpcUaPolicy.BASIC256SHA256, "")
    assert bay.opcua.server_cert == hill.path / "devices" / "bay7.pem"
    assert site.opcua_client is not None
    assert site.opcua_client.application_uri == "urn:gridlatch:Hillside"
    assert site.opcua_client.pki_dir == hill.path / "pki"
    assert [type(feeder.points) for feeder in site.feeders] == [NodeBreakerPoints] * 3 + [BreakerPoints]
    assert isinstance(site.measurements[0].address, NodePoint)


def test_a_site_of_modbus_devices_alone_has_no_client(hill: SiteFolder) -> None:
    shutil.copytree(EXAMPLE.parent / "substation", hill.path, dirs_exist_ok=True)
    assert hill.load().opcua_client is None
    toml = (hill.path / "site.toml").read_text()
    (hill.path / "site.toml").write_text(toml + "\n[opcua_client]\n")
    assert "no device speaks OPC UA" in " ".join(hill.load().warnings)


def test_the_client_is_called_as_the_server_for_operators_is(hill: SiteFolder) -> None:
    operators = '[operators]\nhost = "127.0.0.1"\napplication_uri = "urn:x:gate"\n\n[transformer]'
    hill.replace("site.toml", "[transformer]", operators)
    client = hill.load().opcua_client
    assert client is not None
    assert client.application_uri == "urn:x:gate"
    hill.replace("site.toml", '# application_uri = "urn:gridlatch:Hillside"', 'application_uri = "urn:y"')
    assert "one certificate" in hill.problem().what
    hill.replace("site.toml", 'pki_dir = "pki"', 'pki_dir = "pki_devices"')
    assert hill.load().opcua_client.application_uri == "urn:y"


BAY = "devices/bay7.pem"
ONE_MISTAKE = [
    ("devices.csv", "4840,,/bay", "4840,1,/bay", "has no unit", "an empty cell"),
    ("devices.csv", "502,1,,", "502,,,", "unit is empty", "1 to 255"),
    ("devices.csv", "502,1,,", "502,1,/x,", "path is nothing of a Modbus device", "protocol opcua"),
    ("devices.csv", "bay7,opcua", "bay7,opcau", "none of the words", "did you mean 'opcua'"),
    ("devices.csv", "/bay,", "bay,", "no path of an endpoint", "/bay"),
    ("devices.csv", "urn:example:bay-controller,", "bay-controller,", "is no URI", "urn:"),
    ("devices.csv", f"{BAY},", ",", "needs server_cert", "pki/devices/NAME.der"),
    ("devices.csv", BAY, "devices/none.pem", "there is no file", "put it there"),
    ("devices.csv", BAY, "devices", "not a regular file", "may be read"),
    ("devices.csv", BAY, "site.toml", "holds no certificate", "DER or PEM"),
    ("devices.csv", "Basic256Sha256", "None", "would let anybody", "Basic256Sha256 or Aes128"),
    ("devices.csv", "Basic256Sha256", "Basic256", "would let anybody", "Basic256Sha256"),
    ("devices.csv", "Basic256Sha256", "Basic256Sha265", "none of the words", "did you mean 'Basic256Sha256'"),
    ("devices.csv", "/bay,urn:example:bay-controller,", "/bay,,", "has no namespace", "nsu=URI"),
    ("devices.csv", "poll_fast_s,poll_slow_s", "max_gap,poll_slow_s", "not a whole number", "a whole number"),
    ("feeders.csv", "H03,bay7", "H03,rtu1", "is a node, and the device speaks Modbus", "di:17"),
    ("feeders.csv", "H04,rtu1", "H04,bay7", "no node, and the device speaks OPC UA", "s=F1"),
    ("feeders.csv", "s=H01/Pos==2,", "ns=2;s=H01/Pos==2,", "by an index", "nsu=URI;s=H01/Pos"),
    ("feeders.csv", "s=H01/Pos==2,", "s=H01/Pos==1,", "same value of the same node", "s=F1/Pos==2"),
    ("feeders.csv", "s=H02/Pos==2,s=H02/Pos==1", "s=H01/Pos==3,s=H02/Pos==1", "a position of 'H01'", "alone"),
    ("feeders.csv", "s=H01->s=H01/Close()", "s=H01->s=H01/Open()", "as open_cmd and as close_cmd", "alone"),
    ("feeders.csv", "s=H02->s=H02/Cancel()", "s=H01->s=H01/Close()", "which is close_cmd of 'H01'", "alone"),
    ("feeders.csv", "i=310:=true", "i=311:=true", "as open_cmd and as close_cmd", "alone"),
    ("feeders.csv", "s=H02/Select(false)", "s=H02/Select(true)", "as open_cmd and as close_cmd", "alone"),
    ("feeders.csv", "s=H02->s=H02/Select(false)", "", "select_close and no select_open", "neither"),
    ("feeders.csv", "ir:100:u16*0.1,,,", "ir:100:u16*0.1,coil:9,coil:10,", "nothing is selected", "an empty cell"),
    ("feeders.csv", "s=H01/W*0.001,,,", "s=H01/W*0.001,,,s=H01->s=H01/C()", "cancel and nothing", "no cancel"),
    ("measurements.csv", "s=T1/W*0.001", "ir:4", "no node, and the device speaks OPC UA", "s=F1/Kw"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "what", "instead"), ONE_MISTAKE)
def test_one_mistake_is_told_at_its_line(
    hill: SiteFolder, file: str, old: str, new: str, what: str, instead: str
) -> None:
    line = hill.replace(file, old, new)
    problems = [problem for problem in hill.problems() if what in problem.what]
    assert problems, hill.problems()
    assert instead in problems[0].write_instead
    assert problems[0].file == str(hill.path / ("devices.csv" if "namespace" in what else file))
    assert "poll_fast_s" in old or problems[0].line == line
    assert len({problem.line for problem in hill.problems()}) == 1


def test_settings_of_modbus_frames_are_nothing_of_an_opcua_device(hill: SiteFolder) -> None:
    hill.replace("devices.csv", "poll_fast_s,poll_slow_s", "max_gap,poll_slow_s")
    hill.replace("devices.csv", "Basic256Sha256,0.5", "Basic256Sha256,5")
    assert "max_gap is nothing of an OPC UA device" in hill.problem().what


def test_a_private_key_is_no_certificate_of_a_device(hill: SiteFolder) -> None:
    path = hill.path / "devices" / "bay7.pem"
    path.write_bytes(path.read_bytes() + b"-----BEGIN PRIVATE KEY-----\n")
    assert "private key" in hill.problem().what


def test_two_devices_at_one_endpoint_are_one_too_many(hill: SiteFolder) -> None:
    text = (hill.path / "devices.csv").read_text()
    bay = next(line for line in text.split("\n") if line.startswith("bay7"))
    (hill.path / "devices.csv").write_text(text + bay.replace("bay7,", "bay8,") + "\n")
    assert "as is 'bay7'" in hill.problem().what


def test_a_user_needs_a_secret_that_others_cant_read(hill: SiteFolder) -> None:
    text = (hill.path / "devices.csv").read_text().replace("poll_fast_s,poll_slow_s", "user,secret_file")
    (hill.path / "devices.csv").write_text(text.replace("Basic256Sha256,0.5,10", "Basic256Sha256,gate,"))
    assert "user without secret_file" in hill.problem().what
    hill.replace("devices.csv", "Basic256Sha256,gate,", "Basic256Sha256,,password")
    assert "secret_file without user" in hill.problem().what
    hill.replace("devices.csv", "Basic256Sha256,,password", "Basic256Sha256,gate,password")
    assert "there is no file" in hill.problem().what
    secret = hill.path / "password"
    secret.write_text("canary")
    secret.chmod(0o644)
    assert "chmod 0640" in hill.problem().write_instead
    secret.chmod(0o640)
    loaded = hill.load()
    assert "canary" not in repr(loaded)
    secret.write_text("another")
    assert hill.load().sha256 == loaded.sha256, "no byte of a secret goes into the hash of the site"


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("site.toml", 'pki_dir = "pki"', 'pki_dir = "pki2"', "opcua_client changed"),
        ("devices.csv", "Basic256Sha256", "Aes256_Sha256_RsaPss", "devices changed: bay7"),
        ("feeders.csv", "400,s=H01/Pos==2", "400,s=H01/Pos==3", "feeders changed: H01"),
        ("feeders.csv", "i=310:=true", "i=310:=1", "feeders changed: H03"),
        ("measurements.csv", "s=T1/W*0.001", "s=T1/W*0.002", "measurements changed: t1_load"),
    ],
)
def test_these_need_a_restart(hill: SiteFolder, file: str, old: str, new: str, said: str) -> None:
    before = hill.load()
    hill.replace(file, old, new)
    assert said in restart_needed(before, hill.load())


def test_another_certificate_is_another_site_and_needs_a_restart(hill: SiteFolder) -> None:
    before = hill.load()
    path = hill.path / "devices" / "bay7.pem"
    path.write_bytes(path.read_bytes() + b"\n")
    after = hill.load()
    assert after.sha256 != before.sha256
    assert "devices changed: bay7" in restart_needed(before, after)
