"""Where things are: the home of runs, and addresses of stores without their passwords."""

from __future__ import annotations

import os
import re
from pathlib import Path

# A password in an HTTP address has no raw slash; in the address of a database it may have any character.
_SECRETS = (
    (re.compile(r"(https?://[^/@:\s]+):[^/\s]*@"), r"\1:***@"),
    (re.compile(r"(https?://)[^/@:\s]+@"), r"\1***@"),
    (re.compile(r"((?!https?:)\b\w[\w+.-]*://[^/@:\s]*):[^?\s]*@"), r"\1:***@"),
    (re.compile(r"([?&](?:\w*password|passwd|pwd|\w*token|\w*secret)=)[^&\s]*", re.IGNORECASE), r"\1***"),
)


def without_password(text: str) -> str:
    """A store's URI, or a message with one in it, as it may stand in files and logs."""
    for pattern, hidden in _SECRETS:
        text = pattern.sub(hidden, text)
    return text


def home() -> Path:
    """Where `experiments/` and the default store live: SPECTRAL_HOME, else the current folder."""
    return Path(os.environ.get("SPECTRAL_HOME", ".")).absolute()
