"""Which data each figure of the documents is drawn from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from spectral_mlflow.files import replace_file
from spectral_mlflow.paper.book import MODELS, Book
from spectral_mlflow.paper.commands import training_command
from spectral_mlflow.paper.fact import Missing
from spectral_mlflow.paper.facts import Cell, Run

if TYPE_CHECKING:
    from spectral_mlflow.monitoring.model_arrays import ModelArrays

WORD = "cat"
TOKENS = 16
LANDSCAPE = {"size": 21, "windows": 4}
ANIMATION = {"milliseconds": 80, "hold": 1200}
_log = logging.getLogger(__name__)

MOVING = ("two_waves", "forward_pass")
COURSE = ("wave_ratio", "wave/temperature", "wave/temperature_min", "wave/temperature_max")


@dataclass(frozen=True)
class Source:
    """Where data of figures come from.

    Attributes:
        book: facts.
        folder: where what took long to compute is kept.
    """

    book: Book
    folder: Path

    @property
    def main(self) -> Mapping[str, Cell]:
        """The cells of the main comparison, standard first."""
        return self.book.facts.main

    def run(self, model: str) -> Run | Missing:
        """The run of a model whose trained weights are shown: that of its first seed which is here."""
        cell = self.main.get(model)
        if cell is None:
            return self.book.lacking_cell("main", model)
        runs = list(cell.runs.values())
        return next((run for run in runs if run.directory is not None), runs[0])

    def lacks(self, otherwise: str) -> Missing:
        """That there are no runs, or else what they lack."""
        return Missing(otherwise) if self.main else self.book.lacking_cell("main", MODELS[0])


def image(name: str) -> str:
    """File name of the image that a document shows; a moving one has the strip of its frames for print."""
    return f"{name}.gif" if name in MOVING else f"{name}.svg"


def has_twins() -> bool:
    """Whether interactive twins can be drawn."""
    return find_spec("plotly") is not None


def draw(name: str, data: Any, folder: Path) -> list[Path]:
    """Draw a figure: a vector for screens, one for LaTeX, its animation and its interactive twin.

    Returns:
        The files.

    Raises:
        OSError: the folder cannot be written.
    """
    from spectral_mlflow.paper import drawings
    from spectral_mlflow.plots import animation, page, style

    with page.printed():
        figure, title = drawings.FIGURES[name](data), name.replace("_", " ")
        vectors = (f"{name}_strip.svg" if name in MOVING else f"{name}.svg", f"{name}.pdf")
        files = [style.save(figure, folder / vector, title=title) for vector in vectors]
        if name in MOVING:
            files.append(animation.write(drawings.MOVING[name](data), folder / f"{name}.gif", **ANIMATION))
    if name in drawings.TWINS and has_twins():
        from spectral_mlflow.plots import interactive

        twin = folder / "interactive" / f"{name}.html"
        replace_file(twin, interactive.div(drawings.TWINS[name](data), name).encode(), durable=False)
        files.append(twin)
    return files


def _curves(key: str) -> Callable[[Source], Any]:
    def data(source: Source) -> Any:
        found = {
            name: [(h.steps, h.values) for run in cell.runs.values() if (h := run.histories.get(key)) is not None]
            for name, cell in source.main.items()
        }
        found = {name: curves for name, curves in found.items() if curves}
        return found or source.lacks(f"the runs have no history of {key}")

    return data


def _losses(source: Source) -> Any:
    found = {name: list(source.book.values("val_loss", cell).values()) for name, cell in source.main.items()}
    return found or source.lacks("no run has a loss")


def _convergence(source: Source) -> Any:
    found = {
        name: [
            (h.steps, h.seconds, h.values)
            for run in cell.runs.values()
            if (h := run.histories.get("val_loss")) is not None
        ]
        for name, cell in source.main.items()
    }
    if not any(found.values()):
        return source.lacks("the runs have no history of val_loss")
    return {"models": found, "target": source.book.target}


def _parts(what: str) -> Callable[[Source], Any]:
    def data(source: Source) -> Any:
        found: dict[str, dict[str, int]] = {}
        for model in reversed(MODELS):
            costs = source.book.costs(model)
            if isinstance(costs, Missing):
                return costs
            found[model] = {part: getattr(cost, what) for part, cost in costs.items() if part != "total"}
        return found

    return data


def _architecture(source: Source) -> Any:
    from spectral_mlflow.analysis import model_facts

    found = {}
    for name in reversed(MODELS):
        model = source.book.model(name)
        if model is None:
            return source.book.lacking_cell("main", name)
        found[name] = model_facts.drawing(*model)
    return found


def _effects(source: Source) -> Any:
    tests = source.book.ablation_tests
    if not tests:
        return source.book.lacking_cell("ablation", "none")
    return [(name, test.difference.mean, test.difference.low, test.difference.high) for name, test in tests.items()]


def _computed(kind: str) -> Callable[[Source], Any]:
    """Data that are computed from the checkpoints of a run of each model."""

    def data(source: Source) -> Any:
        found: dict[str, Any] = {}
        for model in reversed(MODELS):
            run = source.run(model)
            if isinstance(run, Missing):
                return run
            found[model] = _compute(kind, source, run)
            if isinstance(found[model], Missing):
                return found[model]
        return found

    return data


def _compute(kind: str, source: Source, run: Run) -> Any:
    from spectral_mlflow.analysis import kept, trained

    directory, found = run.directory or Path(run.key), None
    if kind in ("surface", "descent"):
        told = partial(_tell, f"{kind} of the loss of {run.key}")
        found = getattr(kept, kind)(directory, source.folder, told=told, **LANDSCAPE)
    elif kind == "passage":
        found = kept.passage(directory, source.folder, tokens=TOKENS)
    else:
        found = kept.spelling(directory, source.folder, WORD)
    return Missing(found.what, training_command(run.settings)) if isinstance(found, trained.Missing) else found


def _tell(what: str, done: int, total: int) -> None:
    """Tell now and then how far a long computation has come."""
    if done % max(total // 5, 1) == 0:
        _log.info("%s: %d of %d points", what, done, total)


def _waves(source: Source) -> Any:
    """What the plots of the wave model's run were drawn from, by step."""
    found = _arrays(source, "wave", lambda arrays: "embedding" in arrays.waves)
    if isinstance(found, Missing):
        return found
    f = np.stack([arrays.waves["embedding"].frequencies for arrays in found.values()])
    return {"last": found[max(found)].waves["embedding"], "steps": list(found), "f": f}


