"""The kinds of anomaly: how bad each is, what is likely behind it, what to do, and how often to say so."""

from __future__ import annotations

from dataclasses import dataclass

from spectral_mlflow.monitoring.monitor import Request, Severity


@dataclass(frozen=True)
class Kind:
    """What is true of every alert of a kind.

    Attributes:
        severity: unless what was found is worse.
        cause: what is likely behind it.
        advice: what to do.
        cooldown: steps after an alert in which the kind is not told of again.
        request: what the loop may do about a critical one; None where nothing may follow, as with measurements that
            another run of the same seed would not repeat.
    """

    severity: Severity
    cause: str
    advice: str
    cooldown: int
    request: Request | None = None


KINDS: dict[str, Kind] = {
    "non_finite": Kind(
        "critical",
        "overflow in the forward or backward pass: learning rate too high, low precision, or broken input",
        "lower training.lr or training.grad_clip, lengthen training.warmup_steps, or use runtime.precision=float32",
        20, "skip",
    ),
    "learning_rate": Kind(
        "critical",
        "something besides the schedule sets the learning rate of the optimizer",
        "look for code that changes optimizer.param_groups, or for a second scheduler",
        200, "stop",
    ),
    "divergence": Kind(
        "critical",
        "learning rate too high for this model, or the data have changed for good",
        "lower training.lr or lengthen training.warmup_steps; go back to a checkpoint before it began",
        100, "rollback",
    ),
    "loss_spike": Kind(
        "warning",
        "an unusual or broken batch, or an update that was too large",
        "look at the batch of this step; lower training.grad_clip, or set training.on_anomaly=skip if they recur",
        10, "skip",
    ),
    "gradient_explosion": Kind(
        "warning",
        "a steep place of the loss, an unusual batch, or a faulty backward pass",
        "lower training.grad_clip or training.lr, or lengthen training.warmup_steps",
        50, "skip",
    ),
    "gradient_vanishing": Kind(
        "warning",
        "saturated activations, a layer that is cut off, or gradients that are scaled down or underflow",
        "look at the norms of the layers' gradients; raise model.init_gain, or use runtime.precision=float32",
        200,
    ),
    "plateau": Kind(
        "warning",
        "the weights scarcely change any more: frozen parameters, vanishing updates, or too low a learning rate",
        "see that parameters require gradients and are in the optimizer; raise training.lr or training.min_lr_ratio",
        500,
    ),
    "oscillation": Kind(
        "warning",
        "a learning rate or data order that repeats, or a learning rate at the edge of stability",
        "lower training.lr; see whether the data come in a repeating order",
        500,
    ),
    "overfitting": Kind(
        "warning",
        "the model learns its training text by heart",
        "stop at the best checkpoint (training.early_stopping), raise model.dropout, or take more data",
        1000,
    ),
    "underfitting": Kind(
        "warning",
        "model, learning rate or number of steps too small for these data",
        "raise training.lr, model.d_model or training.steps",
        1_000_000_000,
    ),
    "memory_growth": Kind(
        "warning",
        "something is kept at every step: tensors with their graph, a list that grows, a cache without a bound",
        "keep numbers (.item()) instead of tensors; look for lists that grow with the steps",
        1000,
    ),
    "throughput_drop": Kind(
        "warning",
        "another process on the machine, a hot processor, or slow data",
        "see what else runs (spectral's system/ metrics), and where the time goes (the profiler's report)",
        500,
    ),
    "mode_collapse": Kind(
        "warning",
        "the model repeats itself: too high a learning rate, too little data, or a broken loss",
        "read the samples; go back to an earlier checkpoint, lower training.lr",
        1000,
    ),
}  # fmt: skip

# An alert of a kind is a consequence, and not told, where it began within so many steps after one of another kind did.
CONSEQUENCES: dict[str, dict[str, int]] = {
    "loss_spike": {"gradient_explosion": 5, "learning_rate": 200, "non_finite": 10, "divergence": 20},
    "divergence": {"learning_rate": 20},
    "gradient_explosion": {"learning_rate": 200, "loss_spike": 5, "divergence": 100, "non_finite": 10},
    "gradient_vanishing": {"learning_rate": 200, "divergence": 200, "plateau": 100},
    "oscillation": {"learning_rate": 200},
    "plateau": {"learning_rate": 200, "divergence": 200},
    "underfitting": {"learning_rate": 10_000, "divergence": 10_000, "plateau": 10_000, "gradient_vanishing": 10_000,
                     "gradient_explosion": 10_000, "oscillation": 10_000},
    "overfitting": {"divergence": 1000},
    "mode_collapse": {"divergence": 200},
}  # fmt: skip
