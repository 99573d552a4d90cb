"""``python -m benchmarks.faults.recorder LOG FOLDER MODULE ...``: run a module, write down what it does to a folder.

The functions of the standard library that change files are replaced by ones that do the same and note it, in the true
order over all threads. What the module itself does is not touched. Files that are written past Python (by Rust, by
C++) are noted only when they are renamed; `benchmarks.faults.disk` checks that nothing else was missed.
"""

# Pathlib would call the very functions that are replaced here.
# ruff: noqa: PTH109, PTH112, PTH114, PTH118, PTH119, PTH120

from __future__ import annotations

import base64
import builtins
import functools
import io
import json
import os
import runpy
import shutil
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

Note = dict[str, Any]


class Recorder:
    """Notes of what happens below a folder."""

    def __init__(self, folder: str) -> None:
        self.lock = threading.RLock()
        self.notes: list[Note] = []
        self._folder = os.path.realpath(folder)
        self._files: dict[str, int] = {}  # Path of each file that exists, to its number.
        self._count = 0
        self._handles: dict[int, int | str] = {}  # Open handles: number of the file, or path of the directory.
        self._adopt()

    def _adopt(self) -> None:
        """Files that are there before: on disk to the last byte."""
        for place, _, names in os.walk(self._folder):
            for name in names:
                path = os.path.join(place, name)
                if not os.path.islink(path):
                    self.file(path)

    def path(self, path: Any, dir_fd: int | None = None) -> str | None:
        """The absolute path, if it is below the folder."""
        if isinstance(path, int):
            return None
        text = os.fsdecode(path)
        base = self._handles.get(dir_fd) if dir_fd is not None else None
        text = os.path.normpath(os.path.join(base if isinstance(base, str) else os.getcwd(), text))
        text = os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))
        return text if f"{text}{os.sep}".startswith(self._folder + os.sep) else None

    def note(self, do: str, **fields: Any) -> None:
        """Write something down."""
        self.notes.append({"do": do, **fields})

    def file(self, path: str) -> int:
        """The number of a file; a new one where the path is new."""
        if path not in self._files:
            self._count += 1
            self._files[path] = self._count
        return self._files[path]

    def created(self, path: str, existed: bool, truncated: bool) -> int:
        """A file was opened for writing."""
        if not existed:
            self._files.pop(path, None)
            number = self.file(path)
            self.note("create", path=path, file=number)
            return number
        number = self.file(path)
        if truncated:
            self.note("truncate", file=number, size=0)
        return number

    def written(self, handle: int, offset: int, data: bytes) -> None:
        """Bytes went into an open file."""
        number = self._handles.get(handle)
        if isinstance(number, int):
            self.note("write", file=number, offset=offset, data=base64.b64encode(data).decode())

    def truncated(self, handle: int, size: int) -> None:
        """An open file was cut or grown."""
        if isinstance(number := self._handles.get(handle), int):
            self.note("truncate", file=number, size=size)

    def opened(self, handle: int, what: int | str) -> None:
        """A handle stands for this file or directory."""
        self._handles[handle] = what

    def closed(self, handle: int) -> None:
        """A handle is free again."""
        self._handles.pop(handle, None)

    def synced(self, handle: int) -> None:
        """What an open file or directory had is on the disk now."""
        what = self._handles.get(handle)
        if isinstance(what, int):
            self.note("sync", file=what)
        elif what is not None:
            self.note("sync directory", path=what)

    def renamed(self, source: str, target: str) -> None:
        """A name was moved."""
        if os.path.isdir(target) and not os.path.islink(target):
            raise NotImplementedError("the rename of a directory is not recorded")
        if os.path.islink(target):
            self._files.pop(target, None)
        elif source in self._files:
            self._files[target] = self._files.pop(source)
        else:  # Written past Python: not a byte of it is known to be on the disk.
            with original["open"](target, "rb") as file:
                content = file.read()
            self._count += 1
            self._files[target] = self._count
            self.note("create", path=source, file=self._count)
            self.note("write", file=self._count, offset=0, data=base64.b64encode(content).decode())
        self.note("rename", source=source, target=target)

    def removed(self, path: str) -> None:
        """A name is gone."""
        self._files.pop(path, None)
        self.note("remove", path=path)


recorder: Recorder
original: dict[str, Callable[..., Any]] = {}


class RecordedFile(io.FileIO):
    """The raw file below every buffered or text file that is opened for writing in the folder."""

    def __init__(self, file: Any, mode: str, closefd: bool = True) -> None:
        with recorder.lock:
            path = recorder.path(file)
            existed = path is not None and os.path.lexists(path)
            super().__init__(file, mode, closefd)
            if path is not None:
                recorder.opened(self.fileno(), recorder.created(path, existed, "w" in mode))

    def write(self, data: Any) -> int:
        """Write, and note it."""
        with recorder.lock:
            count = super().write(data)
            recorder.written(self.fileno(), self.tell() - count, bytes(memoryview(data).cast("B")[:count]))
            return count

    def truncate(self, size: int | None = None) -> int:
        """Cut or grow, and note it."""
        with recorder.lock:
            new = super().truncate(size)
            recorder.truncated(self.fileno(), new)
            return new

    def close(self) -> None:
        """Close, and forget the handle."""
        with recorder.lock:
            if not self.closed:
                recorder.closed(self.fileno())
            super().close()


