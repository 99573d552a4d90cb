"""Settings of the machine."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spectral_mlflow.config.kinds import STRICT, Count


@dataclass(frozen=True, config=STRICT)
class RuntimeConfig:
    """The machine. Not part of the configuration hash."""

    device: Annotated[Literal["auto", "cpu", "cuda", "mps"], Field(description="auto takes the fastest there is")] = (
        "auto"
    )
    threads: Annotated[Count, Field(description="CPU threads; 0: as torch decides")] = 0
    precision: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        Field(description="of matrix products; auto: bfloat16 on an NVIDIA GPU that has it, else float32"),
    ] = "auto"
    compile: Annotated[
        bool,
        Field(description="compile the model, minutes before step 1; losses differ by rounding, dropout by its masks"),
    ] = False
    activation_checkpointing: Annotated[
        bool, Field(description="compute activations again for the backward pass: less memory, same losses, slower")
    ] = False
