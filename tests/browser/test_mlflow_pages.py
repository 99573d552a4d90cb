"""What the pages of MLflow show of runs, in the system's Chromium against a real ``mlflow ui``.

The screenshots are in the test's folder, and in the one that the environment variable SPECTRAL_SCREENSHOTS names.
It is one test, so that one worker makes one store, one server and one browser; each page is a part of it.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from spectral_mlflow import provenance

pytest.importorskip("selenium", reason="the test needs the package selenium")
if missing := [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]:
    pytest.skip(f"the test needs the system's {' and '.join(missing)}", allow_module_level=True)

from chromium import PATIENCE, Chromium
from refusing_proxy import RefusingProxy
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

MARKUP = "<b>bold</b><img src=x onerror='window.ran=1'>![x](http://elsewhere.invalid/x.png)[x](javascript:window.ran=1)"
STARTING = 600  # Seconds for three small runs, or for a server, on a machine that does much else.
STEPS = 30
COMMIT = provenance.git_state()["commit"]


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that other processes do."""
    pause, deadline = threading.Event(), time.monotonic() + STARTING
    while not condition():
        assert time.monotonic() < deadline, f"it did not come to that: {what}"
        pause.wait(0.1)


@contextmanager
def program(*command: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program that does not outlive the test, nor what it starts in its group, in the folder of its log."""
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=log.parent, env={**os.environ, **environment}, text=True, process_group=0,
            stdin=subprocess.PIPE, stdout=output, stderr=output,
        )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)


class Store:
    """A store with three runs, and its server."""

    def __init__(self, folder: Path, port: int) -> None:
        """The runs are there already."""
        self.port = port
        states = {}
        for name in ("finished", "failed", "held"):
            [run_dir] = (folder / "experiments").glob(f"{name}_*")
            state = run_dir / "stores" / "mlflow.json"
            until(lambda state=state: state.is_file() and json.loads(state.read_text())["metrics_offset"] > 0, name)
            states[name] = json.loads(state.read_text())
        self.runs = {name: state["run_id"] for name, state in states.items()}
        self.experiment = states["finished"]["experiment_id"]
        self._home = f"http://127.0.0.1:{port}/#"

    def page(self, run: str, tab: str = "") -> str:
        """Address of a run's page."""
        return f"{self._home}/experiments/{self.experiment}/runs/{self.runs[run]}{tab}"

    def experiment_page(self) -> str:
        """Address of the table of runs."""
        return f"{self._home}/experiments/{self.experiment}/runs"

    def comparison(self, *runs: str) -> str:
        """Address of the page that compares runs."""
        chosen = quote(json.dumps([self.runs[run] for run in runs]))
        return f"{self._home}/compare-runs?runs={chosen}&experiments={quote(json.dumps([self.experiment]))}"

    def rename(self, run: str, name: str) -> None:
        """Do what the page does when a user gives a run another name."""
        body = json.dumps({"run_id": self.runs[run], "run_name": name})
        assert self.ask("POST", "/ajax-api/2.0/mlflow/runs/update", body) == 200

    def ask(self, method: str, path: str, body: str | None = None) -> int:
        """The server's status for a request; 0 while it does not listen."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            return connection.getresponse().status
        except OSError:
            return 0
        finally:
            connection.close()


@pytest.fixture
def elsewhere() -> Iterator[RefusingProxy]:
    """The way out for all programs but the browser."""
    with RefusingProxy() as proxy:
        yield proxy


@pytest.fixture
def store(tmp_path: Path, elsewhere: RefusingProxy) -> Iterator[Store]:
    """Real runs, one of which goes on, and ``mlflow ui`` over them."""
    out = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), f"http://{elsewhere.address}")
    out |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
    runs = (sys.executable, str(Path(__file__).with_name("three_runs.py")), MARKUP)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    server = (sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1")
    log = tmp_path / "runs.log"
    with program(*runs, log=log, **out) as training:
        until(lambda: "three runs\n" in log.read_text() or training.poll() is not None, "the runs are there")
        assert training.poll() is None, log.read_text()
        with program(*server, log=tmp_path / "server.log", **out):
            made = Store(tmp_path, port)
            until(lambda: made.ask("GET", "/health") == 200, "the server answers")
            yield made
            training.communicate(timeout=STARTING)  # Its input ends, and with it the run that goes on.
            assert training.returncode == 0, log.read_text()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    """Chromium, whose pages cannot leave the machine."""
    folders = [tmp_path, *(Path(name) for name in [os.environ.get("SPECTRAL_SCREENSHOTS")] if name)]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    with Chromium(folders) as chromium:
        yield chromium


def test_a_user_of_mlflow_sees_the_runs(store: Store, browser: Chromium, elsewhere: RefusingProxy, subtests) -> None:
    """Each page shows what it should of a finished, a failed and a running run, and none asks another machine."""
    store.rename("failed", MARKUP)
    for page in (experiment, overviews, metrics, pdf, jsonl, overview_html, failed_overview_html, comparison):
        with subtests.test(page.__doc__):
            page(store, browser)
            assert is_harmless(browser)
    browser.driver.switch_to.default_content()
    browser.driver.execute_async_script("fetch('http://elsewhere.invalid/last').catch(() => 0).then(arguments[0])")
    assert browser.outside == ["GET http://elsewhere.invalid/last"]
    assert elsewhere.asked == []


def is_harmless(browser: Chromium) -> bool:
    """Whether nothing in the page or frame was made from a user's text but text."""
    script = (
        "return document.querySelectorAll('[onerror], a[href^=javascript]').length === 0 && window.ran === undefined"
    )
    return bool(browser.driver.execute_script(script))


def experiment(store: Store, browser: Chromium) -> None:
    """The experiment page: data set, source, commit and model of each run."""
    browser.open(store.experiment_page())
    browser.shows("3 matching runs", MARKUP)
    for button in browser.all("button[aria-label=Close]"):  # An assistant that asks for an account, over a third.
        button.click()
    [columns] = [button for button in browser.all("button") if button.text.strip() == "Columns"]
    columns.click()
    browser.until(lambda: browser.all("span[title=Version]"), "the columns that can be chosen")[0].click()
    columns.send_keys(Keys.ESCAPE)
    browser.until(lambda: len(cells(browser, "Version")) == 3, "the column of the commit")
    browser.screenshot("experiment")
    assert sorted(cells(browser, "Source")) == ["spectral_mlflow"] * 3
    assert sorted(cells(browser, "Models")) == ["-", "-", "best"]
    [data] = [text for text in cells(browser, "Dataset") if text != "-"]
    assert data.startswith("text (")
    assert set(cells(browser, "Version")) == {COMMIT[:6] if COMMIT != provenance.UNKNOWN else "-"}


def cells(browser: Chromium, column: str) -> list[str]:
    """The texts of a column of the table of runs."""
    return [cell.text for cell in browser.all(f"[role=gridcell][col-id='attributes.`{column}`']")]


def overviews(store: Store, browser: Chromium) -> None:
    """The pages of the runs: how each ended or goes on, its description with plots, and what came of it."""
    expected = {
        "held": ("Running", "model: Linear, 2 parameters"),
        "failed": ("Failed", f"ended: FAILED, Defect: {MARKUP}"),
        "finished": ("Finished", "result: validation loss"),
    }
    for run, (status, description) in expected.items():
        browser.open(store.page(run))
        lines = browser.shows("About this run", description).splitlines()
        about = lines[lines.index("About this run") :]
        assert about[about.index("Status") + 1] == status
        assert COMMIT == provenance.UNKNOWN or COMMIT[:7] in about
        browser.driver.execute_script("document.querySelector(`[aria-label='Expand description']`)?.click()")
        browser.screenshot(f"overview_{run}")
    assert "text (" in browser.text()
    assert "python -m spectral_mlflow train" in browser.text()
    plots = browser.all("[data-testid=note-editor-preview-content] img")
    assert [f"step%2B{STEPS}" in (plot.get_attribute("src") or "") for plot in plots] == [True, True]
    browser.until(lambda: all(plot.get_property("naturalWidth") for plot in plots), "the plots of the description")


def metrics(store: Store, browser: Chromium) -> None:
    """The metrics of a run: images beside the charts of their prefix, at the step that the slider says."""
    browser.open(store.page("finished", "/model-metrics"))
    section = browser.until(lambda: starting(browser, ".du-bois-light-collapse-item", "wave"), "the section")
    browser.driver.execute_script("arguments[0].scrollIntoView()", section)
    card = browser.until(
        lambda: starting(browser, "[data-testid=experiment-view-compare-runs-card]", "wave/frequencies"), "the card"
    )
    assert {"temperature", "wave/frequencies"} <= set(section.text.splitlines())
    browser.until(lambda: shown(card, 0), "the image of step 0")
    [slider] = card.find_elements("css selector", "[role=slider]")
    browser.driver.execute_script("arguments[0].focus()", slider)
    browser.driver.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    picture = browser.until(lambda: shown(card, STEPS), f"the image of step {STEPS}")
    assert slider.get_attribute("aria-valuenow") == str(STEPS)
    assert shown(card, 0) is None
    # A card has all settings of its run above the picture.
    browser.driver.execute_script("arguments[0].scrollIntoView()", picture)
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", card)
    browser.screenshot("metrics")


def starting(browser: Chromium, selector: str, text: str) -> WebElement | None:
    """The element whose first line is a text."""
    return next((found for found in browser.all(selector) if found.text.splitlines()[:1] == [text]), None)


def shown(card: WebElement, step: int) -> WebElement | None:
    """The picture of a step in a card, once it is drawn, larger than the 256 pixels of MLflow's own."""
    for picture in card.find_elements("tag name", "img"):
        if f"step%2B{step}%2B" in picture.get_attribute("src") and picture.get_property("naturalWidth") > 256:
            return picture
    return None


def artifact(store: Store, browser: Chromium, run: str, path: str) -> None:
    """Choose a file among the artifacts."""
    browser.open(store.page(run, f"/artifacts/{path}"))
    browser.shows(f"{Path(path).name}", "Path: ")


def pdf(store: Store, browser: Chromium) -> None:
    """A PDF among the artifacts: its page is drawn."""
    artifact(store, browser, "failed", "artifacts/report.pdf")
    drawn = """
        const page = document.querySelector('canvas.react-pdf__Page__canvas');
        if (!page || !page.width) return 0;
        const pixels = page.getContext('2d').getImageData(0, 0, page.width, page.height);
        return new Set(new Uint32Array(pixels.data.buffer)).size
    """
    browser.until(lambda: browser.driver.execute_script(drawn) > 10, "the colours of the page")
    browser.screenshot("artifact_pdf")


def jsonl(store: Store, browser: Chromium) -> None:
    """A JSONL file among the artifacts: its lines are to be read."""
    artifact(store, browser, "finished", "logs/metrics.jsonl")
    browser.shows('"val_loss"', f'"step": {STEPS}')
    browser.screenshot("artifact_jsonl")


def overview_html(store: Store, browser: Chromium) -> None:
    """The overview of a run, one file of HTML: all its plots are shown."""
    artifact(store, browser, "finished", "overview.html")
    frame = browser.until(lambda: browser.all("iframe[src^=blob]"), "the frame")[0]
    assert frame.get_attribute("sandbox") == "allow-scripts"
    browser.driver.switch_to.frame(frame)
    browser.shows("finished_", "validation loss", "Repeat it")
    browser.until(
        lambda: browser.driver.execute_script(
            "return document.images.length > 5 && [...document.images].every(image => image.naturalWidth > 0)"
        ),
        "the plots",
    )
    browser.screenshot("artifact_html")


def failed_overview_html(store: Store, browser: Chromium) -> None:
    """The overview of the failed run: a user's markup is text there too."""
    artifact(store, browser, "failed", "overview.html")
    browser.driver.switch_to.frame(browser.until(lambda: browser.all("iframe[src^=blob]"), "the frame")[0])
    browser.shows(f"Defect: {MARKUP}")
    browser.screenshot("artifact_html_failed")


def comparison(store: Store, browser: Chromium) -> None:
    """The comparison of two runs: names, a plot, parameters and metrics side by side."""
    browser.open(store.comparison("finished", "failed"))
    browser.shows("Comparing 2 Runs from 1 Experiment", "finished_", MARKUP, "training.steps", "grad/norm")
    browser.until(lambda: browser.all(".js-plotly-plot .parcoords, .js-plotly-plot svg"), "the plot")
    browser.screenshot("comparison")
