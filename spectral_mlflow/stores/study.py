"""A study in MLflow: one parent run over the runs of some variants, with their means over seeds as its metrics.

A mean is logged at each step that all seeds of a variant have, at the latest of their times: whoever logs it again
logs the same point, which MLflow keeps once, and while runs go on means are only ever added.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectral_mlflow.stores.markdown import code, literal

if TYPE_CHECKING:  # Two seconds, which no user's mistake needs to wait for.
    from mlflow import MlflowClient
    from mlflow.entities import Run

KIND, NAME, RUNS = "spectral.kind", "spectral.study", "spectral.study_runs"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
METRICS = ("loss", "val_loss", "val_perplexity", "val_bits_per_char", "tokens_per_sec")
POINTS = 990  # MLflow takes 1000 at once.
LONGEST = 8000  # Characters of a description.
REST = 60  # Characters that say how many notes have no room.
SECONDS = 30  # More than a small call needs: a page of a history has 25,000 points.

# Told how many histories of how many are read.
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class Variant:
    """One configuration over its seeds.

    Attributes:
        label: tells it from the other variants; without a slash, as it becomes the second part of names of metrics.
        runs: seed to MLflow run.
        facts: what the description says of it, by column.
    """

    label: str
    runs: Mapping[int, str]
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """Variants under one name.

    Attributes:
        name: of the study, and of its run.
        variants: in the order of the table.
        notes: further sentences for the description.
        command: makes the study again.
    """

    name: str
    variants: tuple[Variant, ...]
    notes: tuple[str, ...]
    command: str

    @property
    def digest(self) -> str:
        """Tells whether another study of this name has the same runs."""
        members = sorted([variant.label, seed, run] for variant in self.variants for seed, run in variant.runs.items())
        return hashlib.sha256(json.dumps(members).encode()).hexdigest()


@dataclass(frozen=True)
class Point:
    """A value of a metric at some step.

    Attributes:
        value: the metric.
        timestamp: milliseconds since the epoch.
    """

    value: float
    timestamp: int


@dataclass(frozen=True)
class Published:
    """What became of a study.

    Attributes:
        run_id: its run in MLflow.
        changed: False where all of it was there already.
        elsewhere: MLflow runs that stay under another parent, as MLflow shows a run under one alone.
        apart: labels of variants whose seeds share no step of the validation loss.
    """

    run_id: str
    changed: bool
    elsewhere: tuple[str, ...]
    apart: tuple[str, ...]


def means(histories: Sequence[Mapping[int, Point]]) -> dict[int, Point]:
    """Arithmetic mean of several histories at each step that all of them have, with the latest of its times.

    Args:
        histories: step to point, one for each seed.
    """
    if not histories:
        return {}
    found = {}
    for step in sorted(set.intersection(*(set(history) for history in histories))):
        points = [history[step] for history in histories]
        mean = math.fsum(point.value / len(points) for point in points)
        found[step] = Point(mean, max(point.timestamp for point in points))
    return found


def publish(uri: str, study: Study, watch: Watch = lambda *_: None) -> Published:
    """Put the runs of a study under one parent run. One of the same name with other runs is replaced.

    Args:
        uri: the store, which has all the runs.
        study: the study.
        watch: told how far it is.

    Raises:
        StoreError: the store does not answer. A later call goes on where this one stopped.
    """
    from spectral_mlflow.stores.client import open_client, store_errors

    with store_errors():
        client = open_client(uri)
        children = [client.get_run(run) for variant in study.variants for run in variant.runs.values()]
        parents = _parents(client, study.name, {child.info.experiment_id for child in children})
        same = next((parent for parent in parents if parent.data.tags.get(RUNS) == study.digest), None)
        parent_id = same.info.run_id if same else _create(client, study, children[0].info.experiment_id)
        others = [parent.info.run_id for parent in parents if parent.info.run_id != parent_id]
        done = same is not None and not others and _is_current(same, children, study)
        if not done:
            log_means(client, parent_id, study.variants, watch)
            if same is None or _is_ours(same, study):
                client.set_tag(parent_id, NOTE, describe(study))
        moved, elsewhere = _adopt(client, parent_id, others, children)
        for other in others:
            _remove(client, other)
        if not done:
            client.set_terminated(parent_id)
        known = client.get_run(parent_id).data.metrics
    apart = tuple(variant.label for variant in study.variants if f"val_loss/{variant.label}" not in known)
    return Published(parent_id, not done or moved, elsewhere, apart)


def _is_current(parent: Run, children: Sequence[Run], study: Study) -> bool:
    """Whether a parent is whole, and no run of it has gone on since."""
    if parent.info.status != "FINISHED" or any(child.info.end_time > parent.info.end_time for child in children):
        return False
    return not _is_ours(parent, study) or parent.data.tags.get(NOTE) == describe(study)


def _is_ours(parent: Run, study: Study) -> bool:
    """Whether nobody has written another description."""
    note = parent.data.tags.get(NOTE)
    return note is None or note.startswith(_heading(study))


def is_deleted(uri: str, run_id: str) -> bool:
    """Whether a run is in the trash of a store.

    Raises:
        StoreError: the store does not answer.
    """
    from spectral_mlflow.stores.client import in_trash, open_client, run_exists, store_errors

    with store_errors():
        client = open_client(uri)
        return run_exists(client, run_id) and in_trash(client, run_id)


def _parents(client: MlflowClient, name: str, experiments: set[str]) -> list[Run]:
    where = f"tags.`{KIND}` = 'study' AND tags.`{NAME}` = '{name}'"
    return list(client.search_runs(sorted(experiments), where, order_by=["attributes.start_time ASC"]))


def _create(client: MlflowClient, study: Study, experiment: str) -> str:
    tags = {
        KIND: "study", NAME: study.name, RUNS: study.digest,
        "mlflow.source.type": "LOCAL", "mlflow.source.name": "spectral_mlflow",
    }  # fmt: skip
    return str(client.create_run(experiment, tags=tags, run_name=study.name).info.run_id)


def _adopt(
    client: MlflowClient, parent_id: str, others: Sequence[str], children: Sequence[Run]
) -> tuple[bool, tuple[str, ...]]:
    """Name the parent on its children, but for those that have another one; whether that changed something."""
    moved, elsewhere = False, []
    for child in children:
        has = child.data.tags.get(PARENT)
        if has == parent_id:
            continue
        if has is None or has in others or not _is_there(client, has):
            client.set_tag(child.info.run_id, PARENT, parent_id)
            moved = True
        else:
            elsewhere.append(child.info.run_id)
    return moved, tuple(elsewhere)


def _is_there(client: MlflowClient, run_id: str) -> bool:
    from spectral_mlflow.stores.client import in_trash, run_exists

    return run_exists(client, run_id) and not in_trash(client, run_id)


def _remove(client: MlflowClient, parent_id: str) -> None:
    """Delete a parent; the runs that are still under it are on their own again."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for child in client.search_runs(experiments, f"tags.`{PARENT}` = '{parent_id}'"):
        client.delete_tag(child.info.run_id, PARENT)
    client.delete_run(parent_id)


