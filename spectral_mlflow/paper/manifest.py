"""The manifest of a build: what it was made from, so that the next one knows whether anything changed.

Reading it costs no import of pandas, matplotlib or jinja2.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from spectral_mlflow.files import replace_file

NAME = ".build.json"
PACKAGE = Path(__file__).parents[1]
# What a document depends on; the rest of the package made the runs, which the store describes.
CODE = ("paper", "plots", "analysis", "models", "settings.py", "config")
# Histories that some fact or figure is made of; what a run never logged costs nothing.
HISTORIES = (
    "loss", "val_loss", "tokens_per_sec", "grad/norm", "system/rss_mb", "wave_ratio", "wave/temperature",
    "wave/temperature_min", "wave/temperature_max", "attention/entropy", "attention/coherence",
)  # fmt: skip
TOOLS = ("matplotlib", "jinja2", "typst", "pypandoc_binary", "numpy", "pandas", "scipy", "plotly", "torch")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of the build before; empty where there is none that can be read."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Keep the manifest of a build.

    Raises:
        OSError: the folder cannot be written.
    """
    replace_file(folder / NAME, (json.dumps(content, indent=1) + "\n").encode(), durable=False)


def code_digest(parts: Iterable[str] = CODE) -> str:
    """Digest of files of the package: code, templates and the bibliography."""
    made = hashlib.sha256()
    for part in parts:
        place = PACKAGE / part
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix != ".pyc":
                made.update(f"{path.relative_to(PACKAGE)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


def tools() -> dict[str, str]:
    """Versions of the libraries that decide what a document looks like; none for those that are missing."""
    found = {}
    for name in TOOLS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found


def tree_digest(folder: Path) -> str:
    """Digest of the files in a folder, empty if there is none."""
    if not folder.is_dir():
        return ""
    made = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            made.update(f"{path.relative_to(folder)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return made.hexdigest()


def stamps(paths: Iterable[Path]) -> dict[str, list[int]]:
    """Size and time of change of every file at or below some paths: cheap to compare, also for checkpoints."""
    found: dict[str, list[int]] = {}
    for path in paths:
        for place in _files(path):
            with suppress(FileNotFoundError):  # A link to what the user has deleted.
                stat = place.stat()
                found[str(place)] = [stat.st_size, stat.st_mtime_ns]
    return found


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    return [Path(folder) / name for folder, _, names in os.walk(path) for name in sorted(names)]


def outputs(folder: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Digests of files in the folder of the documents, by their place in it."""
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(set(paths))}


def are_whole(folder: Path, known: Mapping[str, str]) -> bool:
    """Whether files are as a build left them."""
    try:
        return outputs(folder, [folder / name for name in known]) == known
    except OSError:
        return False
