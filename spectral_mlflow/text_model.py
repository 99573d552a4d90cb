"""A model with its tokenizer: text in, text out. The one home of that for the command line and for serving."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save

from spectral_mlflow import model_folder
from spectral_mlflow.config import ModelConfig
from spectral_mlflow.data import tokenizers
from spectral_mlflow.data.tokenizers import END_OF_TEXT, UNKNOWN, Tokenizer
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.model_folder import ModelFacts
from spectral_mlflow.models.generation import stream
from spectral_mlflow.models.gpt import GPT
from spectral_mlflow.sampling import Sampling


@dataclass(frozen=True, eq=False)
class TextModel:
    """A trained model, in evaluation mode, and what turns text into its tokens."""

    model: GPT
    tokenizer: Tokenizer

    def complete(self, prompt: str, options: Sampling) -> str:
        """The prompt and what the model writes behind it.

        Raises:
            UserError: an empty prompt, or characters that the tokenizer does not know.
        """
        return prompt + "".join(self.stream(prompt, options))

    def stream(self, prompt: str, options: Sampling) -> Iterator[str]:
        """What the model writes behind a prompt, piece by piece; the pieces never hold part of a stop string.

        Args:
            prompt: at least one token.
            options: how to write; the model stops with the token that completes a stop string, or ends a document.

        Raises:
            UserError: an empty prompt, or characters that the tokenizer does not know.
        """
        tokens = torch.from_numpy(self.tokenizer.encode(prompt))
        if not len(tokens):
            raise UserError("prompt: given nothing; allowed: at least one character")
        generator = torch.Generator().manual_seed(options.seed)
        stop = (*options.stop, END_OF_TEXT)
        return until(stop, _texts(self.tokenizer, stream(self.model, tokens, options, generator)))

    def save(self, folder: Path, facts: ModelFacts) -> None:
        """Write the model; a folder of another one is replaced.

        Raises:
            OSError: the disk refuses.
        """
        state = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        folder.mkdir(exist_ok=True)
        replace_file(folder / model_folder.WEIGHTS, save(state))
        self.tokenizer.save(folder / model_folder.TOKENIZER)
        model_folder.seal(folder, facts)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model that `save` has written, on the CPU.

        Raises:
            UserError: the folder is missing or damaged.
        """
        facts = model_folder.read(folder)
        try:
            model = GPT(TypeAdapter(ModelConfig).validate_python(facts.model), facts.vocab_size)
            model.load_state_dict(load((folder / model_folder.WEIGHTS).read_bytes()))
        except (SafetensorError, RuntimeError, ValueError) as failure:
            reason = str(failure).strip().split("\n", 1)[0]
            raise UserError(f"{folder} does not fit this version of the package: {reason}") from None
        return cls(model.eval(), tokenizers.load(folder / model_folder.TOKENIZER))


def _texts(tokenizer: Tokenizer, tokens: Iterable[int]) -> Iterator[str]:
    """The text of tokens, each piece as soon as it is certain: a character's bytes may be spread over tokens."""
    waiting: list[int] = []
    for token in tokens:
        waiting.append(token)
        text = tokenizer.decode(waiting)
        if not text.endswith(UNKNOWN):
            yield text
            waiting = []
    yield tokenizer.decode(waiting)


def until(stop: Sequence[str], pieces: Iterable[str]) -> Iterator[str]:
    """A text in pieces, up to where a stop string is complete for the first time, without that string.

    Args:
        stop: the stop strings, none of them empty.
        pieces: the text; no more of it is asked for than is needed.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [place for place in map(held.find, stop) if place >= 0]
        if found:
            yield held[: min(found)]
            return
        certain = len(held) - max((_begun(held, text) for text in stop), default=0)
        if certain:
            yield held[:certain]
            held = held[certain:]
    yield held


def _begun(text: str, stop: str) -> int:
    """Length of the longest beginning of a stop string that the text ends with."""
    lengths = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((length for length in lengths if text.endswith(stop[:length])), 0)
