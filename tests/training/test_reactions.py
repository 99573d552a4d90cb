"""What training does about an anomaly: it stops or goes back to good weights, and is the same run when resumed."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from spectral_mlflow.losses import build_loss
from spectral_mlflow.models import gpt
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.monitor import Alert, StepRecord
from spectral_mlflow.optim import build_optimizer
from spectral_mlflow.settings import build
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.reactions import MONITOR, MOST_ROLLBACKS, SOUND, Reactions
from spectral_mlflow.training.state import TrainState
from spectral_mlflow.training.step import optimizer_step

CPU = Machine(torch.device("cpu"))
SIZES = {"model": "standard", "model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2",
         "model.block_size": "8"}  # fmt: skip
TOLD = {
    request: Alert("divergence", "critical", "loss rose", since=6, request=request)
    for request in ("skip", "stop", "rollback")
}


class Run:
    """A small model, four checkpoints of its first eight steps, and what reacts."""

    def __init__(self, folder: Path, on_anomaly: str, **more: str) -> None:
        config = build(SIZES | ({} if on_anomaly == "none" else {"training.on_anomaly": on_anomaly}) | more)
        torch.manual_seed(0)
        model = gpt.build(config.model, 7, 0)
        self.state = TrainState(model, build_optimizer(model, config.training), build_loss(config.training, 7))
        self.state.scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
        self.state.monitors[MONITOR] = Anomalies(100)
        self.checkpoints = CheckpointManager(str(folder), keep_last_n=99)
        self.saved: dict[int, dict[str, Any]] = {}
        self.reactions = Reactions(config.training, self.state, self.checkpoints)

    def steps(self, count: int) -> None:
        """Train, with a checkpoint at every second step."""
        state = self.state
        for _ in range(count):
            state.step += 1
            tokens = torch.randint(7, (4, 9), generator=torch.Generator().manual_seed(state.step))
            result = optimizer_step(state, CPU, state.model, tokens[:, :-1], tokens[:, 1:])
            state.loss_history.append(result.loss)
            state.monitors[MONITOR].observe(StepRecord(state.step, {"loss": result.loss}, 0.1))  # type: ignore[attr-defined]
            if state.step % 2 == 0:
                self.save()

    def save(self) -> None:
        """A checkpoint, as the loop saves it."""
        state = self.state
        self.saved[state.step] = copy.deepcopy(weights(state))
        self.checkpoints.save_checkpoint(
            state.step, state.model, state.optimizer, state.loss_history, {}, state=state.extra()
        )


def weights(state: TrainState) -> dict[str, Any]:
    """What a rollback restores."""
    return {
        "model": state.model.state_dict(), "optimizer": state.optimizer.state_dict()["state"],
        "scaler": state.scaler.state_dict(), "usual": state.monitors[MONITOR].state_dict(),
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run of eight steps that rolls back."""
    run = Run(tmp_path, "rollback", **{"training.rollback_lr": "0.25"})
    run.steps(8)
    return run


@pytest.mark.parametrize(
    ("on_anomaly", "request_", "stops", "restored"),
    [
        ("none", "skip", None, None), ("none", "stop", None, None), ("none", "rollback", None, None),
        ("skip", "skip", None, None), ("skip", "stop", None, None), ("skip", "rollback", None, None),
        ("stop", "skip", True, None), ("stop", "stop", True, None), ("stop", "rollback", True, None),
        ("rollback", "skip", None, None), ("rollback", "stop", True, None), ("rollback", "rollback", False, 4),
    ],
)  # fmt: skip
def test_what_follows_from_what(
    tmp_path: Path, on_anomaly: str, request_: str, stops: bool | None, restored: int | None
) -> None:
    """Each setting with each request: nothing, a stop, or the newest checkpoint before the anomaly."""
    run = Run(tmp_path, on_anomaly)
    run.steps(8)
    reaction = run.reactions.react([TOLD[request_]])
    found = (reaction.stop, reaction.restored) if reaction else (None, None)
    assert found == (stops, restored)


