"""What the tests of checkpoints share."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from spectral_mlflow.monitoring import CheckpointManager
from spectral_mlflow.monitoring.seal import Facts, SealingWriter


def trained(seed: int = 0) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A small module and an optimizer that has a state."""
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def save(manager: CheckpointManager, step: int, **further: Any) -> str:
    """A checkpoint whose loss history names its step."""
    model, optimizer = trained(step)
    return manager.save_checkpoint(step, model, optimizer, [float(step)], {}, **further)


def steps(manager: CheckpointManager) -> list[int]:
    """Steps of the files on disk, newest first."""
    return [checkpoint.step for checkpoint in manager.list_checkpoints()]


def flip(path: Path, place: float) -> None:
    """Change one bit of a file, at a share of its length."""
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)


def sealed(path: Path, content: object, sequence: int) -> None:
    """A file of whatever torch saves, with a seal that is valid."""
    with path.open("wb") as file:
        writer = SealingWriter(file)
        torch.save(content, writer)
        writer.finish(Facts(sequence))
