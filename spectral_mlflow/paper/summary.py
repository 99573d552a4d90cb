"""The summary of the runs beside the documents: one row for each run that they use, as a CSV file."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from spectral_mlflow.analysis.report import inert
from spectral_mlflow.paper.book import Book
from spectral_mlflow.paper.facts import Run
from spectral_mlflow.paper.keys import plain
from spectral_mlflow.paper.measures import MEASURES

NAME = "runs.csv"
# Column to measure and format: losses are exact, what is computed of them has digits that every machine agrees on.
_MEASURED = {
    "best_val_loss": ("val_loss", "r"),
    "perplexity": ("perplexity", ".6f"),
    "parameters": ("parameters", ".0f"),
    "tokens_per_sec": ("tokens_per_sec", ".1f"),
    "seconds": ("seconds", ".3f"),
}


def written(book: Book) -> bytes:
    """The content of runs.csv: the same runs give the same bytes.

    Columns are what a run is, the settings that are not the same in all of them, and what was measured.
    """
    runs = book.facts.runs
    names = sorted({name for run in runs for name in run.settings} - {"training.seed", "model.num_parameters"})
    differ = [name for name in names if len({str(run.settings.get(name)) for run in runs}) > 1]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["label", "study", "cell", "seed", "run_id", "key", "status", "commit", *differ, *_MEASURED])
    table.writerows(list(_row(run, differ)) for run in runs)
    return text.getvalue().encode()


def _row(run: Run, settings: list[str]) -> Iterator[str | float]:
    yield from (run.label, inert(run.study or ""), inert(run.cell), str(run.seed), run.run_id, inert(run.key))
    yield from (run.status, run.commit or "")
    yield from (inert(plain(run.settings[name])) if name in run.settings else "" for name in settings)
    for measure, form in _MEASURED.values():
        value = MEASURES[measure].of(run)
        yield "" if value is None else repr(value) if form == "r" else format(value, form)
