"""JSON of whatever a user puts into a configuration.

JSON has no NaN and no infinities. Such a value becomes null, and the top-level entry ``invalid``
names its place (a JSON pointer, RFC 6901) and the true value, so that `decode` gives it back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from spectral_mlflow.journal import INVALID
from spectral_mlflow.monitoring.plain import plain


def jsonable(value: Any) -> Any:
    """A copy made of None, booleans, numbers, texts, lists and dictionaries with texts as keys."""
    return _json(plain(value, _leaf))


def encode(content: Mapping[str, Any]) -> bytes:
    """Indented JSON of what `jsonable` has returned."""
    invalid: dict[str, str] = {}
    finite = _finite(content, "", invalid)
    if invalid:
        finite[INVALID] = invalid
    return json.dumps(finite, indent=2, allow_nan=False).encode() + b"\n"


def decode(text: bytes) -> dict[str, Any]:
    """The content that `encode` was given.

    Raises:
        ValueError: it is not a JSON object.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    invalid = content.pop(INVALID, {})
    for pointer, number in invalid.items():
        _put(content, [_unescaped(part) for part in pointer.split("/")[1:]], float(number))
    return content


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


def _finite(value: Any, pointer: str, invalid: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item, f"{pointer}/{_escaped(key)}", invalid) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item, f"{pointer}/{index}", invalid) for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        invalid[pointer] = str(value)
        return None
    return value


def _put(content: Any, path: list[str], value: float) -> None:
    *folders, leaf = path
    for name in folders:
        content = content[int(name) if isinstance(content, list) else name]
    content[int(leaf) if isinstance(content, list) else leaf] = value


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _unescaped(name: str) -> str:
    return name.replace("~1", "/").replace("~0", "~")