def recorded_open(
    file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, errors: str | None = None,
    newline: str | None = None, closefd: bool = True, opener: Any = None,
) -> Any:  # fmt: skip
    """`open`, with a `RecordedFile` at the bottom where the file is written in the folder."""
    watched = file in recorder._handles if isinstance(file, int) else recorder.path(file) is not None
    if not watched or not set(mode) & set("wax+") or opener is not None:
        return original["open"](file, mode, buffering, encoding, errors, newline, closefd, opener)
    raw = RecordedFile(file, mode.replace("b", "").replace("t", ""), closefd)
    if buffering == 0:
        return raw
    kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
    buffer = kind(raw, buffering if buffering > 1 else io.DEFAULT_BUFFER_SIZE)
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)
    text.mode = mode  # type: ignore[misc]  # As `open` sets it.
    return text


def wrapped(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a function in the place of one of the same arguments in `os`."""

    def replace(function: Callable[..., Any]) -> Callable[..., Any]:
        original[name] = getattr(os, name)

        @functools.wraps(original[name])
        def locked(*arguments: Any, **named: Any) -> Any:
            with recorder.lock:
                return function(*arguments, **named)

        replacements[name] = locked
        return locked

    return replace


replacements: dict[str, Callable[..., Any]] = {}


@wrapped("open")
def _open(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
    place = recorder.path(path, dir_fd)
    existed = place is not None and os.path.lexists(place)
    handle = original["os.open"](path, flags, mode, dir_fd=dir_fd)
    if place is not None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            recorder.opened(handle, place)
        else:
            recorder.opened(handle, recorder.created(place, existed, bool(flags & os.O_TRUNC)))
    return int(handle)


@wrapped("write")
def _write(handle: int, data: Any) -> int:
    count = original["write"](handle, data)
    if handle in recorder._handles:
        recorder.written(handle, os.lseek(handle, 0, os.SEEK_CUR) - count, bytes(memoryview(data).cast("B")[:count]))
    return int(count)


@wrapped("pwrite")
def _pwrite(handle: int, data: Any, offset: int) -> int:
    count = original["pwrite"](handle, data, offset)
    recorder.written(handle, offset, bytes(memoryview(data).cast("B")[:count]))
    return int(count)


@wrapped("ftruncate")
def _ftruncate(handle: int, size: int) -> None:
    original["ftruncate"](handle, size)
    recorder.truncated(handle, size)


@wrapped("fsync")
def _fsync(handle: Any) -> None:
    original["fsync"](handle)
    recorder.synced(handle if isinstance(handle, int) else handle.fileno())


@wrapped("fdatasync")
def _fdatasync(handle: Any) -> None:
    original["fdatasync"](handle)
    recorder.synced(handle if isinstance(handle, int) else handle.fileno())


@wrapped("close")
def _close(handle: int) -> None:
    recorder.closed(handle)
    original["close"](handle)


@wrapped("rename")
def _rename(source: Any, target: Any, **named: Any) -> None:
    _move("rename", source, target, named)


@wrapped("replace")
def _replace(source: Any, target: Any, **named: Any) -> None:
    _move("replace", source, target, named)


def _move(name: str, source: Any, target: Any, named: dict[str, Any]) -> None:
    old, new = recorder.path(source), recorder.path(target)
    original[name](source, target, **named)
    if old is not None and new is not None:
        recorder.renamed(old, new)


@wrapped("unlink")
def _unlink(path: Any, *, dir_fd: int | None = None) -> None:
    _remove("unlink", path, dir_fd)


@wrapped("remove")
def _remove_file(path: Any, *, dir_fd: int | None = None) -> None:
    _remove("remove", path, dir_fd)


@wrapped("rmdir")
def _rmdir(path: Any, *, dir_fd: int | None = None) -> None:
    _remove("rmdir", path, dir_fd)


def _remove(name: str, path: Any, dir_fd: int | None) -> None:
    place = recorder.path(path, dir_fd)
    original[name](path, dir_fd=dir_fd)
    if place is not None:
        recorder.removed(place)


@wrapped("mkdir")
def _mkdir(path: Any, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
    place = recorder.path(path, dir_fd)
    original["mkdir"](path, mode, dir_fd=dir_fd)
    if place is not None:
        recorder.note("mkdir", path=place)


@wrapped("symlink")
def _symlink(source: Any, target: Any, target_is_directory: bool = False, *, dir_fd: int | None = None) -> None:
    place = recorder.path(target, dir_fd)
    original["symlink"](source, target, target_is_directory, dir_fd=dir_fd)
    if place is not None:
        recorder.note("symlink", path=place, target=os.fsdecode(source))


def install(folder: str) -> Recorder:
    """Begin to write down what happens below a folder."""
    global recorder
    recorder = Recorder(folder)
    original["os.open"] = original.pop("open")
    original["open"] = io.open
    builtins.open = io.open = recorded_open
    for name, function in replacements.items():
        setattr(os, name, function)
    shutil._USE_CP_SENDFILE = False  # type: ignore[attr-defined]  # A copy by the kernel would pass by.
    return recorder


if __name__ == "__main__":
    log, watched, module, *arguments = sys.argv[1:]
    notes = install(watched)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        with notes.lock:
            text = "".join(json.dumps(note) + "\n" for note in notes.notes)
        builtins.open, io.open = original["open"], original["open"]
        Path(log).write_text(text)
