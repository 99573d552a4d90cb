"""`python -m spectral_mlflow.paper`, in this process and as a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking_store import TrackingStore, falling

from spectral_mlflow.paper import document

Paper = Callable[..., tuple[int, str, str]]

# The program with other templates, and without typst where that is asked for.
PROGRAM = """
import sys
from pathlib import Path
from spectral_mlflow.paper import document
from spectral_mlflow.paper.__main__ import main
document.TEMPLATES = Path(sys.argv.pop(1))
if sys.argv.pop(1) == "no typst":
    sys.modules["typst"] = None
sys.exit(main())
"""


def process(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=os.environ | environment, check=False
    )


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Templates of one sentence for each document, which are soon set."""
    folder = tmp_path / "templates"
    for kind in ("technical", "guide"):
        (folder / kind).mkdir(parents=True)
        (folder / kind / "01_all.md.j2").write_text('# Short\n\nLoss {{ num("main.wave.val_loss") }}.\n')
    monkeypatch.setattr(document, "TEMPLATES", folder)
    return folder


def test_both_documents_in_both_formats(study: TrackingStore, tmp_path: Path, paper: Paper) -> None:
    """The defaults write four files to SPECTRAL_HOME/paper and print their paths; nothing is missing."""
    code, out, _ = paper("--tracking-uri", study.uri)
    names = ["spectral_gpt_intuitive_guide", "spectral_gpt_technical_paper"]
    wanted = [str(tmp_path / "paper" / f"{name}.{kind}") for kind in ("md", "pdf") for name in names]
    assert code == 0
    assert set(wanted) <= set(out.split())
    assert (tmp_path / "paper" / "ledger.json").is_file()
    assert (tmp_path / "paper" / "latex" / "arxiv" / "main.tex").is_file()
    assert all(Path(path).stat().st_size > 5000 for path in wanted)


@pytest.mark.usefixtures("short")
def test_format_and_type_choose(study: TrackingStore, tmp_path: Path, paper: Paper) -> None:
    """One document, PDF alone: nothing else stays in the folder but the figures."""
    out_dir = tmp_path / "out"
    code, _, _ = paper(
        "--tracking-uri", study.uri, "--type", "intuitive", "--format", "pdf", "--output", str(out_dir), "--verbose"
    )
    assert code == 0
    guide = {f"spectral_gpt_intuitive_guide.{kind}" for kind in ("html", "pdf")}
    assert {path.name for path in out_dir.iterdir()} == guide | {".build.json", "figures", "ledger.json", "runs.csv"}


@pytest.mark.usefixtures("short")
def test_gaps_are_told_and_strict_fails(store: TrackingStore, tmp_path: Path, paper: Paper) -> None:
    """A missing model is named with its command; --strict makes that an exit code."""
    store.train("wave", 0, falling(2.4))
    arguments = ("--tracking-uri", store.uri, "--format", "markdown", "--output", str(tmp_path / "out"))
    code, out, err = paper(*arguments)
    assert code == 0
    assert len(out.split()) == 2
    assert "missing: no finished run of model=standard: run `mlflow run . -P model=standard --env-manager local`" in err
    assert "one seed only for wave" in err
    assert paper(*arguments, "--strict")[0] == 1


@pytest.mark.usefixtures("short")
def test_run_directories_that_the_store_lacks(study: TrackingStore, tmp_path: Path, paper: Paper) -> None:
    """A run directory without a run in the store is a gap with the command that sends it."""
    lost = tmp_path / "experiments" / "wave_20250101_000000_0123abcd"
    lost.mkdir(parents=True)
    (lost / "config.json").write_text("{}")
    _, _, err = paper("--tracking-uri", study.uri, "--format", "markdown")
    assert f"missing: run directory {lost.name} is not in the store: run `spectral sync {lost.name}`" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tracking-uri", "sqlite:////nowhere/mlflow.db"], "no MLflow store at /nowhere/mlflow.db"),
        (["--type", "novel"], "--type"),
        (["--template", "nature"], "allowed: arxiv, neurips, icml"),
        (["--experiments-dir", "/nowhere"], "--experiments-dir: given '/nowhere', which is not a folder"),
        (["--nonsense"], "--help"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_two(paper: Paper, arguments: list[str], words: str) -> None:
    """Mistakes say what was given and what to do, without a traceback."""
    code, out, err = paper(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert words in err
    assert err.count("\n") == 1


def test_no_store_names_the_path_and_the_command(tmp_path: Path, paper: Paper) -> None:
    """In an empty home the user learns where the store would be and how runs are made; nothing is written."""
    code, _, err = paper()
    assert code == 2
    assert str(tmp_path / "mlflow.db") in err
    assert "mlflow run . -P model=wave --env-manager local" in err
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(study: TrackingStore, tmp_path: Path, paper: Paper) -> None:
    """A file in the way of the folder is a user's mistake too."""
    (tmp_path / "taken").write_text("")
    code, _, err = paper("--tracking-uri", study.uri, "--output", str(tmp_path / "taken" / "paper"))
    assert code == 2
    assert "cannot be written" in err


def test_without_typst_markdown_is_written_with_instructions(study: TrackingStore, tmp_path: Path, short: Path) -> None:
    """A process in which typst cannot be imported writes the Markdown, says what to install, and ends with 0."""
    done = process(
        "-c", PROGRAM, str(short), "no typst", "--tracking-uri", study.uri, "--output", str(tmp_path / "out")
    )
    assert done.returncode == 0, done.stderr
    assert "pip install typst" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir() if path.is_file()} == {".md", ".json", ".csv"}


def test_without_pandoc_markdown_is_kept_even_for_pdf(study: TrackingStore, tmp_path: Path, short: Path) -> None:
    """A pandoc that is nowhere costs the PDF alone; with --strict the exit code tells."""
    arguments = ("--tracking-uri", study.uri, "--output", str(tmp_path / "out"), "--format", "pdf", "--strict")
    done = process("-c", PROGRAM, str(short), "", *arguments, PYPANDOC_PANDOC="/nowhere/pandoc")
    assert done.returncode == 1, done.stderr
    assert "pip install pypandoc_binary" in done.stderr
    assert {path.suffix for path in (tmp_path / "out").iterdir() if path.is_file()} == {".md", ".json", ".csv"}


def test_help_teaches_and_loads_neither_torch_nor_mlflow() -> None:
    """--help shows examples and exit codes, at once."""
    watch = (
        "import sys, atexit\n"
        "atexit.register(lambda: print('LOADED', {'torch', 'mlflow'} & sys.modules.keys()))\n"
        "from spectral_mlflow.paper.__main__ import main\n"
        "main(['--help'])"
    )
    done = process("-c", watch)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout
    assert "LOADED set()" in done.stdout
