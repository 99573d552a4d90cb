"""One value that a document may state, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_mlflow.analysis.statistics import Estimate


@dataclass(frozen=True)
class Fact:
    """One value and where it comes from.

    Attributes:
        key: its name.
        value: number or text, in full.
        kind: of `measures.DIGITS`.
        runs: MLflow ids of the runs that it rests on.
        query: how it was computed.
        estimate: with its interval over seeds, None where it is no mean.
    """

    key: str
    value: float | str
    kind: str
    runs: tuple[str, ...]
    query: str
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Missing:
    """Why there is no value, and the command that makes one."""

    reason: str
    command: str | None = None


class UnknownKeyError(Exception):
    """No declared pattern matches a key, or what it asks for has more than one answer."""
