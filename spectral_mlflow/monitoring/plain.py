"""Reducing values to the types that every format has: None, numbers, texts, lists, tuples, sets, dictionaries."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np

_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes})
_BASES: tuple[type[Any], ...] = (int, float, complex, str, bytes)

Leaf = Callable[[Any, str], Any]


def plain(value: Any, leaf: Leaf, place: str = "value") -> Any:
    """A copy of a value without numpy scalars, paths, enums, dataclasses, dates and other foreign types.

    Args:
        value: whatever a user put into a configuration or a state.
        leaf: gets every value of a type that is not known here, and its place, and returns what to put there.
        place: dotted name of the value, for messages.
    """
    if type(value) in _ATOMS:
        return value
    if isinstance(value, Mapping):
        return _mapping(value, leaf, place)
    if isinstance(value, (list, tuple, set, frozenset, range)):
        return _sequence(value, leaf, place)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _mapping(fields, leaf, place)
    simple = _scalar(value)
    return leaf(value, place) if simple is value else plain(simple, leaf, place)


def _scalar(value: Any) -> Any:
    """The plain form of one value, or the value itself where it has none."""
    if isinstance(value, Enum):  # Before the numbers and texts that many enums are too.
        return value.value
    if isinstance(value, np.longdouble):  # Its item() is a longdouble again.
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    for base in _BASES:
        if isinstance(value, base):
            return base(value)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else value


def _mapping(value: Mapping[Any, Any], leaf: Leaf, place: str) -> dict[Any, Any]:
    items = ((plain(key, leaf, place), plain(item, leaf, f"{place}.{key}")) for key, item in value.items())
    if not isinstance(value, OrderedDict):
        return dict(items)
    copy = OrderedDict(items)
    vars(copy).update(plain(vars(value), leaf, place))  # A module's state_dict keeps its versions there.
    return copy


def _sequence(value: Any, leaf: Leaf, place: str) -> Any:
    kind = tuple if isinstance(value, tuple) else set if isinstance(value, (set, frozenset)) else list
    if _ATOMS.issuperset(map(type, value)):  # A long loss history is copied at the speed of C.
        return kind(value)
    return kind(plain(item, leaf, f"{place}[{index}]") for index, item in enumerate(value))
