"""A corpus tokenised once, into files of bounded size that are mapped into memory.

A folder in the cache holds tokenizer.json, train-00000.bin, val-00000.bin and so on, which are ids without a header,
the columns of the table of documents, and index.json, which says how many of them count and where the source is to be
read on. It is written last, so whatever a crash leaves behind it is cut off.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from spectral_mlflow.config import DatasetConfig, canonical_hash
from spectral_mlflow.data import cache, documents, encoding, tokenizers
from spectral_mlflow.data.document_table import Documents, Rows, append
from spectral_mlflow.data.documents import Piece, Source
from spectral_mlflow.data.encoding import Encoded, State, TokenType, encode, token_type
from spectral_mlflow.data.tokenizers import Ids, Tokenizer
from spectral_mlflow.data.tokens import Shard, Tokens
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file, sync_directory

FORMAT = 1
SHARD_TOKENS = 1 << 26
KEPT_EVERY = 1 << 20  # Tokens, a few seconds of work.
REPORT_SECONDS = 10.0

_log = logging.getLogger("spectral_mlflow.data")
_log.setLevel(logging.INFO)  # Work of minutes is worth a line, also where a program shows warnings only.


def on_disk(source: Source, config: DatasetConfig) -> Encoded:
    """The tokens of a source, from the cache if they are there; else they are made, from where that was broken off.

    Raises:
        UserError: the source cannot be read, or the cache cannot be written.
    """
    folder = cache.folder() / "tokens" / _key(source, config)
    try:
        if finished := _finished(folder):
            return dataclasses.replace(finished, cache_hits=2)
        return _make(folder, source, config)
    except OSError as failure:
        raise UserError(
            f"cannot keep the tokens of dataset {source.name} in {folder}: {failure.strerror or failure}; "
            "make room there, or set XDG_CACHE_HOME to another folder"
        ) from None


def _key(source: Source, config: DatasetConfig) -> str:
    """Whatever decides the tokens and how they lie in the files."""
    settings = dataclasses.asdict(config)
    names = ("name", "tokenizer", "bpe_vocab_size", "train_split", "val_split", "max_tokens")
    layout = [FORMAT, SHARD_TOKENS, encoding.SMALL]
    return canonical_hash({"source": source.identity(), "layout": layout} | {n: settings[n] for n in names})[:32]


def _make(folder: Path, source: Source, config: DatasetConfig) -> Encoded:
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        _log.info("dataset %s: waiting for another process, which makes the same tokens in %s", source.name, folder)
        held = lock.acquire()
    with held:
        finished = _finished(folder)
        if finished is None:
            _encode(folder, source, config)
            finished = _finished(folder)
    if finished is None:
        raise OSError(errno.EIO, "the files are not what was written")
    return finished


def _encode(folder: Path, source: Source, config: DatasetConfig) -> None:
    """Read the source from where it was left, and append."""
    tokenizer, state = _begun(folder, source, config)
    writer, report = _Writer(folder, token_type(tokenizer), state), _Report(source.name, state)
    try:
        with closing(source.read(state.position)) as pieces:
            for after, piece, ids in encode(pieces, source, tokenizer, state):
                writer.add(after, piece, ids)
                report.update(after)
    finally:
        writer.keep()
    writer.keep(complete=True)


def _begun(folder: Path, source: Source, config: DatasetConfig) -> tuple[Tokenizer, State]:
    """The tokenizer, and how far an earlier process has come with it; nowhere, if what it left is damaged."""
    index = _index(folder)
    if index and not index["complete"] and (left := _opened(folder, _state(index))):
        _log.info("dataset %s: going on behind document %s in %s", source.name, f"{left.state.documents:,}", folder)
        return left.tokenizer, left.state
    with closing(source.read()) as pieces:
        text = documents.sample(pieces, separated=source.separated, size=encoding.SMALL)
    _log.info("dataset %s: making its tokens in %s, once", source.name, folder)
    tokenizer = tokenizers.train(config, text, None, separated=source.separated)
    tokenizer.save(folder / "tokenizer.json")
    return tokenizer, State()


def _finished(folder: Path) -> Encoded | None:
    """The corpus of a folder, if it is all there."""
    index = _index(folder)
    if not index or not index["complete"]:
        return None
    encoded = _opened(folder, _state(index))
    if encoded is None:
        _log.warning("%s is damaged; it is made again", folder)
    return encoded


def _index(folder: Path) -> dict[str, Any] | None:
    try:
        index: dict[str, Any] = json.loads((folder / "index.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return index


def _state(index: dict[str, Any]) -> State:
    return State(**index["state"], rows=index.get("rows"))  # Earlier versions wrote none, and know none in the state.


def _opened(folder: Path, state: State) -> Encoded | None:
    """As much of both splits and of their documents as the state counts; None where files are missing or damaged."""
    try:
        tokenizer = tokenizers.load(folder / "tokenizer.json")
        train, val = (
            Tokens.mapped(_files(folder, split, getattr(state, split)), token_type(tokenizer))
            for split in ("train", "val")
        )
        table = None if state.rows is None else Documents.mapped(folder, state.rows)
    except (FileNotFoundError, ValueError, UserError):
        return None
    return Encoded(tokenizer, train, val, state, table)


def _path(folder: Path, split: str, number: int) -> Path:
    return folder / f"{split}-{number:05}.bin"


def _files(folder: Path, split: str, num_tokens: int) -> Iterator[tuple[Path, int]]:
    """The files of a split, each with the number of tokens in it."""
    for number, start in enumerate(range(0, num_tokens, SHARD_TOKENS)):
        yield _path(folder, split, number), min(SHARD_TOKENS, num_tokens - start)


class _Writer:
    """Appends tokens and documents. What the index does not count yet is written over by whoever goes on from it."""

    def __init__(self, folder: Path, kind: TokenType, state: State) -> None:
        self._folder = folder
        self._kind = kind
        self._kept = self._state = state
        self._pending: dict[str, list[Shard]] = {"train": [], "val": []}
        self._rows: Rows = []

    def add(self, state: State, piece: Piece, ids: Ids) -> None:
        """Take the tokens of a piece, which lead to a state; they are kept from time to time."""
        if state.rows != self._state.rows:
            self._rows.append((self._state.train, piece.file, piece.augmented))
        if piece.split:
            self._pending[piece.split].append(ids.astype(self._kind))
        self._state = state
        if state.train + state.val >= self._kept.train + self._kept.val + KEPT_EVERY:
            self.keep()

    def keep(self, *, complete: bool = False) -> None:
        """Write what is pending, then the index that counts it."""
        state = self._state
        for split, parts in self._pending.items():
            start, end = getattr(self._kept, split), getattr(state, split)
            ids = np.concatenate([np.empty(0, self._kind), *parts])
            self._write(split, start, ids[: end - start])  # An interrupt may fall between tokens and their state.
        if state.rows is not None and self._kept.rows is not None:
            append(self._folder, self._kept.rows, self._rows[: state.rows - self._kept.rows])
        sync_directory(self._folder)
        counts = dataclasses.asdict(state)
        index = {"complete": complete, "rows": counts.pop("rows"), "state": counts}
        replace_file(self._folder / "index.json", json.dumps(index).encode())
        self._kept, self._pending, self._rows = state, {split: [] for split in self._pending}, []

    def _write(self, split: str, start: int, ids: Shard) -> None:
        while len(ids):
            number, offset = divmod(start, SHARD_TOKENS)
            part, ids = np.split(ids, [SHARD_TOKENS - offset])
            with _path(self._folder, split, number).open("r+b" if offset else "wb") as file:
                file.seek(offset * part.itemsize)
                file.write(part.tobytes())
                file.flush()
                os.fsync(file.fileno())
            start += len(part)


class _Report:
    """A line in the log from time to time."""

    def __init__(self, name: str, state: State) -> None:
        self._name = name
        self._before = state.train + state.val
        self._started = self._last = time.monotonic()

    def update(self, state: State) -> None:
        """Say how far it is, if nothing was said for a while."""
        num_tokens, now = state.train + state.val, time.monotonic()
        if now - self._last >= REPORT_SECONDS:
            self._last = now
            rate = (num_tokens - self._before) / (now - self._started)
            _log.info(
                "dataset %s: %s documents, %s tokens, %s tokens/s",
                self._name, f"{state.documents:,}", f"{num_tokens:,}", f"{rate:,.0f}",
            )  # fmt: skip
