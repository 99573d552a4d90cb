"""Documents to tokens: the loop over a source, and its result in memory. `shards` has that on disk."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import documents, tokenizers
from spectral_mlflow.data.document_table import Documents
from spectral_mlflow.data.documents import Piece, Source
from spectral_mlflow.data.tokenizers import Ids, Tokenizer
from spectral_mlflow.data.tokens import Tokens

TokenType = type[np.uint16] | type[np.uint32]

# A corpus of at most so many bytes is learned from as a whole and stays in memory; of a larger one as much is learned
# from, and it goes to disk.
SMALL = 1 << 24


@dataclass(frozen=True)
class State:
    """How far a source has been read.

    Attributes:
        position: where to go on, in the words of the source.
        documents: read so far, without those that were made of others.
        sha256: of one document that of its bytes; of each further one it is of the hash before and the document's.
        train: tokens to train on.
        val: tokens held out.
        rows: training documents with a token; None where an earlier version, which had no table of them, began.
    """

    position: Any = None
    documents: int = 0
    sha256: str = ""
    train: int = 0
    val: int = 0
    rows: int | None = 0

    def after(self, piece: Piece, num_tokens: int) -> State:
        """How far it is behind one more piece."""
        counts: dict[str, Any] = {piece.split: getattr(self, piece.split) + num_tokens} if piece.split else {}
        if self.rows is not None and piece.split == "train" and piece.begins and num_tokens:
            counts["rows"] = self.rows + 1
        state = dataclasses.replace(self, position=piece.after, **counts)
        if piece.digest is None or piece.augmented:
            return state
        before = bytes.fromhex(self.sha256)
        sha256 = hashlib.sha256(before + piece.digest).hexdigest() if before else piece.digest.hex()
        return dataclasses.replace(state, documents=self.documents + 1, sha256=sha256)


@dataclass(frozen=True, eq=False)
class Encoded:
    """Both splits of a corpus as tokens.

    Attributes:
        tokenizer: learned from the training documents alone.
        train: to train on.
        val: held out.
        state: at the end of the source, or where there were tokens enough.
        documents: those trained on; None where they are not known.
        cache_hits: splits that came from the cache.
    """

    tokenizer: Tokenizer
    train: Tokens
    val: Tokens
    state: State
    documents: Documents | None = None
    cache_hits: int = 0


def encode(
    pieces: Iterable[Piece], source: Source, tokenizer: Tokenizer, state: State
) -> Iterator[tuple[State, Piece, Ids]]:
    """The tokens of each piece, and how far the source is read with them.

    A separator stands between two documents of a split. The document with the last token that is wanted is cut there.
    """
    for piece in pieces:
        room = None if source.most_train_tokens is None else source.most_train_tokens - state.train
        if room is not None and room <= 0:
            return
        ids = tokenizer.encode(piece.text if piece.split else "")
        separator = tokenizer.separator if source.separated and piece.begins else None
        if separator is not None and piece.split and getattr(state, piece.split):
            ids = np.concatenate([np.array([separator]), ids])
        if piece.split == "train":
            ids = ids[:room]
        state = state.after(piece, len(ids))
        yield state, piece, ids


def in_memory(source: Source, config: DatasetConfig) -> Encoded:
    """A small corpus, learned from whole.

    Raises:
        UserError: it cannot be read.
    """
    pieces = list(source.read())
    text = documents.sample(pieces, separated=source.separated, size=SMALL)
    unseen = "".join(piece.text for piece in pieces if piece.split != "train")
    tokenizer = tokenizers.train(config, text, unseen, separated=source.separated)
    kind = token_type(tokenizer)
    parts = {"train": [np.empty(0, kind)], "val": [np.empty(0, kind)]}
    state, rows = State(), []
    for after, piece, ids in encode(pieces, source, tokenizer, state):
        if after.rows != state.rows:
            rows.append((state.train, piece.file, piece.augmented))
        state = after
        if piece.split:
            parts[piece.split].append(ids.astype(kind))
    train, val = (Tokens(np.concatenate(parts[split])) for split in ("train", "val"))
    return Encoded(tokenizer, train, val, state, Documents.of(rows))


def token_type(tokenizer: Tokenizer) -> TokenType:
    """The shortest type that all its tokens fit into."""
    return np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32
