"""O'Neill's collection of Irish tunes, as the package `music21` brings it along; read from there, never copied."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import texts
from spectral_mlflow.data.documents import Piece, Split
from spectral_mlflow.data.transposition import transpositions
from spectral_mlflow.errors import UserError

FOLDER = Path("corpus") / "oneills1850"
BEGIN = "X:1\n"  # Of every tune: its number says nothing of the music.

_KEPT = "MLK"  # Metre, unit of length and key are what the notes cannot be read without.
_FIELD = re.compile(r"([A-Za-z]):[ \t]*(.*)")
_REPEAT = re.compile(r"[A-Ga-g]:[|:]")  # A note before a repeat, which is no field among the notes.


@dataclass(frozen=True)
class Tune:
    """A tune of the collection.

    Attributes:
        number: in O'Neill's book; two transcriptions of one tune share it.
        file: which of the files it is from.
        text: ABC notation.
        split: None: not used.
        augmented: whether it is one of the others in another key.
    """

    number: str
    file: int
    text: str
    split: Split | None = None
    augmented: bool = False


class Tunes:
    """A source of tunes, each a document. All transcriptions of one tune are in the same split.

    Attributes:
        tunes: in the order in which they are read.
    """

    name = "oneills"
    separated = True
    most_train_tokens: int | None = None

    def __init__(self, config: DatasetConfig, licence: str) -> None:
        """Read the collection.

        Raises:
            UserError: music21 is not installed, or comes without it.
        """
        self.licence = licence
        paths = sorted(_folder().glob("*.abc"))
        if not paths:
            raise UserError(
                "dataset oneills: this copy of music21 comes without its corpus; "
                "pip install --force-reinstall music21, or choose another dataset.name"
            )
        self.files = len(paths)
        tunes = [tune for file, path in enumerate(paths) for tune in _read(path, file)]
        self.tunes = [*_split(tunes, config)]
        self.tunes += [*_augmented(self.tunes, config.transpositions)]
        self.size: int | None = sum(len(tune.text) for tune in self.tunes)
        self._config = config

    def identity(self) -> dict[str, Any]:
        """The version of the package, and the number of further keys."""
        return {"music21": metadata.version("music21"), "transpositions": self._config.transpositions}

    def origin(self, _position: Any) -> str:
        """The package and the folder in it."""
        return f"music21 {metadata.version('music21')}, {FOLDER.as_posix()}"

    def read(self, position: Any = None) -> Generator[Piece]:
        """The tunes in the order of the hashes of their numbers, then those in other keys."""
        for place, tune in enumerate(self.tunes[position or 0 :], position or 0):
            digest = hashlib.sha256(tune.text.encode()).digest()
            yield Piece(tune.split, tune.text, True, digest, place + 1, file=tune.file, augmented=tune.augmented)


def clean(tune: str) -> str:
    """A tune without what is no music: of the header metre, unit and key, and no quoted text in the notes.

    What remains is ABC 2.1: ``!`` and ``*``, which once broke and justified lines, and the backslash, which joined
    them, are left out, as is what only lays out the page, and ``+E3A3+`` is written as the chord that it once was,
    ``[E3A3]``. The collection then has 67 characters.
    """
    lines, in_header = [], True
    for line in re.sub(r"%.*", "", tune).splitlines():
        field = _FIELD.match(line) if in_header or not _REPEAT.match(line) else None
        if field and field[1] in _KEPT:
            lines.append(f"{field[1]}:{field[2].rstrip()}")
            in_header = in_header and field[1] != "K"
        elif not field and line.strip():
            lines.append(_clean_notes(line))
    return BEGIN + "".join(f"{line}\n" for line in lines if line)


def _clean_notes(line: str) -> str:
    line = re.sub(r'"[^"]*"|![^!]*!|\\\s*$|[!*]', "", line)
    return " ".join(re.sub(r"\+([^+]*)\+", r"[\1]", line).split())


def _folder() -> Path:
    """Where music21 is, without the seconds that importing it takes."""
    found = importlib.util.find_spec("music21")
    if found is None or found.origin is None:  # Without origin it is a folder that happens to have the name.
        raise UserError(
            "dataset oneills needs packages that are not installed: pip install 'spectral-mlflow[music]' "
            "(in a clone: pip install -e '.[music]'), or choose another dataset.name"
        )
    return Path(found.origin).parent / FOLDER


def _read(path: Path, file: int) -> Iterator[Tune]:
    for part in re.split(r"(?m)^X:", path.read_text(encoding="utf-8"))[1:]:
        number, _, rest = part.partition("\n")
        yield Tune(number.strip(), file, clean(rest))


def _split(tunes: list[Tune], config: DatasetConfig) -> Iterator[Tune]:
    sizes: dict[str, int] = {}
    for tune in tunes:
        sizes[tune.number] = sizes.get(tune.number, 0) + len(tune.text)
    splits = texts.divided(sizes, config)
    for tune in sorted(tunes, key=lambda tune: (hashlib.sha256(tune.number.encode()).digest(), tune.file)):
        yield Tune(tune.number, tune.file, tune.text, splits[tune.number])


def _augmented(tunes: list[Tune], count: int) -> Iterator[Tune]:
    """Training tunes in other keys; apart from the tunes, so that no window shows one and the same in two keys."""
    for tune in tunes:
        if tune.split == "train":
            for text in transpositions(tune.text, count):
                yield Tune(tune.number, tune.file, text, "train", augmented=True)
