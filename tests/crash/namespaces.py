"""Daemon and devices in network namespaces of their own, with a wire between, on which the kernel's filter works.

Needs root, ``ip`` and ``nft``; the machine's own network is never touched. What is lost here is lost under TCP, which
sends it again: late, in a burst, or never.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field

from crash.network import LASTS_S

GATEWAY = "10.75.0.250"
FIRST_HOST = "10.75.0.1"


def missing() -> str:
    """Why it can't be done here; empty if it can."""
    if os.geteuid() != 0:
        return "only root may make network namespaces"
    for program in ("ip", "nft"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    try:
        with two_namespaces(1) as made:
            _run("ip", "netns", "exec", made.devices, "nft", "add", "table", "inet", "try")
    except subprocess.CalledProcessError as error:
        return f"no network namespace can be made here: {error.stderr.strip()}"
    return ""


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Names of the two."""

    gateway: str
    devices: str


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


@contextlib.contextmanager
def two_namespaces(hosts: int) -> Iterator[Namespaces]:
    """With a wire between them, and so many addresses of devices at its far end. Raises CalledProcessError."""
    made = Namespaces(f"gl-gateway-{os.getpid()}", f"gl-devices-{os.getpid()}")
    try:
        for name in (made.gateway, made.devices):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        _run("ip", "link", "add", "wire", "netns", made.gateway, "type", "veth", "peer", "wire", "netns", made.devices)
        _run("ip", "-n", made.gateway, "address", "add", f"{GATEWAY}/24", "dev", "wire")
        for n in range(1, hosts + 1):
            _run("ip", "-n", made.devices, "address", "add", f"10.75.0.{n}/24", "dev", "wire")
        for name in (made.gateway, made.devices):
            _run("ip", "-n", name, "link", "set", "wire", "up")
        yield made
    finally:
        for name in (made.gateway, made.devices):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


RULES = {
    "black_hole": ["input ip daddr {ip} drop", "output ip saddr {ip} drop"],
    "requests_lost": ["input ip daddr {ip} drop"],
    "replies_lost": ["output ip saddr {ip} drop"],
    "a_third_lost": [
        "input ip daddr {ip} numgen random mod 100 < 33 drop",
        "output ip saddr {ip} numgen random mod 100 < 33 drop",
    ],
    "commands_lost": ["input ip daddr {ip} @th,312,8 5 drop"],
    "reset": ["input ip daddr {ip} meta l4proto tcp reject with tcp reset"],
    "unreachable": ["input ip daddr {ip} reject with icmp type host-unreachable"],
}
"""What the filter beside the devices does with what comes for one address, or from it. ``commands_lost`` knows the function
code of a Modbus command behind a TCP header of 32 bytes: reads pass, so the link is believed to be well."""


@dataclass(slots=True)
class Filter:
    """A Trouble. addresses: of each device. only: the one kind to make, for long; empty: all kinds."""

    names: Namespaces
    addresses: dict[str, str]
    only: str = ""
    kinds: dict[str, int] = field(default_factory=dict)
    """How often each kind of trouble was made."""

    async def start(self) -> None:
        """Make a chain of its own for each device, so that each can be emptied alone."""
        lines = ["table inet trouble {"]
        for hook in ("input", "output"):
            jumps = "".join(f" jump {hook}-{device};" for device in self.addresses)
            for device in self.addresses:
                lines.append(f"chain {hook}-{device} {{ }}")
            lines.append(f"chain {hook} {{ type filter hook {hook} priority 0; policy accept;{jumps} }}")
        await self._nft("\n".join([*lines, "}"]))

    async def begin(self, device: str, dice: random.Random) -> float:
        """Lay the rules of one kind for one address."""
        kind = self.only or dice.choice(sorted(RULES))
        self.kinds[kind] = self.kinds.get(kind, 0) + 1
        rules = (rule.format(ip=self.addresses[device]).split(" ", 1) for rule in RULES[kind])
        await self._nft("\n".join(f"add rule inet trouble {hook}-{device} {rule}" for hook, rule in rules))
        return LASTS_S[-1] if self.only else dice.choice(LASTS_S)

    async def end(self, device: str) -> None:
        """Take them away."""
        await self._nft("\n".join(f"flush chain inet trouble {hook}-{device}" for hook in ("input", "output")))

    async def _nft(self, text: str) -> None:
        command = ["ip", "netns", "exec", self.names.devices, "nft", "-f", "-"]
        await asyncio.to_thread(subprocess.run, command, input=text, check=True, text=True)
