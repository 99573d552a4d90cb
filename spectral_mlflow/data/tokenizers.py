"""Text to numbers and back: characters, or byte pairs learned from the training text.

To add one: a class, an entry in `TOKENIZERS`, and its name in `DatasetConfig.tokenizer`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as BytePairs
from tokenizers import decoders, models, pre_tokenizers, trainers

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
END_OF_TEXT = "<|endoftext|>"

Ids = npt.NDArray[np.int64]


class Tokenizer(Protocol):
    """What turns text into token ids 0 .. vocab_size - 1 and back."""

    @property
    def kind(self) -> str:
        """Its name in `TOKENIZERS`."""

    @property
    def vocab_size(self) -> int:
        """Number of different tokens, V."""

    @property
    def separator(self) -> int | None:
        """The token to set between two documents; None where none was learned."""

    def encode(self, text: str) -> Ids:
        """Token ids (N,) of a text.

        Raises:
            UserError: the text has characters that the tokenizer has no token for.
        """

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of token ids (N,).

        Raises:
            ValueError: an id is not in 0 .. vocab_size - 1.
        """

    def save(self, path: Path) -> None:
        """Write the tokenizer as JSON, whole or not at all."""


class CharTokenizer:
    """One token for each character of the training text, in the order of code points."""

    kind = "char"

    def __init__(self, characters: str, *, unknown: bool = False) -> None:
        """Make a tokenizer of known characters.

        Args:
            characters: all different and in order, U+FFFD perhaps last; the id of a character is its place.
            unknown: whether every other character is read as U+FFFD, which then is one of them.

        Raises:
            ValueError: they are not all different and in order, or U+FFFD is needed and missing.
        """
        ordered = sorted(characters.removesuffix(UNKNOWN))
        if len(set(characters)) < len(characters) or "".join(ordered) != characters.removesuffix(UNKNOWN):
            raise ValueError("the characters are not all different and in the order of code points")
        self.characters = characters
        self.unknown = unknown
        self._codes = _code_points(characters)
        other = characters.index(UNKNOWN) if unknown else -1
        # One more than the largest known code point: the last cell stands for all that lie above.
        self._ids = np.full(int(self._codes.max(initial=0)) + 2, other, dtype=np.int64)
        self._ids[self._codes] = np.arange(len(characters))

    @classmethod
    def train(cls, _config: DatasetConfig, text: str, unseen: str | None, *, separated: bool) -> Self:  # noqa: ARG003
        """Learn the characters of the text; U+FFFD is added where the unseen rest has others, or may have."""
        known = set(text)
        unknown = unseen is None or not known.issuperset(unseen)
        return cls("".join(sorted(known)) + UNKNOWN * (unknown and UNKNOWN not in known), unknown=unknown)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The tokenizer that `save` has written."""
        return cls(values["characters"], unknown=values["unknown"])

    @property
    def vocab_size(self) -> int:
        """Number of characters, U+FFFD included where it is needed."""
        return len(self.characters)

    @property
    def separator(self) -> int | None:
        """The line end."""
        place = self.characters.find("\n")
        return None if place < 0 else place

    def encode(self, text: str) -> Ids:
        """Token ids (N,), one for each character.

        Raises:
            UserError: characters without a token, where none stands for the unknown.
        """
        ids = self._ids[np.minimum(_code_points(text), len(self._ids) - 1)]
        if not self.unknown and ids.size and ids.min() < 0:
            self._refuse(text)
        return ids

    def _refuse(self, text: str) -> None:
        foreign = sorted(set(text) - set(self.characters))
        raise UserError(
            f"the text has characters that the tokenizer does not know: {_shown(foreign)}; "
            f"it knows the {self.vocab_size} of its training text: {_shown(self.characters)}; leave the others out"
        )

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of token ids (N,).

        Raises:
            ValueError: an id is not in 0 .. vocab_size - 1.
        """
        codes = self._codes[_checked(ids, self.vocab_size)]
        return codes.tobytes().decode("utf-32-le", "surrogatepass")

    def save(self, path: Path) -> None:
        """Write the characters as JSON, whole or not at all."""
        values = {"kind": self.kind, "characters": self.characters, "unknown": self.unknown}
        replace_file(path, json.dumps(values).encode())


