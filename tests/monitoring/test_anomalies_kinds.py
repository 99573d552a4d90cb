"""Each kind of anomaly is found where it is, by its name and soon; nothing is told of a healthy run."""

import math
import random
from collections.abc import Callable

import pytest
from anomaly_streams import START, STEPS, alerts, anomalies, changed, healthy

from spectral_mlflow.monitoring.anomalies import DETECTORS, KINDS
from spectral_mlflow.monitoring.monitor import SEVERITIES, StepRecord

NAN = float("nan")


def scaled(name: str, factor: float) -> Callable[[StepRecord], StepRecord]:
    """A metric multiplied, where it was measured."""
    return lambda record: (
        changed(record, **{name: factor * record.metrics[name.replace("__", "/")]})
        if name.replace("__", "/") in record.metrics
        else record
    )


def overfitted(record: StepRecord) -> StepRecord:
    """Loss falls on, validation loss rises."""
    past = record.step - START
    rising = {"val_loss": 2.4 + past / 300} if "val_loss" in record.metrics else {}
    return changed(record, loss=record.metrics["loss"] - past / 400, **rising)


def leaking(record: StepRecord) -> StepRecord:
    """Two MB more at every step."""
    return changed(record, system__rss_mb=record.metrics["system/rss_mb"] + 2 * (record.step - START))


def collapsed(record: StepRecord) -> StepRecord:
    """Samples that repeat themselves."""
    if "quality/entropy" not in record.metrics:
        return record
    return changed(record, quality__entropy=1.5, quality__distinct_1=0.1, quality__distinct_2=0.15)


# Of each kind: what is different, between which steps (from START), and after how many steps it is told.
FAULTS: dict[str, tuple[Callable[[StepRecord], StepRecord], int, int]] = {
    "gradient_explosion": (scaled("grad__norm", 40), 1, 0),
    "gradient_vanishing": (scaled("grad__norm", 1e-4), STEPS, 2),
    "loss_spike": (scaled("loss", 1.6), 1, 5),
    "divergence": (scaled("loss", 1.6), STEPS, 4),
    "plateau": (scaled("update__ratio", 1e-3), STEPS, 50),
    "oscillation": (lambda r: changed(r, loss=r.metrics["loss"] + 0.2 * math.sin(r.step)), STEPS, 128),
    "memory_growth": (leaking, STEPS, 120),
    "throughput_drop": (scaled("tokens_per_sec", 0.3), STEPS, 120),
    "learning_rate": (scaled("learning_rate", 3), STEPS, 0),
    "non_finite": (lambda r: changed(r, loss=NAN, objective=NAN, grad__norm=NAN), 1, 0),
    "overfitting": (overfitted, STEPS, 150),
    "underfitting": (lambda r: changed(r, loss=4.2 + (r.metrics["grad/norm"] - 0.8) / 2), STEPS, 0),
    "mode_collapse": (collapsed, STEPS, 50),
}  # fmt: skip


def faulty(kind: str) -> list[StepRecord]:
    """A run with a fault from START on; underfitting begins at the beginning."""
    change, steps, _ = FAULTS[kind]
    first = 1 if kind == "underfitting" else START
    return [change(record) if first <= record.step < first + steps else record for record in healthy()]


def test_every_kind_has_a_fault() -> None:
    """The thirteen kinds, and no other."""
    assert set(FAULTS) == set(KINDS)
    assert len(KINDS) == 13


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_is_told_by_its_kind(kind: str) -> None:
    """It is the only kind told, in time, with cause, advice and the step at which it began."""
    told = alerts(faulty(kind))
    assert {alert.kind for _, alert in told} == {kind}
    step, alert = told[0]
    assert START <= step <= START + FAULTS[kind][2]
    assert alert.since is not None
    assert alert.since <= step
    assert alert.severity in SEVERITIES
    assert all((alert.message, alert.cause, alert.advice))
    assert "\n" not in alert.message


@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_run_is_silent(seed: int) -> None:
    """Warm-up, cosine, evaluations, noise, an allocator that fills up and a jump of memory are no anomalies."""
    assert alerts(healthy(seed)) == []


def with_memory(memory: Callable[[int], float]) -> list[StepRecord]:
    """Records of a memory, sampled at every step, and nothing else."""
    draw = random.Random(0)
    return [StepRecord(step, {"system/rss_mb": memory(step) + draw.random() / 5}, 0.1) for step in range(1, 401)]