@pytest.mark.parametrize("alert", [
    Alert("plateau", "warning", "flat", since=5), Alert("loss_spike", "warning", "high", since=5, request="rollback"),
    Alert("divergence", "critical", "high", since=5),
])  # fmt: skip
def test_only_grave_alerts_with_a_request_count(run: Run, alert: Alert) -> None:
    """A warning, or an alert that asks for nothing, changes nothing."""
    before = copy.deepcopy(weights(run.state))
    assert run.reactions.react([alert]) is None
    assert str(before) == str(weights(run.state))


def test_a_rollback_restores_what_learns_and_what_is_usual(run: Run) -> None:
    """Model, optimizer, scaler and detectors are those of step 4; all that counts goes on counting."""
    history = list(run.state.loss_history)
    run.state.skipped, run.state.seconds, run.state.best_val_loss = 3, 7.5, 1.25
    reaction = run.reactions.react([TOLD["rollback"]])
    assert reaction is not None
    assert reaction.restored == 4
    assert str(weights(run.state)) == str(run.saved[4])
    assert run.state.loss_history == history
    state = run.state
    assert (state.step, state.skipped, state.seconds, state.best_val_loss) == (8, 3, 7.5, 1.25)
    assert (state.lr_scale, state.rollbacks) == (0.25, 1)
    assert "step 4" in reaction.message
    assert "0.25" in reaction.message


def test_each_rollback_lowers_the_learning_rate_further(run: Run) -> None:
    """The factor multiplies, and after a sound stretch the newest checkpoint is good again."""
    run.reactions.react([TOLD["rollback"]])
    run.save()
    run.steps(SOUND + 3)
    reaction = run.reactions.react([Alert("divergence", "fatal", "again", since=SOUND + 10, request="rollback")])
    assert reaction is not None
    assert reaction.restored == SOUND + 8
    assert str(weights(run.state)) == str(run.saved[SOUND + 8])
    assert (run.state.lr_scale, run.state.rollbacks) == (0.0625, 2)


def test_a_run_that_rolled_back_is_the_same_run_when_resumed(run: Run, tmp_path: Path) -> None:
    """From the checkpoint after the rollback, another process arrives at the same weights, losses and counters."""
    run.reactions.react([TOLD["rollback"]])
    run.save()
    run.steps(3)
    other = Run(tmp_path, "rollback", **{"training.rollback_lr": "0.25"})
    saved = other.checkpoints.load_checkpoint(str(other.checkpoints.directory / "checkpoint_step_8.pt"))
    assert other.state.restore(saved) == []
    other.steps(3)
    assert str(weights(other.state)) == str(weights(run.state))
    assert other.state.loss_history == run.state.loss_history
    assert (other.state.lr_scale, other.state.rollbacks) == (0.25, 1)


def test_a_damaged_checkpoint_is_passed_over(run: Run) -> None:
    """The one before it is gone back to."""
    path = run.checkpoints.directory / "checkpoint_step_4.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    reaction = run.reactions.react([TOLD["rollback"]])
    assert reaction is not None
    assert reaction.restored == 2


def test_without_an_earlier_checkpoint_training_goes_on(run: Run) -> None:
    """Which is told; nothing is changed."""
    before = str(weights(run.state))
    reaction = run.reactions.react([Alert("divergence", "critical", "at once", since=2, request="rollback")])
    assert reaction is not None
    assert (reaction.stop, reaction.restored) == (False, None)
    assert "no checkpoint before it" in reaction.message
    assert str(weights(run.state)) == before
    assert (run.state.lr_scale, run.state.rollbacks) == (1.0, 0)


