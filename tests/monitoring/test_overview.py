"""overview.html: one page that shows a run, whatever its state, and asks nobody for anything."""

import base64
import hashlib
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from overview_page import MARKUP, draw, page_of

from spectral_mlflow.config import ExperimentConfig, MonitoringConfig
from spectral_mlflow.journal import Journal
from spectral_mlflow.monitoring import ConfigTracker, ExperimentTracker
from spectral_mlflow.monitoring.run_facts import newest_line
from spectral_mlflow.plots.palette import DARK
from spectral_mlflow.settings import build


def tracker(tmp_path: Path, name: str = "run", **further: Any) -> ExperimentTracker:
    """A run of its own that is sent nowhere."""
    monitoring = MonitoringConfig(experiments_dir=str(tmp_path / "experiments"), stores=(), code_snapshot=False)
    return ExperimentTracker(ExperimentConfig(name=name, monitoring=monitoring), **further)


def begun(tmp_path: Path, **further: Any) -> ExperimentTracker:
    """A run with three steps and one evaluation."""
    run = tracker(tmp_path, **further)
    run.start_experiment(dataset_info={"name": "tunes", "sha256": "ab" * 32, "num_tokens": 12345})
    for step in (1, 2, 3):
        run.log_metrics({"loss": 4.0 - step, "tokens_per_sec": 1000.0}, step)
    run.log_metrics({"val_loss": 1.25, "val_perplexity": 3.49, "best_val_loss": 1.25}, 3)
    return run


def test_a_running_run_shows_how_far_it_is(tmp_path: Path) -> None:
    """Its newest losses, its step among all and where its data came from."""
    run = begun(tmp_path)
    page = page_of(run.run_dir)
    run.close()
    assert f"{run.experiment_id} · running" in page.texts
    assert {"1.2500", "3.4900", "of 1,000", "tunes · 12,345 tokens"} <= set(page.texts)
    assert f"sha256 {'ab' * 32}" in page.texts
    assert page.all("progress")[0]["value"] == "3"
    assert "None has been drawn yet." in page.texts


def test_a_finished_run_shows_its_result(tmp_path: Path) -> None:
    """The final metrics and the best step, from before the end is told on."""
    run = begun(tmp_path)
    final = {"val_loss": 1.25, "perplexity": 3.49, "best_val_loss": 1.125, "best_step": 2, "tokens_per_second": 987.6}
    run.save_results(final, status="completed")
    before = page_of(run.run_dir)
    run.end_experiment("completed")
    run.close()
    for page in (before, page_of(run.run_dir)):
        assert page.state == "finished"
        assert {"best 1.1250 at step 2", "987.60"} <= set(page.texts)
        assert not page.all("progress")


def test_a_failed_run_says_why_and_how_to_go_on(tmp_path: Path) -> None:
    """With its traceback folded away, and the alerts with what to do."""
    run = begun(tmp_path)
    run.alert(2, "critical", "loss_spike", "the loss rose to 9", "lower the learning rate", cause="a bad batch")
    run.end_experiment("failed", ValueError("no more data"))
    run.close()
    assert "· failed</title>" in (run.run_dir / "overview.html").read_text()  # As the run has left it.
    page = page_of(run.run_dir)
    assert {"Failed:", "ValueError: no more data", f"spectral resume {run.experiment_id}"} <= set(page.texts)
    assert {"critical", "the loss rose to 9", "Advice: lower the learning rate"} <= set(page.texts)
    assert "Likely cause: a bad batch" in page.texts
    assert "traceback" in page.texts


def test_a_continued_run_is_running_again(tmp_path: Path) -> None:
    """What it said of an earlier end counts no more."""
    first = begun(tmp_path)
    first.end_experiment("killed", "SIGTERM")
    first.close()
    assert page_of(first.run_dir).state == "killed"
    second = tracker(tmp_path, run_dir=first.run_dir)
    second.start_experiment(step=3)
    page = page_of(first.run_dir)
    second.close()
    assert page.state == "running"
    assert "continued 1x" in page.texts


