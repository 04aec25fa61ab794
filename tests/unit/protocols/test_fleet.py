"""Which driver serves which device, and several of them as one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from config import load_site
from protocols.fleet import Fleet, make_driver
from protocols.modbus.driver import ModbusDriver

EXAMPLES = Path(__file__).parents[3] / "config" / "examples"


def test_a_site_of_one_protocol_has_its_driver_and_no_fleet():
    site = load_site(EXAMPLES / "substation")
    driver = make_driver(site.devices, site.feeders, site.measurements, None, lambda: 0.0)
    assert isinstance(driver, ModbusDriver)


def test_a_site_of_modbus_devices_does_not_load_the_opcua_stack():
    code = (
        "import sys, pathlib; from config import load_site; from protocols.fleet import make_driver;"
        f"s = load_site(pathlib.Path({str(EXAMPLES / 'substation')!r}));"
        "make_driver(s.devices, s.feeders, s.measurements, None, lambda: 0.0);"
        "sys.exit('asyncua' in sys.modules)"
    )
    root = EXAMPLES.parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False, timeout=60).returncode == 0


def test_a_mixed_site_is_served_by_both(tmp_path):
    site = load_site(EXAMPLES / "opcua_substation")
    client = replace(site.opcua_client, pki_dir=tmp_path / "pki")
    driver = make_driver(site.devices, site.feeders, site.measurements, client, lambda: 1.79e9)
    assert isinstance(driver, Fleet)
    assert set(driver.feeders()) == {"H01", "H02", "H03", "H04"}
    assert driver.link_of("H01").device == "bay7"
    assert driver.link_of("H04").device == "rtu1"
    assert {status.device for status in driver.links()} == {"bay7", "rtu1"}
    assert driver.measurement("t1_load").value is None
    assert (tmp_path / "pki" / "own" / "cert.der").exists()
    with pytest.raises(KeyError):
        driver.breaker("nobody")
    with pytest.raises(ValueError, match="nothing says who the gateway is"):
        make_driver(site.devices, site.feeders, site.measurements, None, lambda: 0.0)
