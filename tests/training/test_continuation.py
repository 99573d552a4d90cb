"""Which run goes on, and what would make it another one."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring.checkpoints import CheckpointManager
from spectral_mlflow.monitoring.configs import ConfigTracker
from spectral_mlflow.monitoring.run_lock import run_lock
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner
from spectral_mlflow.training.continuation import NoCheckpointError, unfinished
from spectral_mlflow.training.sampling import best


def end(run: Path, event: str, **fields: Any) -> None:
    """Append an event to a run."""
    events = journal.Journal(run / "logs" / "events.jsonl")
    events.append({"event": event, "timestamp": journal.now(), **fields})
    events.close()


def test_the_newest_unfinished_run_of_the_same_settings(trained: Path) -> None:
    """Neither one that is done, nor one that goes on, nor one of other settings or of another name."""
    asked = ConfigTracker(str(trained)).load_settings()
    asked = replace(asked, monitoring=replace(asked.monitoring, experiments_dir="experiments", log_interval=7))
    assert unfinished(asked) is None
    older = Path(shutil.copytree(trained, trained.with_name("a"), symlinks=True))
    newer = Path(shutil.copytree(trained, trained.with_name("b"), symlinks=True))
    for run in (older, newer):
        end(run, "end", status="KILLED")
    assert unfinished(asked) == newer
    with run_lock(newer):
        assert unfinished(asked) == older
    for other in (replace(asked, training=replace(asked.training, lr=0.1)), replace(asked, name="another")):
        assert unfinished(other) is None
    longer = replace(asked, training=replace(asked.training, steps=12))
    assert unfinished(longer) is None
    end(older, "resume", settings={"training.steps": 12})
    assert unfinished(longer) == older
    (newer / "config.json").write_text("{}")
    assert unfinished(asked) == older
    end(older, "end", status="FINISHED")
    assert unfinished(longer) is None


def test_what_a_run_finds_out_for_itself_need_not_be_known(tmp_path: Path) -> None:
    """Asked for by `auto`, the corpus that it meant is the same; so is the batch size that was found."""
    asked = build({"steps": "3", "training.auto_batch_size": "true"})
    known = replace(
        asked,
        dataset=replace(asked.dataset, name="python-docs"),
        training=replace(asked.training, batch_size=64),
    )
    run = tmp_path / "experiments" / "wave_1"
    (run / "logs").mkdir(parents=True)
    (run / "logs" / "events.jsonl").touch()
    ConfigTracker(str(run)).save_config(known)
    assert unfinished(asked) == run


def spoil(run: Path, *, d_model: int) -> None:
    """Give the run a newer checkpoint of a model of another width, with settings that say so."""
    manager = CheckpointManager(str(run))
    content = manager.load_latest_checkpoint()
    assert content is not None
    settings = content["config"]
    settings["model"]["d_model"] = d_model
    wider = torch.nn.Linear(d_model, 3)
    manager.save_checkpoint(
        8, wider, torch.optim.SGD(wider.parameters()), content["loss_history"], settings,
        state=content["state"], metrics={"val_loss": 0.0}, best=True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("width", "words"),
    [
        (32, r"of step 8 is of another configuration: model.d_model \(checkpoint 32, run 16\)"),
        (16, r"model_state_dict of the checkpoint is that of another model: .* instead of .*, and \d+ more"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_its_differences(trained: Path, width: int, words: str) -> None:
    """Settings first, tensors where the settings agree; to continue and to write text alike, in one line."""
    spoil(trained, d_model=width)
    for refused in (lambda: runner.resume(trained, {"steps": "12"}), lambda: best(trained)):
        with pytest.raises(UserError, match=words) as failure:
            refused()
        assert "\n" not in str(failure.value)
    lines = journal.records(trained / "logs" / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 9))


def test_a_run_keeps_its_tokenizer(trained: Path) -> None:
    """Another one in the run directory, or none, is refused by its name before the run is touched."""
    events = (trained / "logs" / "events.jsonl").read_bytes()
    path = trained / "tokenizer.json"
    path.write_text(path.read_text().replace("abehnop", "abehnopq"))
    with pytest.raises(UserError, match=r"tokenizer.json is not the tokenizer that the run was trained with"):
        runner.resume(trained, {"steps": "12"})
    path.unlink()
    with pytest.raises(UserError, match=r"tokenizer.json"):
        runner.resume(trained, {"steps": "12"})
    assert (trained / "logs" / "events.jsonl").read_bytes() == events


def test_all_checkpoints_gone(trained: Path) -> None:
    """There is a name for this mistake, so that a run may be started anew instead."""
    shutil.rmtree(trained / "checkpoints")
    with pytest.raises(NoCheckpointError, match="no whole checkpoint"):
        runner.resume(trained, {"steps": "12"})
