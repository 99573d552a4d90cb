"""What a run leaves of its model: the weights of its checkpoints, and the text that they are judged by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from spectral_mlflow.analysis.weights import Array
from spectral_mlflow.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from spectral_mlflow.config import ExperimentConfig
    from spectral_mlflow.data.dataset import Dataset
    from spectral_mlflow.models.gpt import GPT
    from spectral_mlflow.monitoring.checkpoint_list import Checkpoint

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class Missing:
    """Something could not be computed.

    Attributes:
        what: what is missing and what to do about it, in a sentence.
    """

    what: str


class MissingError(Exception):
    """What a computation needs is not there."""


def attempt(compute: Callable[[], _Found]) -> _Found | Missing:
    """What a computation finds, or what it lacks: a corpus, a checkpoint, the settings of a run."""
    from spectral_mlflow.monitoring.seal import DamagedCheckpointError

    try:
        return compute()
    except (MissingError, UserError, DamagedCheckpointError, OSError) as failure:
        return Missing(str(failure))


class Trained:
    """The models of a run, on the CPU; nothing is read before it is asked for."""

    def __init__(self, run_dir: str | Path) -> None:
        """Take the run.

        Args:
            run_dir: its directory.
        """
        self.run_dir = Path(run_dir)

    @cached_property
    def config(self) -> ExperimentConfig:
        """The settings of the run.

        Raises:
            UserError: there are none, or of another version.
        """
        from spectral_mlflow.monitoring.configs import ConfigTracker

        return ConfigTracker(str(self.run_dir)).load_settings()

    @cached_property
    def dataset(self) -> Dataset:
        """What the run was trained and judged on.

        Raises:
            UserError: it is not to be had.
        """
        from spectral_mlflow.data.dataset import prepare

        return prepare(self.config.dataset, self.config.model.block_size)

    @cached_property
    def checkpoints(self) -> list[Checkpoint]:
        """What is there, the first step first."""
        from spectral_mlflow.monitoring.checkpoint_list import listing

        found = listing(self.run_dir / "checkpoints")
        return sorted((checkpoint for checkpoint in found if checkpoint.digest), key=lambda known: known.step)

    def newest(self) -> Checkpoint:
        """The checkpoint of the last step.

        Raises:
            MissingError: there is none.
        """
        if not self.checkpoints:
            raise MissingError(f"run {self.run_dir.name} has no checkpoint; spectral resume {self.run_dir.name} or "
                               "train it again")  # fmt: skip
        return self.checkpoints[-1]

    def initial(self) -> GPT:
        """The model before its first step, from its seed."""
        from spectral_mlflow.models import gpt

        config = self.config
        return gpt.build(config.model, self.dataset.tokenizer.vocab_size, config.training.seed).eval()

    def model(self, checkpoint: Checkpoint) -> GPT:
        """The model of a checkpoint.

        Raises:
            DamagedCheckpointError: why it cannot be used.
            MissingError: it is of another model than the settings say.
        """
        from spectral_mlflow.monitoring import checkpoint_file

        model = self.initial()
        try:
            model.load_state_dict(checkpoint_file.read(checkpoint.path)["model_state_dict"])
        except RuntimeError as failure:
            reason = str(failure).split("\n", 1)[0]
            name = f"{checkpoint.path.name} of run {self.run_dir.name}"
            raise MissingError(f"{name} does not fit its settings: {reason}") from None
        return model

    def windows(self, count: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets (count, T) from evenly spaced places of the validation split, always the same."""
        import torch

        size, tokens = self.config.model.block_size, self.dataset.val
        whole = (len(tokens) - 1) // size
        places = np.linspace(0, whole - 1, min(count, whole)).astype(int)
        rows = torch.stack([tokens[place * size : (place + 1) * size + 1] for place in places.tolist()])
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()


class Losses:
    """The loss of a model with any weights, on fixed windows."""

    def __init__(self, model: GPT, windows: tuple[Tensor, Tensor]) -> None:
        """Take what the weights are put into.

        Args:
            model: its weights are lost.
            windows: inputs and targets, each (B, T).
        """
        self._model = model.eval()
        self._inputs, self._targets = windows

    def __call__(self, weights: Array) -> float:
        """Mean cross-entropy with the weights (N,), in nats per token."""
        import torch
        from torch.nn import functional as F
        from torch.nn.utils import vector_to_parameters

        with torch.no_grad():
            vector_to_parameters(torch.from_numpy(weights.astype(np.float32)), self._model.parameters())
            logits = self._model(self._inputs)
            return float(F.cross_entropy(logits.flatten(0, 1), self._targets.flatten()))

    @property
    def tokens(self) -> int:
        """How many tokens a loss is a mean over."""
        return self._targets.numel()


def weights_of(model: GPT) -> list[Array]:
    """The tensors of a model in the order of its parameters."""
    return [parameter.detach().double().numpy().copy() for parameter in model.parameters()]
