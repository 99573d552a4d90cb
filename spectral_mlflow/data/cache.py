"""Where what was downloaded or tokenised once is kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def folder() -> Path:
    """The product's folder in the user's cache; not there yet at first."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # A container's user without a home; the hash guards against a foreign file.
        base = Path(tempfile.gettempdir())
    return base / "spectral_mlflow"
