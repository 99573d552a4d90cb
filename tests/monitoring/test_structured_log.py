"""StructuredLog: the exact form of training.log, its rotation, and a disk that refuses."""

import gzip
import re
import signal
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.monitoring import StructuredLog
from spectral_mlflow.monitoring.structured_log import duration, training_fields


def noon() -> datetime:
    """The moment of the documented example."""
    return datetime(2025, 7, 9, 14, 30, 25, 123_456)


def test_entry_has_the_documented_form(tmp_path: Path) -> None:
    """The example of the documentation comes out to the letter."""
    fields = training_fields(
        epoch=(5, 100), batch=(25, 50), files=(800, 300), losses={"recon": 0.45, "kl": 0.12, "adv": 0.08},
        gpu_gb=(3.2, 4), ram_gb=8.5, eta_seconds=8100, samples="samples/sample_step_5.txt",
    )  # fmt: skip
    with StructuredLog(tmp_path / "training.log", clock=noon) as log:
        log.entry("INFO", "enhanced_logger", "Training progress", fields)
    assert (tmp_path / "training.log").read_text() == (
        "[2025-07-09 14:30:25.123] [INFO] [enhanced_logger] Training progress\n"
        "  - Epoch: 5/100, Batch: 25/50\n"
        "  - Files processed: 800 (300 augmented)\n"
        "  - Losses: {recon: 0.45, kl: 0.12, adv: 0.08}\n"
        "  - Memory: GPU 3.20GB/4.00GB, RAM: 8.50GB\n"
        "  - ETA: 2h 15min\n"
        "  - Samples saved: samples/sample_step_5.txt\n"
    )


def test_progress_has_only_the_fields_that_are_known() -> None:
    """What is not given leaves no line."""
    assert training_fields() == {}
    assert training_fields(batch=(1, 2), ram_gb=0.0, eta_seconds=0.0) == {
        "Batch": "1/2",
        "Memory": "RAM: 0.00GB",
        "ETA": "0s",
    }


