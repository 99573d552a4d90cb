"""Each fast form of this package beside its literal reference, on the same numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import references
from benchmarks.contenders import Contender, Sizes, Training
from benchmarks.timing import Action
from spectral_mlflow.config import ModelConfig, TrainingConfig
from spectral_mlflow.losses import build_loss
from spectral_mlflow.models.attention import InterferenceAttention, Phasors
from spectral_mlflow.models.embeddings import WaveEmbedding
from spectral_mlflow.models.feedforward import WaveFeedForward
from spectral_mlflow.models.gpt import build
from spectral_mlflow.optim import build_optimizer

DROPOUT = 0.1
RGD_STEPS = 3


@dataclass(frozen=True)
class Point:
    """Sizes of everything."""

    sizes: Sizes = field(default_factory=Sizes)
    num_waves: int = 16
    num_harmonics: int = 4

    @property
    def config(self) -> ModelConfig:
        """The wave model's."""
        return self.sizes.model_config(num_waves=self.num_waves, num_harmonics=self.num_harmonics)


@dataclass(frozen=True)
class Difference:
    """Largest difference of the two forms over the largest value of the reference.

    Attributes:
        values: of results.
        gradients: of the gradients of every input and parameter, the worst of them; None where there are none.
    """

    values: float
    gradients: float | None


@dataclass(frozen=True)
class Pair:
    """The two forms as actions, forward and backward, and how to compare them (once, before they are timed)."""

    fast: Action
    reference: Action
    compare: Callable[[], Difference]


class Pass:
    """Forward and backward through a function of some variables, against one fixed upstream gradient."""

    def __init__(self, forward: Callable[[], Tensor], variables: Sequence[Tensor]) -> None:
        self.forward, self.variables = forward, list(variables)
        with torch.no_grad():
            shape = forward().shape
        self.upstream = torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def __call__(self) -> tuple[Tensor, Sequence[Tensor]]:
        """The value, and the gradient of each variable."""
        value = self.forward()
        return value.detach(), torch.autograd.grad(value, self.variables, self.upstream)


def both(fast: Callable[[], Tensor], reference: Callable[[], Tensor], variables: Sequence[Tensor]) -> Pair:
    """Two forms of one function of the same variables."""
    one, other = Pass(fast, variables), Pass(reference, variables)

    def compare() -> Difference:
        (value, gradients), (true_value, true_gradients) = one(), other()
        by_variable = [relative(*each) for each in zip(gradients, true_gradients, strict=True)]
        return Difference(relative(value, true_value), max(by_variable))

    return Pair(one, other, compare)


def relative(value: Tensor, true: Tensor) -> float:
    """Largest difference over the largest true value."""
    return ((value - true).abs().max() / true.abs().max()).item()


def wave_embedding(point: Point) -> Pair:
    """Tables of the vocabulary against (B, T, W, H) angles."""
    layer = WaveEmbedding(point.config, point.sizes.vocab_size)
    tokens = torch.randint(point.sizes.vocab_size, (point.sizes.batch_size, point.sizes.block_size))
    return both(lambda: layer(tokens), lambda: references.wave_embedding(layer, tokens), list(layer.parameters()))


def interference_attention(point: Point) -> Pair:
    """The fused kernel against (B, heads, T, T, W) differences of phases; both with their projections."""
    layer = InterferenceAttention(point.config)
    x = stream(point, point.sizes.d_model)
    variables = [x, *layer.parameters()]
    return both(lambda: layer(x), lambda: references.interference_attention(layer, x), variables)


def phasors(point: Point) -> Pair:
    """Sines of phases that are their own derivative, against autograd."""
    sizes = point.sizes
    phases = torch.randn(
        sizes.batch_size, sizes.block_size, 2, sizes.num_heads, point.num_waves, requires_grad=True
    )  # As attention makes them: for queries and for keys.
    scale = torch.linspace(0.2, 0.5, sizes.num_heads).requires_grad_()

    def fast() -> Tensor:
        return torch.stack(Phasors.apply(phases, scale))  # type: ignore[no-untyped-call]

    return both(fast, lambda: references.phasors(phases, scale), [phases, scale])


def activation(point: Point) -> Pair:
    """Sine with slope against autograd."""
    layer = WaveFeedForward(point.sizes.d_model, 4 * point.sizes.d_model)
    x = stream(point, 4 * point.sizes.d_model)
    return both(lambda: layer.activate(x), lambda: references.sine_with_slope(x), [x])


def qfe(point: Point) -> Pair:
    """Cross-entropy with incoherence: the identity against angles."""
    sizes = point.sizes
    loss = build_loss(TrainingConfig(loss="QFE", qfe_lambda=1.0), sizes.vocab_size)
    logits = stream(point, sizes.vocab_size)
    targets = torch.randint(sizes.vocab_size, logits.shape[:2])

    def literal() -> Tensor:
        entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        return entropy + references.incoherence(logits, targets, loss.get_buffer("projection"))

    return both(lambda: loss(logits, targets).objective, literal, [logits])


def rgd(point: Point) -> Pair:
    """A step of the optimizer on all parameters of the wave model: one-sided transforms of many against two-sided."""
    config = TrainingConfig(optimizer="RGD")
    ours, theirs = (build(point.config, point.sizes.vocab_size, seed=0) for _ in range(2))
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        one.grad = torch.randn_like(one)
        other.grad = one.grad.clone()
    optimizer = build_optimizer(ours, config)
    literals = [
        references.LiteralRGD(
            group["params"], lr=config.lr, weight_decay=group["weight_decay"], strength=config.rgd_strength,
            warmup=config.rgd_warmup, preserve_norm=config.rgd_preserve_norm, filter_rows=group["filter_rows"],
        )
        for group in build_optimizer(theirs, config).param_groups
    ]  # fmt: skip

    def literal_step() -> None:
        for literal in literals:
            literal.step()

    def compare() -> Difference:
        for _ in range(RGD_STEPS):
            optimizer.step()
            literal_step()
        pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
        return Difference(max(relative(one.detach(), other.detach()) for one, other in pairs), None)

    return Pair(optimizer.step, literal_step, compare)


def dropout(point: Point) -> Pair:
    """Ours against torch's. The masks differ, so ours is compared with its formula under its own mask."""
    config = point.sizes.model_config(dropout=DROPOUT)
    module = build(config, point.sizes.vocab_size, seed=0).dropout.train()
    x = stream(point, point.sizes.d_model)
    fast, torchs = Pass(lambda: module(x), [x]), Pass(lambda: F.dropout(x, DROPOUT), [x])

    def compare() -> Difference:
        value, (gradient,) = fast()
        scales = (value != 0) / (1 - DROPOUT)
        return Difference(relative(value, x.detach() * scales), relative(gradient, fast.upstream * scales))

    return Pair(fast, torchs, compare)


def stream(point: Point, width: int) -> Tensor:
    """Numbers (B, T, width) of order 1 that want a gradient."""
    return torch.randn(point.sizes.batch_size, point.sizes.block_size, width, requires_grad=True)


PAIRS: dict[str, Callable[[Point], Pair]] = {
    "wave embedding": wave_embedding,
    "interference attention": interference_attention,
    "phases to [cos, sin]": phasors,
    "sin x + 0.1 x": activation,
    "RGD": rgd,
    "QFE": qfe,
    "dropout": dropout,
}


def whole_step(kind: str, point: Point) -> Action:
    """A training step of a whole model of one kind."""
    settings = {"type": kind, "num_waves": point.num_waves, "num_harmonics": point.num_harmonics}
    return Training(Contender(kind, kind, settings), point.sizes).step
