"""FigureManager: the figures of the documents, drawn when their data changed and not otherwise."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from spectral_mlflow.files import replace_file
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.fact import Missing
from spectral_mlflow.paper.pictures import PICTURES, Source, draw, has_twins, image

FOLDER = "figures"
KEYS = "figures.json"
DATA = "data"
DRAWING = ("plots", "paper/drawings.py")  # Code that decides what a figure looks like.

_log = logging.getLogger(__name__)


class FigureManager(Mapping[str, "str | Missing"]):
    """The figures by name: path of the image relative to the documents, or what is missing for it.

    Data are looked for when a figure is asked for, and drawn by `write` alone.

    Attributes:
        folder: where the figures lie, ``figures/`` beside the documents.
    """

    def __init__(self, output_dir: str | Path, book: Book) -> None:
        """Draw nothing yet.

        Args:
            output_dir: folder of the documents.
            book: facts that figures are made of.
        """
        self.folder = Path(output_dir) / FOLDER
        self._source = Source(book, self.folder / DATA)
        self._data: dict[str, Any] = {}

    def __getitem__(self, name: str) -> str | Missing:
        data = self.data(name)
        return data if isinstance(data, Missing) else f"{FOLDER}/{image(name)}"

    def __iter__(self) -> Iterator[str]:
        return iter(PICTURES)

    def __len__(self) -> int:
        return len(PICTURES)

    def __contains__(self, name: object) -> bool:
        return name in PICTURES

    def data(self, name: str) -> Any:
        """What a figure is drawn from, or what is missing for it."""
        if name not in self._data:
            self._data[name] = PICTURES[name](self._source)
        return self._data[name]

    def write(self, names: Iterable[str]) -> list[Path]:
        """Draw those figures whose data or code changed since they were drawn.

        Args:
            names: of figures that nothing is missing for.

        Returns:
            Every file of these figures.

        Raises:
            OSError: the folder cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        known = self._known()
        wanted = {name: digest([drawing_code(), has_twins(), self.data(name)]) for name in names}
        for name, key in wanted.items():
            if known.get(name, {}).get("key") != key or not self._is_whole(known[name]["files"]):
                _log.debug("drawing %s", name)
                files = draw(name, self.data(name), self.folder)
                known[name] = {
                    "key": key,
                    "files": {str(path.relative_to(self.folder)): file_digest(path) for path in files},
                }
        content = {name: known[name] for name in sorted(wanted)}
        replace_file(self.folder / KEYS, (json.dumps(content, indent=1) + "\n").encode(), durable=False)
        return [self.folder / file for name in content for file in content[name]["files"]]

    def _known(self) -> dict[str, Any]:
        try:
            content = json.loads((self.folder / KEYS).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # Nothing was drawn yet, or it is not known what: draw all.
            return {}
        return content if isinstance(content, dict) else {}

    def _is_whole(self, files: Mapping[str, str]) -> bool:
        return all(file_digest(self.folder / name) == known for name, known in files.items())


def digest(value: Any) -> str:
    """SHA-256 of data made of numbers, texts, arrays, mappings, sequences and dataclasses."""
    made = hashlib.sha256()
    _add(value, made.update)
    return made.hexdigest()


def _add(value: Any, update: Callable[[bytes], None]) -> None:
    if isinstance(value, np.ndarray):
        update(f"{value.dtype}{value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif is_dataclass(value) and not isinstance(value, type):
        _add({"": type(value).__name__, **{name: getattr(value, name) for name in value.__dataclass_fields__}}, update)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _add(key, update)
            _add(inner, update)
    elif isinstance(value, list | tuple):
        update(f"[{len(value)}".encode())
        for inner in value:
            _add(inner, update)
    else:
        update(repr(value).encode() + b"\0")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, empty where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


@lru_cache(maxsize=1)
def drawing_code() -> str:
    """Digest of the code that draws."""
    from spectral_mlflow.paper.manifest import code_digest

    return code_digest(DRAWING)
