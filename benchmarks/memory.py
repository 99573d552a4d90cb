"""Peak memory of training one model, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from benchmarks.contenders import Contender, Sizes, Training

STEPS = 3  # The optimizer's state is there from the first; the peak is that of the second.
SMALLEST = Sizes(d_model=8, num_layers=1, num_heads=1, block_size=8, batch_size=1, vocab_size=8)
Case = tuple[Contender, Sizes]


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        peak: largest resident memory in training, less what the process had before the model.
        activations: what the forward pass keeps for the backward pass, parameters not counted.
    """

    peak: int
    activations: int


def measure(cases: Sequence[Case], *, threads: int) -> list[Memory]:
    """Memory of each case, one fresh process after the other.

    A setting of glibc makes it give freed tensors back at once, so that what counts is what is in use: otherwise
    the peak depends on how well freed pieces happen to fit.
    """
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # Which torch imports at its first step, for seconds.
    try:
        with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
            return list(pool.map(_measure, cases, [threads] * len(cases)))
    finally:
        del os.environ["MALLOC_MMAP_THRESHOLD_"]


def _measure(case: Case, threads: int) -> Memory:
    contender, sizes = case
    torch.set_num_threads(threads)
    Training(contender, SMALLEST).step()  # Code is read from the disk when it is first used.
    before = psutil.Process().memory_info().rss
    training = Training(contender, sizes)
    for _ in range(STEPS):
        training.step()
    return Memory(_largest_resident() - before, _activations(training))


def _largest_resident() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


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