KILLED = """
import sys
from pathlib import Path
from spectral_mlflow.config import ExperimentConfig, MonitoringConfig
from spectral_mlflow.monitoring import ExperimentTracker
run = ExperimentTracker(ExperimentConfig(monitoring=MonitoringConfig(experiments_dir=sys.argv[1], stores=())))
run.start_experiment()
run.log_metrics({"loss": 2.5}, 7)
print(run.run_dir, flush=True)
sys.stdin.read()
"""


def test_a_run_that_was_killed_is_not_running(tmp_path: Path) -> None:
    """Its process has said nothing of an end, and nobody writes its directory any more."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        run_dir = Path(process.stdout.readline().strip())
        assert page_of(run_dir).state == "running"
        process.kill()
        process.wait()
    page = page_of(run_dir)
    assert page.state == "killed"
    assert {"it could not say why", "2.5000"} <= set(page.texts)


def test_a_loop_of_its_own_shows_its_settings_and_no_command(tmp_path: Path) -> None:
    """Whatever their names are; how its program was started is not known."""
    run = begun(tmp_path, settings={"learning-rate": 0.5, MARKUP: [1, 2]}, tags={"spectral.kind": "own-loop"})
    run.end_experiment()
    run.close()
    page = page_of(run.run_dir)
    assert {"learning-rate", "0.5", MARKUP, "1,2"} <= set(page.texts)
    assert "spectral train" not in page.text


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"model.type": "standard", "name": "a-name", "training.lr": "1e-4", "monitoring.stores": "none"},
        {"model.attention": "standard", "model.d_model": "32", "model.num_waves": "3", "runtime.compile": "true"},
        {"dataset.name": "text", "dataset.path": "with space/it's.txt", "dataset.tokenizer": "bpe"},
        {"dataset.name": "fineweb-edu", "dataset.max_tokens": "none", "monitoring.stores": "mlflow,wandb"},
    ],
)
def test_the_command_of_a_run_repeats_it(tmp_path: Path, given: dict[str, str]) -> None:
    """Its options are what was chosen, and together they give the same settings."""
    config = build(given)
    ConfigTracker(str(tmp_path)).save_config(config)
    page = page_of(tmp_path)
    start = page.texts.index("spectral train")
    end = page.texts.index("Settings and surroundings")
    options = [shlex.split(words) for words in page.texts[start:end] if words.startswith("--")]
    assert len(options) <= len(given)
    assert build(dict(options)) == config


def test_settings_of_another_version_are_repeated_from_their_file(tmp_path: Path) -> None:
    """Their names may mean nothing to this one."""
    (tmp_path / "config.json").write_text(json.dumps({"config": {"model": {"charm": 3}}}))
    page = page_of(tmp_path)
    assert f"--config {shlex.quote(str(tmp_path / 'config.json'))}" in page.texts
    assert "model.charm" in page.texts


def test_an_empty_directory_has_a_page(tmp_path: Path) -> None:
    """It says that nothing is known."""
    page = page_of(tmp_path)
    assert {"No metric has been measured yet.", "None has been drawn."} <= set(page.texts)
    assert page.state == "killed"


def test_damage_is_told_and_hides_nothing_else(tmp_path: Path) -> None:
    """Of config.json, results.json, lines of the journals and pictures."""
    run = begun(tmp_path)
    run.end_experiment()
    run.close()
    draw(run.run_dir, "loss_curve", 2)
    (run.run_dir / "visualizations" / "loss_curve_step_3.png").write_bytes(b"\x89PNG, or not")
    for name in ("config.json", "results.json"):
        (run.run_dir / name).write_text("{]")
    for name in ("metrics.jsonl", "events.jsonl"):
        path = run.run_dir / "logs" / name
        path.write_bytes(b'\xff\n[]\n"step":\n' + path.read_bytes() + b'{"step": 9, "val_loss":\n{"step": 10')
    page = page_of(run.run_dir)
    assert page.state == "finished"
    assert "config.json is damaged" in page.text
    assert "results.json is damaged" in page.text
    assert {"1.2500", "The file of step 3 is no picture."} <= set(page.texts)
    assert len(page.all("img")) == 1


def test_the_policy_allows_its_own_style_and_script_and_no_request(tmp_path: Path) -> None:
    """They are known by their digests, so that nothing else runs."""
    page = page_of(tmp_path)
    policy = str(next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    digests = {
        name: "'sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() + "'"
        for name, code in page.code.items()
    }
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        "style-src": digests["style"], "script-src": digests["script"],
    }  # fmt: skip
    assert DARK.ground in page.code["style"]
    assert "url(" not in page.code["style"]
    assert "@import" not in page.code["style"]


TEXTS = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=60) | st.sampled_from(
    [MARKUP, "{{ 7 * 7 }}", "{% raw %}", "&lt;b&gt;", "<!--", "]]>", "' onload='x", '" onload="x']
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A finished run with a sample."""
    run = begun(tmp_path)
    run.log_sample(1, "once upon a time")
    run.end_experiment()
    run.close()
    return run.run_dir


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=TEXTS, value=TEXTS, message=TEXTS, sample=TEXTS)
def test_whatever_was_written_shows_as_text(run_dir: Path, name: str, value: str, message: str, sample: str) -> None:
    """Names and values of settings, alerts and samples bring no tag and no attribute with them."""
    config = {"model": {"type": value}, "config": {f"set {name}": f"to {value}"}}
    (run_dir / "config.json").write_text(json.dumps(config))
    events = Journal(run_dir / "logs" / "events.jsonl")
    events.append({"event": "alert", "step": name, "severity": value, "kind": name, "message": f"saw {message}"})
    events.close()
    (run_dir / "samples" / "sample_step_1.txt").write_text(f"wrote {sample}", encoding="utf-8")
    texts = [text.strip("\n") for text in page_of(run_dir).texts]
    assert {f"set {name}", f"to {value}", f"saw {message}", f"wrote {sample}"} <= set(texts)


