"""The folder that a trained model is kept in: weights, tokenizer and what they are.

``config.json`` is written last and holds the digests of the two others, so that a folder whose
making was interrupted is never taken for a model. Nothing in it is a pickle, and reading what it is
needs no torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file

FOLDER = "model"  # of a run directory
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FORMAT_VERSION = 1

AGAIN = "spectral register RUN makes it again"


@dataclass(frozen=True)
class ModelFacts:
    """What the weights are and where they come from.

    Attributes:
        model: the model's settings.
        vocab_size: number of tokens V.
        run: experiment id of the run that trained it.
        step: optimizer steps done.
        val_loss: validation loss at this step, in nats a token; None where it was not measured.
        commit: git commit of the code that trained it.
    """

    model: dict[str, Any]
    vocab_size: int
    run: str
    step: int
    val_loss: float | None
    commit: str


def seal(folder: Path, facts: ModelFacts) -> None:
    """Write config.json: from now on the folder is a model.

    Args:
        folder: with its weights and its tokenizer.
        facts: what they are.

    Raises:
        OSError: the disk refuses.
    """
    content = {
        "format_version": FORMAT_VERSION,
        **dataclasses.asdict(facts),
        "sha256": {name: _digest(folder / name) for name in (WEIGHTS, TOKENIZER)},
    }
    replace_file(folder / CONFIG, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")


def read(folder: Path) -> ModelFacts:
    """What is in a folder, once its files are proved to be those that were sealed.

    Raises:
        UserError: the folder is missing, damaged or of another format.
    """
    try:
        content = json.loads((folder / CONFIG).read_bytes())
        version, digests = content.pop("format_version"), content.pop("sha256")
        if version != FORMAT_VERSION:
            raise UserError(f"{folder} has format {version}, this version reads {FORMAT_VERSION}; export it again")
        changed = [name for name, digest in digests.items() if _digest(folder / name) != digest]
        facts = ModelFacts(**content)
    except OSError as failure:
        raise UserError(f"{folder} is not a whole model ({failure.strerror}: {failure.filename}); {AGAIN}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise UserError(f"{folder / CONFIG} is damaged ({failure}); {AGAIN}") from None
    if changed:
        raise UserError(f"{folder} is damaged: {', '.join(changed)} changed since it was written; {AGAIN}")
    return facts


def digest(folder: Path) -> str:
    """What tells this model from all others, whatever a later version of the package adds to its config.json."""
    content = json.loads((folder / CONFIG).read_bytes())
    identity = [content[name] for name in ("run", "step", "sha256")]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
