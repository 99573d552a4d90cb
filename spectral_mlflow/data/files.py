"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file so that no reader and no crash ever sees half of it.

    Args:
        path: the file, replaced if it is there; its folder is made if missing.
        content: all of it.

    Raises:
        OSError: the disk refuses; whatever was there before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A random name, because several processes and hosts may fill the same cache at once.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
