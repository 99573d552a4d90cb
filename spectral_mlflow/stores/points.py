"""Lines of the journal as the metric points that MLflow takes, cut into calls of a size it takes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlflow.entities import Metric

from spectral_mlflow import journal
from spectral_mlflow.journal import Record
from spectral_mlflow.stores.facts import LONGEST_TAG, valid_name
from spectral_mlflow.stores.reader import Batch, is_line, numbers

MARK = "spectral.nonfinite."

_MARK = re.compile(r"(-?inf) at step (\d+) \(([^)]+)\)")


@dataclass
class Call:
    """What one call sends.

    Attributes:
        points: metric points.
        marks: tags that name infinite values; MLflow would store those as the largest finite number.
        offset: bytes of the journal that are sent with this call; None in the middle of a line.
    """

    points: list[Metric] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)
    offset: int | None = None


def calls(batch: Batch, limits: Iterator[int]) -> Iterator[Call]:
    """The calls that send a batch of lines.

    Args:
        batch: records of metrics.jsonl, each with the offset behind it.
        limits: the most points of each call; one is taken for each call.
    """
    limit, call = next(limits), Call()
    for record, offset in batch:
        line = points(record)
        if call.points and len(call.points) + len(line) > limit:
            yield call
            limit, call = next(limits), Call()
        while len(line) > limit:
            yield Call(points=line[:limit])
            line = line[limit:]
        call.points += line
        call.marks |= {name: joined(call.marks.get(name, ""), mark) for name, mark in marks(record).items()}
        call.offset = offset
    yield call


def points(record: Record) -> list[Metric]:
    """One point for each number of the line that is not infinite, at the journal's time and step."""
    if not is_line(record):
        return []
    time = journal.milliseconds(record["timestamp"])
    return [
        Metric(valid_name(name), float(value), time, record["step"])
        for name, value in numbers(record)
        if not math.isinf(value)
    ]


def marks(record: Record) -> dict[str, str]:
    """A tag for each infinite value of the line, which says where it is; `joined` has those of several lines."""
    return {
        mark_name(name): f"{float(value)} at step {record.get('step')} ({record.get('timestamp')})"
        for name, value in numbers(record)
        if math.isinf(value)
    }


def mark_name(metric: str) -> str:
    """The tag that names the infinite values of a metric: by the name that the metric has in MLflow, if that fits."""
    return valid_name(MARK + valid_name(metric))


def joined(before: str, mark: str) -> str:
    """The marks of one metric in one tag, each once; the oldest give way when it is full."""
    each = list(dict.fromkeys([*(one for one in before.split(", ") if one), *mark.split(", ")]))
    while len(", ".join(each)) > LONGEST_TAG:
        del each[0]
    return ", ".join(each)


def unmarked(tags: Mapping[str, str]) -> Iterator[tuple[int, str, str, float]]:
    """Step, timestamp, metric and value of the infinite values that the tags of a run name."""
    for tag, text in tags.items():
        if tag.startswith(MARK):
            for match in _MARK.finditer(text):
                yield int(match[2]), match[3], tag.removeprefix(MARK), float(match[1])
