"""Settings of the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spectral_mlflow.config.kinds import STRICT, Count, Fraction, Positive, Rate


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """How the model is trained: optimizer, loss, schedule, length and seed."""

    steps: Annotated[Positive, Field(description="optimizer steps")] = 1000
    batch_size: Annotated[Positive, Field(description="windows in a batch, which is one optimizer step")] = 16
    auto_batch_size: Annotated[
        bool, Field(description="find the largest batch that fits before step 1; batch_size then says which it was")
    ] = False
    gradient_accumulation: Annotated[
        Positive, Field(description="parts a batch is computed in, one after the other; must divide batch_size")
    ] = 1
    block_warmup_steps: Annotated[
        Count, Field(description="step at which windows reach block_size, doubling on the way; 0: from the start")
    ] = 0
    first_block_size: Annotated[
        Positive | None,
        Field(description="length of the first windows: block_size halved some times; default: an eighth of it"),
    ] = None
    optimizer: Annotated[Literal["AdamW", "RGD"], Field(description="AdamW, or resonant gradient descent")] = "AdamW"
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False, description="peak learning rate")] = 2e-3
    min_lr_ratio: Annotated[Fraction, Field(description="last learning rate over the peak one")] = 0.1
    warmup_steps: Annotated[Count, Field(description="steps of linear warm-up, then cosine")] = 30
    weight_decay: Annotated[Rate, Field(description="on matrices of the network only")] = 0.1
    grad_clip: Annotated[Rate, Field(description="largest gradient norm; 0 turns clipping off")] = 1.0
    rgd_strength: Annotated[Fraction, Field(description="RGD: depth of the resonance gate")] = 0.3
    rgd_warmup: Annotated[Count, Field(description="RGD: steps until the gate has its full depth")] = 100
    rgd_preserve_norm: Annotated[bool, Field(description="RGD: keep the norm of the Adam update")] = True
    loss: Annotated[Literal["CE", "QFE"], Field(description="cross-entropy, or with spectral coherence")] = "CE"
    qfe_lambda: Annotated[Rate, Field(description="QFE: weight of the coherence part")] = 0.1
    seed: Annotated[int, Field(ge=0, lt=2**63, description="seed of initialisation, data order and dropout")] = 0
    early_stopping: Annotated[
        Count, Field(description="stop after so many evaluations without a better one; 0: never")
    ] = 0
    max_skipped: Annotated[
        Positive, Field(description="stop after so many steps in a row without a finite gradient")
    ] = 10
    on_anomaly: Annotated[
        Literal["none", "skip", "stop", "rollback"],
        Field(
            description="what a critical anomaly does: only an alert; skip the batch; stop; or go back to the last "
            "good checkpoint at a lower learning rate"
        ),
    ] = "none"
    rollback_lr: Annotated[
        float, Field(gt=0, le=1, description="on_anomaly=rollback: what each one multiplies the learning rate by")
    ] = 0.5

    def __post_init__(self) -> None:
        if not self.auto_batch_size and self.batch_size % self.gradient_accumulation:
            fewer = range(min(self.gradient_accumulation, self.batch_size), 0, -1)
            raise ValueError(
                f"gradient_accumulation: given {self.gradient_accumulation}, which does not divide "
                f"batch_size={self.batch_size}; allowed: a divisor, such as "
                f"{next(parts for parts in fewer if self.batch_size % parts == 0)}"
            )
