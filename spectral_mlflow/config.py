"""Every setting of a run, once: its name, type, default, bounds and meaning.

The command line, `config.json`, the parameters in MLflow and the configuration hash are all made
from the dataclasses below.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

FORMAT_VERSION = 1

Component = Literal["wave", "standard"]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]

_STRICT = ConfigDict(extra="forbid")


def _set(config: object, **values: object) -> None:
    """Fill in what follows from other settings (the dataclasses are frozen to everybody else)."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


def _fill_in(config: object, usual: Mapping[str, object]) -> None:
    """Give the settings that nobody has chosen their usual values."""
    _set(config, **{name: value for name, value in usual.items() if getattr(config, name) is None})


@dataclass(frozen=True, config=_STRICT)
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
        _set(
            self,
            embedding=self.embedding or self.type,
            attention=self.attention or self.type,
            feedforward=self.feedforward or self.type,
        )
        _fill_in(self, self.usual)

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


@dataclass(frozen=True, config=_STRICT)
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

    def __post_init__(self) -> None:
        if not self.auto_batch_size and self.batch_size % self.gradient_accumulation:
            fewer = range(min(self.gradient_accumulation, self.batch_size), 0, -1)
            raise ValueError(
                f"gradient_accumulation: given {self.gradient_accumulation}, which does not divide "
                f"batch_size={self.batch_size}; allowed: a divisor, such as "
                f"{next(parts for parts in fewer if self.batch_size % parts == 0)}"
            )


@dataclass(frozen=True, config=_STRICT)
class DatasetConfig:
    """What the model is trained on."""

    name: Annotated[
        Literal["auto", "tinyshakespeare", "python-docs", "text", "fineweb-edu"],
        Field(description="auto takes tinyshakespeare if it can be had, else python-docs"),
    ] = "auto"
    path: Annotated[
        str | None,
        Field(
            min_length=1,
            description="text: a file, or a folder of .txt and .md files; fineweb-edu: parquet files of it",
        ),
    ] = None
    subset: Annotated[
        str | None,
        Field(
            pattern=r"^(default|sample-(10|100|350)BT|CC-MAIN-\d{4}-\d{2})$",
            description="fineweb-edu: which part, such as sample-100BT or CC-MAIN-2024-10; default: sample-10BT",
        ),
    ] = None
    max_tokens: Annotated[
        Positive | None, Field(description="fineweb-edu: most tokens to train on; default: 100 million")
    ] = None
    tokenizer: Annotated[
        Literal["char", "bpe"] | None,
        Field(description="characters, or byte pairs trained on the corpus; default: bpe for fineweb-edu, else char"),
    ] = None
    bpe_vocab_size: Annotated[int, Field(ge=257, description="bpe: number of tokens")] = 1024
    train_split: Annotated[float, Field(gt=0, lt=1, description="share of the corpus that is trained on")] = 0.9
    val_split: Annotated[float, Field(gt=0, lt=1, description="share that is held out")] = 0.1
    val_windows: Annotated[
        Count | None,
        Field(description="most windows of the held-out text to measure on; 0: all; default: 0, for fineweb-edu 1024"),
    ] = None

    def __post_init__(self) -> None:
        if self.train_split + self.val_split > 1 + 1e-9:
            raise ValueError(
                f"train_split: given {self.train_split} beside val_split={self.val_split}; allowed: at most 1 together"
            )
        if self.name == "text" and not self.path:
            raise ValueError("path: given nothing; dataset text needs the file or folder to read")
        if self.path and self.name not in ("text", "auto", "fineweb-edu"):
            raise ValueError(
                f"path: given {self.path!r} with dataset {self.name}; "
                "only dataset text reads a path, and fineweb-edu one of parquet files"
            )
        if self.path and self.name == "auto":
            _set(self, name="text")
        if self.name != "fineweb-edu":
            self._refuse("subset", "max_tokens")
        _fill_in(self, self.usual)

    @property
    def usual(self) -> dict[str, str | int]:
        """What follows from the name, by setting, where nobody chose anything else."""
        if self.name == "fineweb-edu":
            return {"tokenizer": "bpe", "subset": "sample-10BT", "max_tokens": 100_000_000, "val_windows": 1024}
        return {"tokenizer": "char", "val_windows": 0}

    def _refuse(self, *names: str) -> None:
        for name in names:
            if getattr(self, name) is not None:
                raise ValueError(
                    f"{name}: given {getattr(self, name)!r} with dataset {self.name}; only dataset fineweb-edu has it"
                )


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class MonitoringConfig:
    """What is written and where. Intervals are in steps. Not part of the configuration hash."""

    experiments_dir: Annotated[
        str, Field(min_length=1, description="folder of run directories, relative to SPECTRAL_HOME")
    ] = "experiments"
    log_interval: Annotated[Positive, Field(description="between lines of metrics")] = 1
    eval_interval: Annotated[Positive, Field(description="between evaluations on the validation split")] = 200
    checkpoint_interval: Annotated[Positive, Field(description="between checkpoints")] = 200
    keep_last_n: Annotated[Positive, Field(description="newest checkpoints to keep, besides those below")] = 3
    keep_best: Annotated[Positive, Field(description="checkpoints of the lowest validation loss to keep")] = 1
    keep_every: Annotated[Count, Field(description="keep checkpoints of every multiple of so many steps; 0: none")] = 0
    keep_hours: Annotated[Rate, Field(description="keep one checkpoint for every so many hours; 0: none")] = 0.0
    log_checkpoints: Annotated[
        Literal["best", "last", "best,last", "all", "none"],
        Field(description="checkpoints that are sent to the stores; the others are only named there"),
    ] = "best,last"
    viz_interval: Annotated[Count, Field(description="between sets of plots, and samples; 0: none")] = 250
    sample_tokens: Annotated[Count, Field(description="length of a generated sample; 0: none")] = 300
    code_snapshot: Annotated[bool, Field(description="keep the uncommitted changes beside the run")] = True
    stores: Annotated[
        tuple[Literal["mlflow"], ...], Field(description="where the companion mirrors the run; empty: nowhere")
    ] = ("mlflow",)
    tracking_uri: Annotated[
        str | None,
        Field(min_length=1, description="store; default: MLFLOW_TRACKING_URI, else mlflow.db in SPECTRAL_HOME"),
    ] = None
    mlflow_experiment: Annotated[str, Field(min_length=1, description="MLflow experiment to file the run under")] = (
        "spectral"
    )


