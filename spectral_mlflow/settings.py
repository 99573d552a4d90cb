"""Settings as people write them: by dotted or short names, with texts as values.

A setting is known by its dotted name, such as ``training.lr``; a few also by a short one. Dashes
and underscores both work.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from spectral_mlflow.config import ADAPTER, ExperimentConfig
from spectral_mlflow.errors import UserError

SHORT_NAMES = {
    "model": "model.type",
    "steps": "training.steps",
    "seed": "training.seed",
    "lr": "training.lr",
    "batch_size": "training.batch_size",
    "dataset": "dataset.name",
    "device": "runtime.device",
    "stores": "monitoring.stores",
    "profile": "monitoring.profile",
}

# What the settings with a pattern allow, in words.
PATTERNS = {
    "name": "letters, digits, '_', '.' and '-', at most 80",
    "dataset.subset": "default, sample-10BT, sample-100BT, sample-350BT, or a crawl such as CC-MAIN-2024-10",
}


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the command line's help says of one setting."""

    name: str
    allowed: str
    default: Any
    help: str


@functools.cache
def all_settings() -> tuple[Setting, ...]:
    """Every setting in the order of the dataclasses."""
    return tuple(_settings())


def _settings() -> Iterator[Setting]:
    schema = ADAPTER.json_schema()
    for name, entry in schema["properties"].items():
        if "$ref" in entry:
            yield from _section(schema["$defs"], entry["$ref"], f"{name}.")
        else:
            yield _setting(name, entry)


def _section(definitions: Mapping[str, Any], reference: str, prefix: str) -> Iterator[Setting]:
    for name, entry in definitions[reference.rsplit("/", 1)[-1]]["properties"].items():
        yield _setting(prefix + name, entry)


def _setting(name: str, entry: Mapping[str, Any]) -> Setting:
    shape = next((s for s in entry.get("anyOf", []) if s.get("type") != "null"), entry)
    allowed = "|".join(map(str, shape["enum"])) if "enum" in shape else shape.get("type", "string")
    return Setting(name, allowed, entry.get("default"), entry["description"])


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one dictionary of dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def parse(values: Mapping[str, Any]) -> ExperimentConfig:
    """The configuration of nested dictionaries.

    Raises:
        UserError: an unknown setting, a wrong type or a value out of range.
    """
    for name in flatten(values):
        _check_name(name)
    try:
        return ADAPTER.validate_python(values)
    except ValidationError as failure:
        raise UserError(_one_line(failure)) from None


def of_run(values: Mapping[str, Any], place: str) -> ExperimentConfig:
    """The configuration that a run of this package was started with.

    Args:
        values: nested dictionaries.
        place: where they are from, for the message.

    Raises:
        UserError: as `parse`, or they are of a loop that is not this package's.
    """
    if values.get("model") == {}:
        raise UserError(f"{place} is of a loop of its own; go on with it in its program: track(..., resume=...)")
    return parse(values)


def build(overrides: Mapping[str, str], base: ExperimentConfig | None = None) -> ExperimentConfig:
    """A configuration from the texts of a command line, on top of another one.

    Args:
        overrides: setting, by dotted or short name with dashes or underscores, to its text.
        base: what is not overridden; default: the defaults.

    Raises:
        UserError: an unknown setting, a wrong type or a value out of range.
    """
    given = {full_name(name): text for name, text in overrides.items()}
    base = base or ExperimentConfig()
    values = base.to_dict()
    if "model.type" in given:  # The layers follow the type again, unless they are given too.
        values["model"] |= {"embedding": None, "attention": None, "feedforward": None}
    # What followed from other settings follows from them again.
    if base.name == base.model.type:
        values["name"] = None
    for section, usual in (("model", base.model.usual), ("dataset", base.dataset.usual)):
        values[section] |= {name: None for name, value in usual.items() if values[section][name] == value}
    for name, text in given.items():
        put(values, name, _plain(name, text))
    return parse(values)


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Set one setting, by its dotted name, in nested dictionaries."""
    *rooms, leaf = name.split(".")
    for room in rooms:
        values = values[room]
    values[leaf] = value


def differences(old: ExperimentConfig, new: ExperimentConfig) -> dict[str, tuple[Any, Any]]:
    """The settings in which two configurations differ, by dotted name: the old value and the new one."""
    before, after = flatten(old.to_dict()), flatten(new.to_dict())
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


def as_text(value: object) -> str:
    """The value of a setting as people write it, and `build` reads it; an empty list is ``none``."""
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(name: str, text: str) -> Any:
    """A text as pydantic takes it: lists by commas, 'none' for an optional setting unless it is one of the choices."""
    if name == "monitoring.stores":
        return [part for part in text.split(",") if part and part != "none"]
    if any(setting.name == name and text in setting.allowed.split("|") for setting in all_settings()):
        return text
    return None if text.lower() in ("none", "null") else text


def full_name(name: str) -> str:
    """The dotted name of a setting that was given in any accepted spelling.

    Raises:
        UserError: there is no such setting; the message names the closest one.
    """
    name = name.lstrip("-").replace("-", "_")
    name = SHORT_NAMES.get(name, name)
    _check_name(name)
    return name


def _check_name(name: str) -> None:
    known = [setting.name for setting in all_settings()]
    if name in known:
        return
    if section := [setting for setting in known if setting.startswith(f"{name}.")]:
        raise UserError(f"{name}: given one value; allowed: a section of settings, such as {section[0]}")
    leaves = {known_name.rsplit(".", 1)[-1]: known_name for known_name in known}
    close = difflib.get_close_matches(name, [*known, *SHORT_NAMES], n=1, cutoff=0.5) or [
        leaves[leaf] for leaf in difflib.get_close_matches(name.rsplit(".", 1)[-1], leaves, n=1)
    ]
    hint = f"; did you mean {SHORT_NAMES.get(name, close[0])}?" if close else ""
    raise UserError(f"unknown setting {name}{hint} (all settings: spectral train --help)")


def _one_line(failure: ValidationError) -> str:
    error = failure.errors()[0]
    place = ".".join(str(part) for part in error["loc"] if isinstance(part, str) and not part.startswith("function-"))
    if error["type"] == "value_error":  # Raised by a __post_init__ above: it says all but the section.
        section = f"{place}." if place else ""
        return f"{section}{error['ctx']['error']}"
    if error["type"] == "string_pattern_mismatch":
        return f"{place}: given {error['input']!r}; allowed: {PATTERNS[place]}"
    allowed = error["msg"].removeprefix("Input should be ").removeprefix("a valid ")
    return f"{place}: given {error['input']!r}; allowed: {allowed}"


def load(path: Path) -> ExperimentConfig:
    """The configuration that a run wrote as `config.json`, or one of the same form by hand.

    A batch size that the run had found is then a batch size like any other, not to be found again.

    Raises:
        UserError: no such file, not JSON, or settings that do not exist.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise UserError(
            f"--config: {path} cannot be read ({failure.strerror}); give the config.json of a run"
        ) from None
    except ValueError as failure:
        raise UserError(f"--config: {path} is not JSON ({failure}); give the config.json of a run") from None
    inner = values.get("config", values) if isinstance(values, dict) else None
    if not isinstance(inner, dict):
        raise UserError(f"--config: {path} holds no settings; give the config.json of a run")
    config = of_run(inner, f"--config: {path}")
    if inner is values:
        return config
    return dataclasses.replace(config, training=dataclasses.replace(config.training, auto_batch_size=False))