# Means


def log_means(
    client: MlflowClient, parent_id: str, variants: Sequence[Variant], watch: Watch = lambda *_: None
) -> None:
    """Log the means that a parent run does not have yet; more may follow while the runs of its variants go on.

    Args:
        client: of the store.
        parent_id: the parent run.
        variants: with all the seeds that they will have: a step counts once all of them have it.
        watch: told how far it is.
    """
    from mlflow.entities import Metric

    from spectral_mlflow.stores.client import allowing

    read, all_of_them = 0, len(METRICS) * sum(len(variant.runs) for variant in variants)
    for variant in variants:
        for metric in METRICS:
            histories = []
            for run_id in variant.runs.values():
                histories.append(_history(client, run_id, metric))
                read += 1
                watch(read, all_of_them)
            name = f"{metric}/{variant.label}"
            there = _history(client, parent_id, name)
            new = [Metric(name, p.value, p.timestamp, s) for s, p in means(histories).items() if s not in there]
            for first in range(0, len(new), POINTS):
                with allowing(SECONDS):
                    client.log_batch(parent_id, metrics=new[first : first + POINTS])


def _history(client: MlflowClient, run_id: str, metric: str) -> dict[int, Point]:
    """Step to point; of a step that a resumed run has computed twice the later one."""
    from spectral_mlflow.stores.client import allowing

    with allowing(SECONDS):
        points = sorted(client.get_metric_history(run_id, metric), key=lambda point: point.timestamp)
    return {point.step: Point(point.value, point.timestamp) for point in points}


# Description


def describe(study: Study) -> str:
    """The Markdown description of the parent run: its variants in a table, and how to make it again."""
    told = "\n".join([_heading(study), "", *_table(study.variants), *_command(study)])
    for place, note in enumerate(study.notes):
        more = f"\n\n{literal(note)}"
        if len(told) + len(more) > LONGEST - REST:
            return f"{told}\n\nAnd {len(study.notes) - place:,} more, which the command tells."[:LONGEST]
        told += more
    return told[:LONGEST]


def _heading(study: Study) -> str:
    return f"**Study {literal(study.name)}**"


def _table(variants: Sequence[Variant]) -> Iterator[str]:
    columns = list(dict.fromkeys(column for variant in variants for column in variant.facts))
    yield _row(["variant", "seeds", *columns])
    yield _row(["---"] * (2 + len(columns)))
    for variant in variants:
        seeds = ", ".join(str(seed) for seed in sorted(variant.runs))
        yield _row([variant.label, seeds, *(variant.facts.get(column, "") for column in columns)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell if cell == '---' else literal(cell) for cell in cells)} |"


def _command(study: Study) -> Iterator[str]:
    yield "\nThe metrics are means over the seeds of a variant, at the steps that all of them have. Make it again:\n"
    yield from code(study.command)
