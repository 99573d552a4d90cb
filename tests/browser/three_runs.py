"""Three runs as a user has them, by the product alone: ``python three_runs.py MARKUP``.

One is finished, one has failed, and one goes on from when this program says so until its input ends. The failed one,
a loop of somebody's own, has MARKUP in all that a user or a model can put text into, and a PDF among its files.
"""

import random
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import nn

from spectral_mlflow import track
from spectral_mlflow.plots.style import save
from spectral_mlflow.plots.training import loss_curve
from spectral_mlflow.settings import build
from spectral_mlflow.training import runner
from spectral_mlflow.training.own_loop import OwnLoop

SMALL = {
    "model.d_model": "16", "model.num_layers": "1", "model.num_heads": "2", "model.block_size": "16",
    "batch_size": "4", "steps": "30", "training.warmup_steps": "2", "dataset": "text",
    "monitoring.eval_interval": "15", "monitoring.viz_interval": "30", "monitoring.sample_tokens": "40",
    "monitoring.code_snapshot": "false", "runtime.threads": "1",
}  # fmt: skip


class Defect(Exception):  # noqa: N818 - what a program of somebody else may raise
    """In the loop of a user."""


def finished() -> None:
    """A wave model, trained to its last step."""
    generator = random.Random(0)
    corpus = Path("corpus.txt")
    corpus.write_text(" ".join(generator.choice(["wave", "phase", "beat", "tone"]) for _ in range(600)))
    runner.start(build({**SMALL, "name": "finished", "model": "wave", "dataset.path": str(corpus)}))


def own_loop(name: str, text: str) -> OwnLoop:
    """A line through four points, fitted by somebody's own loop."""
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    monitoring = {"code_snapshot": False, "viz_interval": 0}
    return track(name, model=model, optimizer=optimizer, steps=5, settings={"note": text}, monitoring=monitoring)


def fit(run: OwnLoop) -> None:
    """A step of it."""
    inputs = torch.arange(4.0)[:, None]
    run.update((run.state.model(inputs) - 2 * inputs).square().mean())


def failed(text: str) -> None:
    """A loop with a defect in its third step."""
    with suppress(Defect), own_loop("failed", text) as run:
        for step in run.steps():
            fit(run)
            run.sample(text)
            if step == 3:
                report = run.tracker.run_dir / "artifacts" / "report.pdf"
                report.parent.mkdir(exist_ok=True)
                run.tracker.add_artifact(save(loss_curve(range(5), [5, 4, 3, 2, 1]), report), "report", step)
                raise Defect(text)


def held() -> None:
    """A loop that waits in its second step for whoever has started it."""
    with own_loop("held", "held") as run:
        for step in run.steps():
            fit(run)
            if step == 2:
                print("three runs", flush=True)
                sys.stdin.read()


if __name__ == "__main__":
    finished()
    failed(sys.argv[1])
    held()
