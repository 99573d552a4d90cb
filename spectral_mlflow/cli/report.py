"""What is said at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from spectral_mlflow.cli.parser import printable

if TYPE_CHECKING:  # torch takes seconds to import, which a mistake or a help text need not.
    from spectral_mlflow.training.runner import Finished


def report(finished: Finished) -> int:
    """Print how a run ended, what came of it and where it is; returns the exit code."""
    console = Console(highlight=False, soft_wrap=True)
    results = finished.results
    console.print()
    if finished.sample:
        console.rule("sample", style="dim", align="left")
        print(printable(finished.sample))
        console.rule(style="dim")
    console.print(
        f"status           {finished.outcome.status}"
        + (f" ({finished.outcome.reason})" if finished.outcome.reason else ""),
        markup=False,
    )
    best = f"(best {results['best_val_loss']:.4f} at step {results['best_step']})"
    loss = f"{results['val_loss']:.4f} nats a token {best}" if results["best_step"] else "not measured"
    speed = f"{results['tokens_per_second']:,.0f} tokens/s, {results['total_time_seconds']:.0f} s"
    console.print(f"validation loss  {loss}")
    console.print(f"speed            {speed}")
    console.print(f"run directory    {finished.run_dir}", markup=False)
    _report_store(console, finished.store, finished.store_complete, finished.run_dir)
    for alert in dict.fromkeys(finished.alerts):
        console.print(f"alert            {alert}", markup=False)
    if finished.outcome.status == "killed":
        console.print(f"continue with    spectral resume {finished.run_dir.name}", markup=False)
    return finished.outcome.exit_code


def _report_store(console: Console, store: dict[str, object], complete: bool, run_dir: Path) -> None:
    if store.get("run_id"):
        uri = str(store["tracking_uri"])
        console.print(f"MLflow run       {store['run_id']}", markup=False)
        look = f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"
        console.print(f"look at it       {look}", markup=False)
    if any((run_dir / "tensorboard").glob("*tfevents*")):
        console.print(f"look at it       tensorboard --logdir {run_dir.parent}", markup=False)
    for folder in sorted((run_dir / "wandb").glob("offline-run-*")):
        console.print(f"send it to W&B   wandb sync {folder}", markup=False)
    if not complete:
        log = run_dir / "logs" / "companion.log"  # None where no store has its package.
        why = " (why: logs/companion.log)" if log.exists() else ""
        console.print(f"the store is behind; catch up with: spectral sync {run_dir.name}{why}", markup=False)
