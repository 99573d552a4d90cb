"""How far the cells of a study are: a live grid on a terminal, a line for each cell that ends elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from spectral_mlflow import journal
from spectral_mlflow.analysis.campaign import Campaign, Status, Watch
from spectral_mlflow.analysis.cells import Cell, find
from spectral_mlflow.cli.parser import base
from spectral_mlflow.monitoring.json_text import decode
from spectral_mlflow.monitoring.structured_log import duration

LIVE_SECONDS = 1.0
ELSEWHERE = "trained by another process, such as one that an earlier call has left"


@contextmanager
def shown(campaign: Campaign, jobs: int) -> Iterator[Watch]:
    """What shows how far the trainings are, on stderr."""
    console = Console(stderr=True)
    progress = _Progress(campaign.statuses, jobs)
    if not console.is_terminal:
        print(f"{progress.left()} of {len(campaign.statuses)} runs to train, {jobs} at a time",
              file=sys.stderr, flush=True)  # fmt: skip
        yield progress.lines
        return
    with Live(progress.grid(campaign.statuses), console=console, auto_refresh=False, transient=False) as live:
        yield progress.at_most_every(LIVE_SECONDS, lambda statuses: live.update(progress.grid(statuses), refresh=True))


class _Progress:
    def __init__(self, statuses: Mapping[Cell, Status], jobs: int) -> None:
        self._jobs = jobs
        self._ended = {cell for cell, status in statuses.items() if status.state == "finished"}
        self._statuses = statuses
        self._seconds: list[float] = []
        self._elsewhere: set[Cell] = set()

    def left(self) -> int:
        """Cells that are still to be trained."""
        return sum(status.state != "finished" for status in self._statuses.values())

    def lines(self, statuses: Mapping[Cell, Status]) -> None:
        """A line for each cell that has ended since the last call, or that somebody else has begun."""
        for cell in self._newly_elsewhere(statuses):
            print(f"{cell.study}: {cell}: {ELSEWHERE}; waiting for its end", file=sys.stderr, flush=True)
        for cell in self._newly_ended(statuses):
            status = statuses[cell]
            print(
                f"[{len(self._ended)}/{len(statuses)}] {cell.study}: {cell}: {_outcome(status)} "
                f"({duration(status.seconds) if status.seconds else 'elsewhere'}{self._to_go(statuses)})",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    def at_most_every(self, seconds: float, show: Watch) -> Watch:
        """Calls it when a cell has ended, and now and then."""
        shown_at = 0.0

        def watch(statuses: Mapping[Cell, Status]) -> None:
            nonlocal shown_at
            ended = self._newly_ended(statuses)
            if ended or time.monotonic() - shown_at >= seconds:
                shown_at = time.monotonic()
                show(statuses)

        return watch

    def grid(self, statuses: Mapping[Cell, Status]) -> RenderableType:
        """A table of each study: a row for each cell, a column for each seed."""
        tables = [_table(study, statuses) for study in dict.fromkeys(cell.study for cell in statuses)]
        done = sum(status.state == "finished" for status in statuses.values())
        lines = [Text(f"{done} of {len(statuses)} runs finished{self._to_go(statuses)}", style="bold")]
        if elsewhere := sum(status.state == "elsewhere" for status in statuses.values()):
            lines.append(Text(f"{elsewhere} {ELSEWHERE} (in yellow)", style="yellow"))
        return Group(*tables, *lines)

    def _newly_elsewhere(self, statuses: Mapping[Cell, Status]) -> list[Cell]:
        new = [cell for cell, status in statuses.items() if status.state == "elsewhere" and cell not in self._elsewhere]
        self._elsewhere |= set(new)
        return new

    def _newly_ended(self, statuses: Mapping[Cell, Status]) -> list[Cell]:
        ended = [
            cell
            for cell, status in statuses.items()
            if status.state in ("finished", "failed") and cell not in self._ended
        ]
        self._ended |= set(ended)
        self._seconds += [statuses[cell].seconds for cell in ended if statuses[cell].seconds]
        return ended

    def _to_go(self, statuses: Mapping[Cell, Status]) -> str:
        left = sum(status.state not in ("finished", "failed") for status in statuses.values())
        if not self._seconds or not left:
            return ""
        mean = sum(self._seconds) / len(self._seconds)
        return f", about {duration(mean * left / min(self._jobs, left))} to go"


def _table(study: str, statuses: Mapping[Cell, Status]) -> Table:
    cells = {(cell.name, cell.seed): status for cell, status in statuses.items() if cell.study == study}
    configs = {(cell.name, cell.seed): cell for cell in statuses if cell.study == study}
    names, seeds = dict.fromkeys(name for name, _ in cells), dict.fromkeys(seed for _, seed in cells)
    table = Table(study, *(f"seed {seed}" for seed in seeds), box=None, header_style="bold")
    for name in names:
        table.add_row(Text(name), *(_square(configs[name, seed], cells[name, seed]) for seed in seeds))
    return table


def _square(cell: Cell, status: Status) -> Text:
    if status.state == "finished":
        return Text(_outcome(status).removeprefix("val loss "), style="green")
    if status.state == "failed":
        return Text("failed", style="bold red")
    if status.state == "waiting":
        return Text("stopped" if status.run_dir else "\N{MIDDLE DOT}", style="dim")
    return Text(_share(cell), style="yellow" if status.state == "elsewhere" else "cyan")


def _share(cell: Cell) -> str:
    """How far a training is, as its journal says."""
    found = find({(cell.name, cell.seed): cell}, base()).get((cell.name, cell.seed))
    if found is None:
        return "starting"
    lines = journal.records(found.run_dir / "logs" / "metrics.jsonl")
    return f"{100 * (lines[-1]['step'] if lines else 0) // cell.config.training.steps} %"


def _outcome(status: Status) -> str:
    if status.state == "failed":
        return f"FAILED with exit code {status.exit_code}"
    loss = _loss(status.run_dir) if status.run_dir else None
    return "finished" if loss is None else f"val loss {loss:.4f}"


def _loss(run_dir: Path) -> float | None:
    """The best validation loss; None where there is none to read, which must not end the other trainings."""
    try:
        return float(decode((run_dir / "results.json").read_bytes())["final_metrics"]["best_val_loss"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
