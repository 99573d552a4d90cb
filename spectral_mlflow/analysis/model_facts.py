"""What a model is made of: shapes, parameters and floating point operations, read from the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from spectral_mlflow.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

    from spectral_mlflow.models.gpt import GPT
    from spectral_mlflow.plots.architecture import Part

Group = Literal["embedding", "attention", "feedforward", "norms", "head"]
GROUPS: tuple[Group, ...] = get_args(Group)
TRAINING = 6  # Operations of training for each weight of a matrix product: two forward, four backward.


@dataclass(frozen=True)
class Cost:
    """What a part of a model costs.

    Attributes:
        parameters: numbers that are trained.
        flops: floating point operations of training on one token, forward and backward.
    """

    parameters: int
    flops: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops)


@dataclass(frozen=True)
class Layer:
    """Weights of one kind, or a product without weights; those of all blocks together.

    Attributes:
        name: as in the model, without the number of its block.
        group: what it belongs to.
        component: ``wave`` or ``standard`` where it can be exchanged, else ``shared``.
        shape: of one of them.
        times: how many there are, one a block; 1 outside of the blocks.
        cost: of all of them.
    """

    name: str
    group: Group
    component: str
    shape: tuple[int, ...]
    times: int
    cost: Cost

    @property
    def shape_text(self) -> str:
        """The shape for people: 65 x 128, or scalar."""
        return " \N{MULTIPLICATION SIGN} ".join(map(str, self.shape)) or "scalar"


def layers(config: ModelConfig, vocab_size: int) -> list[Layer]:
    """Every weight of the model in the order of its forward pass, and the products of attention behind those of it.

    Operations are counted as the model counts them (see `GPT.flops_per_token`): six for each weight outside of the
    embedding, and attention in full. Lookups, sines and sums of the embedding are not counted.

    Args:
        config: sizes and components.
        vocab_size: number of tokens V.

    Raises:
        UserError: ``match_parameters`` cannot be fulfilled at these sizes.
    """
    model = _model(config, vocab_size)
    found: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        found.setdefault(_without_number(name), []).append(parameter)
    rows = [_layer(config, name, parameters) for name, parameters in found.items()]
    place = max(number for number, row in enumerate(rows) if row.group == "attention") + 1
    return [*rows[:place], _products(model), *rows[place:]]


def groups(config: ModelConfig, vocab_size: int) -> dict[str, Cost]:
    """Costs of embedding, attention, feedforward, norms and head, and the ``total``.

    Raises:
        UserError: as `layers`.
    """
    rows = layers(config, vocab_size)
    costs: dict[str, Cost] = {
        group: sum((row.cost for row in rows if row.group == group), Cost(0, 0)) for group in GROUPS
    }
    return costs | {"total": sum(costs.values(), Cost(0, 0))}


def drawing(config: ModelConfig, vocab_size: int) -> list[Part]:
    """The model as `plots.architecture` draws it, from the tokens to the logits.

    Raises:
        UserError: as `layers`.
    """
    from spectral_mlflow.plots.architecture import Part

    costs, width, time = groups(config, vocab_size), config.d_model, config.block_size
    hidden = next(row.shape[0] for row in layers(config, vocab_size) if row.name.endswith("expansion.weight"))
    return [
        Part("embedding", config.embedding or config.type, _embedding(config, vocab_size), f"(B, {time}, {width})",
             costs["embedding"].parameters),
        Part("attention", config.attention or config.type, _attention(config), f"(B, {time}, {width})",
             costs["attention"].parameters, config.num_layers),
        Part("feedforward", config.feedforward or config.type, _feedforward(config, hidden), f"(B, {time}, {width})",
             costs["feedforward"].parameters, config.num_layers),
        Part("norms", "shared", (f"LayerNorm, {2 * config.num_layers + 1} times",), f"(B, {time}, {width})",
             costs["norms"].parameters),
        Part("head", "shared", (f"linear {width} \N{RIGHTWARDS ARROW} {vocab_size}",), f"(B, {time}, {vocab_size})",
             costs["head"].parameters),
    ]  # fmt: skip


def _model(config: ModelConfig, vocab_size: int) -> GPT:
    import torch

    from spectral_mlflow.models.gpt import GPT

    with torch.random.fork_rng(devices=[]):  # On the CPU: the first use of the meta device takes seconds of imports.
        return GPT(config, vocab_size)


def _without_number(name: str) -> str:
    return ".".join(word for word in name.split(".") if not word.isdecimal())


def _layer(config: ModelConfig, name: str, parameters: Sequence[nn.Parameter]) -> Layer:
    words = name.removeprefix("blocks.").split(".")
    group: Group = "norms" if "norm" in words[0] else next(known for known in GROUPS if known == words[0])
    component = getattr(config, group, None) or "shared"
    count = sum(parameter.numel() for parameter in parameters)
    flops = 0 if group == "embedding" else TRAINING * count
    return Layer(name.removeprefix("blocks."), group, component, tuple(parameters[0].shape), len(parameters),
                 Cost(count, flops))  # fmt: skip


def _products(model: GPT) -> Layer:
    """Scores and mixed values of all blocks, which have no weights."""
    config = model.config
    blocks: list[Any] = list(model.blocks)
    widths = sum(block.attention.score_width + config.d_model for block in blocks)
    shape = (config.num_heads, config.block_size, config.block_size)
    flops = TRAINING * config.block_size * widths
    return Layer("attention.scores_and_values", "attention", config.attention or config.type, shape, len(blocks),
                 Cost(0, flops))  # fmt: skip


def _embedding(config: ModelConfig, vocab_size: int) -> tuple[str, ...]:
    lookup = f"lookup {vocab_size} \N{MULTIPLICATION SIGN} {config.d_model}"
    if config.embedding == "standard":
        return lookup, f"+ positions {config.block_size} \N{MULTIPLICATION SIGN} {config.d_model}"
    packets = f"{config.num_waves} waves \N{MULTIPLICATION SIGN} {config.num_harmonics} harmonics a token"
    return (packets,) if config.pure_wave else (packets, f"mixed with {lookup}")


def _attention(config: ModelConfig) -> tuple[str, ...]:
    heads = f"{config.num_heads} heads"
    if config.attention == "standard":
        return f"{heads} of {config.d_model // config.num_heads}", "softmax(q · k / √d)"
    return f"{heads} of {config.num_waves} phases", "softmax(τ · mean cos(Δφ))"


def _feedforward(config: ModelConfig, hidden: int) -> tuple[str, ...]:
    arrow = "\N{RIGHTWARDS ARROW}"
    activation = "GELU" if config.feedforward == "standard" else "sin x + 0.1 x"
    return f"{config.d_model} {arrow} {hidden} {arrow} {config.d_model}", activation
