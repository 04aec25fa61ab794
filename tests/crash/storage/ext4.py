"""An ext4 file system of its own on a loop device, whose power can be cut: Linux lets root shut a file system down.

What must stay true: after the cut nothing more reaches the image, not even what the kernel still holds; what is found
after mounting it again is what a disk would hold after the loss of power, ext4's own journal replayed. Every mount that is
made here is unmounted again, whatever happens.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN, which is the same number on each file system that has it."""
NO_LOG_FLUSH = 2
IMAGE_BYTES = 12 * 1024 * 1024


class Ext4:
    """The image, mounted or not."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image = image
        self.folder = folder
        run("mkfs.ext4", "-q", "-F", "-J", "size=4", str(image))
        self.mount()

    def mount(self) -> None:
        run("mount", "-o", "loop", str(self._image), str(self.folder))

    def unmount(self) -> None:
        """Waits a little for the kernel to let go of files that were closed just now."""
        for _ in range(50):
            if not os.path.ismount(self.folder):
                return
            if not subprocess.run(["umount", str(self.folder)], capture_output=True, check=False).returncode:
                return
            time.sleep(0.02)
        run("umount", str(self.folder))

    def cut_power(self) -> int:
        """From now on nothing is written; returns the monotonic time in ns just before."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            before = time.monotonic_ns()
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)
        return before


@contextmanager
def ext4() -> Iterator[Ext4]:
    """A new one; skips the test where it can't be had."""
    if os.geteuid() != 0:
        pytest.skip("not root: no file system can be mounted and shut down")
    if missing := [program for program in ("mkfs.ext4", "mount", "umount") if shutil.which(program) is None]:
        pytest.skip(f"{missing[0]} is not installed (Debian: e2fsprogs, mount)")
    home = Path(tempfile.mkdtemp(prefix="gridlatch-ext4-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    try:
        image, folder = home / "image", home / "mounted"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        try:
            made = Ext4(image, folder)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no ext4 on a loop device here: {error.stderr.strip()}")
        try:
            yield made
        finally:
            made.unmount()
    finally:
        if not os.path.ismount(home / "mounted"):
            shutil.rmtree(home)


def run(*command: str) -> None:
    """Raises CalledProcessError, with what it said."""
    subprocess.run(command, check=True, capture_output=True, text=True)
