"""ModelArrays: the few numbers of a model that its plots are drawn from, kept beside them; no torch."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spectral_mlflow.files import replace_file

Array = np.ndarray[Any, Any]

FOLDER = "data"  # In that of the plots.
FACTS = "facts"
WAVES = ("frequencies", "phases", "amplitudes", "phase_speeds")
WAVE_FACTS = ("vocabulary", "shown", "labels")
ATTENTION_FACTS = ("labels", "layers", "heads", "of")


@dataclass(frozen=True)
class WaveArrays:
    """The waves of one part of a model, of some of its tokens.

    Attributes:
        frequencies: (N, W), in turns.
        phases: (N, W), in radians.
        amplitudes: (N, W, H).
        phase_speeds: (W,), in radians a position.
        vocabulary: number of tokens that these were chosen from.
        shown: rows of the tokens whose packets are shown.
        labels: their texts.
    """

    frequencies: Array
    phases: Array
    amplitudes: Array
    phase_speeds: Array
    vocabulary: int
    shown: Sequence[int]
    labels: Sequence[str]


@dataclass(frozen=True)
class AttentionArrays:
    """What attends to what in a passage of text.

    Attributes:
        weights: (L, heads, T, T), of some layers and heads.
        coherence: the same of phase coherence; None without phases.
        labels: the tokens (T,).
        layers: numbers of those layers, from 1.
        heads: numbers of those heads, from 1.
        of: how many layers and heads the model has.
    """

    weights: Array
    coherence: Array | None
    labels: Sequence[str]
    layers: Sequence[int]
    heads: Sequence[int]
    of: tuple[int, int]

    def metrics(self) -> dict[str, float]:
        """Mean entropy of the weights, in nats, and mean coherence of a token with those before it and itself.

        They are those of the layers and heads that are here.
        """
        weights = self.weights.astype(float)
        entropy = -(weights * np.log(np.maximum(weights, 1e-12))).sum(-1)
        measured = {"attention/entropy": float(entropy.mean())}
        if self.coherence is not None:
            measured["attention/coherence"] = float(self.coherence[..., *np.tril_indices(len(self.labels))].mean())
        return measured


@dataclass(frozen=True)
class ModelArrays:
    """What is drawn of a model.

    Attributes:
        kind: name of its class.
        parameters: number of parameters of each part.
        waves: by the name of the part that has them.
        attention: None where it is not known how the model attends.
        context: positions that the model has; None where that is not known.
    """

    kind: str
    parameters: Mapping[str, int] = field(default_factory=dict)
    waves: Mapping[str, WaveArrays] = field(default_factory=dict)
    attention: AttentionArrays | None = None
    context: int | None = None

    def metrics(self) -> dict[str, float]:
        """What can be said of them in numbers, by the names of the journal."""
        return self.attention.metrics() if self.attention else {}

    def save(self, path: Path) -> None:
        """Write them as plain arrays.

        Raises:
            OSError: the disk refuses.
        """
        facts: dict[str, Any] = {
            "kind": self.kind, "parameters": dict(self.parameters), "context": self.context, "waves": {},
            "attention": None,
        }  # fmt: skip
        arrays: dict[str, Array] = {}
        for place, (name, waves) in enumerate(self.waves.items()):
            facts["waves"][name] = {fact: getattr(waves, fact) for fact in WAVE_FACTS}
            arrays |= {f"waves_{place}_{array}": getattr(waves, array) for array in WAVES}
        if self.attention:
            facts["attention"] = {fact: getattr(self.attention, fact) for fact in ATTENTION_FACTS}
            arrays["attention_weights"] = self.attention.weights
            if self.attention.coherence is not None:
                arrays["attention_coherence"] = self.attention.coherence
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, **{FACTS: np.array(json.dumps(facts)), **arrays})
        replace_file(path, content.getvalue(), durable=False)  # The training need not wait for a disk.

    @staticmethod
    def load(path: Path) -> ModelArrays:
        """Read what `save` wrote.

        Raises:
            OSError: the file is gone, or cannot be read.
            ValueError: it is damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return _unpacked(stored)
        except OSError:
            raise
        except Exception as failure:  # Archive, compression, header and text each have errors of their own.
            raise ValueError(f"{path.name} is damaged: {failure!r}") from failure


def _unpacked(stored: Mapping[str, Array]) -> ModelArrays:
    facts = json.loads(str(stored[FACTS]))
    waves = {}
    for place, (name, rest) in enumerate(facts["waves"].items()):
        f, phi, amplitudes, speeds = (stored[f"waves_{place}_{array}"] for array in WAVES)
        waves[name] = WaveArrays(f, phi, amplitudes, speeds, **rest)
    attention = None
    if (known := facts["attention"]) is not None:
        attention = AttentionArrays(stored["attention_weights"], stored.get("attention_coherence"), **known)
    return ModelArrays(facts["kind"], facts["parameters"], waves, attention, facts["context"])


def path_of(plots: Path, step: int) -> Path:
    """Where the arrays of a step lie, from the folder of the plots."""
    return plots / FOLDER / f"model_step_{step}.npz"


def steps_in(plots: Path) -> list[int]:
    """The steps whose arrays are there, in order."""
    found = (re.fullmatch(r"model_step_(\d+)\.npz", path.name) for path in (plots / FOLDER).glob("*.npz"))
    return sorted(int(name[1]) for name in found if name)
