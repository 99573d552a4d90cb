"""JSON of whatever a user puts into a configuration.

NaN and infinities are kept the way the journal keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from spectral_mlflow import journal
from spectral_mlflow.monitoring.plain import plain


def jsonable(value: Any) -> Any:
    """A copy made of None, booleans, numbers, texts, lists and dictionaries with texts as keys."""
    return _json(plain(value, _leaf))


def encode(content: Mapping[str, Any]) -> bytes:
    """Indented JSON of what `jsonable` has returned."""
    return json.dumps(journal.without_non_finite(content), indent=2, allow_nan=False).encode() + b"\n"


def decode(text: bytes) -> dict[str, Any]:
    """The content that `encode` was given.

    Raises:
        ValueError: it is not a JSON object.
    """
    return journal.decode(text)


def _leaf(value: Any, _place: str) -> Any:
    """Tensors and arrays as lists; anything else by its name, which is what a person would want to know."""
    if hasattr(value, "tolist"):
        return plain(value.tolist(), _leaf)
    return getattr(value, "__qualname__", None) or str(value)


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((_json(item) for item in value), key=repr)
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
