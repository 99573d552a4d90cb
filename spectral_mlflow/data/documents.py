"""Documents as they are read: piece by piece, each in one split, from any place to go on at."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Piece:
    """A part of a document that is short enough for the memory.

    Attributes:
        split: which one the document belongs to as a whole; None: neither.
        text: all of the part; where it is cut, the tokens of the parts are those of the whole.
        begins: whether it is the first part of its document.
        digest: sha256 of the whole document, with its last part.
        after: where reading goes on behind it, as JSON has it.
        file: number of the file that it is from.
        augmented: whether its document was made of another one.
    """

    split: Split | None
    text: str
    begins: bool
    digest: bytes | None
    after: Any
    file: int = 0
    augmented: bool = False


class Source(Protocol):
    """Where documents come from.

    Attributes:
        name: of the corpus.
        licence: what is known of the rights in it.
        files: number of files it is read from, 0 where that is not known.
        size: bytes of text, None where that is not known beforehand.
        separated: whether there are several documents, with something to be set between them.
        most_train_tokens: where to stop, None: at the end.
    """

    name: str
    licence: str
    files: int
    size: int | None
    separated: bool
    most_train_tokens: int | None

    def identity(self) -> dict[str, Any]:
        """What decides the documents and their order, as JSON has it."""

    def origin(self, position: Any) -> str:
        """URL, module or path, as exactly as it is known after reading up to a position."""

    def read(self, position: Any = None) -> Generator[Piece]:
        """The documents from a position on that was `Piece.after`; from the first one by default.

        Raises:
            UserError: they cannot be read.
        """


def sample(pieces: Iterable[Piece], *, separated: bool, size: int) -> str:
    """The training documents in their order until they have so many characters; a line end behind each of several."""
    parts, length = [], 0
    for piece in pieces:
        if piece.split == "train" and length < size:
            parts.append(piece.text + "\n" * (separated and piece.digest is not None))
            length += len(parts[-1])
        elif length >= size:
            break
    return "".join(parts)