class BPETokenizer:
    """Byte pairs (Sennrich et al. 2016) over UTF-8 bytes, split into words as GPT-2 does.

    All 256 bytes are tokens, so every text can be encoded and comes back exactly. The file is in
    the format of the `tokenizers` library, which can also read it without us.
    """

    kind = "bpe"

    def __init__(self, pairs: BytePairs) -> None:
        """Take a trained tokenizer of the `tokenizers` library."""
        self._pairs = pairs
        self._pairs.encode_special_tokens = True  # A document that talks of the end-of-text token does not end there.

    @classmethod
    def train(cls, config: DatasetConfig, text: str, _unseen: str | None, *, separated: bool) -> Self:
        """Learn the pairs of the text; a short text yields fewer than ``config.bpe_vocab_size`` tokens.

        The end-of-text token (Radford et al. 2019) is one of them where there are documents to separate.
        """
        pairs = BytePairs(models.BPE())
        pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        pairs.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=config.bpe_vocab_size,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=[END_OF_TEXT] if separated else [],
            show_progress=False,
        )
        pairs.train_from_iterator(_chunks(text), trainer)
        return cls(pairs)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The tokenizer that `save` has written."""
        if values["model"]["type"] != "BPE" or values["pre_tokenizer"]["type"] != "ByteLevel":
            raise ValueError("not byte pairs over bytes")
        return cls(BytePairs.from_str(json.dumps(values)))

    @property
    def vocab_size(self) -> int:
        """Number of bytes and learned pairs, and the end-of-text token where there is one."""
        return int(self._pairs.get_vocab_size())

    @property
    def separator(self) -> int | None:
        """The end-of-text token."""
        token: int | None = self._pairs.token_to_id(END_OF_TEXT)
        return token

    def encode(self, text: str) -> Ids:
        """Token ids (N,).

        Raises:
            UserError: the text has lone surrogates, which no UTF-8 text has.
        """
        try:
            text.encode()
        except UnicodeEncodeError as failure:
            raise UserError(
                f"the text is not valid Unicode: {text[failure.start]!r} at character {failure.start}; leave it out"
            ) from None
        # Of many texts at once, which is the only way without the positions of tokens; they cost as much as the tokens.
        encoded = (self._pairs.encode_batch_fast([chunk])[0] for chunk in _chunks(text))
        parts = [np.array(chunk.ids, dtype=np.int64) for chunk in encoded]
        return np.concatenate([np.empty(0, dtype=np.int64), *parts])

    def decode(self, ids: npt.ArrayLike) -> str:
        """The text of token ids (N,); bytes that are no UTF-8, as a model may produce them, become U+FFFD.

        Raises:
            ValueError: an id is not in 0 .. vocab_size - 1.
        """
        return str(self._pairs.decode(_checked(ids, self.vocab_size).tolist(), skip_special_tokens=False))

    def save(self, path: Path) -> None:
        """Write the pairs as JSON of the `tokenizers` library, whole or not at all."""
        replace_file(path, self._pairs.to_str().encode())


TOKENIZERS: dict[str, type[CharTokenizer] | type[BPETokenizer]] = {"char": CharTokenizer, "bpe": BPETokenizer}


def train(config: DatasetConfig, text: str, unseen: str | None, *, separated: bool = False) -> Tokenizer:
    """The tokenizer that the settings ask for.

    Args:
        config: its kind and size.
        text: of the training part of the corpus, all that is learned from.
        unseen: the rest, only asked whether it has characters that the text has not; None: not known.
        separated: whether a token to set between documents is needed.
    """
    return TOKENIZERS[config.tokenizer or "char"].train(config, text, unseen, separated=separated)


def load(path: Path) -> Tokenizer:
    """The tokenizer of a file that `Tokenizer.save` has written, whatever its kind.

    Raises:
        UserError: the file is missing, unreadable or damaged.
    """
    try:
        values = json.loads(path.read_bytes())
        return TOKENIZERS[values.get("kind", BPETokenizer.kind)].from_json(values)
    except OSError as failure:
        raise UserError(f"cannot read the tokenizer {path}: {failure.strerror}; restore the file") from None
    except Exception as failure:  # The tokenizers library raises nothing more special.
        reason = f"{type(failure).__name__}: {failure}".partition("\n")[0]
        raise UserError(f"{path} is damaged or not a tokenizer: {reason}; restore the file") from None


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")


def _checked(ids: npt.ArrayLike, vocab_size: int) -> Ids:
    array = np.asarray(ids, dtype=np.int64)
    if array.size and not 0 <= array.min() <= array.max() < vocab_size:
        raise ValueError(f"token ids must be in 0 .. {vocab_size - 1}, given {array.min()} .. {array.max()}")
    return array


def _shown(characters: str | list[str], most: int = 100) -> str:
    more = len(characters) - most
    return repr("".join(characters[:most])) + (f" and {more} more" if more > 0 else "")


CHUNK = 1 << 16
_CUT = re.compile(r"(?<=\S)\n")


def _chunks(text: str) -> Iterator[str]:
    """The text in pieces that encode as the whole does, because the library needs a multiple of its memory.

    No GPT-2 word goes from a visible character on to a line end, nor looks behind itself: a cut there changes nothing.
    """
    start = 0
    while start < len(text):
        cut = _CUT.search(text, start + CHUNK)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end
