"""Keeping passwords and keys out of what is written."""

from __future__ import annotations

import re
from typing import Any

from spectral_mlflow.config import without_password

HIDDEN = "***"

_SECRET = re.compile(
    r"(^|_)(passw(or)?d|passwords|passwd|passphrase|secrets?|credentials?|authorization|apikey"
    r"|(api|access|private|secret|ssh|encryption|signing|account)_keys?(_id)?|(sas|access|auth|api|hf|bearer)_tokens?"
    r"|(^|.*_)token)$"
)
# Tokens of a vocabulary have singular names too: these are settings of a tokenizer.
_VOCABULARY = re.compile(
    r"(^|_)(pad|eos|bos|unk|mask|sep|cls|start|end|stop|special|begin|next|last|first|new|per|each|prompt)_token$"
)
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a password, a token or a key."""
    snake = _HUMP.sub("_", name).lower()
    snake = re.sub(r"[^a-z0-9]+", "_", snake).strip("_")
    return bool(_SECRET.search(snake)) and not _VOCABULARY.search(snake)


def redacted(value: Any) -> Any:
    """A copy of a JSON value with secrets, and passwords in addresses, replaced by ``***``."""
    if isinstance(value, dict):
        return {
            name: HIDDEN if is_secret(name) and item not in (None, "") else redacted(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [redacted(item) for item in value]
    return without_password(value) if isinstance(value, str) else value
