"""Settings of the corpus."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from spectral_mlflow.config.kinds import STRICT, Count, Positive, fill_in, set_values


@dataclass(frozen=True, config=STRICT)
class DatasetConfig:
    """What the model is trained on."""

    name: Annotated[
        Literal["auto", "tinyshakespeare", "python-docs", "text", "fineweb-edu", "oneills"],
        Field(
            description="auto takes tinyshakespeare if it can be had, else python-docs; oneills: Irish tunes, "
            "from the package music21"
        ),
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
    transpositions: Annotated[
        int, Field(ge=0, le=6, description="oneills: most further keys that each tune to train on is shown in")
    ] = 0
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
            set_values(self, name="text")
        if self.name != "fineweb-edu":
            self._refuse("subset", "max_tokens")
        if self.transpositions and self.name != "oneills":
            raise ValueError(
                f"transpositions: given {self.transpositions} with dataset {self.name}; only dataset oneills has keys"
            )
        fill_in(self, self.usual)

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
