"""A corpus made ready: split, and encoded by a tokenizer that has seen the training part alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora, encoding, shards
from spectral_mlflow.data.batches import num_windows
from spectral_mlflow.data.document_table import Documents
from spectral_mlflow.data.tokenizers import Tokenizer
from spectral_mlflow.data.tokens import Tokens
from spectral_mlflow.errors import UserError

TEXT_TOKENS = 1_000_000  # Of a long text that are looked at,
STRETCHES = 64  # in so many places.


@dataclass(frozen=True)
class Corpus:
    """The documents and where they come from.

    Attributes:
        name: of the corpus.
        sha256: of the documents' contents in their order; for a single one this is the hash of its file.
        source: URL, module or path.
        licence: what is known of the rights in it.
        files: number of files it was read from, 0 where that is not known.
        documents: number of documents it has, or that were read of it.
    """

    name: str
    sha256: str
    source: str
    licence: str
    files: int
    documents: int


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a model is trained and judged on.

    Attributes:
        corpus: the documents and where they come from.
        tokenizer: trained on the training part alone.
        train: N token ids.
        val: M token ids of other text, as many as are measured on.
        config: the settings it was made from.
        block_size: context length T that the windows are counted for.
        train_documents: which documents the training tokens are from; None where an earlier version made the tokens.
        cache_hits: splits whose tokens came from the cache.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    train: Tokens
    val: Tokens
    config: DatasetConfig
    block_size: int
    train_documents: Documents | None = None
    cache_hits: int = 0

    def training_text(self) -> str:
        """The text to train on; of a longer one than a million tokens so many in all, from evenly spaced places."""
        if len(self.train) <= TEXT_TOKENS:
            return self.tokenizer.decode(self.train[:])
        length = TEXT_TOKENS // STRETCHES
        places = (number * (len(self.train) - length) // (STRETCHES - 1) for number in range(STRETCHES))
        return "\n".join(self.tokenizer.decode(self.train[place : place + length]) for place in places)

    def info(self) -> dict[str, Any]:
        """What config.json says of the dataset."""
        return {
            "name": self.corpus.name,
            "sha256": self.corpus.sha256,
            "source": self.corpus.source,
            "licence": self.corpus.licence,
            "files": self.corpus.files,
            "num_documents": self.corpus.documents,
            "augmented_documents": int(self.train_documents.augmented.sum()) if self.train_documents else 0,
            "num_tokens": len(self.train) + len(self.val),
            "train_tokens": len(self.train),
            "val_tokens": len(self.val),
            "num_val_windows": num_windows(len(self.val), self.block_size),
            "vocab_size": self.tokenizer.vocab_size,
            "tokenizer": self.tokenizer.kind,
            "train_split": self.config.train_split,
            "val_split": self.config.val_split,
        }


def prepare(config: DatasetConfig, block_size: int) -> Dataset:
    """Find the documents, split them, train the tokenizer and encode both parts.

    A single text is cut in two: the first ``train_split`` of it is trained on, the next ``val_split`` of it held
    out. Of several documents each is wholly in one of the parts. A large corpus is tokenised into the cache, once.

    Args:
        config: what to take and how to cut it.
        block_size: context length T; each part must hold at least one window and its target.

    Raises:
        UserError: the corpus is not to be had, or a part is shorter than T + 1 tokens.
    """
    source = corpora.find(config)
    small = source.size is not None and source.size <= encoding.SMALL
    encoded = encoding.in_memory(source, config) if small else shards.on_disk(source, config)
    val = encoded.val.first(config.val_windows * block_size + 1) if config.val_windows else encoded.val
    for split, tokens in (("train", encoded.train), ("val", val)):
        _check_length(source.name, split, len(tokens), block_size)
    state = encoded.state
    origin = source.origin(state.position)
    corpus = Corpus(source.name, state.sha256, origin, source.licence, source.files, state.documents)
    return Dataset(
        corpus, encoded.tokenizer, encoded.train, val, config, block_size, encoded.documents, encoded.cache_hits
    )


def _check_length(name: str, split: str, num_tokens: int, block_size: int) -> None:
    if num_tokens > block_size:
        return
    smaller = f"a model.block_size of at most {num_tokens - 1}, " if num_tokens > 1 else ""
    raise UserError(
        f"dataset {name}: the {split} split has {num_tokens} tokens, needs model.block_size + 1 = {block_size + 1}; "
        f"choose {smaller}a larger corpus or a larger dataset.{split}_split"
    )
