"""Documents that are texts: one in memory, one file, or all files of a folder."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data.documents import Piece, Split
from spectral_mlflow.errors import UserError

SUFFIXES = (".txt", ".md")
PIECE = 1 << 20
LONGEST_WORD = 1 << 16

Opened = io.BufferedReader | io.BytesIO

# No GPT-2 word goes from a visible character on to a blank, nor looks behind itself: a cut there changes no token.
_CUT = re.compile(r"(?<=\S)[ \n]")


@dataclass(frozen=True, slots=True)
class Stretch:
    """Bytes of a document that belong to one split.

    Attributes:
        place: the document, a file or its content.
        start: first byte.
        end: byte behind the last one.
        split: None: not used.
        is_last: whether the document ends with it.
    """

    place: Path | bytes
    start: int
    end: int
    split: Split | None
    is_last: bool


class Texts:
    """A source of UTF-8 texts."""

    most_train_tokens: int | None = None

    def __init__(self, name: str, origin: str, licence: str, stretches: list[Stretch]) -> None:
        self.name = name
        self.licence = licence
        self.stretches = stretches
        self.files = sum(stretch.is_last for stretch in stretches)
        self.size: int | None = sum(stretch.end - stretch.start for stretch in stretches)
        self.separated = self.files > 1
        self._origin = origin

    def identity(self) -> dict[str, Any]:
        """Path, size and time of change of the files, and what is cut from them."""
        return {
            "stretches": [
                [str(s.place.resolve()), s.place.stat().st_mtime_ns, s.start, s.end, s.split]
                for s in self.stretches
                if isinstance(s.place, Path)
            ]
        }

    def origin(self, _position: Any) -> str:
        """URL, module or path."""
        return self._origin

    def read(self, position: Any = None) -> Generator[Piece]:
        """The texts; the position is that of the stretch and of the byte in it."""
        first, done = position or (0, 0)
        for number, stretch in enumerate(self.stretches[first:], first):
            try:
                yield from _pieces(stretch, number, done)
            except OSError as failure:
                raise _unreadable(failure, self._origin) from None
            done = 0


def one(name: str, origin: str, licence: str, place: Path | bytes, config: DatasetConfig) -> Texts:
    """A single text: its first share to train on, the next one held out, each ending with a whole character."""
    with _opened(place) as file:
        size = file.seek(0, os.SEEK_END)
        shares = (config.train_split, config.train_split + config.val_split)
        middle, end = (_next_character(file, _position(share, size), size) for share in shares)
    splits: list[tuple[int, int, Split | None]] = [(0, middle, "train"), (middle, end, "val"), (end, size, None)]
    return Texts(name, origin, licence, [Stretch(place, *split, is_last=split[2] is None) for split in splits])


def at(path: str, name: str, licence: str, config: DatasetConfig) -> Texts:
    """The user's file, or every text file below the user's folder.

    Files of a folder are documents: in the order of the hashes of their paths, which is no order of their
    contents, each wholly in one split.

    Raises:
        UserError: there is nothing to read.
    """
    root = Path(path)
    try:
        sizes = {file: file.stat().st_size for file in listed(root, SUFFIXES)}
        if not any(sizes.values()):
            with next(iter(sizes)).open("rb") as file:
                file.read(1)  # Says why, where something else than a text was given.
            raise UserError(f"dataset.path: {root} is empty; give a file or folder with text in it")
        if len(sizes) == 1:
            return one(name, path, licence, next(iter(sizes)), config)
    except (OSError, ValueError) as failure:
        raise _unreadable(failure, path) from None
    splits = divided({str(file.relative_to(root)): size for file, size in sizes.items()}, config)
    stretches = [Stretch(root / p, 0, sizes[root / p], splits[p], is_last=True) for p in sorted(splits, key=_hashed)]
    return Texts(name, path, licence, stretches)


def divided(sizes: dict[str, int], config: DatasetConfig) -> dict[str, Split | None]:
    """Which split each of several documents belongs to: as many as fit into its share, at least one.

    Whether a document is held out depends on the hash of its name, not on its place among the others.

    Args:
        sizes: bytes of each document by its name.
        config: the shares.
    """
    total, names = sum(sizes.values()), sorted(sizes, key=_hashed)
    held_out = _fitting(names, sizes, config.val_split * total)
    rest = [name for name in names if name not in held_out]
    whole = config.train_split + config.val_split > 1 - 1e-9
    trained = set(rest) if whole else _fitting(rest, sizes, config.train_split * total)
    return {name: "val" if name in held_out else "train" if name in trained else None for name in names}


def _fitting(names: list[str], sizes: dict[str, int], room: float) -> set[str]:
    taken = set()
    for name in names:
        if sizes[name] <= room + 1e-6:
            taken.add(name)
            room -= sizes[name]
    return taken or {min(names, key=lambda name: sizes[name])}


def _hashed(name: str) -> bytes:
    return hashlib.sha256(os.fsencode(name)).digest()


def listed(root: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """A file, whatever it is called, or all files below a folder with one of the endings, in the order of their paths.

    Hidden folders are passed over, and run directories: what a model has written is no text to train on.

    Raises:
        OSError: it is not there, or a folder may not be listed.
        UserError: there is no such file.
    """
    if not root.is_dir():
        root.stat()  # Says why, where there is nothing.
        if not root.is_file():
            raise UserError(f"dataset.path: {root} is neither a file nor a folder; give one of these")
        return [root]
    found = [path for path in _walk(root) if path.suffix.lower() in suffixes and path.is_file()]
    if not found:
        raise UserError(
            f"dataset.path: no file in {root} ends in {' or '.join(suffixes)}; give another folder or a file"
        )
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def _walk(root: Path) -> Iterator[Path]:
    def refuse(failure: OSError) -> None:
        raise failure  # By default os.walk leaves out what it may not read, without a word.

    for folder, below, names in os.walk(root, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".") and not _is_run(Path(folder, name))]
        yield from (Path(folder, name) for name in names)


def _is_run(folder: Path) -> bool:
    return (folder / "logs" / "events.jsonl").exists()


def _opened(place: Path | bytes) -> Opened:
    return place.open("rb") if isinstance(place, Path) else io.BytesIO(place)


def _position(share: float, size: int) -> int:
    """Bytes in a share, rounded down but for the error of the floating point."""
    return min(size, int(size * share + 1e-6))


def _next_character(file: Opened, position: int, size: int) -> int:
    file.seek(position)
    behind = file.read(3)  # A character has at most three bytes behind its first one.
    return min(size, position + next((i for i, byte in enumerate(behind) if byte & 0xC0 != 0x80), len(behind)))


def _pieces(stretch: Stretch, number: int, done: int) -> Generator[Piece]:
    """The text of a stretch from a byte on; with its end the hash of the document, which costs another look at it."""
    length = stretch.end - stretch.start if stretch.split else 0
    with _opened(stretch.place) as file:
        while True:
            text, used = _text(file, stretch, done, length - done)
            begins, done = done == 0 and stretch.start == 0, done + used
            if done == length:
                break
            yield Piece(stretch.split, text, begins, None, [number, done], number)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").digest() if stretch.is_last else None
    yield Piece(stretch.split, text, begins, digest, [number + 1, 0], number)


def _text(file: Opened, stretch: Stretch, done: int, left: int) -> tuple[str, int]:
    """A piece of text and its bytes."""
    file.seek(stretch.start + done)
    content = file.read(min(PIECE, left))
    if left and not content:
        raise UserError(f"dataset.path: {stretch.place!s} has become shorter while it was read; start again")
    is_rest = len(content) == left
    try:
        text, used = codecs.utf_8_decode(content, "strict", is_rest)
    except UnicodeDecodeError as failure:
        raise UserError(
            f"dataset.path: {stretch.place!s} is not UTF-8 (byte {stretch.start + done + failure.start} is "
            f"0x{content[failure.start]:02x}); convert it, for example with iconv -t UTF-8"
        ) from None
    if is_rest:
        return text, used
    cuts = [match.start() for match in _CUT.finditer(text, max(0, len(text) - LONGEST_WORD))]
    text = text[: cuts[-1]] if cuts else text
    return text, len(text.encode())


def _unreadable(failure: Exception, place: str) -> UserError:
    reason = failure.strerror if isinstance(failure, OSError) else failure
    named = (isinstance(failure, OSError) and failure.filename) or place
    return UserError(f"dataset.path: cannot read {named}: {reason}; give a file or folder of UTF-8 text")
