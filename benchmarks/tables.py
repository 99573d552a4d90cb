"""Tables for a terminal, for Markdown and for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

Cell = str | float | None

WIDTH = 150  # Of what is piped into a file; a terminal has a width of its own.


@dataclass(frozen=True)
class Table:
    """Rows of names and numbers.

    Attributes:
        title: what the table answers.
        columns: headings, with the units.
        rows: a cell for each column; None where there is nothing to say.
        notes: sentences below the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = ()


def text(cell: Cell) -> str:
    """A cell as people read it: whole numbers in groups of three digits, others to three digits."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    return f"{cell:,.0f}" if isinstance(cell, int) or abs(cell) >= 1000 else f"{cell:#.3g}".rstrip(".")


def show(facts: str, tables: Sequence[Table], *, markdown: bool) -> None:
    """Print the tables, and the line of facts that they hold for."""
    if markdown:
        print("\n\n".join([*map(as_markdown, tables), facts]))
        return
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    for table in tables:
        console.print(_as_rich(table))
        for note in table.notes:
            console.print(Text(note))
        console.print()
    console.print(Text(facts))


def save(path: Path, facts: Mapping[str, object], tables: Sequence[Table]) -> None:
    """Write facts and tables, numbers unrounded, as JSON."""
    path.write_text(json.dumps({"facts": facts, "tables": [asdict(table) for table in tables]}, indent=1) + "\n")


def as_markdown(table: Table) -> str:
    """One table of GitHub's Markdown, its title in bold above."""
    lines = [
        f"**{table.title}**",
        "",
        _line(table.columns),
        _line(["---", *["---:" for _ in table.columns[1:]]]),
        *[_line([text(cell) for cell in row]) for row in table.rows],
    ]
    return "\n".join([*lines, *[line for note in table.notes for line in ("", note)]])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _as_rich(table: Table) -> RichTable:
    shown = RichTable(title=table.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(table.columns):
        shown.add_column(column, justify="right" if index else "left")
    for row in table.rows:
        shown.add_row(*[Text(text(cell)) for cell in row])
    return shown
