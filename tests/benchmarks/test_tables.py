"""Tables of measurements."""

import json
from pathlib import Path

import pytest

from benchmarks.tables import Table, as_markdown, save, show, text

TABLE = Table("Speed", ("", "ms", "by"), [("a|b", 12.345, None), ("c", 3e-7, 12345)], ("A note.",))


@pytest.mark.parametrize(
    ("cell", "shown"),
    [(None, "-"), ("x", "x"), (820608, "820,608"), (7, "7"), (18213.4, "18,213"), (113.2, "113"), (1.0, "1.00"),
     (0.6471, "0.647"), (3.14e-7, "3.14e-07"), (0.0, "0.00")],
)  # fmt: skip
def test_cells_read_well(cell: str | float | None, shown: str) -> None:
    """Counts are whole, measurements have three digits, nothing is a dash."""
    assert text(cell) == shown


def test_markdown_has_a_line_for_each_row() -> None:
    """A bar in a name does not end its cell."""
    assert as_markdown(TABLE).splitlines() == [
        "**Speed**", "", "|  | ms | by |", "| --- | ---: | ---: |", r"| a\|b | 12.3 | - |", "| c | 3.00e-07 | 12,345 |",
        "", "A note.",
    ]  # fmt: skip


def test_terminal_shows_the_same_cells(capsys: pytest.CaptureFixture[str]) -> None:
    """Names, numbers, notes and facts are all there, and no name is taken for markup."""
    show("Facts.", [Table("T", ("", "ms"), [("[bold]a", 12.345)], ("A note.",))], markdown=False)
    printed = capsys.readouterr().out
    for expected in ("[bold]a", "12.3", "A note.", "Facts."):
        assert expected in printed


def test_json_keeps_numbers_unrounded(tmp_path: Path) -> None:
    """What was measured can be read back."""
    save(tmp_path / "found.json", {"threads": 2}, [TABLE])
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["facts"] == {"threads": 2}
    assert found["tables"][0]["rows"] == [["a|b", 12.345, None], ["c", 3e-7, 12345]]
