"""Each piece of a checkpoint is needed: the run that goes on without it refuses, or is another run."""

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import TINY, write_corpus
from torch.optim.lr_scheduler import LambdaLR

from spectral_mlflow import journal
from spectral_mlflow.config import ExperimentConfig
from spectral_mlflow.data import dataset as datasets
from spectral_mlflow.data.dataset import Dataset
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.anomalies import Anomalies
from spectral_mlflow.monitoring.progress import Progress
from spectral_mlflow.monitoring.tracker import ExperimentTracker
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner
from spectral_mlflow.training.continuation import MAY_CHANGE, warn_of_another_machine
from spectral_mlflow.training.devices import Machine
from spectral_mlflow.training.fit import check_settings
from spectral_mlflow.training.gallery import Gallery
from spectral_mlflow.training.learner import Learner
from spectral_mlflow.training.loop import Trainer
from spectral_mlflow.training.signals import StopSignals
from spectral_mlflow.training.speed import Speed
from spectral_mlflow.training.state import TrainState, pieces
from spectral_mlflow.training.step import StepResult
from spectral_mlflow.training.watching import Watching, attach

CUT, END = 4, 14
MACHINE = Machine(torch.device("cpu"))

# Everything has an effect here: dropout draws, a monitor draws from every other generator, QFE projects.
SETTINGS = TINY | {
    "model.dropout": "0.2", "training.loss": "QFE", "dataset.tokenizer": "bpe", "dataset.bpe_vocab_size": "300",
    "steps": "100", "monitoring.eval_interval": "2", "monitoring.checkpoint_interval": str(CUT),
    "monitoring.keep_last_n": "9", "training.max_skipped": "3",
}  # fmt: skip


NEW_ANOMALIES = Anomalies(100).state_dict()


class Draws:
    """A monitor that draws a number from every generator and remembers their sum."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.sum = 0.0

    def look(self) -> None:
        """Draw."""
        self.sum += random.random() + np.random.random() + torch.rand((), generator=self.generator).item()

    def state_dict(self) -> dict[str, Any]:
        """The sum."""
        return {"sum": self.sum}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the sum."""
        self.sum = state["sum"]


class Watched(Trainer):
    """The training loop with that monitor and a scheduler in it, up to a step."""

    def count(self, result: StepResult) -> None:
        """Have them take part in the step."""
        super().count(result)
        self.state.monitors["draws"].look()  # type: ignore[attr-defined]
        self.state.scheduler.step()  # type: ignore[union-attr]

    def save(self, metrics: dict[str, float], *, best: bool = False) -> None:
        """At the cut the run has been through something."""
        if self.state.step == CUT:
            state = self.state
            state.best_val_loss, state.best_step, state.evaluations_without_best = 0.25, 1, 1
            state.skipped, state.skipped_in_a_row, state.seconds = 2, 2, 1e6
            state.lr_scale, state.rollbacks = 0.5, 1
            state.rolled_back_at, state.restored_step = 3, 2
        super().save(metrics, best=best)

    def stop_reason(self, *, evaluated: bool) -> str | None:
        """The end."""
        return "enough" if self.state.step >= END else super().stop_reason(evaluated=evaluated)


def new_state(config: ExperimentConfig, dataset: Dataset) -> tuple[TrainState, Watching]:
    """The state of a run before its first step, with all that a run can have, and what watches it."""
    for seed in (random.seed, np.random.seed):
        seed(0)
    state = runner.new_state(config, dataset, MACHINE)
    own = torch.Generator().manual_seed(1)
    state.generators["own"], state.monitors["draws"] = own, Draws(own)
    state.scheduler = LambdaLR(state.optimizer, lambda _: 1.0)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=64.0, growth_interval=3)
    return state, attach(config, dataset, state, MACHINE)


def everything(state: TrainState) -> dict[str, Any]:
    """What a run has become, as far as it must repeat."""
    assert state.scheduler is not None
    extra = copy.deepcopy(state.extra())
    extra["counters"]["seconds"] = extra["counters"]["seconds"] > 1e5  # More than the steps of the test take.
    for measured in ("memory", "throughput"):  # The machine's, not the run's.
        extra["monitors"]["anomalies"]["detectors"].pop(measured)
    return {
        "step": state.step, "loss_history": state.loss_history,
        "model_state_dict": state.model.state_dict(), "optimizer_state_dict": state.optimizer.state_dict(),
        "scheduler_state_dict": state.scheduler.state_dict() | {"lr_lambdas": None}, "state": extra,
    }  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equality to the last bit, at any depth."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return bool(np.array_equal(np.asarray(one), np.asarray(other)))
    return bool(one == other)


