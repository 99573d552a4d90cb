"""What took long to compute from checkpoints, kept as plain arrays: figures can be drawn again without them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from spectral_mlflow.analysis import forward_pass, landscape
from spectral_mlflow.analysis.landscape import Told
from spectral_mlflow.analysis.trained import Missing, Trained
from spectral_mlflow.files import replace_file
from spectral_mlflow.plots.passage import Passage, Spelling
from spectral_mlflow.plots.surface import Descent, Surface

ORIGIN = "origin"
Found = Surface | Descent | Passage | Spelling
_Kind = TypeVar("_Kind", Surface, Descent, Passage, Spelling)


def surface(
    run_dir: str | Path,
    folder: str | Path,
    *,
    size: int = landscape.SIZE,
    windows: int = landscape.WINDOWS,
    told: Told | None = None,
) -> Surface | Missing:
    """`landscape.surface`, from the file of an earlier time where the run has no newer checkpoint.

    Args:
        run_dir: directory of the run; it may have lost its checkpoints, and be gone.
        folder: where results are kept, as ``surface_RUN.npz``.
        size: points along each side, odd.
        windows: windows of the validation split that a loss is a mean over.
        told: how many points are done, and of how many, after each.
    """
    options = {"size": size, "windows": windows}
    return _kept(Surface, run_dir, folder, options, lambda: landscape.surface(run_dir, **options, told=told))


def descent(
    run_dir: str | Path,
    folder: str | Path,
    *,
    size: int = landscape.SIZE,
    windows: int = landscape.WINDOWS,
    told: Told | None = None,
) -> Descent | Missing:
    """`landscape.descent`, from the file of an earlier time where the run has no newer checkpoint.

    Args:
        run_dir: directory of the run; it may have lost its checkpoints, and be gone.
        folder: where results are kept, as ``descent_RUN.npz``.
        size: points along each side.
        windows: windows of the validation split that a loss is a mean over.
        told: how many points are done, and of how many, after each.
    """
    options = {"size": size, "windows": windows}
    return _kept(Descent, run_dir, folder, options, lambda: landscape.descent(run_dir, **options, told=told))


def passage(run_dir: str | Path, folder: str | Path, *, tokens: int = forward_pass.TOKENS) -> Passage | Missing:
    """`forward_pass.follow` the beginning of the validation split, kept as ``passage_RUN.npz``."""
    options = {"tokens": tokens}
    return _kept(Passage, run_dir, folder, options, lambda: forward_pass.follow(run_dir, tokens=tokens))


def spelling(run_dir: str | Path, folder: str | Path, word: str) -> Spelling | Missing:
    """`forward_pass.spell`, kept as ``spelling_RUN.npz``."""
    return _kept(Spelling, run_dir, folder, {"word": word}, lambda: forward_pass.spell(run_dir, word))


def save(path: Path, found: Found, origin: Mapping[str, Any]) -> None:
    """Write arrays and texts, with what they were computed from.

    Raises:
        OSError: the disk refuses.
    """
    values = asdict(found)
    inner = {f"surface_{name}": value for name, value in values.pop("surface", {}).items()}
    about = {"kind": _name(type(found)), **origin}
    content = io.BytesIO()
    np.savez_compressed(content, allow_pickle=False, **{ORIGIN: np.array(json.dumps(about))}, **inner, **values)
    replace_file(path, content.getvalue())


def load(path: Path) -> tuple[Found, dict[str, Any]]:
    """What `save` wrote, and what it was computed from.

    Raises:
        OSError: there is none.
        ValueError: it is damaged.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            known = {name: _plain(stored[name]) for name in stored.files}
        origin = json.loads(known.pop(ORIGIN))
        if inner := {name: known.pop(name) for name in list(known) if name.startswith("surface_")}:
            known["surface"] = Surface(**{name.removeprefix("surface_"): value for name, value in inner.items()})
        kinds = {_name(kind): kind for kind in (Surface, Descent, Passage, Spelling)}
        return kinds[origin["kind"]](**known), origin
    except OSError:
        raise
    except Exception as failure:  # Archive, compression, header and text each have errors of their own.
        raise ValueError(f"{path.name} is damaged: {failure!r}") from failure


def _name(kind: type[Found]) -> str:
    return kind.__name__.lower()


def _plain(value: np.ndarray[Any, Any]) -> Any:
    """Numbers and texts as they were before; arrays with a dimension of numbers stay arrays."""
    return value.tolist() if value.ndim == 0 or value.dtype.kind == "U" else value


def _kept(
    kind: type[_Kind],
    run_dir: str | Path,
    folder: str | Path,
    options: Mapping[str, Any],
    compute: Callable[[], _Kind | Missing],
) -> _Kind | Missing:
    """What the file has, if it is of these options and has seen all checkpoints that matter; else what is computed."""
    path = Path(folder) / f"{_name(kind)}_{Path(run_dir).name}.npz"
    digests = [checkpoint.digest for checkpoint in Trained(run_dir).checkpoints]
    present = digests if kind is Descent else digests[-1:]
    try:
        found, origin = load(path)
        if isinstance(found, kind) and origin["options"] == options and set(present) <= set(origin["digests"]):
            return found
    except (OSError, ValueError, KeyError):
        pass  # It is computed again.
    result = compute()
    if not isinstance(result, Missing):
        save(path, result, {"run": Path(run_dir).name, "digests": present, "options": dict(options)})
    return result
