"""The ready tables of the documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectral_mlflow.analysis.design import NONE
from spectral_mlflow.paper import studies
from spectral_mlflow.paper.book import MODELS, Book
from spectral_mlflow.paper.commands import training_command
from spectral_mlflow.paper.fact import Fact, Missing
from spectral_mlflow.paper.facts import Cell
from spectral_mlflow.paper.ledger import Claimed
from spectral_mlflow.paper.markdown import code_span, md
from spectral_mlflow.paper.measures import ALL, TESTED

if TYPE_CHECKING:
    from spectral_mlflow.paper.writer import Writer

NAMES = {"standard": "Standard", "wave": "Wave"}
EMPTY = "\N{EN DASH}"
LOCAL = "http://localhost:5000"  # Where `mlflow ui` shows a store that is no server.


@dataclass(frozen=True)
class Table:
    """A table that is made from facts.

    Attributes:
        lacks: what the store does not have for it, None if it can be made.
        make: the Markdown.
    """

    lacks: Callable[[Book], Missing | None]
    make: Callable[[Writer], str]


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], alignment: str) -> str:
    """A table in Markdown; alignment has a letter l or r for each column."""
    rule = [":--" if letter == "l" else "--:" for letter in alignment]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def _main(writer: Writer) -> str:
    names = ("val_loss", "perplexity", "bits_per_char", "train_loss", "parameters", "flops_per_token", "last_step")
    rows = [_measure(writer, name) for name in names if _any(writer.book, name)]
    rows.append(["seeds", *(writer.num(f"main.{model}.seeds") for model in _models(writer.book)), EMPTY])
    return _side_by_side(writer, rows)


def _cost(writer: Writer) -> str:
    names = ("tokens_per_sec", "step_ms", "seconds", "peak_memory_mb", "steps_to_target", "seconds_to_target")
    return _side_by_side(writer, [_measure(writer, name) for name in names if _any(writer.book, name)])


def _side_by_side(writer: Writer, rows: list[list[str]]) -> str:
    header = ["", *(NAMES[model] for model in _models(writer.book)), "Wave minus standard"]
    return grid(header, rows, "l" + "r" * (len(header) - 1))


def _measure(writer: Writer, name: str) -> list[str]:
    of = ALL[name]
    label = f"{of.noun} ({of.unit})" if of.unit else of.noun
    plain = name in ("parameters", "flops_per_token", "last_step")
    write = writer.num if plain else writer.est
    cells = [
        write(f"main.{model}.{name}") if writer.has(f"main.{model}.{name}") else EMPTY for model in _models(writer.book)
    ]
    difference = f"main.{name}.difference"
    return [label, *cells, writer.est(difference) if name in TESTED and writer.has(difference) else EMPTY]


def _any(book: Book, name: str) -> bool:
    return any(isinstance(book.fact(f"main.{model}.{name}"), Fact) for model in _models(book))


def _models(book: Book) -> list[str]:
    return [model for model in reversed(MODELS) if model in book.facts.main]


def _parts(what: str) -> Callable[[Writer], str]:
    def make(writer: Writer) -> str:
        models = _models(writer.book)
        parts = ("embedding", "attention", "feedforward", "norms", "head", "total")
        rows = [[part, *(writer.num(f"layers.{model}.{part}.{what}") for model in models)] for part in parts]
        return grid(["Part", *(NAMES[model] for model in models)], rows, "l" + "r" * len(models))

    return make


def _ablation(writer: Writer) -> str:
    rows = []
    for name in writer.book.facts.ablation:
        test = f"ablation.{name}"
        tested = name != NONE and writer.has(test)
        rows.append([
            name, writer.num(f"{test}.seeds"), writer.est(f"{test}.val_loss"),
            studies.reference(name) if tested else EMPTY,
            writer.est(f"{test}.difference") if tested else EMPTY,
            _p(writer, f"{test}.p_holm") if tested else EMPTY,
            _outcome(writer, test) if tested else EMPTY,
        ])  # fmt: skip
    header = ("Cell", "Seeds", "Loss", "Against", "Difference", "$p$ (Holm)", "Outcome")
    return grid(header, rows, "lrrlrrl")


def _significance(writer: Writer) -> str:
    tests = [f"main.{name}" for name in writer.book.main_tests]
    tests += [f"ablation.{name}" for name in writer.book.ablation_tests]
    tests += [f"baseline.{name}" for name in writer.book.baseline_tests]
    rows = [_test(writer, test) for test in tests]
    header = ("Test", "Difference", "$p$", "$p$ (Holm)", "$g$", "Detectable", "$p$ (equiv., Holm)", "Outcome")
    return grid(header, rows, "lrrrrrrl")


def _test(writer: Writer, test: str) -> list[str]:
    group, _, about = test.partition(".")
    name = TESTED[about].noun if group == "main" else f"{about} against {studies.reference(about, group)}"
    numbers = [_p(writer, f"{test}.{what}") for what in ("p", "p_holm", "g", "mde", "p_equivalence_holm")]
    return [name, writer.est(f"{test}.difference"), *numbers, _outcome(writer, test)]


def _p(writer: Writer, key: str) -> str:
    return writer.num(key) if isinstance(writer.book.fact(key), Fact) else EMPTY


def _outcome(writer: Writer, test: str) -> str:
    outcome = writer.outcome(test)
    return writer.holder.hold(outcome, note=Claimed(test, outcome))


def _runs(writer: Writer) -> str:
    rows = [
        [
            run.label, md(run.cell), str(run.seed), writer.num(f"runs.{run.run_id}.last_step"),
            writer.num(f"runs.{run.run_id}.val_loss"), f"[{code_span(run.run_id)}]({page(writer.book, run.page)})",
            code_span(run.commit[:10]) if run.commit else EMPTY,
        ]
        for run in writer.book.facts.runs
    ]  # fmt: skip
    return grid(("Run", "Cell", "Seed", "Steps", "Loss", "MLflow run", "Commit"), rows, "llrrrll")


def page(book: Book, path: str) -> str:
    """Address of a page of the store; of a database the one at which `mlflow ui` shows it."""
    server = book.facts.store if book.facts.store.startswith("http") else LOCAL
    return f"{server.rstrip('/')}/{path}"


def _hyperparameters(writer: Writer) -> str:
    cells = [writer.book.facts.main[model] for model in _models(writer.book)]
    names = sorted({name for cell in cells for name in cell.settings} - {"training.seed"})
    rows = [[code_span(name, True), *(_setting(writer, cell, name) for cell in cells)] for name in names]
    return grid(["Setting", *(NAMES[cell.name] for cell in cells)], rows, "l" + "l" * len(cells))


def _setting(writer: Writer, cell: Cell, name: str) -> str:
    return writer.value(f"settings.{cell.name}.{name}") if name in cell.settings else EMPTY


def _commands(writer: Writer) -> str:
    items = []
    for cell in (*writer.book.facts.main.values(), *writer.book.facts.ablation.values()):
        runs = list(cell.runs.values())
        seeds = ", ".join(str(run.seed) for run in runs)
        which = f"{labels([run.label for run in runs])} ({md(cell.name)}, seeds {seeds})"
        settings = {name: value for name, value in runs[0].settings.items() if name != "training.seed"}
        items.append(f"- {which}: {code_span(f'{training_command(settings)} --seed SEED')}")
    return "\n".join(items)


def _evidence(writer: Writer) -> str:
    """Every fact in the text, by what it belongs to and the runs that it rests on."""
    shown = writer.before.shown if writer.before else []
    rows: dict[tuple[str, tuple[str, ...]], dict[str, str]] = {}
    for use in shown:
        fact = writer.book.fact(use.key)
        if (
            isinstance(fact, Fact)
            and fact.runs
            and not use.key.startswith(("runs.", "settings.", "ablation.settings."))
        ):
            group, _, name = use.key.rpartition(".")
            rows.setdefault((group, fact.runs), {}).setdefault(name, use.text)
    by_id = writer.book.facts.by_id
    lines = []
    for (group, runs), values in sorted(rows.items()):
        told = "; ".join(f"{name} {text}" for name, text in sorted(values.items()))
        lines.append([code_span(group, True), labels([by_id[run].label for run in runs if run in by_id]), told])
    return grid(("Facts", "Runs", "Values"), lines, "lll")


def _data(writer: Writer) -> str:
    names = ("name", "tokenizer", "tokens", "train_tokens", "val_tokens", "vocab_size", "sha256")
    rows = [[name.replace("_", " "), writer.value(f"data.{name}")] for name in names if writer.has(f"data.{name}")]
    return grid(("", "Value"), rows, "ll")


def labels(given: Sequence[str]) -> str:
    """Labels of runs with those in a row drawn together, such as R1 to R5."""
    numbers = sorted({int(label.removeprefix("R")) for label in given})
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(f"R{a}" if a == b else f"R{a}\N{EN DASH}R{b}" for a, b in parts)


def _needs_main(book: Book) -> Missing | None:
    return None if book.facts.main else book.lacking_cell("main", MODELS[0])


def _needs_layers(book: Book) -> Missing | None:
    for model in _models(book):
        if isinstance(costs := book.costs(model), Missing):
            return costs
    return _needs_main(book)


def _needs_ablation(book: Book) -> Missing | None:
    return None if book.facts.ablation else book.lacking_cell("ablation", NONE)


def _needs_tests(book: Book) -> Missing | None:
    return None if book.main_tests or book.ablation_tests else book.lacking_measure("val_loss")


def _needs_runs(book: Book) -> Missing | None:
    return None if book.facts.runs else book.lacking_cell("main", MODELS[0])


TABLES: dict[str, Table] = {
    "main": Table(_needs_main, _main),
    "cost": Table(_needs_main, _cost),
    "parameters": Table(_needs_layers, _parts("parameters")),
    "flops": Table(_needs_layers, _parts("flops")),
    "ablation": Table(_needs_ablation, _ablation),
    "significance": Table(_needs_tests, _significance),
    "runs": Table(_needs_runs, _runs),
    "hyperparameters": Table(_needs_main, _hyperparameters),
    "commands": Table(_needs_runs, _commands),
    "evidence": Table(_needs_runs, _evidence),
    "data": Table(_needs_runs, _data),
}
