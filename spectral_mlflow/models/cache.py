"""What attention remembers of the tokens it has seen, so that generation computes each token once."""

from __future__ import annotations

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one attention layer, in buffers as long as the block."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append those of new tokens, each (B, heads, T, width), and return those of all tokens so far."""
        if self._keys is None or self._values is None:
            self._keys, self._values = self._buffer(keys), self._buffer(values)
        end = self.length + keys.shape[2]
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]

    def _buffer(self, like: Tensor) -> Tensor:
        batch, heads, _, width = like.shape
        return torch.empty(batch, heads, self.capacity, width, dtype=like.dtype, device=like.device)


class KVCache:
    """The caches of all layers of one model, for generation without gradients."""

    def __init__(self, num_layers: int, block_size: int) -> None:
        self.layers = [LayerCache(block_size) for _ in range(num_layers)]

    @property
    def length(self) -> int:
        """Number of tokens seen."""
        return self.layers[0].length
