"""overview.html: one page that shows a run, whatever its state, and asks nobody for anything."""

import base64
import hashlib
import json
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from spectral_mlflow.config import ExperimentConfig, MonitoringConfig
from spectral_mlflow.journal import Journal
from spectral_mlflow.monitoring import ConfigTracker, ExperimentTracker, overview
from spectral_mlflow.monitoring.page_pictures import plots, spread
from spectral_mlflow.monitoring.run_facts import newest_line
from spectral_mlflow.plots.style import DARK
from spectral_mlflow.settings import build

MARKUP = "</script></title><img src=x onerror=alert(1)>"
VOID = {"meta", "img", "input"}
OWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "div", "h1", "h2", "h3", "h4", "span", "progress", "p",
    "strong", "bdi", "details", "summary", "pre", "code", "dl", "dt", "dd", "main", "section", "label", "input",
    "output", "figure", "figcaption", "img", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "footer",
    "script",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser makes of a page: its tags with their attributes, and the texts in them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.code: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Make sure that what is closed was open."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if self._open and self._open[-1] in ("style", "script"):
            self.code[self._open[-1]] = data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that can be read."""
        return " ".join(self.texts)

    @property
    def state(self) -> str:
        """What the title says last."""
        return next(text for text in self.texts if text.strip()).rsplit(" · ", 1)[-1]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each tag of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run_dir: Path) -> Page:
    """The page of a run, after a look at what holds for any of them."""
    page = Page(overview.write(run_dir))
    assert {tag for tag, _ in page.tags} <= OWN_TAGS
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "style", "srcset")]
        assert str(attributes.get("src", "data:image/")).startswith("data:image/")
    return page


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


def draw(run_dir: Path, plot: str, step: int, color: str = "white") -> None:
    """A picture in the place of a plot."""
    Image.new("RGB", (64, 32), color).save(run_dir / "visualizations" / f"{plot}_step_{step}.png")


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


def test_each_plot_shows_its_newest_step_and_hides_the_others_behind_a_slider(tmp_path: Path) -> None:
    """So that it can be seen without scripts too; groups and plots stand in the order of the stores."""
    (tmp_path / "visualizations").mkdir()
    for step in (9, 10, 100):
        draw(tmp_path, "my_own", step)
        draw(tmp_path, "loss_curve", step)
    draw(tmp_path, "frequencies", 100)
    page = page_of(tmp_path)
    images = page.all("img")
    assert [image["data-step"] for image in images] == ["9", "10", "100", "100", "9", "10", "100"]
    assert [image["data-step"] for image in images if "hidden" not in image] == ["100"] * 3
    assert images[2]["alt"] == "Plot of loss curve at step 100"
    assert [box["max"] for box in page.all("input") if box["type"] == "range"] == ["2", "2"]
    assert [text for text in page.texts if text in ("training", "wave", "plots")] == ["training", "wave", "plots"]


def test_a_long_run_shows_some_steps_and_says_so(tmp_path: Path) -> None:
    """First and last are among them; the samples are thinned too."""
    (tmp_path / "visualizations").mkdir()
    (tmp_path / "samples").mkdir()
    for step in range(1, 41):
        draw(tmp_path, "phases", step)
        (tmp_path / "samples" / f"sample_step_{step}.txt").write_text(f"text {step}")
    page = page_of(tmp_path)
    steps = [int(str(image["data-step"])) for image in page.all("img")]
    assert {1, 40} <= set(steps)
    assert len(steps) <= 12
    assert {"text 1", "text 40"} <= {text.strip() for text in page.texts}
    assert "all of them are in visualizations/" in page.text
    assert "of 40 samples" in page.text


def test_pictures_that_would_make_the_page_too_large_are_fewer(tmp_path: Path) -> None:
    """The newest of each plot is always there."""
    (tmp_path / "visualizations").mkdir()
    for step in range(6):
        draw(tmp_path, "phases", step)
        draw(tmp_path, "harmonics", step)
    sizes = sum(path.stat().st_size for path in (tmp_path / "visualizations").iterdir())
    for largest, most in ((100_000, 6), (sizes // 2, 3), (0, 1)):
        shown = plots(tmp_path / "visualizations", largest=largest)
        assert [plot.name for plot in shown] == ["harmonics", "phases"]
        assert {plot.pictures[-1].step for plot in shown} == {5}
        assert {len(plot.pictures) for plot in shown} == {most}


def test_a_plot_that_was_drawn_again_is_shown_as_it_is_now(tmp_path: Path) -> None:
    """Pictures of the page so far are taken from there only where the file is the same."""
    (tmp_path / "visualizations").mkdir()
    draw(tmp_path, "phases", 1)
    draw(tmp_path, "phases", 2)
    first = page_of(tmp_path)
    path = tmp_path / "overview.html"
    taken = path.read_text().replace(str(first.all("img")[0]["src"]), "data:image/webp;base64,AAAA")
    path.write_text(taken)
    draw(tmp_path, "phases", 2, "red")
    second = page_of(tmp_path)
    assert second.all("img")[0]["src"] == "data:image/webp;base64,AAAA"
    assert second.all("img")[1]["src"] not in (None, first.all("img")[1]["src"])


@given(st.integers(0, 300), st.integers(0, 40))
def test_steps_are_spread_from_the_first_to_the_last(number: int, most: int) -> None:
    """Evenly but for the last, and what is left out once is left out for good as a run goes on."""
    chosen = spread(range(number), most)
    assert len(chosen) <= max(1, most)
    assert chosen[-1:] == list(range(number))[-1:]
    if most >= 2:
        assert chosen[:1] == list(range(number))[:1]
        assert len({later - earlier for earlier, later in pairwise(chosen[:-1])}) <= 1
        assert set(spread(range(number + 1), most)) <= {*chosen, number}


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
assert not {{"torch", "mlflow", "matplotlib.pyplot"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
