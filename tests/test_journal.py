"""The journal: what was appended is read back, whatever happens to process and disk."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow import journal
from spectral_mlflow.errors import UserError
from spectral_mlflow.journal import Journal

names = st.text(min_size=1).filter(lambda name: name != journal.INVALID)
plain = st.one_of(st.floats(), st.integers(-(2**53), 2**53), st.text(), st.none(), st.booleans())
values = st.recursive(plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
lines = st.dictionaries(names, values)


def same(one: object, other: object) -> bool:
    """Equality under which NaN equals NaN, at any depth."""
    return repr(one) == repr(other)


@given(record=lines)
def test_every_record_survives_the_round_trip(record: dict[str, object]) -> None:
    """Non-finite numbers included, a record is read as it was written, and its line is strict JSON."""
    line = journal.encode(record)
    json.loads(line, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    decoded = journal.decode(line)
    assert decoded.keys() == record.keys()
    assert all(same(decoded[name], record[name]) for name in record)


@given(records=st.lists(lines, max_size=5), cut=st.integers(0, 10_000))
def test_a_torn_last_line_is_ignored_and_then_cut(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, object]], cut: int
) -> None:
    """Wherever the file was torn, readers see the whole lines and a writer goes on behind them."""
    path = tmp_path_factory.mktemp("journal") / "metrics.jsonl"
    content = b"".join(map(journal.encode, records))
    path.write_bytes(content[: min(cut, len(content))])
    whole = path.read_bytes().count(b"\n")
    assert len(journal.records(path)) == whole
    writer = Journal(path)
    writer.append({"step": 1})
    writer.close()
    after = journal.records(path)
    assert len(after) == whole + 1
    assert after[-1] == {"step": 1}


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The offset behind a record is where the next one begins."""
    path = tmp_path / "events.jsonl"
    writer = Journal(path)
    writer.append({"n": 1})
    ((_, offset),) = journal.read(path)
    writer.append({"n": 2})
    assert [record for record, _ in journal.read(path, offset)] == [{"n": 2}]
    writer.close()


@pytest.mark.parametrize("invalid", ["5", "null", '["x"]', '{"/a/b": "nan"}', '{"/a": [1]}', '{"/list/7": "inf"}'])
def test_a_strange_note_of_non_finite_values_is_damage(tmp_path: Path, invalid: str) -> None:
    """A line whose field `invalid` somebody else has written is skipped; those around it are read."""
    path = tmp_path / "events.jsonl"
    strange = '{"n": 2, "list": [1], "invalid": ' + invalid + "}"
    path.write_text(f'{{"n": 1}}\n{strange}\n{{"n": 3}}\n', encoding="utf-8")
    assert journal.records(path) == [{"n": 1}, {"n": 3}]


def test_the_name_that_marks_non_finite_values_is_refused(tmp_path: Path) -> None:
    """A caller's field of that name could not be read back, so it is not written."""
    writer = Journal(tmp_path / "events.jsonl")
    with pytest.raises(UserError, match="invalid"):
        writer.append({"event": "note", "invalid": 5})
    writer.append({"event": "note", "within": {"invalid": 5, "x": float("inf")}})
    writer.close()
    assert journal.records(writer.path) == [{"event": "note", "within": {"invalid": 5, "x": float("inf")}}]


def test_a_damaged_line_is_skipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One bad line does not hide the lines behind it."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step"\n[2]\n{"step": 3}\n')
    assert [record["step"] for record in journal.records(path)] == [1, 3]
    assert "damaged line" in caplog.text


def test_a_missing_file_is_an_empty_journal(tmp_path: Path) -> None:
    """Reading before the first line was written is no error."""
    assert journal.records(tmp_path / "none.jsonl") == []


def test_an_acknowledged_line_survives_kill_9(tmp_path: Path) -> None:
    """Whatever the process had acknowledged before it was killed is in the file."""
    path = tmp_path / "metrics.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom spectral_mlflow.journal import Journal\n"
        "writer, step = Journal(Path(sys.argv[1])), 0\n"
        "while True:\n step += 1\n writer.append({'step': step})\n print(step, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(200):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    acknowledged = [int(line) for line in process.stdout.read().split()][-1:] or [200]
    process.wait()
    process.stdout.close()
    steps = [record["step"] for record in journal.records(path)]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= acknowledged[0]


