"""Mode collapse: samples far less varied than the training text."""

from __future__ import annotations

from spectral_mlflow.monitoring.anomalies.detector import Detector, Known, Scene, Sign

PREFIX = "quality/"
VARIETY = ("entropy", "distinct")  # How names of qualities begin that say how varied a text is.
DEVIATIONS = 6.0  # Below the mean of the corpus,
PART = 0.7  # and at most this part of it.


class CollapseDetector(Detector):
    """Compares entropy and distinct-n of a sample with those of pieces of the corpus; it needs no memory."""

    def __init__(self, known: Known) -> None:
        super().__init__(known)
        given = {name.removeprefix(PREFIX): value for name, value in known.reference.items()}
        self._reference = {name: value for name, value in given.items() if name.startswith(VARIETY)}

    def look(self, scene: Scene) -> Sign | None:
        """At a step with a sample: most of the qualities must be too low."""
        found = {name: value for name in self._reference if (value := scene.finite(PREFIX + name)) is not None}
        low = {name: value for name, value in found.items() if self._is_low(name, value)}
        if not found or 2 * len(low) <= len(found):
            return None
        told = ", ".join(f"{name} {value:.3g} (corpus {self._reference[name][0]:.3g})" for name, value in low.items())
        return Sign("mode_collapse", f"samples are far less varied than the text: {told}", scene.record.step)

    def _is_low(self, name: str, value: float) -> bool:
        mean, deviation = self._reference[name]
        return value < min(PART * mean, mean - DEVIATIONS * deviation)
