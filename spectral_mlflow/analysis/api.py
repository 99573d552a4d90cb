"""Runs of any MLflow store, through MLflow's own client."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby, product

from mlflow import MlflowClient
from mlflow.entities import Run

from spectral_mlflow.analysis.source import DAY, LARGEST, Point, Row, Summary
from spectral_mlflow.errors import UserError

PAGE = 1000
AT_ONCE = 8  # Requests to a server, which answers one history each.


class ApiSource:
    """What `Source` asks for."""

    def __init__(self, uri: str) -> None:
        self._client = MlflowClient(tracking_uri=uri)

    def experiments(self) -> dict[str, str]:
        """Id of each experiment to its name."""
        found: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_experiments(max_results=PAGE, page_token=token)
            found |= {experiment.experiment_id: experiment.name for experiment in page}
            token = page.token
            if not token:
                return found

    def runs(self, experiments: Mapping[str, str], tags: Mapping[str, str], run_ids: Sequence[str] | None) -> list[Row]:
        """The runs of some experiments that have these tags, of these ids if there are any, oldest first."""
        conditions = [f"tags.{_quoted(name, '`')} = {_quoted(value)}" for name, value in tags.items()]
        if run_ids is not None:
            conditions.append(f"attributes.run_id IN ({', '.join(map(_quoted, run_ids))})")
        where = " AND ".join(conditions)
        return [_row(run, experiments[run.info.experiment_id]) for run in self._search(list(experiments), where)]

    def histories(self, run_ids: Sequence[str], keys: Sequence[str]) -> list[Point]:
        """Every point of some metrics."""

        def history(which: tuple[str, str]) -> list[Point]:
            points = self._client.get_metric_history(*which)
            return [(*which, point.step, point.timestamp, point.value) for point in points]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [point for points in pool.map(history, product(run_ids, keys)) for point in points]

    def summaries(self, run_ids: Sequence[str], keys: Sequence[str]) -> list[Summary]:
        """What changes when a history does, for each run and key that has one."""
        points = self.histories(run_ids, keys)
        return [(*which, *_summary(list(group))) for which, group in groupby(points, key=lambda point: point[:2])]

    def _search(self, experiments: list[str], where: str) -> Iterator[Run]:
        token = None
        while True:
            page = self._client.search_runs(
                experiments, where, max_results=PAGE, page_token=token,
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            )  # fmt: skip
            yield from page
            token = page.token
            if not token:
                return


def _summary(points: Sequence[Point]) -> Summary:
    values = [value for *_, value in points]
    finite = [(step, value) for *_, step, _, value in points if abs(value) < LARGEST]
    return (
        len(points),
        sum(map(math.isnan, values)),
        sum(value >= LARGEST for value in values),
        sum(value for _, value in finite),  # Not fsum, which refuses sums that no float holds.
        sum(value * value for _, value in finite),
        sum(step * value for step, value in finite),
        max(step for *_, step, _, _ in points),
        max(timestamp for *_, timestamp, _ in points),
        sum(timestamp % DAY for *_, timestamp, _ in points),
    )


def _quoted(text: str, marks: str = "'\"") -> str:
    """A name or a value for MLflow's filters, which have no way to escape a quotation mark."""
    for mark in marks:
        if mark not in text:
            return f"{mark}{text}{mark}"
    raise UserError(f"tag: given {text!r}, which MLflow cannot search for; allowed: text without {' or '.join(marks)}")


def _row(run: Run, experiment: str) -> Row:
    info = run.info
    row = {
        "run_id": info.run_id,
        "name": info.run_name,
        "status": info.status,
        "experiment": experiment,
        "start_time": info.start_time,
        "end_time": info.end_time,
    }
    row |= {f"tags.{name}": value for name, value in run.data.tags.items()}
    row |= {f"params.{name}": value for name, value in run.data.params.items()}
    return row | {f"metrics.{name}": value for name, value in run.data.metrics.items()}