@dataclass(frozen=True, config=_STRICT)
class ExperimentConfig:
    """All settings of one run."""

    name: Annotated[
        str | None,
        Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$", description="name of the run; default: the model type"),
    ] = None
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    dataset: DatasetConfig = dataclasses.field(default_factory=DatasetConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    monitoring: MonitoringConfig = dataclasses.field(default_factory=MonitoringConfig)

    def __post_init__(self) -> None:
        _set(self, name=self.name or self.model.type)
        self._check_curriculum()

    def _check_curriculum(self) -> None:
        whole, first = self.model.block_size, self.training.first_block_size
        shorter = [whole >> times for times in range(1, whole.bit_length()) if whole % (1 << times) == 0]
        if self.training.block_warmup_steps and not shorter:
            raise ValueError(
                f"training.block_warmup_steps: given {self.training.block_warmup_steps} with "
                f"model.block_size={whole}, which has no half; allowed: 0, or an even model.block_size"
            )
        if first is not None and first not in shorter:
            raise ValueError(
                f"training.first_block_size: given {first}; allowed with model.block_size={whole}: "
                + (", ".join(map(str, shorter)) or "none")
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dictionaries and lists, as JSON has them."""
        return dict(ADAPTER.dump_python(self, mode="json"))

    def hash(self) -> str:
        """sha256 of the canonical JSON of what decides the result: model, training and dataset."""
        values = self.to_dict()
        return canonical_hash({section: values[section] for section in DECISIVE})


ADAPTER = TypeAdapter(ExperimentConfig)

# The sections that decide the result of a run.
DECISIVE = ("model", "training", "dataset")


def canonical_hash(values: Mapping[str, Any]) -> str:
    """sha256 of the canonical JSON of some settings."""
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


# A password in an HTTP address has no raw slash; in the address of a database it may have any character.
_SECRETS = (
    (re.compile(r"(https?://[^/@:\s]+):[^/\s]*@"), r"\1:***@"),
    (re.compile(r"(https?://)[^/@:\s]+@"), r"\1***@"),
    (re.compile(r"((?!https?:)\b\w[\w+.-]*://[^/@:\s]*):[^?\s]*@"), r"\1:***@"),
    (re.compile(r"([?&](?:\w*password|passwd|pwd|\w*token|\w*secret)=)[^&\s]*", re.IGNORECASE), r"\1***"),
)


def without_password(text: str) -> str:
    """A store's URI, or a message with one in it, as it may stand in files and logs."""
    for pattern, hidden in _SECRETS:
        text = pattern.sub(hidden, text)
    return text


def home() -> Path:
    """Where `experiments/` and the default store live: SPECTRAL_HOME, else the current folder."""
    return Path(os.environ.get("SPECTRAL_HOME", ".")).absolute()
