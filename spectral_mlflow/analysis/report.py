"""Tables and sentences of a comparison as Markdown, CSV and one HTML page that needs nothing besides itself."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from spectral_mlflow.analysis import wording
from spectral_mlflow.analysis.convergence import Convergence
from spectral_mlflow.analysis.importance import Importance
from spectral_mlflow.analysis.side_by_side import Entry, Group, SideBySide
from spectral_mlflow.analysis.significance import Test
from spectral_mlflow.analysis.statistics import Estimate
from spectral_mlflow.files import replace_file

NAME = "comparison"
NOT_MEASURED = "not measured"

# Marks of Markdown, which an address or a name would otherwise become.
_MARKS = re.compile(r"[\\`*_{}<>#|~&$@]|\](?=[(\[:])")
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1f2328}"
    "table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "td,th{padding:.3rem .8rem;border-bottom:1px solid #d1d9e0;text-align:left;white-space:nowrap}img{max-width:100%}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Attributes:
        title: what it shows.
        columns: headings.
        rows: a text for each column.
        notes: sentences below.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def tables(found: SideBySide, important: Importance | None = None) -> list[Table]:
    """What is said of a comparison, for people.

    Args:
        found: the comparison.
        important: which settings mattered; None where nobody asked.
    """
    made = [
        table for number, group in enumerate(found.groups, 1) for table in _of_group(group, number, len(found.groups))
    ]
    if important is not None and important.shares:
        rows = [(", ".join(share.names), f"{share.share:.1%}") for share in important.shares]
        made.append(
            Table(f"What the loss hangs on ({important.runs} runs)", ("settings", "share"), rows, important.notes)
        )
    return made


def notes(found: SideBySide, important: Importance | None = None) -> list[str]:
    """What is said besides the tables."""
    return [*found.notes, *(important.notes if important is not None and not important.shares else ())]


def markdown(title: str, made: Sequence[Table], said: Sequence[str], figures: Sequence[Path] = ()) -> str:
    """A report as GitHub's Markdown.

    Args:
        title: of the report.
        made: its tables.
        said: sentences that stand first.
        figures: files beside it.
    """
    lines = [f"# {_literal(title)}", "", *(line for text in said for line in (f"- {_literal(text)}",)), ""]
    for table in made:
        rows = [table.columns, ["---"] * len(table.columns), *table.rows]
        lines += [f"## {_literal(table.title)}", ""]
        lines += ["| " + " | ".join(cell if cell == "---" else _literal(cell) for cell in row) + " |" for row in rows]
        lines += ["", *(f"- {_literal(note)}" for note in table.notes), ""]
    lines += [f"![{figure.stem.replace('_', ' ')}]({figure.name})\n" for figure in figures]
    return "\n".join(lines).rstrip() + "\n"


def page(title: str, made: Sequence[Table], said: Sequence[str], figures: Sequence[Path] = ()) -> str:
    """A report as one HTML page with its figures in it; it loads nothing.

    Args:
        title: of the report.
        made: its tables.
        said: sentences that stand first.
        figures: SVG files.
    """
    parts = [f"<h1>{html.escape(title)}</h1>", _list(said)]
    for table in made:
        head = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>\n" for row in table.rows)
        parts.append(f"<h2>{html.escape(table.title)}</h2><table><tr>{head}</tr>\n{body}</table>{_list(table.notes)}")
    for figure in figures:
        data = base64.b64encode(figure.read_bytes()).decode()
        parts.append(f'<p><img alt="{html.escape(figure.stem)}" src="data:image/svg+xml;base64,{data}"></p>')
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def write(
    folder: Path, title: str, found: SideBySide, important: Importance | None, figures: Sequence[Path]
) -> list[Path]:  # fmt: skip
    """Write a comparison as Markdown, HTML and CSV (variants, runs, verdicts, importance); returns the files.

    Args:
        folder: where to; the figures are in it.
        title: of the report.
        found: the comparison.
        important: which settings mattered; None where nobody asked.
        figures: SVG files.

    Raises:
        OSError: the disk refuses.
    """
    made, said = tables(found, important), notes(found, important)
    shares = [{"settings": ", ".join(one.names), "share": one.share} for one in (important.shares if important else ())]
    verdicts = [_verdict(number, test) for number, group in enumerate(found.groups, 1) for test in group.tests]
    files = {
        f"{NAME}.md": markdown(title, made, said, figures),
        f"{NAME}.html": page(title, made, said, figures),
        "variants.csv": _csv([_numbers(entry, number) for number, entry in _entries(found)]),
        "runs.csv": _csv([row for number, entry in _entries(found) for row in _runs(entry, number)]),
        "verdicts.csv": _csv(verdicts),
        "importance.csv": _csv(shares),
    }
    kept = {name: text for name, text in files.items() if text}
    for name, text in kept.items():
        replace_file(folder / name, text.encode())
    return [folder / name for name in kept]


def _of_group(group: Group, number: int, of: int) -> Iterator[Table]:
    data = str(group.terms.get("dataset.sha256") or "not recorded")[:12]
    apart = f"Group {number}: data {data}, context {group.terms.get('model.block_size')}: " if of > 1 else ""
    verdicts = [wording.line(test) for test in group.tests]
    yield Table(
        f"{apart}Results", ("variant", "seeds", "best validation loss", "perplexity", "parameters"),
        [(entry.label, _seeds(entry), entry.variant.loss.text(), entry.variant.perplexity.text(2),
          _count(entry.parameters)) for entry in group.entries],
        [*verdicts, *group.notes],
    )  # fmt: skip
    yield Table(
        f"{apart}Cost", ("variant", "tokens a second", "seconds of a run", "FLOPs a token"),
        [(entry.label, _text(entry.speed, 0), _text(entry.seconds, 1), _count(entry.flops)) for entry in group.entries],
    )  # fmt: skip
    yield Table(
        f"{apart}Until a validation loss of {group.target:.4f}", ("variant", "steps", "seconds", "runs that reach it"),
        [(entry.label, _when(entry.convergence, entry.convergence.steps, 0),
          _when(entry.convergence, entry.convergence.seconds, 1),
          f"{entry.convergence.reached} of {entry.convergence.runs}") for entry in group.entries],
        ["counted to the first measurement of the loss; seconds are wall time since a run began, pauses included"],
    )  # fmt: skip


def _seeds(entry: Entry) -> str:
    return ", ".join(map(str, sorted(entry.rows)))


def _text(found: Estimate | None, digits: int) -> str:
    if found is None:
        return NOT_MEASURED
    return re.sub(r"\d{4,}(?!\d*\.)", lambda number: f"{int(number[0]):,}", found.text(digits))


def _count(value: float | None) -> str:
    return NOT_MEASURED if value is None else f"{value:,.0f}"


def _when(found: Convergence, values: Mapping[int, float], digits: int) -> str:
    return _text(found.estimate(values), digits) if found.reached == found.runs else "not reached by all"


def _entries(found: SideBySide) -> Iterator[tuple[int, Entry]]:
    for number, group in enumerate(found.groups, 1):
        for entry in group.entries:
            yield number, entry


def _numbers(entry: Entry, number: int) -> dict[str, object]:
    steps, seconds = (entry.convergence.estimate(v) for v in (entry.convergence.steps, entry.convergence.seconds))
    estimates = {
        "best_val_loss": entry.variant.loss, "perplexity": entry.variant.perplexity, "tokens_per_second": entry.speed,
        "seconds": entry.seconds, "steps_to_target": steps, "seconds_to_target": seconds,
    }  # fmt: skip
    return {
        "group": number, "variant": entry.label, "seeds": len(entry.rows), "parameters": entry.parameters,
        "flops_per_token": entry.flops, "target": entry.convergence.target,
        **{column: value for name, found in estimates.items() for column, value in _ends(name, found)},
    }  # fmt: skip


def _ends(name: str, found: Estimate | None) -> Iterator[tuple[str, float | None]]:
    yield name, None if found is None else found.mean
    yield f"{name}_low", None if found is None else found.low
    yield f"{name}_high", None if found is None else found.high


def _runs(entry: Entry, number: int) -> Iterator[dict[str, object]]:
    for seed, row in sorted(entry.rows.items()):
        yield {
            "group": number, "variant": entry.label, "seed": seed, "name": row["name"], "run_id": row["run_id"],
            "best_val_loss": entry.variant.losses[seed], "steps_to_target": entry.convergence.steps.get(seed),
            "seconds_to_target": entry.convergence.seconds.get(seed),
        }  # fmt: skip


def _verdict(number: int, test: Test) -> dict[str, object]:
    return {
        "group": number, "test": test.name, "outcome": test.outcome, "negligible": test.negligible,
        "difference": test.difference.mean, "difference_low": test.difference.low,
        "difference_high": test.difference.high, "p": test.p, "p_holm": test.p_holm, "g": test.g, "mde": test.mde,
        "p_equivalence": test.p_equivalence, "margin": test.margin, "paired": test.paired,
    }  # fmt: skip


def _csv(rows: Sequence[Mapping[str, object]]) -> str:
    if not rows:
        return ""
    text = StringIO()
    pd.DataFrame([{key: inert(value) for key, value in row.items()} for row in rows]).to_csv(text, index=False)
    return text.getvalue()


def inert(value: Any) -> Any:
    """A value, but for a text that a spreadsheet would take for a formula, which gets an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _literal(text: str) -> str:
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", " ".join(text.split()))


def _list(texts: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>" if texts else ""
