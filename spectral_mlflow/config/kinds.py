"""Kinds of values that settings have, and how usual ones are filled in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

Component = Literal["wave", "standard"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]

STRICT = ConfigDict(extra="forbid")


def set_values(config: object, **values: object) -> None:
    """Fill in what follows from other settings (the dataclasses are frozen to everybody else)."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


def fill_in(config: object, usual: Mapping[str, object]) -> None:
    """Give the settings that nobody has chosen their usual values."""
    set_values(config, **{name: value for name, value in usual.items() if getattr(config, name) is None})
