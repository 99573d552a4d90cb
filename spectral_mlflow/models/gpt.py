"""The GPT that all experiments share; its embedding, attention and feed-forward are exchangeable.

Symbols of the mathematics, here and in the layers:

| symbol | variable | meaning |
| --- | --- | --- |
| V, D, T, B | vocab_size, d_model, block_size, batch | vocabulary, width, context length, batch |
| W, H | num_waves, num_harmonics | waves of a token or of a head, harmonics of a wave |
| v, p, w, h | tokens, positions, -, harmonics | token, position 0..T-1, wave, harmonic 1..H |
| f, phi, A | frequencies, phases, amplitudes | of a wave packet (V, W), (V, W), (V, W, H) |
| gamma, P | phase_speeds, projection | position enters here (W,); waves to features (W, D) |
| S, C | sines, cosines | sums over the harmonics of a token (V, W) |
| rho, r | ratio_logit, wave_ratio() | r = sigmoid(rho): share of the wave in the embedding |
| phi^q, phi^k | phases (in attention) | phases of query and key (B, T, heads, W) |
| tau | exp(log_tau) | sharpness of a head (heads,) |
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from spectral_mlflow.config import ModelConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.models.attention import ATTENTIONS, InterferenceAttention
from spectral_mlflow.models.cache import KVCache, LayerCache
from spectral_mlflow.models.dropout import Dropout
from spectral_mlflow.models.embeddings import EMBEDDINGS
from spectral_mlflow.models.feedforward import FEEDFORWARDS

INIT_STD = 0.02
TOLERANCE = 0.01  # How far two parameter counts that were matched may differ.


class Block(nn.Module):
    """Attention, then feed-forward, each on the normalised residual stream."""

    def __init__(self, config: ModelConfig, hidden: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.d_model, bias=False)
        self.attention = ATTENTIONS[config.attention or config.type](config)
        self.feedforward_norm = nn.LayerNorm(config.d_model, bias=False)
        self.feedforward = FEEDFORWARDS[config.feedforward or config.type](config.d_model, hidden)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, cache: LayerCache | None = None) -> Tensor:
        """Residual stream (B, T, D) to residual stream (B, T, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), cache))
        transformed: Tensor = self.dropout(self.feedforward(self.feedforward_norm(x)))
        return x + transformed


class GPT(nn.Module):
    """Pre-norm transformer with a head of its own (not tied to the embedding) and no biases.

    Construction draws the weights from the global generator; `build` does so from a seed.

    Args:
        config: sizes and components.
        vocab_size: number of tokens V.
        hidden: width of the feed-forward; None: 4 D, or what ``match_parameters`` asks for.

    Raises:
        UserError: ``match_parameters`` cannot be fulfilled at these sizes.
    """

    vocabulary_tables = ("head.weight",)
    activation_checkpointing = False  # Whether training computes the blocks again in the backward pass.

    def __init__(self, config: ModelConfig, vocab_size: int, *, hidden: int | None = None) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        hidden = hidden or _hidden_size(config, vocab_size)
        self.embedding = EMBEDDINGS[config.embedding or config.type](config, vocab_size)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, hidden) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.d_model, bias=False)
        self.head = nn.Linear(config.d_model, vocab_size, bias=False)
        self._initialise()

    def _initialise(self) -> None:
        """Draw the matrices: small ones where they add to the residual stream or give logits, as in GPT-2.

        Those behind a norm get a deviation of ``init_gain / sqrt(D)``, so that what they give has one of ``init_gain``
        whatever the width (LeCun et al. 1998).
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                std = self.config.init_gain / math.sqrt(self.config.d_model)
                if name.endswith("projection"):
                    std = INIT_STD / math.sqrt(2 * self.config.num_layers)
                nn.init.normal_(module.weight, std=INIT_STD if module is self.head else std)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """Logits of the token after each.

        Args:
            tokens: ids (B, T) int64.
            cache: what came before these tokens; they are added to it.

        Returns:
            Logits (B, T, V).

        Raises:
            UserError: more tokens than the block has room for.
        """
        start = cache.length if cache else 0
        if start + tokens.shape[1] > self.config.block_size:
            raise UserError(
                f"a window of {start + tokens.shape[1]} tokens was given to a model with "
                f"block_size={self.config.block_size}; give at most so many tokens"
            )
        x = self.dropout(self.embedding(tokens, start))
        for index, block in enumerate(self.blocks):
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x, cache.layers[index] if cache else None)
        logits: Tensor = self.head(self.norm(x))
        return logits

    def new_cache(self) -> KVCache:
        """An empty cache for this model."""
        return KVCache(self.config.num_layers, self.config.block_size)

    def wave_ratio(self) -> float | None:
        """Share r of the wave in the embedding, None without a wave embedding."""
        return self.embedding.wave_ratio()

    def temperatures(self) -> Tensor | None:
        """Sharpness tau of every head of interference attention (layers * heads,), None where there is none."""
        attentions = [module for module in self.modules() if isinstance(module, InterferenceAttention)]
        return torch.cat([attention.tau().detach() for attention in attentions]) if attentions else None

    def num_parameters(self) -> int:
        """Number of trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def flops_per_token(self) -> int:
        """Floating point operations of training on one token, forward and backward.

        ``6 N`` for the N parameters outside the embedding, and attention in full (not the causal half):
        ``6 T`` for every feature of scores and values in each layer (PaLM, Chowdhery et al. 2022, appendix B).
        """
        matrices = self.num_parameters() - sum(parameter.numel() for parameter in self.embedding.parameters())
        widths = sum(
            block.attention.score_width + self.config.d_model for block in self.blocks if isinstance(block, Block)
        )
        return 6 * matrices + 6 * self.config.block_size * widths


def _hidden_size(config: ModelConfig, vocab_size: int) -> int:
    """Width of the feed-forward: 4 D, unless a standard one is to make up for other differences.

    Raises:
        UserError: no width gives the parameter count of the wave model.
    """
    usual = 4 * config.d_model
    if not config.match_parameters or config.feedforward != "standard":
        return usual
    with torch.device("meta"):  # Counts without memory.
        wanted = GPT(config.of_type("wave"), vocab_size).num_parameters()
        present = GPT(config, vocab_size, hidden=usual).num_parameters()
    each = 2 * config.d_model * config.num_layers
    hidden = usual + round((wanted - present) / each)
    reached = present + (hidden - usual) * each
    if hidden < 1 or abs(reached - wanted) > TOLERANCE * wanted:
        raise UserError(
            f"model.match_parameters: no feed-forward width brings {present} parameters within 1 % of the {wanted} "
            "of the wave model; change model.d_model or model.num_layers, or set match_parameters=false"
        )
    return hidden


def build(config: ModelConfig, vocab_size: int, seed: int) -> GPT:
    """The model of a seed, always the same one; the global generator is left as it was.

    Args:
        config: sizes and components.
        vocab_size: number of tokens V.
        seed: of the initial weights.

    Raises:
        UserError: ``match_parameters`` cannot be fulfilled at these sizes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return GPT(config, vocab_size)
