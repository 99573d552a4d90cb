"""Files and links that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Write a file so that no reader and no crash ever sees half of it.

    Args:
        path: the file, replaced if it is there; its folder is made if missing.
        content: all of it.
        durable: wait until a power cut would leave it whole too.

    Raises:
        OSError: the disk refuses; whatever was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path, durable=durable) as file:
        file.write(content)


@contextmanager
def whole_file(path: Path, *, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write into, which gets its name, durably, when the block ends; where it fails nothing is left behind.

    Args:
        path: the file, replaced if it is there; its folder must be.
        durable: wait until a power cut would leave it whole too.

    Raises:
        OSError: the disk refuses; whatever was there before is untouched.
    """
    temporary = _beside(path)
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        sync_directory(path.parent)


def replace_link(link: Path, target: str) -> None:
    """Make or move a symbolic link.

    Raises:
        OSError: the file system has no symbolic links, or cannot be written.
    """
    temporary = _beside(link)
    try:
        temporary.symlink_to(target)
        temporary.replace(link)
    finally:
        temporary.unlink(missing_ok=True)


def sync_directory(folder: Path) -> None:
    """Make a rename inside a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _beside(path: Path) -> Path:
    # A random name, because several processes and hosts may fill the same cache at once.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
