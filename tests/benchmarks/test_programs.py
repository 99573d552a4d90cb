"""The programs that measure speed and memory, as real processes at toy sizes."""

import json
import math
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from benchmarks import components, train_speed
from benchmarks.contenders import CONTENDERS
from benchmarks.pairs import PAIRS

ROOT = Path(__file__).parent.parent.parent
TOY = ("--toy", "--rounds", "1", "--threads", "1")
RIVALS = {contender.name for contender in CONTENDERS.values() if contender.package}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A program of this interpreter, run in the root."""
    return subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=300)


def measured(folder: Path, *command: str) -> tuple[list[dict[str, Any]], subprocess.CompletedProcess[str]]:
    """The tables of a program, and what it printed."""
    done = run(*command, *TOY, "--markdown", "--json", str(folder / "found.json"))
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "found.json").read_text())["tables"], done


def numbers(table: dict[str, Any], names: set[str] | None = None) -> list[float]:
    """All numbers in the rows of a table, or in those of some names."""
    rows = [row for row in table["rows"] if names is None or row[0] in names]
    return [cell for row in rows for cell in row if isinstance(cell, int | float)]


def test_train_speed_has_every_row(tmp_path: Path) -> None:
    """Every contender and every ratio has a row of finite numbers, judged by what is wanted of it."""
    tables, done = measured(tmp_path, "-m", "benchmarks.train_speed")
    ratios, speeds, growth, generation = tables
    missing = {name for name in RIVALS if find_spec(CONTENDERS[name].package or "") is None}
    assert [row[0] for row in speeds["rows"]] == list(CONTENDERS)
    assert len(ratios["rows"]) == 17
    for label, value, wanted, reached in ratios["rows"]:
        if value == "not measured":
            assert missing, label
            continue
        word, target = re.fullmatch(r"(at least|at most) ([\d.]+)", wanted).groups()
        if abs(value - float(target)) > 0.005:  # The target of the longer block is printed rounded.
            assert reached == ("yes" if (value > float(target)) == (word == "at least") else "NO"), label
    present = set(CONTENDERS) - missing
    assert len(numbers(speeds, present)) == 7 * len(present)
    assert [len(numbers(table)) for table in (growth, generation)] == [3 * 6, 3 * 4]
    for table in tables:
        assert all(math.isfinite(number) and number > 0 for number in numbers(table)), table["title"]
        assert table["title"] in done.stdout
    assert done.stdout.count("\n| ") == sum(2 + len(table["rows"]) for table in tables)
    assert "load average" in done.stdout
    parameters = {row[0]: row[-1] for row in speeds["rows"]}
    for name in RIVALS - missing:
        assert parameters[name] == pytest.approx(parameters["standard"], rel=0.15), "a rival of another size"


def test_components_have_every_row(tmp_path: Path) -> None:
    """Every form has a row; it equals its reference within single precision; every ladder has both forms."""
    (pairs, *ladders), done = measured(tmp_path, "-m", "benchmarks.components")
    assert [row[0] for row in pairs["rows"]] == list(PAIRS)
    for name, fast, literal, gain, values, gradients in pairs["rows"]:
        assert gain == pytest.approx(literal / fast)
        assert 0 <= values < 1e-4, name
        assert gradients is None if name == "RGD" else 0 <= gradients < 1e-4
    assert [ladder["title"].split()[2] for ladder in ladders] == list("TVWH")
    for ladder in ladders:
        names = [row[0] for row in ladder["rows"]]
        assert {"wave embedding, fast", "wave embedding, literal", "training step, wave"} <= set(names)
        assert len(numbers(ladder)) == 3 * len(names)
        assert all(math.isfinite(number) and number > 0 for number in numbers(ladder))
        assert ladder["title"] in done.stdout


def test_a_rival_that_is_not_installed_is_named(tmp_path: Path) -> None:
    """The others are measured, its rows say so, and one line says what to install."""
    program = (
        "import sys; sys.modules['transformers'] = None\n"
        "from benchmarks.train_speed import main; sys.exit(main())"
    )  # fmt: skip
    tables, done = measured(tmp_path, "-c", program, "--models", "wave-32,gpt2")
    (hint,) = [line for line in done.stderr.splitlines() if "gpt2" in line]
    assert "transformers is not installed" in hint
    assert "pip install -e '.[benchmarks]'" in hint
    by_name = {row[0]: row for row in tables[1]["rows"]}
    assert by_name["gpt2"][1] == "not installed"
    assert by_name["wave-32"][1] > 0
    assert any("gpt2 is not installed" in row[0] and row[1] == "not measured" for row in tables[0]["rows"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds: given '0'; allowed: a whole number, 1 or more"),
        (["--threads", "two"], "--threads: given 'two'"),
        (["--models", "standard,gtp2"], "--models: given 'gtp2'; allowed: standard, wave-16"),
        (["--json", "no/such/folder/found.json"], "--json: given 'no/such/folder/found.json'"),
        (["--json", "."], "--json: given '.'"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before any work, with exit code 2."""
    assert train_speed.main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in printed.err
    assert printed.err.count("\n") == 1


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    """Each program says what it does, names every choice, and shows how it is called."""
    for program, words in ((train_speed, [*CONTENDERS, "--toy"]), (components, ["--rounds", "--json"])):
        with pytest.raises(SystemExit, match="0"):
            program.main(["--help"])
        printed = capsys.readouterr().out
        name = program.__name__.split(".")[-1]
        for word in (*words, "examples:", f"python -m benchmarks.{name} --markdown"):
            assert word in printed
