"""Studies of quality, as real processes."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent

# A study that lasts long enough to be stopped, and one whose second cell cannot work.
MORE_STUDIES = """
import sys
from benchmarks.quality import SMOKE, STANDARD, STUDIES, WAVE, Study, main
ALONE = {**SMOKE, "monitoring.stores": "none"}
STUDIES["long"] = Study(shared={**ALONE, "steps": 400}, rows=[("standard", STANDARD)])
BROKEN = {**WAVE, "dataset": "text", "dataset.path": "none.txt"}
STUDIES["broken"] = Study(shared=ALONE, rows=[("whole", STANDARD), ("broken", BROKEN)])
sys.exit(main())
"""


def command(*arguments: str) -> list[str]:
    """What runs one of the studies, with its runs below the working folder's store."""
    return [sys.executable, "-c", MORE_STUDIES, *arguments]


def study(tmp_path: Path, *arguments: str, program: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run a study to its end."""
    return subprocess.run(
        [*(program or command()), *arguments, "--store", str(tmp_path / "store")],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip


def run_directories(tmp_path: Path) -> list[Path]:
    """The runs of the store."""
    return sorted((tmp_path / "store" / "experiments").iterdir())


def test_a_study_trains_each_cell_once(tmp_path: Path) -> None:
    """Two cells become two finished runs and two rows, best first; the second call has nothing left to do."""
    program = [sys.executable, "-m", "benchmarks.quality"]
    assert "--model.type wave" in study(tmp_path, "smoke", "--dry", program=program).stdout
    assert not (tmp_path / "store").exists()
    first = study(tmp_path, "smoke", program=program)
    assert first.returncode == 0, first.stdout + first.stderr
    assert re.search(r"\[1/2\] \w+, seed 0: val loss \d\.\d{4} \(\d+s, \d+s to go\)", first.stdout)
    directories = run_directories(tmp_path)
    results = [json.loads((path / "results.json").read_text()) for path in directories]
    *_, better, worse = first.stdout.splitlines()
    losses = sorted(result["final_metrics"]["val_loss"] for result in results)
    assert [f"{loss:.4f}" for loss in losses] == [row.split("|")[5].strip() for row in (better, worse)]
    for result in results:
        assert f"{result['num_parameters']:,}" in first.stdout
    assert (tmp_path / "store" / "mlflow.db").is_file()
    second = study(tmp_path, "smoke", program=program)
    assert second.stdout.startswith("0 of 2 runs to do")
    assert second.stdout.splitlines()[1:] == first.stdout.splitlines()[-4:]
    assert study(tmp_path, "smoke", "--table", program=program).stdout.splitlines() == second.stdout.splitlines()[1:]
    assert run_directories(tmp_path) == directories


def test_a_stopped_study_goes_on(tmp_path: Path) -> None:
    """SIGTERM ends the cell whole; the next call continues the same run from where it was."""
    process = subprocess.Popen(
        command("long", "--store", str(tmp_path / "store")), cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    journal: list[Path] = []
    while not journal or not journal[0].stat().st_size:
        assert process.poll() is None, process.communicate()
        journal = list((tmp_path / "store" / "experiments").glob("*/logs/metrics.jsonl"))
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    (run,) = run_directories(tmp_path)
    ends = [json.loads(line) for line in (run / "logs" / "events.jsonl").read_text().splitlines()]
    assert ends[-1]["status"] == "KILLED"
    after = study(tmp_path, "long")
    assert after.returncode == 0, after.stdout + after.stderr
    assert run_directories(tmp_path) == [run]
    events = [json.loads(line) for line in (run / "logs" / "events.jsonl").read_text().splitlines()]
    assert [event["step"] for event in events if event["event"] == "resume"] == [ends[-1]["step"]]
    assert events[-1]["status"] == "FINISHED"


def test_a_failed_cell_is_named_and_the_others_run(tmp_path: Path) -> None:
    """Exit code 1; the row of the other cell is there."""
    done = study(tmp_path, "broken", "--lanes", "1")
    assert done.returncode == 1
    assert "broken, seed 0: FAILED" in done.stdout
    assert "failed: broken, seed 0 (see " in done.stderr
    assert done.stdout.splitlines()[-1].startswith("| whole | ")


def test_seeds_become_an_interval() -> None:
    """Several values are shown as mean and interval, one as it is."""
    code = "from benchmarks.quality import mean_and_interval as show; print(show([1.0, 2.0, 3.0])); print(show([2.0]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["2.0000 [-0.4841, 4.4841]", "2.0000"]
