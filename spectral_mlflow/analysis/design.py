"""Which cells a study has: presets, and files that people write."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from spectral_mlflow.analysis.cells import Cell
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import as_text, build, full_name

Overrides = Mapping[str, object]

# What makes each of the five differences; without any of them a model is the standard one.
COMPONENTS: dict[str, Overrides] = {
    "embedding": {"model.embedding": "wave"},
    "attention": {"model.attention": "wave"},
    "feedforward": {"model.feedforward": "wave"},
    "rgd": {"training.optimizer": "RGD"},
    "qfe": {"training.loss": "QFE"},
}
SWITCHES = {name for component in COMPONENTS.values() for name in component}
LAYERS = ("embedding", "attention", "feedforward")
NONE, ALL = "none", "all"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")
CELL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=+-]{0,79}")


@dataclass(frozen=True)
class Design:
    """A study as it is asked for.

    Attributes:
        name: of the study.
        about: what it asks, for people.
        cells: name to the settings that make the cell.
        settings: of all cells.
        seeds: of each cell.
    """

    name: str
    about: str
    cells: Mapping[str, Overrides]
    settings: Overrides = field(default_factory=dict)
    seeds: Sequence[int] = (0, 1, 2)

    @property
    def varied(self) -> set[str]:
        """Whole names of the settings that a cell sets, and of all that make components where there is a cell none.

        That cell is named after what it lacks, which a setting of all cells would belie.
        """
        own = {name for overrides in self.cells.values() for name in _by_full_name(overrides)}
        return own | (SWITCHES if NONE in self.cells else set())

    def plan(self) -> list[Cell]:
        """The runs, all cells of one seed before the next seed, so that an unfinished study is fair.

        Raises:
            UserError: a setting that does not exist, a value that is not allowed, or two cells that are one.
        """
        shared = _by_full_name(self.settings)
        found: list[Cell] = []
        for seed in self.seeds:
            for name, overrides in self.cells.items():
                own = _by_full_name(overrides)
                if taken := sorted({"training.seed", "name"} & (shared.keys() | own.keys())):
                    raise UserError(f"{taken[0]}: given in a study, which sets it for each run; allowed: seeds, name")
                given = {**shared, **own, "training.seed": seed}
                given["name"] = f"{self.name}-{name}-seed{seed}".replace("+", "_").replace("=", "_")[:80]
                config = build({key: as_text(value) for key, value in given.items()})
                if config.training.auto_batch_size:
                    raise UserError(
                        "training.auto_batch_size: given true in a study, whose runs must see batches of one size; "
                        "allowed: training.batch_size"
                    )
                found.append(Cell(self.name, name, seed, config))
        _check_different(found[: len(self.cells)])
        return found


def _check_different(cells: Iterable[Cell]) -> None:
    """Refuse to train one configuration under two names."""
    seen: dict[str, Cell] = {}
    for cell in cells:
        other = seen.setdefault(json.dumps({**cell.config.to_dict(), "name": ""}, sort_keys=True, default=str), cell)
        if other is not cell:
            raise UserError(
                f"cells {other.name!r} and {cell.name!r} have the same settings; allowed: cells that differ"
            )


def combination(components: Iterable[str]) -> Overrides:
    """The settings of a model with these wave components, and with the standard one for each of the others."""
    chosen = set(components)
    settings: dict[str, object] = {"model.type": "wave" if chosen.issuperset(LAYERS) else "standard"}
    for name in COMPONENTS:
        if name in chosen:
            settings |= COMPONENTS[name]
    return settings


def one_by_one(components: Sequence[str] = tuple(COMPONENTS)) -> dict[str, Overrides]:
    """No component, each one alone, all but one, and all of them."""
    cells = {NONE: combination(())}
    cells |= {name: combination([name]) for name in components}
    cells |= {f"without_{name}": combination(c for c in components if c != name) for name in components}
    return cells | {ALL: combination(components)}


def factorial(components: Sequence[str] = tuple(COMPONENTS)) -> dict[str, Overrides]:
    """Every combination of some components, the fewest first."""
    chosen = [
        [name for name, on in zip(components, bits, strict=True) if on]
        for bits in product((False, True), repeat=len(components))
    ]
    return {"+".join(names) or NONE: combination(names) for names in sorted(chosen, key=len)}


def grid(axes: Mapping[str, Sequence[object]]) -> Mapping[str, Overrides]:
    """Every combination of the values of some settings.

    Raises:
        UserError: a setting given twice, or values that make no name of a cell.
    """
    if len(_by_full_name(axes)) < len(axes):
        raise UserError(f"grid: given {', '.join(axes)}; allowed: each setting once")
    cells: dict[str, Overrides] = {}
    for values in product(*axes.values()):
        settings = dict(zip(axes, values, strict=True))
        cells["+".join(f"{name.rsplit('.', 1)[-1]}={as_text(value)}" for name, value in settings.items())] = settings
    return _named(cells)


# Nothing is drawn or written by the model: a study is about losses, and its runs are many.
_QUIET: Overrides = {
    "monitoring.viz_interval": 0,
    "monitoring.sample_tokens": 0,
    "monitoring.log_interval": 10,
    "monitoring.keep_last_n": 1,
    "monitoring.log_checkpoints": "none",
}

PRESETS: dict[str, Design] = {
    "seeds": Design(
        "seeds", "wave against standard, over five seeds",
        {"standard": {"model.type": "standard"}, "wave": {"model.type": "wave"}},
        # The paper draws the way of the training from these checkpoints, and the waves from the plots' data.
        {"steps": 1000, "monitoring.eval_interval": 50, "monitoring.log_interval": 5,
         "monitoring.checkpoint_interval": 100, "monitoring.keep_every": 100},
        range(5),
    ),
    "components": Design(
        "components", "each wave component alone, all but one, and all of them",
        one_by_one(), {**_QUIET, "steps": 300, "monitoring.eval_interval": 50},
    ),
    "full": Design(
        "full", "every combination of the five wave components",
        factorial(), {**_QUIET, "steps": 300, "monitoring.eval_interval": 50},
    ),
}  # fmt: skip

_KEYS = ("name", "about", "seeds", "components", "grid", "cells", "settings")


def read(path: Path) -> Design:
    """A design that somebody has written as TOML.

    ``cells`` names cells with their settings; ``grid`` has a list of values for each setting; ``components`` lists
    those to combine in every way. One of the three is needed.

    Raises:
        UserError: no such file, not TOML, or not a design.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as failure:
        raise UserError(f"--file: {path} cannot be read ({failure.strerror}); give a TOML file") from None
    except ValueError as failure:
        raise UserError(f"--file: {path} is not TOML ({failure})") from None
    if unknown := sorted(set(values) - set(_KEYS)):
        raise UserError(f"--file: {path} has {', '.join(unknown)}; allowed: {', '.join(_KEYS)}")
    given = [key for key in ("components", "grid", "cells") if values.get(key)]
    if len(given) != 1:
        raise UserError(f"--file: {path} has {' and '.join(given) or 'no cells'}; allowed: components, grid or cells")
    name, about = values.get("name", path.stem), values.get("about", f"as in {path.name}")
    settings = _table(values.get("settings", {}), "settings")
    found = Design(
        check_name(str(name)), str(about), _cells(given[0], values[given[0]]),
        {**_QUIET, **settings}, check_seeds(values.get("seeds", [0, 1, 2])),
    )  # fmt: skip
    # A cell may have another value than the rest; one that is named after what it lacks may not have that after all.
    own = SWITCHES if NONE in found.cells else set()
    check_shared(_by_full_name(settings), own if given[0] == "cells" else found.varied)
    return found


