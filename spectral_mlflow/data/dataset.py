"""A corpus made ready: split, and encoded by a tokenizer that has seen the training part alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora, tokenizers
from spectral_mlflow.data.corpora import Corpus
from spectral_mlflow.data.tokenizers import Tokenizer
from spectral_mlflow.errors import UserError


@dataclass(frozen=True, eq=False)
class Dataset:
    """What a model is trained and judged on.

    Attributes:
        corpus: the text and where it comes from.
        tokenizer: trained on the training part alone.
        train: token ids (N,) int64.
        val: token ids (M,) int64 of the text behind it.
        config: the settings it was made from.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    train: Tensor
    val: Tensor
    config: DatasetConfig

    def info(self) -> dict[str, Any]:
        """What config.json says of the dataset."""
        return {
            "name": self.corpus.name,
            "sha256": self.corpus.sha256,
            "source": self.corpus.source,
            "licence": self.corpus.licence,
            "files": self.corpus.files,
            "num_tokens": len(self.train) + len(self.val),
            "train_tokens": len(self.train),
            "val_tokens": len(self.val),
            "vocab_size": self.tokenizer.vocab_size,
            "tokenizer": self.tokenizer.kind,
            "train_split": self.config.train_split,
            "val_split": self.config.val_split,
        }


def prepare(config: DatasetConfig, block_size: int) -> Dataset:
    """Load the corpus, split its text, train the tokenizer and encode both parts.

    The splits are contiguous and disjoint: the first ``train_split`` of the characters, then
    ``val_split`` of them.

    Args:
        config: what to load and how to cut it.
        block_size: context length T; each part must hold at least one window and its target.

    Raises:
        UserError: the corpus is not to be had, or a part is shorter than T + 1 tokens.
    """
    corpus = corpora.load(config)
    middle = _position(config.train_split, len(corpus.text))
    end = _position(config.train_split + config.val_split, len(corpus.text))
    train_text, val_text = corpus.text[:middle], corpus.text[middle:end]
    tokenizer = tokenizers.train(config, train_text, corpus.text[middle:])
    train, val = (torch.from_numpy(tokenizer.encode(text)) for text in (train_text, val_text))
    for split, tokens in (("train", train), ("val", val)):
        _check_length(corpus.name, split, len(tokens), block_size)
    return Dataset(corpus, tokenizer, train, val, config)


def _position(share: float, length: int) -> int:
    """Characters in a share of the text, rounded down but for the error of the floating point."""
    return min(length, int(length * share + 1e-6))


def _check_length(name: str, split: str, num_tokens: int, block_size: int) -> None:
    if num_tokens > block_size:
        return
    smaller = f"a model.block_size of at most {num_tokens - 1}, " if num_tokens > 1 else ""
    raise UserError(
        f"dataset {name}: the {split} split has {num_tokens} tokens, needs model.block_size + 1 = {block_size + 1}; "
        f"choose {smaller}a larger corpus or a larger dataset.{split}_split"
    )