def _coherence(source: Source) -> Any:
    found = _arrays(
        source, "wave", lambda arrays: arrays.attention is not None and arrays.attention.coherence is not None
    )
    return found if isinstance(found, Missing) else found[max(found)].attention


def _arrays(source: Source, model: str, wanted: Callable[[ModelArrays], bool]) -> dict[int, ModelArrays] | Missing:
    from spectral_mlflow.monitoring.model_arrays import ModelArrays, path_of, steps_in

    run = source.run(model)
    if isinstance(run, Missing):
        return run
    plots = (run.directory or Path(run.key)) / "visualizations"
    steps = steps_in(plots) if plots.is_dir() else []
    loaded = {step: ModelArrays.load(path_of(plots, step)) for step in steps}
    found = {step: arrays for step, arrays in loaded.items() if wanted(arrays)}
    if not found:
        return Missing(f"run {run.key} has no data of plots here", training_command(run.settings))
    return found


def _course(source: Source) -> Any:
    run = source.run("wave")
    if isinstance(run, Missing):
        return run
    found = {key: (run.histories[key].steps, run.histories[key].values) for key in COURSE if key in run.histories}
    return found or Missing(f"run {run.key} has no history of wave_ratio")


def _formula(_: Source) -> Any:
    return ()


PICTURES: dict[str, Callable[[Source], Any]] = {
    "validation_curves": _curves("val_loss"),
    "training_curves": _curves("loss"),
    "loss_by_run": _losses,
    "convergence": _convergence,
    "architecture": _architecture,
    "parameters": _parts("parameters"),
    "flops": _parts("flops"),
    "effects": _effects,
    "landscape": _computed("surface"),
    "trajectories": _computed("descent"),
    "heads": _computed("passage"),
    "forward_pass": _computed("passage"),
    "token_vectors": _computed("spelling"),
    **dict.fromkeys(
        ("frequencies", "frequency_evolution", "phases", "harmonics", "wave_packets", "interference"), _waves
    ),
    "phase_coherence": _coherence,
    "wave_course": _course,
    **dict.fromkeys(("wave_packet", "two_waves", "activations"), _formula),
}