def test_lines_the_disk_refused_follow_in_order(tmp_path: Path) -> None:
    """A full disk costs no line: memory keeps them, and they are written before the next one."""
    path = tmp_path / "metrics.jsonl"
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom spectral_mlflow.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "waits = []\nwriter = Journal(Path(sys.argv[1]), sleep=waits.append)\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "writer.append({'step': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))\n"
        "writer.append({'step': 2})\nwriter.append({'step': 3})\nassert writer.pending == 2, writer.pending\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "writer.append({'step': 4})\nassert writer.pending == 0\nwriter.close()\nprint(waits)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(list(journal.RETRY_DELAYS))
    assert done.stderr.count("kept in memory") == 1
    assert [record["step"] for record in journal.records(path)] == [1, 2, 3, 4]


def test_files_of_one_folder_tell_of_a_full_disk_once(tmp_path: Path) -> None:
    """Three files that the disk refuses are one message, and another one only after it has worked again."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom spectral_mlflow.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "writers = [Journal(Path(sys.argv[1], name), sleep=lambda _: None) for name in 'abc']\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "def write(limit):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))\n"
        "    [writer.append({'step': 1}) for writer in writers]\n"
        "write(0)\nwrite(0)\nwrite(soft)\nassert not any(writer.pending for writer in writers)\n"
        "write(0)\nwrite(soft)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("kept in memory") == 2, done.stderr
    assert [len(journal.records(tmp_path / name)) for name in "abc"] == [5, 5, 5]


def test_what_still_fits_beside_a_full_disk_is_no_recovery(tmp_path: Path) -> None:
    """A line that had room tells of no second failure while lines beside it wait; a file that was closed waits not."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom spectral_mlflow.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def full(*names):\n"
        "    writers = [Journal(Path(sys.argv[1], name), sleep=lambda _: None) for name in names]\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))\n"
        "    for writer in writers:\n"
        "        writer.append({'long': 'x' * 40 * (writer.path.name != 'fits')})\n"
        "    [writer.close() for writer in writers]\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))\n"
        "soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "full('a', 'fits', 'b')\n"
    )
    for again, told in (("", 1), ("full('c')\n", 2)):
        done = subprocess.run([sys.executable, "-c", code + again, str(tmp_path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("kept in memory") == told, done.stderr


def test_two_threads_write_whole_lines(tmp_path: Path) -> None:
    """Each line is whole, each thread's lines are in order, while both write and sync."""
    writer = Journal(tmp_path / "events.jsonl")

    def write(name: str) -> None:
        for number in range(300):
            writer.append({"name": name, "number": number})
            if number % 50 == 0:
                writer.sync()

    threads = [threading.Thread(target=write, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    records = journal.records(writer.path)
    assert len(records) == 600
    for name in ("one", "other"):
        assert [record["number"] for record in records if record["name"] == name] == list(range(300))


def test_an_exception_amid_a_line_writes_it_once(tmp_path: Path) -> None:
    """Ctrl-C at any moment, also between the call of the system and its bookkeeping, leaves no line twice or torn."""
    code = (
        "import signal, sys\nfrom pathlib import Path\nfrom spectral_mlflow.journal import Journal\n"
        "writer, step = Journal(Path(sys.argv[1])), 0\n"
        "def stop(_, frame):\n"
        "    if step < 5000 and frame and frame.f_code.co_filename.endswith('journal.py'): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGALRM, stop)\nsignal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n"
        "while step < 5000:\n"
        "    try:\n"
        "        step += 1\n"
        "        writer.append({'step': step})\n"
        "    except KeyboardInterrupt: pass\n"
        "signal.signal(signal.SIGALRM, signal.SIG_IGN)\n"
        "writer.append({'step': step + 1})\nwriter.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "metrics.jsonl")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    content = (tmp_path / "metrics.jsonl").read_bytes()
    steps = [json.loads(line)["step"] for line in content.splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 5001


def test_syncing_what_the_disk_refuses_is_an_error(tmp_path: Path) -> None:
    """A checkpoint must not be newer than the lines: whoever syncs hears of lines that only memory has."""
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom spectral_mlflow.journal import Journal\n"
        "writer = Journal(Path(sys.argv[1]), sleep=lambda _: None)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5, resource.RLIM_INFINITY))\n"
        "writer.append({'step': 1})\n"
        "try: writer.sync()\nexcept OSError as failure: print(failure.strerror)\n"
        "writer.close()\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "metrics.jsonl")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "File too large\n"), done.stderr
    assert "the last 1 lines are lost" in done.stderr
    assert (tmp_path / "metrics.jsonl").read_bytes() == b""


def test_timestamps_are_utc_milliseconds() -> None:
    """A timestamp of the journal becomes the milliseconds that MLflow stores."""
    assert journal.milliseconds("1970-01-01T00:00:01.500Z") == 1500
    assert journal.now().endswith("Z")
    assert os.linesep not in journal.now()
