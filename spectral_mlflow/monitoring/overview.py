"""The overview of a run: one HTML file with everything that a person wants to see of it, made from its directory alone.

It asks nobody for anything: pictures are in it, its content security policy forbids every request, and its one script
only moves through the steps, so that it also works without. All that a user or a model has written is escaped by
jinja2; none of it comes near style or script.
"""

from __future__ import annotations

import base64
import hashlib
import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from spectral_mlflow import journal
from spectral_mlflow.files import replace_file
from spectral_mlflow.monitoring.plot_keys import KEYS, key_of
from spectral_mlflow.monitoring.run_facts import RunFacts, section, text
from spectral_mlflow.monitoring.structured_log import duration
from spectral_mlflow.plots.palette import DARK, LIGHT

FILE = "overview.html"
TEMPLATES = Path(__file__).with_name("templates")

MOST_SAMPLES = 12
LONGEST_SAMPLE = 5_000
MOST_ALERTS = 30
LONGEST_VALUE = 500

# A page shows control characters, which HTML does not have, by their pictures.
_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}


class Fact(NamedTuple):
    """One number or text of the page.

    Attributes:
        name: what it is.
        value: as shown.
        note: what else there is to say of it.
    """

    name: str
    value: str
    note: str = ""


class Step(NamedTuple):
    """What there was at one step: a text."""

    step: int
    text: str


def write(run_dir: Path) -> Path:
    """Write overview.html of a run, whatever its state.

    Args:
        run_dir: the run; read are its config.json, results.json, logs, samples and visualizations.

    Returns:
        The page.

    Raises:
        OSError: a file of the run is there and cannot be read, or the disk refuses the page.
    """
    page = run_dir / FILE
    replace_file(page, render(run_dir).encode(errors="replace"))
    return page


def render(run_dir: Path) -> str:
    """The page as a text (see `write`)."""
    from spectral_mlflow.monitoring.page_pictures import MOST_PICTURES, plots  # Takes Pillow, which only a page needs.

    facts = RunFacts(run_dir)
    shown = plots(run_dir / "visualizations", run_dir / FILE)
    samples, samples_total = _samples(run_dir / "samples")
    return _environment().get_template("overview.html.j2").render(
        run=facts,
        dark=DARK,
        light=LIGHT,
        written=journal.now(),
        highlights=list(_highlights(facts)),
        what=list(_what(facts)),
        groups=_groups(shown),
        thinned=len(shown) >= MOST_PICTURES or any(plot.total > len(plot.pictures) for plot in shown),
        samples=samples,
        samples_total=samples_total,
        alerts=facts.told("alert")[: -MOST_ALERTS - 1 : -1],
        alerts_total=len(facts.told("alert")),
        error=next(iter(facts.told("error")[::-1]), {}) if facts.status == "failed" else {},
        metrics={name: value for name, value in {**facts.measured, **facts.newest}.items() if name != "timestamp"},
        total_steps=_total_steps(facts),
    )  # fmt: skip


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        csp=_hash, number=number, value=_value, moment=_moment, duration=duration, section=section
    )
    return environment


