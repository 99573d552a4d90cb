"""Settings of the network."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from spectral_mlflow.config.kinds import STRICT, Component, Fraction, Positive, Rate, fill_in, set_values


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """The network. ``type`` chooses all three layers; each may also be set alone."""

    type: Annotated[Component, Field(description="all wave layers or all standard ones")] = "wave"
    embedding: Annotated[Component | None, Field(description="token embedding; default: as type")] = None
    attention: Annotated[Component | None, Field(description="attention; default: as type")] = None
    feedforward: Annotated[Component | None, Field(description="feed-forward; default: as type")] = None
    d_model: Annotated[Positive, Field(description="width D of the residual stream")] = 128
    num_layers: Annotated[Positive, Field(description="number of blocks")] = 4
    num_heads: Annotated[Positive, Field(description="attention heads; must divide d_model")] = 4
    block_size: Annotated[Positive, Field(description="context length T in tokens")] = 128
    num_waves: Annotated[
        Positive | None, Field(description="waves W of a token and of a head; default: half the head size")
    ] = None
    num_harmonics: Annotated[Positive, Field(description="harmonics H of a wave")] = 4
    wave_ratio: Annotated[float, Field(gt=0, lt=1, description="initial share r of the wave in the embedding")] = 0.5
    packet_spread: Annotated[
        Fraction,
        Field(description="share of a turn over which frequencies and phases of the tokens' waves are spread at first"),
    ] = 0.1
    harmonic_decay: Annotated[
        Rate, Field(description="exponent with which the amplitudes of harmonics fall at first, as h^-decay")
    ] = 1.0
    max_phase_speed: Annotated[
        float,
        Field(gt=0, le=math.pi, description="initial phase speed of the fastest wave, radians a position"),
    ] = math.pi
    tau: Annotated[
        float | None,
        Field(gt=0, allow_inf_nan=False, description="initial sharpness of interference; default: sqrt(2 num_waves)"),
    ] = None
    init_gain: Annotated[
        float,
        Field(
            gt=0, allow_inf_nan=False, description="initial deviation of the weights behind a norm, times sqrt(d_model)"
        ),
    ] = 1.0
    embedding_std: Annotated[
        float | None,
        Field(
            gt=0, allow_inf_nan=False, description="initial deviation of embedded features; default: 0.02, wave 0.05"
        ),
    ] = None
    pure_wave: Annotated[bool, Field(description="embedding from waves alone, without lookup (r = 1)")] = False
    dropout: Annotated[float, Field(ge=0, lt=1, description="dropout on embedding and residual branches")] = 0.0
    match_parameters: Annotated[
        bool, Field(description="size the standard feed-forward so that both models have equal parameter counts")
    ] = False

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise ValueError(
                f"d_model: given {self.d_model}, which num_heads={self.num_heads} does not divide; "
                f"allowed: a multiple, such as {-(-self.d_model // self.num_heads) * self.num_heads}"
            )
        set_values(
            self,
            embedding=self.embedding or self.type,
            attention=self.attention or self.type,
            feedforward=self.feedforward or self.type,
        )
        fill_in(self, self.usual)

    @property
    def usual(self) -> dict[str, float]:
        """What follows from sizes and layers, by setting, where nobody chose anything else.

        Half the head size as waves; tau = sqrt(2 W), since with a sharpness of order 1 attention could not focus; the
        deviation that each embedding learned fastest from (benchmarks/README.md has the table).
        """
        num_waves = max(1, self.d_model // self.num_heads // 2)
        return {
            "num_waves": num_waves,
            "tau": math.sqrt(2 * (self.num_waves or num_waves)),
            "embedding_std": 0.05 if self.embedding == "wave" else 0.02,
        }

    def of_type(self, kind: Component) -> ModelConfig:
        """The same sizes with all three layers of one kind."""
        return replace(self, type=kind, embedding=None, attention=None, feedforward=None)