def test_names_of_files_show_as_text(run_dir: Path) -> None:
    """Of the run directory and of plots."""
    moved = run_dir.rename(run_dir.with_name("<img src=x onerror=alert(1)>"))
    draw(moved, '"><b>bold', 3)
    page = page_of(moved)
    assert page.texts.count("<img src=x onerror=alert(1)>") == 1
    assert page.all("img")[0]["alt"] == 'Plot of "><b>bold at step 3'


def test_what_a_page_cannot_have_is_shown_by_a_sign(run_dir: Path) -> None:
    """Control characters and halves of surrogate pairs."""
    events = Journal(run_dir / "logs" / "events.jsonl")
    events.append({"event": "alert", "step": 1, "severity": "info", "message": "a\x00b\x1b[31m\ud800"})
    events.close()
    assert "a␀b␛[31m?" in page_of(run_dir).texts


def test_numbers_that_are_none_have_a_page(run_dir: Path) -> None:
    """NaN, infinities and texts in the place of numbers."""
    final = {"val_loss": float("nan"), "perplexity": float("inf"), "total_time_seconds": float("nan"), "best_step": "x"}
    ConfigTracker(str(run_dir)).save_results({**final, "tokens_per_second": None, "final_step": True})
    assert {"nan", "inf"} <= set(page_of(run_dir).texts)


def test_only_the_end_of_the_metrics_is_needed(tmp_path: Path) -> None:
    """The newest whole line with a field, not one where its name is a value."""
    path = tmp_path / "metrics.jsonl"
    assert newest_line(path, "loss") == {}
    path.write_bytes(b"")
    assert newest_line(path, "loss") == {}
    path.write_bytes(
        b'{"step": 1, "loss": 2}\n{"step": 2, "note": "a \\"loss\\":"}\n{"step": 3, "x": {"loss": 1}}\n{"loss": '
    )
    assert newest_line(path, "loss") == {"step": 1, "loss": 2}
    assert newest_line(path, "step")["step"] == 3
    assert newest_line(path, "other") == {}


def test_a_page_takes_neither_torch_nor_mlflow(run_dir: Path) -> None:
    """Whoever writes one may be a small process."""
    code = f"""
import sys
from pathlib import Path
from spectral_mlflow.monitoring import overview
assert not {{"matplotlib", "PIL", "torch"}} & set(sys.modules)
overview.write(Path({str(run_dir)!r}))
assert not {{"torch", "mlflow", "matplotlib"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
