"""Tailing a journal and cutting it into calls."""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from spectral_mlflow import journal
from spectral_mlflow.stores.facts import valid_name
from spectral_mlflow.stores.points import calls
from spectral_mlflow.stores.reader import batches, has_more, last_record
from spectral_mlflow.stores.state import StoreState

STAMP = "2026-01-31T12:00:00.123Z"


def _write(path: Path, *records: dict[str, object], torn: bytes = b"") -> None:
    path.write_bytes(b"".join(journal.encode(record) for record in records) + torn)


def test_batches_go_on_where_the_last_ended(tmp_path: Path) -> None:
    """Reading from the offset of any record gives exactly the records behind it, torn line left out."""
    path = tmp_path / "metrics.jsonl"
    records = [{"step": n} for n in range(7)]
    _write(path, *records, torn=b'{"step": 7')
    read = [pair for batch in batches(path, 0, lines=3) for pair in batch]
    assert [record for record, _ in read] == records
    for n, (_, offset) in enumerate(read):
        rest = [record for batch in batches(path, offset, lines=2) for record, _ in batch]
        assert rest == records[n + 1 :]
        assert has_more(path, offset) == (n < 6)


def test_offset_of_another_file_reads_from_the_start(tmp_path: Path) -> None:
    """An offset inside a line or behind the end belongs to a journal that is no more: read all."""
    path = tmp_path / "metrics.jsonl"
    _write(path, {"step": 1}, {"step": 2})
    for offset in (3, 10_000):
        assert [record for batch in batches(path, offset) for record, _ in batch] == [{"step": 1}, {"step": 2}]


def test_missing_journal_is_empty(tmp_path: Path) -> None:
    """No file means nothing to read."""
    assert list(batches(tmp_path / "none", 0)) == []
    assert last_record(tmp_path / "none") is None


def test_last_record_skips_damage(tmp_path: Path) -> None:
    """The last record is the last whole line that is one."""
    path = tmp_path / "metrics.jsonl"
    _write(path, {"step": 1}, {"step": 2}, torn=b"rubbish\n{")
    assert last_record(path) == {"step": 2}


values = st.one_of(st.floats(), st.integers(-1000, 1000), st.booleans(), st.none(), st.text(max_size=3))
lines = st.dictionaries(st.sampled_from("abcdefghijkl"), values, max_size=12)


@given(st.lists(lines, min_size=1, max_size=30), st.integers(1, 9), st.integers(1, 9))
def test_calls_send_every_finite_number_once(lines: list[dict[str, object]], first: int, then: int) -> None:
    """No call is larger than its limit; together they hold every number of every line, in order."""
    batch = [({"step": n, "timestamp": STAMP, **line}, n + 1) for n, line in enumerate(lines)]
    made = list(calls(batch, itertools.chain([first], itertools.repeat(then))))
    sizes = [len(call.points) for call in made]
    assert sizes[0] <= first + max(0, first - then)
    assert all(size <= max(first, then) for size in sizes)
    sent = [(p.step, p.key, repr(p.value)) for call in made for p in call.points]
    wanted = [
        (n, key, repr(float(value)))
        for n, line in enumerate(lines)
        for key, value in line.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isinf(value)
    ]
    assert sent == wanted
    offsets = [call.offset for call in made if call.offset is not None]
    assert offsets == sorted(offsets)
    assert offsets[-1] == len(lines)


@given(st.lists(lines, min_size=1, max_size=10), st.integers(1, 9))
def test_offset_never_leads(lines: list[dict[str, object]], limit: int) -> None:
    """When a call names an offset, all lines before it have been sent by then."""
    batch = [({"step": n, "timestamp": STAMP, **line}, n + 1) for n, line in enumerate(lines)]
    all_points = [p for call in calls(batch, itertools.repeat(10**6)) for p in call.points]
    sent = 0
    for call in calls(batch, itertools.repeat(limit)):
        sent += len(call.points)
        if call.offset is not None:
            assert sent == sum(point.step < call.offset for point in all_points)


@given(st.text(max_size=300))
def test_names_are_made_valid(name: str) -> None:
    """Whatever a metric is called, MLflow takes the name it is sent under; good names stay."""
    sent = valid_name(name)
    _validate_metric_name(sent)
    assert valid_name(sent) == sent


def test_good_names_stay() -> None:
    """The names of the journal are those of MLflow."""
    for name in ("loss", "grad/norm", "system/rss_mb", "model.d_model", "a b-c:d"):
        assert valid_name(name) == name


def test_state_survives_and_damage_is_a_fresh_start(tmp_path: Path) -> None:
    """A saved state is read back; a missing or damaged file is the initial state."""
    path = tmp_path / "stores" / "mlflow.json"
    assert StoreState.load(path) == StoreState()
    state = StoreState("run", "1", "http://host", 10, 20, closed=True, error=None)
    state.save(path)
    assert StoreState.load(path) == state
    assert [entry.name for entry in path.parent.iterdir()] == ["mlflow.json"]
    for damage in ("", "{", "[]", '{"run_id": 1}'):
        path.write_text(damage, encoding="utf-8")
        assert StoreState.load(path) == StoreState()


def test_files_are_read_as_utf_8_in_any_locale(tmp_path: Path) -> None:
    """A machine whose locale is plain ASCII reads the same config and the same state."""
    state = json.dumps(vars(StoreState(tracking_uri="http://höst")), ensure_ascii=False)
    (tmp_path / "config.json").write_text('{"name": "wäve"}', encoding="utf-8")
    (tmp_path / "state.json").write_text(state, encoding="utf-8")
    code = (
        "from pathlib import Path; from spectral_mlflow.stores.base import RunView, StoreState; here = Path.cwd();"
        "print(ascii((RunView(here).config()['name'], StoreState.load(here / 'state.json').tracking_uri)))"
    )
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=plain, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ascii(("wäve", "http://höst"))
