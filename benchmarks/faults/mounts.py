"""Small disks of our own: a tmpfs that fills up, an ext4 whose power is cut."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.faults.bench import NotHereError
from benchmarks.faults.preloaded import wait_for

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2  # EXT4_GOING_FLAGS_NOLOGFLUSH: as a power cut, nothing more reaches the disk.
IMAGE_SIZE = 64 << 20


@contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes, in memory.

    Raises:
        NotHereError: mounting is not permitted.
    """
    folder.mkdir(parents=True)
    _do("mount", "-t", "tmpfs", "-o", f"size={size}", "faults", str(folder))
    try:
        yield folder
    finally:
        _unmount(folder)


@contextmanager
def ext4(folder: Path) -> Iterator[Ext4]:
    """A true ext4 in a file.

    Raises:
        NotHereError: mounting is not permitted, or there are no tools for it.
    """
    disk = Ext4(folder / "image", folder / "disk")
    disk.make()
    try:
        yield disk
    finally:
        _unmount(disk.folder)


class Ext4:
    """A file that is mounted as a disk."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image = image
        self.folder = folder

    def make(self) -> None:
        """Format and mount."""
        self.folder.mkdir(parents=True)
        with self.image.open("wb") as file:
            file.truncate(IMAGE_SIZE)
        _do("mkfs.ext4", "-q", str(self.image))
        self.mount()

    def mount(self) -> None:
        """Mount; after a power cut this replays its journal."""
        _do("mount", "-o", "loop", str(self.image), str(self.folder))

    def cut_power(self) -> None:
        """From here on nothing reaches the disk."""
        handle = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(handle, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(handle)

    def restart(self) -> None:
        """Unmount and mount again."""
        _unmount(self.folder)
        self.mount()


def _do(*command: str) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        raise NotHereError("mounting takes root on Linux")
    if shutil.which(command[0]) is None:
        raise NotHereError(f"there is no {command[0]}")
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise NotHereError(f"{command[0]}: {done.stderr.strip()}")


def _unmount(folder: Path) -> None:
    """Unmount as soon as nobody works in it."""
    if folder.is_mount():
        wait_for(
            lambda: subprocess.run(["umount", str(folder)], capture_output=True).returncode == 0, f"{folder} is free"
        )


def fill(folder: Path, leave: int = 0) -> Path:
    """Fill a disk but for so many bytes; returns the file that does."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        size = shutil.disk_usage(folder).free - leave
        file.write(bytes(max(0, size)))
        while not leave:  # To the last byte: a write may have been cut short.
            file.write(bytes(4096))
    return filler
