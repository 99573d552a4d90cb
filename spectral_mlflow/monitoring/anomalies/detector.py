"""A detector: looks at one step after the other and remembers a bounded amount of them."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from spectral_mlflow.monitoring.monitor import Severity, StepRecord


@dataclass(frozen=True)
class Known:
    """What is known of a run beforehand.

    Attributes:
        steps: how many there will be.
        warmup_steps: of the learning rate.
        reference: mean and standard deviation of qualities of texts, over pieces of the training corpus.
        scaled: whether a gradient scaler looks for its scale, so that single infinite gradients mean nothing.
    """

    steps: int
    warmup_steps: int = 0
    reference: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    scaled: bool = False


@dataclass
class Scene:
    """A step, and what detectors that come first tell the others of it.

    Attributes:
        record: the step.
        loss_high: whether the loss is so unusual that a large gradient is only its consequence.
    """

    record: StepRecord
    loss_high: bool = False

    def finite(self, name: str) -> float | None:
        """A metric of the step, None where it is missing or not finite."""
        value = self.record.metrics.get(name)
        return value if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Sign:
    """A sign of an anomaly.

    Attributes:
        kind: one of ``KINDS``.
        message: what was seen, with its numbers.
        since: the step at which it began.
        severity: where it is not the usual one of the kind.
    """

    kind: str
    message: str
    since: int
    severity: Severity | None = None


class Detector(ABC):
    """Finds anomalies of a few kinds. All that it remembers stands in the attributes that `MEMORY` names."""

    MEMORY: ClassVar[tuple[str, ...]] = ()

    def __init__(self, known: Known) -> None:
        self.known = known

    @abstractmethod
    def look(self, scene: Scene) -> Sign | None:
        """What there is to say of a step, after those before."""

    def state_dict(self) -> dict[str, Any]:
        """All that it remembers: numbers, None, lists, dicts."""
        return {
            name: value.state_dict() if isinstance(value, Memory) else copy.deepcopy(value)
            for name, value in ((name, getattr(self, name)) for name in self.MEMORY)
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember that instead."""
        for name in self.MEMORY:
            value = getattr(self, name)
            if isinstance(value, Memory):
                value.load_state_dict(state[name])
            else:
                setattr(self, name, copy.deepcopy(state[name]))


class Memory(ABC):
    """A part of what a detector remembers."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Numbers, None and lists of them."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any], /) -> None:
        """Go on from there."""