class Bench:
    """An uninterrupted run with its checkpoint of the cut, and ways to go on from there."""

    def __init__(self, home: Path) -> None:
        self.config = build({**SETTINGS, "dataset.path": str(write_corpus(home / "corpus.txt", 3000)),
                             "monitoring.experiments_dir": str(home)})  # fmt: skip
        self.dataset = datasets.prepare(self.config.dataset, self.config.model.block_size)
        state, watching = new_state(self.config, self.dataset)
        tracker = self._train(state, watching)
        self.whole = everything(state)
        saved = tracker.checkpoints.load_checkpoint(str(tracker.run_dir / "checkpoints" / f"checkpoint_step_{CUT}.pt"))
        assert saved is not None
        self._saved = saved

    def checkpoint(self) -> dict[str, Any]:
        """The content of the checkpoint, to be spoiled."""
        return copy.deepcopy(self._saved)

    def go_on(self, checkpoint: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """What the run becomes from a checkpoint on, and the alerts before its first step.

        Raises:
            UserError: it refuses.
        """
        check_settings(checkpoint, self.config, MAY_CHANGE)
        state, watching = new_state(self.config, self.dataset)
        anew = state.restore(checkpoint)
        tracker = self._train(state, watching, checkpoint)
        alerts = [event["message"] for event in journal.records(tracker.run_dir / "logs" / "events.jsonl")
                  if event["event"] == "alert" and event["kind"] == "resume"]  # fmt: skip
        return everything(state), [*anew, *alerts]

    def _train(
        self, state: TrainState, watching: Watching, checkpoint: dict[str, Any] | None = None
    ) -> ExperimentTracker:
        kept = torch.get_rng_state()
        tracker = ExperimentTracker(self.config)
        if checkpoint:
            warn_of_another_machine(tracker, checkpoint, {}, MACHINE)
        torch.set_rng_state(kept)
        with Progress(END) as progress, watching.watch(tracker, progress) as watch:
            learner = Learner(self.config, self.dataset, state, MACHINE, Speed(1.0, 1.0))
            gallery = Gallery(self.config, self.dataset, state, watch, None)
            Watched(self.config, learner, watch, gallery).run(StopSignals())
        tracker.end_experiment()
        tracker.close()
        return tracker


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One run for all tests."""
    return Bench(tmp_path_factory.mktemp("pieces"))


def put(place: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change that gives a piece another value: that of a new run, where this makes a difference."""

    def change(checkpoint: dict[str, Any]) -> None:
        *rooms, leaf = place.split(".")
        for room in rooms:
            checkpoint = checkpoint[room]
        checkpoint[leaf] = value(checkpoint[leaf]) if callable(value) else value

    return change


def with_nan(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint of a run that no longer finds a finite gradient."""
    for tensor in checkpoint["model_state_dict"].values():
        tensor.fill_(float("nan"))
    return checkpoint


def zeros(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same tensors, empty."""
    return {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}


def fresh_numpy(_: Any) -> dict[str, Any]:
    """The state of a new generator, as checkpoints have it."""
    state = dict(np.random.RandomState(0).get_state(legacy=False))
    return {**state, "state": {**state["state"], "key": torch.from_numpy(state["state"]["key"].astype(np.int64))}}


# What a run goes on from, and a change of each piece. Whoever adds a piece adds its change.
CHANGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "step": put("step", CUT - 1),
    "model_state_dict": put("model_state_dict", zeros),
    "optimizer_state_dict": put("optimizer_state_dict", lambda saved: {**saved, "state": {}}),
    "scheduler_state_dict": put("scheduler_state_dict.last_epoch", 0),
    "loss_history": put("loss_history", []),
    "config": put("config.training.lr", 0.5),
    "state.counters": put("state.counters", lambda saved: dict.fromkeys(saved, 0)),
    "state.counters.best_val_loss": put("state.counters.best_val_loss", float("inf")),
    "state.counters.best_step": put("state.counters.best_step", 0),
    "state.counters.evaluations_without_best": put("state.counters.evaluations_without_best", 0),
    "state.counters.skipped_in_a_row": put("state.counters.skipped_in_a_row", 0),
    "state.counters.skipped": put("state.counters.skipped", 0),
    "state.counters.seconds": put("state.counters.seconds", 0.0),
    "state.counters.lr_scale": put("state.counters.lr_scale", 1.0),
    "state.counters.rollbacks": put("state.counters.rollbacks", 0),
    "state.counters.rolled_back_at": put("state.counters.rolled_back_at", 0),
    "state.counters.restored_step": put("state.counters.restored_step", 0),
    "state.data": put("state.data", {}),
    "state.data.seed": put("state.data.seed", 1),
    "state.data.step": put("state.data.step", 0),
    "state.loss_state_dict": put("state.loss_state_dict", zeros),
    "state.scaler": put("state.scaler", {}),
    "state.monitors": put("state.monitors", {}),
    "state.monitors.draws": put("state.monitors.draws", {"sum": 0.0}),
    "state.monitors.usage": put("state.monitors.usage.counts.tokens", 0),
    "state.monitors.epochs": put("state.monitors.epochs", {}),
    "state.monitors.anomalies": put("state.monitors.anomalies", NEW_ANOMALIES),
    "state.generators": put("state.generators.own", lambda _: torch.Generator().get_state()),
    "state.generators.own": put("state.generators.own", lambda _: torch.Generator().manual_seed(1).get_state()),
    "state.random": put("state.random.torch", lambda _: torch.Generator().get_state()),
    "state.random.python": put("state.random.python", lambda _: random.Random(0).getstate()),
    "state.random.numpy": put("state.random.numpy", fresh_numpy),
    "state.random.torch": put("state.random.torch", lambda _: torch.Generator().manual_seed(0).get_state()),
    "state.threads": put("state.threads", 64),
}  # fmt: skip

# What people want to know of a checkpoint, and no run goes on from.
TOLD = {"timestamp", "git_hash", "metrics"}
DEVICES = {"state.random.cuda", "state.random.mps"}


def test_every_piece_has_a_test(bench: Bench) -> None:
    """A checkpoint of a run that has everything is made of the pieces below, and of no other."""
    assert set(pieces(bench.checkpoint())) - DEVICES == set(CHANGES) | TOLD


def test_with_every_piece_it_is_the_same_run(bench: Bench) -> None:
    """Ten steps after the cut, everything is equal to the last bit, and nobody is warned of anything."""
    became, alerts = bench.go_on(bench.checkpoint())
    assert [name for name in became if not same(became[name], bench.whole[name])] == []
    assert alerts == []


@pytest.mark.parametrize("piece", [piece for piece in CHANGES if piece != "config"])
def test_a_piece_that_is_gone_is_missed_by_name(bench: Bench, piece: str) -> None:
    """The run refuses in one line, or, where a run may begin without, says what begins anew and becomes another."""
    checkpoint = bench.checkpoint()
    *rooms, leaf = piece.split(".")
    room = checkpoint
    for name in rooms:
        room = room[name]
    del room[leaf]
    if piece.startswith("state.monitors."):
        became, alerts = bench.go_on(checkpoint)
        assert (alerts, same(became, bench.whole)) == ([leaf], False)
        return
    with pytest.raises(UserError) as refused:
        bench.go_on(checkpoint)
    assert f"lacks {piece}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("piece", CHANGES)
def test_a_piece_that_was_reset_is_noticed(bench: Bench, piece: str) -> None:
    """The run refuses, warns, or ten steps later is another run."""
    before = with_nan(bench.checkpoint()) if piece.endswith("in_a_row") else bench.checkpoint()
    expected = bench.go_on(copy.deepcopy(before))[0] if piece.endswith("in_a_row") else bench.whole
    CHANGES[piece](before)
    if piece in ("step", "config", "state.data", "state.data.seed", "state.data.step"):
        with pytest.raises(
            UserError, match=r"^the checkpoint of step \d+ (has its data at|is of another|lacks)[^\n]*$"
        ):
            bench.go_on(before)
        return
    became, alerts = bench.go_on(before)
    assert bool(alerts) == (piece in ("state.threads", "state.monitors"))
    assert alerts or not same(became, expected)


def test_a_monitor_that_is_new_begins_anew(bench: Bench) -> None:
    """A run may be watched by one monitor more than before: it is told which one knows nothing of the past."""
    state, _ = new_state(bench.config, bench.dataset)
    state.monitors["second"] = Draws(torch.Generator())
    assert state.restore(bench.checkpoint()) == ["second"]


def test_a_checkpoint_of_another_model_is_refused_by_its_tensors(bench: Bench) -> None:
    """The line names tensors and both shapes, and how many more there are; nothing has changed by then."""
    wider = replace(bench.config, model=replace(bench.config.model, d_model=32))
    state, _ = new_state(wider, bench.dataset)
    before = copy.deepcopy(state.model.state_dict())
    with pytest.raises(UserError, match=r"model_state_dict of the checkpoint.* \(.*16.*\) instead of \(.*32.*more"):
        state.restore(bench.checkpoint())
    assert same(before, state.model.state_dict())
    two = replace(bench.config, training=replace(bench.config.training, weight_decay=0.0))
    state, _ = new_state(two, bench.dataset)
    state.optimizer.param_groups[:] = state.optimizer.param_groups[:1]
    with pytest.raises(UserError, match="that of another optimizer"):
        state.restore(bench.checkpoint())
