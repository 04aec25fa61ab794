"""A station of 12,000 breakers: the address space is there in seconds and takes little memory.

In a process of its own, for what others have allocated must not count. The limits are those of the whole OPC UA part of a
gateway (10 s, 350 MB), with room: the figures are printed, so that a change for the worse is seen before the limit is.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[4]
SCRIPT = """
import asyncio, sys, tempfile, time
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests"]

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

before = resident_mb()
from dataclasses import replace
from surface_house import house
from surface_site import BREAKER, T0, Gateway, small_site
from protocols.opcua.surface import Change, DataType, Folder, Object, Sample, Variable

MORE = tuple(Variable(f"More{{n}}", DataType.DOUBLE, "") for n in range(16 - len(BREAKER.variables)))
TYPE = replace(BREAKER, variables=BREAKER.variables + MORE)
small = small_site(0)
large = replace(
    small,
    types=(TYPE, *small.types[1:]),
    folders=small.folders + tuple(Folder(f"Feeders/of {{n}}", f"of {{n}}", "Feeders") for n in range(60)),
    objects=tuple(Object(f"Feeder/F{{n}}", f"F{{n}}", f"Feeders/of {{n // 200}}", "BreakerType") for n in range(12_000)),
)
SOME = {{"Pos": 2, "Loc": False, "Reason": "over load", "MovedAt": T0, "Tiers": ("1",), "OpCnt": 7}}

async def main():
    began = time.perf_counter()
    async with house(Path(tempfile.mkdtemp()), large, Gateway(), "127.0.62.4") as site:
        built = time.perf_counter() - began
        names = [each.name for each in TYPE.variables]
        site.server.change(
            Change(each.key, name, Sample(SOME.get(name, 1.5), time_us=T0)) for each in large.objects for name in names
        )
        print(f"{{built:.1f}} s, {{resident_mb() - before:.0f}} MB")
        async with site.client() as client:
            browsed = 0
            for folder in await client.get_node(site.node_id("Feeders")).get_children():
                browsed += len(await folder.get_children())
            print(browsed)
        assert built < 10 and resident_mb() - before < 350

asyncio.run(main())
"""


def test_twelve_thousand_breakers_are_built_within_the_limits() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(root=str(ROOT))], capture_output=True, text=True, timeout=120, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "12000"
