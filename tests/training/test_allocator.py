"""Memory kept from step to step."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from spectral_mlflow.config import ModelConfig
from spectral_mlflow.models.gpt import build
from spectral_mlflow.training.allocator import keep_freed_memory
{call}
model = build(ModelConfig(type="standard", num_layers=2), 65, seed=0)
tokens = torch.zeros(16, 128, dtype=torch.int64)
def faults(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        model(tokens).square().mean().backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(8)  # The heap still grows at some of these.
print(faults(8))
"""
SAID = "from spectral_mlflow.training.allocator import keep_freed_memory; print(keep_freed_memory())"


def printed(code: str, **environment: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives memory back so eagerly")
def test_buffers_of_a_step_are_used_again() -> None:
    """Pages are not asked of the system anew at every step, as they are without."""
    with_it, without = (int(printed(FAULTS.format(call=call))) for call in ("keep_freed_memory()", ""))
    assert with_it < without / 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these options")
def test_respects_what_the_user_has_tuned() -> None:
    """Where the environment sets malloc's options, they stay."""
    assert printed(SAID) == "True"
    assert printed(SAID, MALLOC_TOP_PAD_="0") == "False"
