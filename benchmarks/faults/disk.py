"""A disk that forgets: every state that POSIX allows after a power cut, given what a program did.

What was not synced may be there, or not, or in part: of a file any prefix of the writes since its last fsync, any of
its blocks, or zeros where it grew; of a directory each name that was made, moved or removed since its own fsync, each
independently of the others. An fsync of a file does not make its name durable.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

Note = dict[str, Any]
BLOCK = 4096

# What becomes of what was not synced.
MODES = ("nothing", "names", "data", "any", "any", "any", "all")


def notes(path: Path) -> list[Note]:
    """What a recorder has written."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@dataclass
class File:
    """One file: what is surely on the disk, and what was done since."""

    durable: bytes = b""
    pending: list[Note] = field(default_factory=list)

    def whole(self) -> bytes:
        """With everything that was done."""
        return _applied(self.durable, self.pending)

    def sync(self) -> None:
        """Everything is on the disk."""
        self.durable, self.pending = self.whole(), []

    def after_cut(self, random: Random, mode: str) -> bytes:
        """What a power cut leaves."""
        if not self.pending or mode in ("nothing", "names"):
            return self.durable
        if mode in ("data", "all"):
            return self.whole()
        return random.choice((self._nothing, self._prefix, self._zeros, self._blocks))(random)

    def _nothing(self, _: Random) -> bytes:
        return self.durable

    def _prefix(self, random: Random) -> bytes:
        kept = self.pending[: random.randint(0, len(self.pending))]
        if kept and kept[-1]["do"] == "write":
            data = base64.b64decode(kept[-1]["data"])
            part = base64.b64encode(data[: random.randint(0, len(data))]).decode()
            kept = [*kept[:-1], {**kept[-1], "data": part}]
        return _applied(self.durable, kept)

    def _zeros(self, _: Random) -> bytes:
        """The size arrived, the bytes did not."""
        return self.durable[: len(self.whole())].ljust(len(self.whole()), b"\0")

    def _blocks(self, random: Random) -> bytes:
        """Some blocks arrived, in no order."""
        new = self.whole()
        old = self.durable[: len(new)].ljust(len(new), b"\0")
        blocks = [random.choice((old, new))[start : start + BLOCK] for start in range(0, len(new), BLOCK)]
        return b"".join(blocks)[: random.randint(min(len(self.durable), len(new)), len(new))]


def _applied(content: bytes, changes: Sequence[Note]) -> bytes:
    data = bytearray(content)
    for note in changes:
        if note["do"] == "truncate":
            data = data[: note["size"]].ljust(note["size"], b"\0")
            continue
        written, offset = base64.b64decode(note["data"]), note["offset"]
        data = data.ljust(offset, b"\0")
        data[offset : offset + len(written)] = written
    return bytes(data)


Node = int | str | None  # Number of a file, "link:TARGET", or None for a directory.


@dataclass
class Directory:
    """One directory: the names that are surely there, and what was done since."""

    durable: dict[str, Node] = field(default_factory=dict)
    pending: list[Note] = field(default_factory=list)

    def after(self, done: Sequence[Note]) -> dict[str, Node]:
        """The names with these changes."""
        names = dict(self.durable)
        for change in done:
            if change["name"] is not None:
                names[change["name"]] = change["node"]
            if change["gone"] is not None:
                names.pop(change["gone"], None)
        return names

    def sync(self) -> None:
        """Everything is on the disk."""
        self.durable, self.pending = self.after(self.pending), []

    def after_cut(self, random: Random, mode: str) -> dict[str, Node]:
        """What a power cut leaves."""
        if mode in ("nothing", "data"):
            return self.durable
        kept = [change for change in self.pending if mode in ("names", "all") or random.random() < 0.5]
        return self.after(kept)


class Disk:
    """Files and directories below a folder, as a program has left them."""

    def __init__(self, folder: Path) -> None:
        """Begin empty."""
        self.folder = folder
        self.files: dict[int, File] = {}
        self.directories: dict[str, Directory] = {str(folder): Directory()}

    def play(self, done: Sequence[Note]) -> None:
        """Do what was recorded."""
        for note in done:
            self._do(note)

    def _do(self, note: Note) -> None:
        match note["do"]:
            case "write" | "truncate":
                self.files[note["file"]].pending.append(note)
            case "sync":
                self.files[note["file"]].sync()
            case "sync directory":
                self.directories[note["path"]].sync()
            case "create":
                self.files[note["file"]] = File()
                self._name(note["path"], note["file"])
            case "symlink":
                self._name(note["path"], f"link:{note['target']}")
            case "mkdir":
                self.directories[note["path"]] = Directory()
                self._name(note["path"], None)
            case "remove":
                parent, name = _split(note["path"])
                self.directories[parent].pending.append({"name": None, "node": None, "gone": name})
            case "rename":
                self._rename(note["source"], note["target"])

    def _name(self, path: str, node: Node, gone: str | None = None) -> None:
        parent, name = _split(path)
        self.directories[parent].pending.append({"name": name, "node": node, "gone": gone})

    def _rename(self, source: str, target: str) -> None:
        (parent, name), (new_parent, _) = _split(source), _split(target)
        node = self.directories[parent].after(self.directories[parent].pending)[name]
        self._name(target, node, name if parent == new_parent else None)
        if parent != new_parent:
            self.directories[parent].pending.append({"name": None, "node": None, "gone": name})

    def write(self, folder: Path, random: Random, mode: str) -> None:
        """Make what is left after a power cut: mode ``all`` is what there was before it."""
        self._write(str(self.folder), folder, random, mode)

    def _write(self, place: str, folder: Path, random: Random, mode: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, node in self.directories[place].after_cut(random, mode).items():
            if node is None:
                self._write(f"{place}/{name}", folder / name, random, mode)
            elif isinstance(node, str):
                (folder / name).symlink_to(node.removeprefix("link:"))
            else:
                (folder / name).write_bytes(self.files[node].after_cut(random, mode))


def _split(path: str) -> tuple[str, str]:
    parent, _, name = path.rpartition("/")
    return parent, name


def tree(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder: content of files, targets of links."""
    return {
        path.relative_to(folder).as_posix(): f"link:{path.readlink()}" if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
