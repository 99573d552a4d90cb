"""Memory of training a model, counted tensor by tensor."""

from __future__ import annotations

import gc
import itertools
import os
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.contenders import Contender, Sizes, Training

STEPS = 3  # The optimizer's state is there from the first; the peak is that of the second.
SMALLEST = Sizes(d_model=8, num_layers=1, num_heads=1, block_size=8, batch_size=1, vocab_size=8)


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        peak: the most that all tensors held at one time, from the making of the model on.
        activations: what the forward pass keeps for the backward pass, parameters not counted.
    """

    peak: int
    activations: int


def measure(contender: Contender, sizes: Sizes) -> Memory:
    """Memory of a few steps of training.

    torch's allocations are counted, not the pages of the process: how many of those are resident depends on what else
    the machine has to keep in memory.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # Else it writes on stderr that it begins and ends.
    Training(contender, SMALLEST).step()  # What is made once and kept for all models is made before.
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        training = Training(contender, sizes)
        for _ in range(STEPS):
            training.step()
    return Memory(_peak(profiler), _activations(training))


def _peak(profiler: profile) -> int:
    """The largest sum of what was allocated and not yet freed."""
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns()))
    return max(held)


def _activations(training: Training) -> int:
    """Bytes of the storages that one forward pass saves; several views of one count once."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in training.model.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = training.forward()  # Alive until all is counted, so that no address is used twice.
        del graph
    return sum(saved.values())