def _visible(value: Any) -> Any:
    """What is printed: texts without characters that a page cannot have."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else value.translate(_CONTROL)


def _hash(code: str) -> str:
    """What allows this very style or script in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def number(value: Any) -> str:
    """A number for people: 12,345, 3.1056, 2.4e-05; anything else as a text."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return _value(value)
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        return _value(value)
    size = abs(value)
    if isinstance(value, int) or 1000 <= size < 1e15:
        return f"{value:,.0f}" if size < 1e15 else f"{float(value):.4g}"
    if 10 <= size < 1000:
        return f"{value:.2f}"
    return f"{value:.4f}" if 0.01 <= size < 10 else f"{value:.4g}"


def _value(value: Any, longest: int = LONGEST_VALUE) -> str:
    """A setting as a page shows it."""
    return _start(text(value), longest)


def _start(whole: str, longest: int) -> str:
    return whole if len(whole) <= longest else f"{whole[:longest]} ..."


def _moment(timestamp: Any) -> str:
    """A time stamp of the journal for people."""
    return re.sub(r"T(\d\d:\d\d:\d\d)\.\d+Z$", r" \1 UTC", str(timestamp))


def _total_steps(facts: RunFacts) -> int | None:
    steps = facts.settings.get("training.steps")
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def _highlights(facts: RunFacts) -> Iterator[Fact]:
    """The few numbers at the top."""
    numbers, total = facts.numbers, _total_steps(facts)
    if (loss := numbers.get("val_loss")) is not None:
        yield Fact("validation loss", number(loss), _best(numbers))
    elif (loss := numbers.get("loss")) is not None:
        yield Fact("training loss", number(loss), "" if facts.is_own_loop else "nats per token")
    if (perplexity := numbers.get("perplexity")) is not None:
        yield Fact("perplexity", number(perplexity), "" if facts.is_own_loop else "on held-out text")
    if (step := numbers.get("final_step")) is not None:
        yield Fact("step", number(step), f"of {total:,}" if total else "")
    if facts.seconds is not None:
        yield Fact("time", duration(facts.seconds), _in_steps(numbers.get("total_time_seconds")))
    if (speed := numbers.get("tokens_per_second")) is not None:
        yield Fact("tokens per second", number(speed))
    if (size := section(facts.config, "model").get("num_parameters")) is not None:
        yield Fact("parameters", number(size))


def _in_steps(seconds: Any) -> str:
    is_known = isinstance(seconds, (int, float)) and math.isfinite(seconds)
    return f"{duration(seconds)} in steps" if is_known else ""


def _best(numbers: Mapping[str, Any]) -> str:
    best, step = numbers.get("best_val_loss"), numbers.get("best_step")
    if best is None:
        return ""
    return f"best {number(best)}" + (f" at step {number(step)}" if step is not None else "")


def _what(facts: RunFacts) -> Iterator[Fact]:
    """What was trained on what, how and where."""
    model, data, machine = (section(facts.config, name) for name in ("model", "dataset", "hardware"))
    training = section(section(facts.config, "config"), "training")
    name = model.get("type") or model.get("class")
    yield from _fact("model", [
        _worded(name, "{}"), _worded(model.get("num_layers"), "{} layers"), _worded(model.get("num_heads"), "{} heads"),
        _worded(model.get("d_model"), "width {}"), _worded(model.get("block_size"), "context {}"),
    ], _mixture(model))  # fmt: skip
    yield from _fact("data", [
        _worded(data.get("name"), "{}"), _worded(data.get("num_tokens"), "{} tokens"),
        _worded(data.get("vocab_size"), "vocabulary {}"),
    ], _worded(data.get("sha256"), "sha256 {}"))  # fmt: skip
    yield from _fact("training", [
        _worded(training.get("steps"), "{} steps"), _worded(training.get("batch_size"), "batch {}"),
        _worded(training.get("optimizer"), "{}"), _worded(training.get("lr"), "learning rate {}"),
        _worded(training.get("loss"), "loss {}"), _worded(training.get("seed"), "seed {}"),
    ])  # fmt: skip
    yield from _fact("machine", [
        _worded(machine.get("gpu_model") or machine.get("cpu_model"), "{}"), _worded(machine.get("device"), "on {}"),
        _worded(machine.get("precision"), "{}"),
    ])  # fmt: skip
    if facts.started:
        yield Fact("started", _moment(facts.started), _worded(len(facts.told("resume")) or None, "continued {}x"))
    yield from _fact("best checkpoint", [_worded(facts.results.get("best_checkpoint"), "{}")])


def _fact(name: str, parts: Iterable[str], note: str = "") -> Iterator[Fact]:
    if value := " · ".join(part for part in parts if part):
        yield Fact(name, value, note)


def _worded(value: Any, words: str) -> str:
    """A value with its noun; nothing of what is not known."""
    if value in (None, ""):
        return ""
    return words.format(f"{value:g}" if isinstance(value, float) else number(value))


def _mixture(model: Mapping[str, Any]) -> str:
    """Of which kind the layers are, where they are not all of one."""
    parts = {part: model.get(part) for part in ("embedding", "attention", "feedforward")}
    mixed = len(set(parts.values())) > 1 and all(isinstance(kind, str) for kind in parts.values())
    return ", ".join(f"{kind} {part}" for part, kind in parts.items()) if mixed else ""


def _groups(shown: list[Any]) -> dict[str, list[Any]]:
    """The plots by the first part of their names in the stores, in the order of those."""
    order = {key: place for place, key in enumerate(KEYS.values())}
    ranked = sorted(shown, key=lambda plot: (order.get(key_of(plot.name), len(order)), plot.name))
    groups: dict[str, list[Any]] = {}
    for plot in ranked:
        groups.setdefault(key_of(plot.name).split("/")[0], []).append(plot)
    return groups


def _samples(folder: Path) -> tuple[list[Step], int]:
    """Samples to show, oldest first, and how many there are."""
    from spectral_mlflow.monitoring.page_pictures import files_by_step, spread

    files = files_by_step(folder, ".txt").get("sample", {})
    shown = [Step(step, _start_of(files[step])) for step in spread(sorted(files), MOST_SAMPLES)]
    return shown, len(files)


def _start_of(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return _start(file.read(LONGEST_SAMPLE + 1), LONGEST_SAMPLE)
