"""QualityTrend: one alert when samples stay worse than the best, and none for noise."""

import random
from collections.abc import Iterable

import pytest

from spectral_mlflow.monitoring.monitor import Alert, StepRecord
from spectral_mlflow.monitoring.quality_trend import QualityTrend


def watch(
    values: Iterable[float], metric: str = "music/overall", trend: QualityTrend | None = None
) -> list[tuple[int, Alert]]:
    """The alerts over samples, each with the number of its sample; between samples are steps without one."""
    trend = trend or QualityTrend()
    found = []
    for number, value in enumerate(values):
        assert not trend.observe(StepRecord(2 * number + 1, {"loss": 1.0}, 0.1)).alerts
        found += [(number, alert) for alert in trend.observe(StepRecord(2 * number + 2, {metric: value}, 0.1)).alerts]
    return found


RISE = [0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.72, 0.7, 0.71]


def test_a_fall_is_told_once() -> None:
    """After three samples, with the step of the best and what to do."""
    [(number, alert)] = watch([*RISE, 0.3, 0.28, 0.3, 0.25, 0.3])
    assert number == len(RISE) + 2
    assert (alert.kind, alert.severity) == ("quality_degradation", "warning")
    assert alert.since is not None
    assert 12 <= alert.since <= 18
    assert "music/overall is 0.3 " in alert.message
    assert alert.cause
    assert "training.lr" in alert.advice


def test_recovery_arms_it_again() -> None:
    """A second fall is told too."""
    assert [n for n, _ in watch([*RISE, *[0.2] * 4, *[0.7] * 5, *[0.2] * 4])] == [11, 20]


def test_a_distance_falls_by_rising() -> None:
    """Of text, less is better."""
    values = [9.0, 5.0, 2.0, 1.0, 0.9, 1.0, 1.1, 0.9]
    assert watch(values, "quality_distance/overall") == []
    [(_, alert)] = watch([*values, 4.0, 4.0, 4.0], "quality_distance/overall")
    assert "quality_distance/overall is 4 " in alert.message


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.2])
def test_noise_is_no_fall(noise: float) -> None:
    """Neither in runs that rise nor on a plateau; one bad sample is none either."""
    alerts = 0
    for seed in range(30):
        chance = random.Random(seed)
        alerts += len(watch(min(1, 0.02 * n) * 0.8 + chance.gauss(0, noise) for n in range(100)))
    assert alerts <= 1
    assert watch([*RISE, 0.0, 0.7, 0.7, 0.0, 0.7]) == []


def test_what_is_not_measured_says_nothing() -> None:
    """A sample without the metric, or with one that is no number."""
    trend = QualityTrend()
    for value in [0.7] * 5 + [float("nan")] * 5:
        assert trend.observe(StepRecord(1, {"music/overall": value}, 0.1)).alerts == ()


def test_it_goes_on_where_it_was() -> None:
    """A fall that began before a checkpoint is told at the same sample after it."""
    values = [*RISE, 0.3, 0.28, 0.3]
    first, second = QualityTrend(), QualityTrend()
    watch(values[:10], trend=first)
    second.load_state_dict(first.state_dict())
    assert watch(values[10:], trend=second) == [(1, watch(values)[0][1])]