def test_small_and_invalid_losses_stay_readable() -> None:
    """Two decimals do not hide a small loss as 0.00, and NaN is called so."""
    losses = {"loss": 2.0, "zero": 0.0, "small": 0.00123, "bad": float("nan")}
    assert training_fields(losses=losses) == {"Losses": "{loss: 2.00, zero: 0.00, small: 1.23e-03, bad: nan}"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.4, "59s"),
        (59.6, "1min"),
        (3570, "1h 0min"),
        (8100, "2h 15min"),
        (86400 * 3 + 4 * 3600, "3d 4h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    """A duration has its two largest units at most."""
    assert duration(seconds) == text


@given(message=st.text(), key=st.text(), value=st.text())
def test_every_entry_is_a_line_and_one_for_each_field(message: str, key: str, value: str) -> None:
    """No text, whatever its characters, breaks a line or forges an entry."""
    with tempfile.TemporaryDirectory() as folder:
        with StructuredLog(Path(folder) / "training.log", clock=noon) as log:
            log.entry("INFO", "test", message, {key: value})
        text = (Path(folder) / "training.log").read_bytes().decode()
    lines = text.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("[2025-07-09 14:30:25.123] [INFO] [test] ")
    assert re.match(r"  - .*: ", lines[1])


def test_entry_is_on_disk_when_the_call_returns(tmp_path: Path) -> None:
    """Each entry is there at once and a later log appends."""
    for count in (1, 2):
        log = StructuredLog(tmp_path / "training.log")
        log.entry("WARNING", "test", "entry")
        assert (tmp_path / "training.log").read_text().count("[WARNING] [test] entry\n") == count
        log.close()


def test_log_that_is_let_go_closes_its_file(tmp_path: Path) -> None:
    """A log that nobody closed closes its file with itself, without a warning."""
    code = (
        "import sys; from pathlib import Path; from spectral_mlflow.monitoring import StructuredLog\n"
        "log = StructuredLog(Path(sys.argv[1])); log.entry('INFO', 'test', 'entry'); del log\n"
    )
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code, str(tmp_path / "training.log")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_rotation_keeps_the_newest_backups_gzipped(tmp_path: Path) -> None:
    """At the limit the file is compressed aside; the oldest backup goes; no entry among the kept is lost."""
    with StructuredLog(tmp_path / "training.log", largest_file=500, backups=3) as log:
        for number in range(60):
            log.entry("INFO", "test", f"entry {number}")
    parts = sorted(tmp_path.glob("*.gz"), key=lambda path: int(path.suffixes[1][1:]))
    assert len(list(tmp_path.iterdir())) == 1 + len(parts) == 4
    backups = [gzip.decompress(part.read_bytes()).decode() for part in parts]
    text = "".join([*backups, (tmp_path / "training.log").read_text()])
    numbers = [int(number) for number in re.findall(r"entry (\d+)\n", text)]
    assert numbers == list(range(numbers[0], 60))
    assert len(numbers) > 20
    assert all(len(part) <= 500 for part in backups)


FOLLOWING = """
import os, sys, time
path, last, begun = sys.argv[1], sys.argv[2].encode(), 0
file, seen = open(path, "rb"), b""
while True:
    found = file.read()
    seen += found
    if found:
        continue
    entries = seen.count(b"\\n")
    if entries != begun:
        begun = entries
        print(entries, flush=True)
    if last in seen:
        break
    try:
        moved = os.stat(path).st_ino != os.fstat(file.fileno()).st_ino
    except FileNotFoundError:  # It has no name for a moment.
        continue
    if moved:
        seen += file.read()
        file = open(path, "rb")
    else:
        time.sleep(0.001)
sys.stdout.buffer.write(b"END" + seen)
"""


def test_two_readers_follow_through_rotations(tmp_path: Path) -> None:
    """Processes that go on with the new file where another inode has the name see each entry once, in order."""
    path = tmp_path / "training.log"
    with StructuredLog(path, largest_file=2000, backups=2) as log:
        command = [sys.executable, "-c", FOLLOWING, str(path), "the last one"]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for number in range(300):
            log.entry("INFO", "test", f"entry {number}")
            if number % 20 == 19:  # About half a file: no reader falls two rotations behind.
                for reader in readers:
                    assert reader.stdout is not None
                    while int(reader.stdout.readline()) < number + 1:
                        pass
        log.entry("INFO", "test", "the last one")
        outputs = [reader.communicate(timeout=300)[0] for reader in readers]
    assert len(list(tmp_path.glob("training.log.*.gz"))) == 2
    for output in outputs:
        text = output[output.index(b"END") :].decode()
        assert [int(number) for number in re.findall(r"entry (\d+)\n", text)] == list(range(300))


def test_an_interrupted_rotation_is_finished_by_the_next(tmp_path: Path) -> None:
    """A file that was renamed and not yet gzipped is gzipped before another takes its place."""
    path = tmp_path / "training.log"
    (tmp_path / "training.log.1").write_text("of before\n")
    with StructuredLog(path, largest_file=100) as log:
        for number in range(4):
            log.entry("INFO", "test", f"entry {number}")
    assert not (tmp_path / "training.log.1").exists()
    kept = sorted(tmp_path.glob("*.gz"))
    texts = [gzip.decompress(part.read_bytes()).decode() for part in kept]
    assert texts[0] == "of before\n"
    assert re.findall(r"entry (\d)\n", "".join(texts) + path.read_text()) == list("0123")


KILLED_AT_CALL = """
import os, signal, sys
from pathlib import Path
from spectral_mlflow.monitoring import StructuredLog
folder, last = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def count(event, arguments):
    global calls
    changes = event in ("os.rename", "os.remove") and str(folder) in str(arguments[0])
    calls += changes
    if changes and calls == last:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
log = StructuredLog(folder / "training.log", largest_file=150, backups=3)
for number in range(40):
    log.entry("INFO", "test", f"entry {number}")
"""


@pytest.mark.parametrize("call", [13, 14, 15, 17])
def test_a_rotation_that_is_killed_anywhere_loses_and_doubles_nothing(tmp_path: Path, call: int) -> None:
    """Killed before any of its changes of names, what follows finds each entry once, and as many backups as ever."""
    path = tmp_path / "training.log"
    killed = subprocess.run([sys.executable, "-c", KILLED_AT_CALL, str(tmp_path), str(call)])
    assert killed.returncode == -signal.SIGKILL
    before = re.findall(r"entry (\d+)\n", path.read_text()) if path.exists() else []
    with StructuredLog(path, largest_file=150, backups=3) as log:
        for number in range(100, 104):
            log.entry("INFO", "test", f"entry {number}")
    parts = sorted(tmp_path.glob("*.gz"), key=lambda part: int(part.suffixes[1][1:]))
    assert len(list(tmp_path.iterdir())) == 1 + len(parts) == 4
    text = "".join([*(gzip.decompress(part.read_bytes()).decode() for part in parts), path.read_text()])
    found = [int(number) for number in re.findall(r"entry (\d+)\n", text)]
    first = [number for number in found if number < 100]
    assert first == list(range(first[0], first[-1] + 1))
    assert not before or first[-1] == int(before[-1])
    assert found[len(first) :] == [100, 101, 102, 103]


def test_a_rotation_that_fails_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing can be gzipped, the file goes on growing, is told of once, and rotates when it can."""
    path = tmp_path / "training.log"
    (tmp_path / "training.log.tmp").mkdir()
    with StructuredLog(path, largest_file=1000, backups=1) as log:
        for number in range(40):
            log.entry("INFO", "test", f"entry {number}")
    assert "rotation failed, nothing is lost" in caplog.text
    texts = [part.read_text() for part in (tmp_path / "training.log.1", path) if part.exists()]
    assert re.findall(r"entry (\d+)\n", "".join(texts)) == [str(number) for number in range(40)]


REFUSING = (
    "import resource, sys; from pathlib import Path\n"
    "from spectral_mlflow.monitoring import StructuredLog\n"
    "hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (150, hard))\n"
    "log = StructuredLog(Path(sys.argv[1]))\n"
    "for number in range(9): log.entry('INFO', 'test', f'entry {number} of some length')\n"
)


@pytest.mark.parametrize("comes_back", [True, False])
def test_disk_that_refuses_stops_nothing(tmp_path: Path, comes_back: bool) -> None:
    """On a full disk entries wait, with one line on stderr; they follow in order, or their loss is told."""
    code = REFUSING + ("resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))\n" if comes_back else "")
    command = [sys.executable, "-c", f"{code}log.close(); print('went on')", str(tmp_path / "training.log")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    first, *rest = done.stderr.splitlines()
    assert "File too large; lines are kept in memory until it works again" in first
    written = re.findall(r"entry (\d) of some length\n", (tmp_path / "training.log").read_text())
    if comes_back:
        assert (written, rest) == (list("012345678"), [])
    else:
        assert written == list("01")
        assert [line.split(": ")[-1] for line in rest] == ["[Errno 27] File too large; the last 7 lines are lost"]