def test_there_is_an_end_to_rollbacks(run: Run) -> None:
    """A run that needs too many of them stops, also where they do not lower the learning rate."""
    run.state.rollbacks = MOST_ROLLBACKS
    reaction = run.reactions.react([TOLD["rollback"]])
    assert reaction is not None
    assert reaction.stop


def test_what_ends_the_run_comes_first(run: Run) -> None:
    """Of two alerts of a step, the one that only a person can help with decides."""
    reaction = run.reactions.react([TOLD["rollback"], TOLD["stop"]])
    assert reaction is not None
    assert reaction.stop
    assert run.state.rollbacks == 0


def test_the_learning_rate_of_a_message_is_a_number(run: Run) -> None:
    """A factor is finite and above zero after the most rollbacks of the strongest kind."""
    for _ in range(MOST_ROLLBACKS):
        run.reactions.react([TOLD["rollback"]])
    assert math.isfinite(run.state.lr_scale)
    assert run.state.lr_scale > 0


def rolled_back_to(run: Run, since: int) -> int | None:
    """The step of the weights that the run has after an alert; it saves them, as the loop does."""
    reaction = run.reactions.react([Alert("divergence", "critical", "high", since=since, request="rollback")])
    assert reaction is not None
    run.save()
    return reaction.restored


def test_the_checkpoint_of_the_step_before_may_be_spoilt(run: Run) -> None:
    """The update of step 4 is seen in the loss of step 5."""
    assert rolled_back_to(run, 5) == 2


def test_trouble_that_comes_again_goes_further_back(run: Run) -> None:
    """Not to what was saved since, which are the same weights; and where nothing is left, the same once more."""
    assert rolled_back_to(run, 8) == 6
    run.steps(2)
    assert rolled_back_to(run, 10) == 4
    run.steps(2)
    assert rolled_back_to(run, 12) == 2
    run.steps(2)
    assert rolled_back_to(run, 14) == 12  # Saved by the rollback: the weights of step 2.


def test_what_was_saved_between_is_never_gone_back_to(run: Run) -> None:
    """Weights of a time that turned out bad stay out of it, also when the rollback's own checkpoint is gone."""
    assert rolled_back_to(run, 6) == 4
    (run.checkpoints.directory / "checkpoint_step_8.pt").unlink()
    run.state.step = 200
    assert rolled_back_to(run, 200) == 4


def test_a_checkpoint_with_non_finite_weights_is_passed_over(run: Run) -> None:
    """Whatever step it is of."""
    good = copy.deepcopy(run.state.model.state_dict())
    next(run.state.model.parameters()).data[0] = math.nan
    run.state.step = 10
    run.save()
    run.state.model.load_state_dict(good)
    assert rolled_back_to(run, 14) == 8


def test_a_rollback_forgets_the_best_that_nobody_saved(run: Run) -> None:
    """And counts steps without an update anew."""
    state = run.state
    run.checkpoints.save_checkpoint(
        6, state.model, state.optimizer, [], {}, state=state.extra(), metrics={"val_loss": 2.5}, best=True
    )
    state.best_val_loss, state.best_step, state.skipped_in_a_row = 1.5, 8, 4
    assert rolled_back_to(run, 6) == 4
    assert (state.best_val_loss, state.best_step, state.skipped_in_a_row) == (2.5, 6, 0)


def test_a_rollback_repeats_no_alert_that_it_is_no_answer_to(run: Run) -> None:
    """Underfitting is told once in a run."""
    flat = [StepRecord(step, {"loss": 2.0}, 0.1) for step in range(9, 120)]
    anomalies = run.state.monitors[MONITOR]
    assert isinstance(anomalies, Anomalies)
    told = [alert.kind for record in flat for alert in anomalies.observe(record).alerts]
    assert told == ["underfitting"]
    run.state.step = 119
    assert rolled_back_to(run, 8) == 6
    later = [StepRecord(step, {"loss": 2.0}, 0.1) for step in range(120, 240)]
    assert not [alert for record in later for alert in anomalies.observe(record).alerts]