def _cells(kind: str, value: Any) -> Mapping[str, Overrides]:
    if kind == "components":
        return factorial(check_components(value))
    if kind == "grid":
        axes = _table(value, "grid")
        if not all(isinstance(values, list) and values for values in axes.values()):
            raise UserError('grid: allowed: a list of values for each setting, such as "training.lr" = [1e-3, 2e-3]')
        return grid(axes)
    return _named({name: _table(settings, f"cells.{name}") for name, settings in _table(value, "cells").items()})


def _table(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{place}: given {value!r}; allowed: a table of settings")
    return value


def _named(cells: Mapping[str, Overrides]) -> Mapping[str, Overrides]:
    for name in cells:
        if not CELL.fullmatch(name):
            raise UserError(f"cell {name!r}: allowed: 1 to 80 letters, digits, '_', '.', '=', '+' and '-'")
    return cells


def check_components(names: object) -> list[str]:
    """Raise a UserError unless these are some of the components."""
    if not isinstance(names, list) or not names or not all(name in list(COMPONENTS) for name in names):
        raise UserError(f"components: given {names!r}; allowed: some of {', '.join(COMPONENTS)}")
    return [name for name in COMPONENTS if name in names]


def check_shared(settings: Iterable[str], varied: Collection[str]) -> None:
    """Raise a UserError if a setting of all cells is one in which they differ."""
    for name in settings:
        if name in varied:
            raise UserError(f"{name}: given for all cells, which differ in it; allowed: settings that they share")


def check_seeds(seeds: object) -> list[int]:
    """Raise a UserError unless these are seeds."""
    found = [seed for seed in seeds if type(seed) is int and seed >= 0] if isinstance(seeds, list) else []
    if not found or found != seeds or len(set(found)) < len(found):
        raise UserError(f"seeds: given {seeds!r}; allowed: different whole numbers from 0 on, such as 0,1,2")
    return found


def check_name(name: str) -> str:
    """Raise a UserError unless a study can be called so."""
    if not NAME.fullmatch(name):
        raise UserError(f"--study: given {name!r}; allowed: 1 to 40 letters, digits, '_', '.' and '-', no mark first")
    return name


def _by_full_name(settings: Mapping[str, object]) -> dict[str, object]:
    return {full_name(name): value for name, value in settings.items()}
