"""The cells of ``spectral ablate`` as a study in MLflow: means over seeds, and what they say."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import Timeout

from spectral_mlflow.cli.progress import shown
from spectral_mlflow.cli.study import complete, is_wanted, label_of, one_store, put_together, sent, told_apart
from spectral_mlflow.stores.companion import companion_lock
from spectral_mlflow.stores.study import Study, Variant

if TYPE_CHECKING:  # pandas takes a second to import, which a mistake or a help text need not.
    import pandas as pd

COMPANION_SECONDS = 300.0  # A companion has seconds of work left when its run ends, on a crowded machine minutes.


def publish_cells(
    name: str, cells: Mapping[str, Sequence[Path]], without: Mapping[str, Sequence[int]], command: str
) -> int:
    """Put the finished runs of named cells under one parent run; the exit code.

    Args:
        name: of the study.
        cells: name of each cell to its run directories, one a seed.
        without: name of each cell to the seeds that came to nothing.
        command: makes the study again.
    """
    kept = {cell: found for cell, chosen in cells.items() if (found := list(filter(is_wanted, chosen)))}
    run_dirs = [run_dir for chosen in kept.values() for run_dir in chosen]
    if not run_dirs:
        print(f"study {name}: no finished run that MLflow has, so there is nothing to put together", file=sys.stderr)
        return 0

    def put() -> int:
        from spectral_mlflow.analysis.directories import load_run_directories

        _wait_for_companions(run_dirs)
        states = sent(run_dirs)
        frame = load_run_directories(run_dirs)
        rows = {row["name"]: {str(key): value for key, value in row.items()} for row in frame.to_dict("records")}
        labels = told_apart([label_of(cell) for cell in kept])
        found = tuple(_cell(label, {str(states[path].run_id): rows[path.name] for path in chosen})
                      for label, chosen in zip(labels, kept.values(), strict=True))  # fmt: skip
        made = Study(name, found, tuple(_findings(frame, without)), command)
        return put_together(one_store(states), made, {str(state.run_id): path.name for path, state in states.items()})

    return complete(name, put)


def _findings(runs: pd.DataFrame, without: Mapping[str, Sequence[int]]) -> Iterator[str]:
    """What the runs of a study say of its cells, and which seeds say nothing."""
    from spectral_mlflow.analysis import wording
    from spectral_mlflow.analysis.directories import load_directory_histories
    from spectral_mlflow.analysis.side_by_side import side_by_side

    found = side_by_side(runs, load_directory_histories([], ()))
    for group in found.groups:
        yield from (f"{wording.line(test)}." for test in group.tests)
        yield from (f"{note}." for note in group.notes)
    yield from (f"{note}." for note in found.notes)
    yield from (f"{wording.no_result(cell, seeds)}." for cell, seeds in without.items())


def _cell(label: str, rows: Mapping[str, Mapping[str, Any]]) -> Variant:
    """A cell as its run directories have it.

    Args:
        label: of the cell.
        rows: MLflow run to a row of `load_run_directories`.
    """
    from spectral_mlflow.analysis.comparison import LOSS, has_result, settings_of
    from spectral_mlflow.analysis.statistics import estimate

    losses = [float(row[LOSS]) for row in rows.values() if has_result(row)]
    known = (settings_of(row).get("model.num_parameters") for row in rows.values())
    sizes = {int(size) for size in known if size is not None}
    return Variant(
        label,
        {int(row["params.training.seed"]): run_id for run_id, row in rows.items()},
        {
            "parameters": " or ".join(f"{size:,}" for size in sorted(sizes)) or "unknown",
            "best validation loss": estimate(losses).text() if losses else "not finite",
        },
    )


def _wait_for_companions(chosen: Sequence[Path]) -> None:
    """Runs that have just ended are still being sent; whoever takes too long is named by what comes next."""
    end = time.monotonic() + COMPANION_SECONDS
    with shown("the runs") as show:
        for done, run_dir in enumerate(chosen):
            show(f"waiting for {run_dir.name} to be sent", done, len(chosen))
            with suppress(Timeout), companion_lock(run_dir, max(0.0, end - time.monotonic())):
                pass