def test_stairs_that_level_off_are_no_leak() -> None:
    """Plots and samples take memory at each of their times, and less and less of it."""
    stairs = (364, 507, 557, 571, 580, 593, 605, 607)
    assert alerts(with_memory(lambda step: stairs[min((step + 15) // 20, 7)])) == []
    assert alerts(with_memory(lambda step: 507 + 100 * (1 - 0.8 ** (step // 10)))) == []


@pytest.mark.parametrize("every", [1, 5, 30])
def test_a_leak_is_found_whatever_it_leaks_at(every: int) -> None:
    """At every step, or at each of the larger things between them, which takes longer to be sure of."""
    told = alerts(with_memory(lambda step: 400 + 2 * every * (step // every)))
    assert [alert.kind for _, alert in told] == ["memory_growth"]
    assert told[0][0] <= (200 if every > 1 else 100)


def test_the_fall_of_the_first_losses_is_no_oscillation() -> None:
    """A loss that falls in two bends, as it does in the warm-up of the learning rate."""
    draw = random.Random(0)
    for bend in (30, 40, 50):
        losses = (2.6 + 1.6 / (1 + math.exp((step - bend) / 12)) + draw.gauss(0, 0.04) for step in range(1, 300))
        assert alerts(StepRecord(step, {"loss": loss}, 0.1) for step, loss in enumerate(losses, 1)) == []


def test_a_loss_below_zero_is_a_loss() -> None:
    """A log-likelihood of densities falls below zero from the beginning on."""
    assert alerts(StepRecord(step, {"loss": -3 - step / 100}, 0.1) for step in range(1, 100)) == []


def test_a_rollback_knows_the_last_good_step() -> None:
    """Divergence asks to go back before the step at which the loss left its level."""
    ((_, alert),) = alerts(faulty("divergence"))[:1]
    assert (alert.since, alert.request, alert.severity) == (START, "rollback", "critical")


def test_what_another_run_would_not_measure_asks_for_nothing() -> None:
    """Memory and speed differ from machine to machine, so no reaction may follow from them."""
    assert KINDS["memory_growth"].request is KINDS["throughput_drop"].request is None


def test_only_grave_alerts_ask_for_something() -> None:
    """An explosion of 20 times the usual norm is a warning, one of 1000 times asks to skip."""
    (mild,) = (a for _, a in alerts(scaled("grad__norm", 20)(r) if r.step == START else r for r in healthy()))
    (grave,) = (a for _, a in alerts(scaled("grad__norm", 1000)(r) if r.step == START else r for r in healthy()))
    assert (mild.severity, mild.request, grave.severity, grave.request) == ("warning", None, "critical", "skip")


def test_a_slow_rise_is_divergence_too() -> None:
    """A loss that rises by a hundredth of a nat a step, which no single step shows."""
    records = [changed(r, loss=r.metrics["loss"] + max(0, r.step - START) / 100) for r in healthy()]
    assert [alert.kind for _, alert in alerts(records)][:1] == ["divergence"]


def test_cooldown() -> None:
    """A wrong learning rate at every step is told once in 200 steps, not at each of them."""
    told = alerts(scaled("learning_rate", 2)(record) for record in healthy())
    assert [step for step, _ in told] == [1, 201]


def test_consequences_are_not_told() -> None:
    """A loss spike right after an exploding gradient is the same anomaly; one 60 steps later is another."""

    def both(record: StepRecord) -> StepRecord:
        if record.step == START:
            return scaled("grad__norm", 100)(record)
        return scaled("loss", 1.6)(record) if record.step in (START + 1, START + 60) else record

    told = alerts(map(both, healthy()))
    assert [(alert.kind, alert.since) for _, alert in told] == [
        ("gradient_explosion", START), ("loss_spike", START + 60),
    ]  # fmt: skip


def test_a_large_gradient_of_a_bad_batch_is_a_loss_spike() -> None:
    """Loss and gradient that are high in the same step are told as the one thing they are."""
    bad = [changed(r, loss=4.5, grad__norm=20.0) if r.step == START else r for r in healthy()]
    assert [alert.kind for _, alert in alerts(bad)] == ["loss_spike"]


def test_several_steps_without_finite_loss_are_fatal() -> None:
    """The third in a row asks to go back to before the first."""
    told = alerts(changed(r, loss=NAN) if r.step >= START else r for r in healthy())[:2]
    assert [(step, a.severity, a.request, a.since) for step, a in told] == [
        (START, "critical", "skip", START), (START + 2, "fatal", "rollback", START),
    ]  # fmt: skip


def test_a_gradient_scaler_may_look_for_its_scale() -> None:
    """Infinite gradients are then told of only after twenty in a row; a loss that is not finite at once."""
    endless = [changed(r, grad__norm=math.inf) if START <= r.step < START + 15 else r for r in healthy()]
    assert alerts(endless, anomalies(scaled=True)) == []
    assert alerts(endless)[0][0] == START
    assert alerts([changed(r, loss=NAN) for r in healthy()][:1], anomalies(scaled=True))


def test_early_divergence() -> None:
    """Before anything is usual, a loss far above the first ones is found all the same."""
    told = alerts(changed(r, loss=40.0) if r.step >= 8 else r for r in healthy())
    assert (told[0][1].kind, told[0][1].since) == ("divergence", 8)


def test_longer_windows_are_another_usual() -> None:
    """Where the block length changes, loss and speed begin anew."""
    records = [
        changed(r, block_size=16.0 if r.step < START else 32.0,
                **({"loss": 1.6 * r.metrics["loss"], "tokens_per_sec": 5e3} if r.step >= START else {}))
        for r in healthy()
    ]  # fmt: skip
    assert {a.kind for _, a in alerts(records)} == set()


def test_a_run_of_ones_own_may_measure_less() -> None:
    """A loop that knows nothing but its loss is watched as far as that goes."""
    records = [
        StepRecord(r.step, {"loss": r.metrics["loss"] * (1.6 if r.step == START else 1)}, 0.1) for r in healthy()
    ]
    assert [alert.kind for _, alert in alerts(records)] == ["loss_spike"]
    assert alerts([StepRecord(step, {}, 0.1) for step in range(50)]) == []


def test_a_detector_remembers_a_bounded_amount() -> None:
    """After four times as many steps no part of the state is longer."""

    def size(steps: int) -> int:
        monitor = anomalies()
        alerts(healthy(steps=steps), monitor)
        return len(str(monitor.state_dict()))

    assert size(2000) < 1.1 * size(500)
    assert list(anomalies().state_dict()["detectors"]) == list(DETECTORS)
