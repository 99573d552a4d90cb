"""Who trains against whom: our models and what a user would pick instead, at one size and on the same batches."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from spectral_mlflow.config import ModelConfig, TrainingConfig
from spectral_mlflow.data.batches import batch
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models.gpt import GPT, build
from spectral_mlflow.optim import build_optimizer

EXTRA = "pip install -e '.[benchmarks]'"
NUM_BATCHES = 8  # Made before the clock starts, and used again and again.


@dataclass(frozen=True)
class Sizes:
    """What all contenders share."""

    d_model: int = 128
    num_layers: int = 4
    num_heads: int = 4
    block_size: int = 128
    batch_size: int = 16
    vocab_size: int = 65

    @property
    def tokens(self) -> int:
        """Tokens in a step."""
        return self.block_size * self.batch_size

    def longer(self, factor: int) -> Sizes:
        """A block so many times as long, and as many tokens in a step."""
        return replace(self, block_size=self.block_size * factor, batch_size=self.batch_size // factor)

    def model_config(self, **settings: Any) -> ModelConfig:
        """Of our model of these sizes."""
        return ModelConfig(
            d_model=self.d_model, num_layers=self.num_layers, num_heads=self.num_heads, block_size=self.block_size,
            **settings,
        )  # fmt: skip


@dataclass(frozen=True)
class Contender:
    """A model and how it is trained.

    Attributes:
        name: what ``--models`` calls it.
        about: what it is, for people.
        model: settings of our model; of a rival those of its operations, for counting them.
        training: settings that differ from the usual ones.
        package: where a rival comes from, as it is imported.
    """

    name: str
    about: str
    model: Mapping[str, Any]
    training: Mapping[str, Any] = field(default_factory=dict)
    package: str | None = None

    @property
    def is_installed(self) -> bool:
        """Whether the rival's package is there."""
        return self.package is None or find_spec(self.package) is not None

    def with_model(self, **settings: Any) -> Contender:
        """The same with other settings of the model."""
        return replace(self, model={**self.model, **settings})

    def ours(self, sizes: Sizes) -> GPT:
        """Our model of these settings; of a rival, the one of ours that does the same operations."""
        return build(sizes.model_config(**self.model), sizes.vocab_size, seed=0)

    def build(self, sizes: Sizes) -> nn.Module:
        """The model: tokens (B, T) to logits (B, T, V)."""
        return RIVALS[self.package](sizes) if self.package else self.ours(sizes)

    def flops_per_token(self, sizes: Sizes) -> int:
        """Operations of training on one token, biases not counted."""
        return self.ours(sizes).flops_per_token()


class Training:
    """A contender in training: every step is one of the optimizer, on the batch of that step.

    Args:
        contender: who.
        sizes: how large.
    """

    def __init__(self, contender: Contender, sizes: Sizes) -> None:
        config = TrainingConfig(**contender.training)
        self.model = contender.build(sizes).train()
        self.optimizer = build_optimizer(self.model, config)
        self._loss = build_loss(config, sizes.vocab_size)
        self._longest_gradient = config.grad_clip or math.inf
        self._batches = itertools.cycle(batches(sizes))

    def step(self) -> float:
        """Forward, backward, clip, update: as our training loop does it. Returns the cross-entropy."""
        parts = self.forward()
        parts.objective.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._longest_gradient).item()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss: float = parts.loss.item()
        return loss

    def forward(self) -> Any:
        """The loss of the next batch, in its parts."""
        inputs, targets = next(self._batches)
        return self._loss(self.model(inputs), targets)


def batches(sizes: Sizes) -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets (B, T) of some steps, the same for everybody."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(sizes.vocab_size, (64 * sizes.block_size,), generator=generator)
    return [
        batch(tokens, seed=0, step=step, batch_size=sizes.batch_size, block_size=sizes.block_size)
        for step in range(NUM_BATCHES)
    ]


class Gpt2(nn.Module):
    """GPT-2 of Hugging Face, from a configuration, in its fastest way on a CPU.

    Fused attention; no cache, which training does not read; no dropout, which is random work that ours does not do
    either; and the exact GELU, for which torch has one kernel, while GPT-2's own approximation is made of eight.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        settings: dict[str, Any] = {
            "vocab_size": sizes.vocab_size, "n_positions": sizes.block_size, "n_embd": sizes.d_model,
            "n_layer": sizes.num_layers, "n_head": sizes.num_heads, "bos_token_id": None, "eos_token_id": None,
            "embd_pdrop": 0.0, "resid_pdrop": 0.0, "attn_pdrop": 0.0, "use_cache": False,
            "activation_function": "gelu", "attn_implementation": "sdpa",
        }  # fmt: skip
        self.gpt2 = GPT2LMHeadModel(GPT2Config(**settings))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, T, V) of tokens (B, T)."""
        logits: Tensor = self.gpt2(input_ids=tokens).logits
        return logits


def x_transformer(sizes: Sizes) -> nn.Module:
    """A decoder of x-transformers with its fused attention; otherwise as its README builds a GPT."""
    from x_transformers import Decoder, TransformerWrapper

    model: nn.Module = TransformerWrapper(
        num_tokens=sizes.vocab_size,
        max_seq_len=sizes.block_size,
        attn_layers=Decoder(
            dim=sizes.d_model, depth=sizes.num_layers, heads=sizes.num_heads,
            attn_dim_head=sizes.d_model // sizes.num_heads, attn_flash=True,
        ),
    )  # fmt: skip
    return model


RIVALS: dict[str, Callable[[Sizes], nn.Module]] = {"transformers": Gpt2, "x_transformers": x_transformer}

STANDARD: Mapping[str, Any] = {"type": "standard"}
WAVE: Mapping[str, Any] = {"type": "wave", "num_waves": 16}

CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("standard", "our standard model", STANDARD),
        Contender("wave-16", "our wave model, W = 16, AdamW and cross-entropy", WAVE),
        Contender("wave-32", "the same, W = 32", {**WAVE, "num_waves": 32}),
        Contender("wave-rgd-qfe", "W = 16, RGD and QFE", WAVE, {"optimizer": "RGD", "loss": "QFE"}),
        Contender("standard-dropout", "the standard model, dropout 0.1", {**STANDARD, "dropout": 0.1}),
        Contender("wave-dropout", "the wave model, W = 16, dropout 0.1", {**WAVE, "dropout": 0.1}),
        Contender("gpt2", "GPT-2 of Hugging Face transformers", STANDARD, package="transformers"),
        Contender("x-transformers", "the decoder of x-transformers", STANDARD, package="x_transformers"),
    )
}
