"""What must fail a build: each fault on a real store, each told with the sentence, and nothing overwritten."""

from __future__ import annotations

import csv
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from study_store import add_main
from tracking_store import TrackingStore

from spectral_mlflow.paper import document, edition

Paper = Callable[..., tuple[int, str, str]]

TEXT = """# A paper

The loss of the wave model was {{ est("main.wave.val_loss") }} nats. {{ verdict("main.val_loss") }}

{{ table("runs", "All runs.") }}
"""


@pytest.fixture(scope="module")
def pair(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> TrackingStore:
    """Wave against standard with two seeds."""
    made = TrackingStore(tmp_path_factory.mktemp("pair"), empty_store)
    add_main(made, [2.4051, 2.4085], [2.3921, 2.3934])
    return made


@pytest.fixture
def write(
    pair: TrackingStore, tmp_path: Path, paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Build a paper of one section from a copy of the store: exit code, stdout, stderr."""
    templates = tmp_path / "templates"
    for kind in ("technical", "guide"):
        (templates / kind).mkdir(parents=True)
    monkeypatch.setattr(document, "TEMPLATES", templates)
    shutil.copyfile(pair.file, tmp_path / "mlflow.db")

    def run(text: str = TEXT, *more: str) -> tuple[int, str, str]:
        own = tmp_path / "out" / "sections" / "technical" / "01_results.md.j2"
        own.parent.mkdir(parents=True, exist_ok=True)
        if not own.is_file() or own.read_text() != text:
            own.write_text(text)
        return paper("--type", "technical", "--format", "markdown", "--output", str(tmp_path / "out"), *more)

    return run


def built(folder: Path) -> str:
    """The text that was written."""
    return (folder / "out" / document.FILES["technical"]).read_text()


@pytest.mark.parametrize(
    ("sentence", "words"),
    [
        ("The wave model reached 2.4067 nats.", "a bare number 2.4067"),
        ("It took five seeds.", "a bare number in words"),
        ("The wave model is clearly better.", "the verdict 'better' is bound to no test"),
        ('The loss {{ claim("main.val_loss", "lower", "is lower than that of the other") }}.', "is wrong: it is"),
        ('The wave model has {{ num("main.wave.vall_loss") }}.', "there is no key 'main.wave.vall_loss'"),
        ('It is {{ claim("main.val_loss", "undecided", "open after 12 tries") }}.', "a bare number 12"),
        (
            'It is {{ claim("main.val_loss", "undecided", "higher than the other") }}.',
            "is undecided is worded as higher",
        ),
        ("The wave model is _better_ than the other.", "the verdict 'better' is bound to no test"),
        ("The wave model has the lowest loss.", "the verdict 'lowest' is bound to no test"),
        ("A test gave $p = 0.012$.", "a bare number $p = 0.012$ as mathematics"),
        ("That p < 0.001 and an effect > zero.", "a bare number 0.001"),
        ("A loss of `1.43` nats.", "a bare number 1.43"),
        ("As {{ ref('fig', 'nothing') }} shows.", "the document has no fig nothing"),
        ("See {{ nothing }}.", "'nothing' is undefined"),
        ("See Section 7.", "there is no section 7"),
        ("It took &#49;&#50; hours.", "a bare number 49"),
        ("It is {{ 1 / 0 }}.", "division by zero"),
        ("It is {{ range(10 ** 9) | list }}.", "Range too big"),
    ],
)
def test_what_cannot_stand_fails_with_its_sentence(
    write: Callable[..., tuple[int, str, str]], tmp_path: Path, sentence: str, words: str
) -> None:
    """A bare number, a verdict, a wrong claim or an unknown key fails; the paper that was there stays."""
    assert write()[0] == 0
    before = built(tmp_path)
    code, out, err = write(TEXT + "\nA first sentence. " + sentence + "\n")
    failed = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert (code, out) == (1, "")
    assert words in failed[0]
    assert "spectral_gpt_technical_paper.md, technical/01_results.md.j2" in failed[0]
    assert sentence.split("{{")[0].strip() in failed[0]
    assert built(tmp_path) == before


def test_a_changed_metric_fails_with_the_sentence(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Another value of the same runs is drift; --accept takes it, and the next build is content."""
    write()
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        for table in ("latest_metrics", "metrics"):
            store.execute(f"UPDATE {table} SET value = value - 0.1 WHERE key = 'best_val_loss'")  # noqa: S608
    store.close()
    code, _, err = write()
    assert code == 1
    assert "main.wave.val_loss was 2.4" in err
    assert "in: The loss of the wave model was 2.4068" in err
    checked, _, wrong = write(TEXT, "--check")
    assert checked == 1
    assert "in: The loss of the wave model was 2.4068" in wrong
    assert write(TEXT, "--accept")[0] == 0
    assert "2.3068" in built(tmp_path)
    assert write(TEXT, "--check")[0] == 0


def test_a_deleted_run_fails_with_the_sentence(
    write: Callable[..., tuple[int, str, str]], pair: TrackingStore, tmp_path: Path
) -> None:
    """A run that the ledger names and the store lacks is named, with how to bring it back."""
    write()
    run_id = pair.client.search_runs([pair.experiment], "tags.`spectral.cell` = 'wave'")[0].info.run_id
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        store.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", (run_id,))
    store.close()
    code, _, err = write()
    assert code == 1
    assert f"mlflow runs restore --run-id {run_id}" in err
    assert "in: The loss of the wave model was 2.4068" in err
    assert write(TEXT, "--accept")[0] == 0


def test_a_paper_of_another_store_is_replaced(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Such as the one that lies in a clone: its runs are not gone, they have never been in this store."""
    assert write()[0] == 0
    path = tmp_path / "out" / "ledger.json"
    foreign = json.loads(path.read_text())
    foreign["runs"] = {run_id[::-1] + "f": run for run_id, run in foreign["runs"].items()}
    path.write_text(json.dumps(foreign))
    code, _, said = write(TEXT + "\nMore.\n")
    assert code == 0, said
    assert "of another store (none of its 4 runs is in this one); it is replaced" in said
    assert set(json.loads(path.read_text())["runs"]).isdisjoint(foreign["runs"])


def test_an_edited_paper_is_found_out(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """--check tells a sentence that was changed by hand, and writes nothing."""
    write()
    path = tmp_path / "out" / document.FILES["technical"]
    path.write_text(path.read_text().replace("2.4068", "2.3068"))
    code, _, err = write(TEXT, "--check")
    assert code == 1
    assert "for: The loss of the wave model was 2.3068" in err
    assert "2.3068" in path.read_text()


def test_the_ledger_leads_from_each_number_to_its_runs(
    write: Callable[..., tuple[int, str, str]], pair: TrackingStore, tmp_path: Path
) -> None:
    """Sentence, key, value, runs, commit and data hash are there; the same store gives the same bytes."""
    write()
    first = (tmp_path / "out" / "ledger.json").read_bytes()
    ledger = json.loads(first)
    wave = pair.client.search_runs([pair.experiment], "tags.`spectral.cell` = 'wave'")
    fact = ledger["facts"]["main.wave.val_loss"]
    assert fact["value"] == pytest.approx((2.4051 + 2.4085) / 2)
    assert fact["runs"] == sorted(run.info.run_id for run in wave)
    assert fact["commits"] == ["0123abcd" * 5]
    assert fact["data"] == ["3f1c" * 16]
    (use,) = [use for use in ledger["uses"] if use.get("key") == "main.wave.val_loss"]
    assert use["sentence"].startswith("The loss of the wave model was 2.4068")
    assert use["text"].startswith("2.4068")
    shutil.rmtree(tmp_path / "out")
    write()
    assert (tmp_path / "out" / "ledger.json").read_bytes() == first


def test_a_second_build_changes_nothing(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Where nothing changed the paths are told again and no file is touched; a changed file is made again."""
    _, paths, _ = write()
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    code, again, err = write()
    assert (code, again) == (0, paths)
    assert "nothing changed" in err
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == stamps
    (tmp_path / "out" / document.FILES["technical"]).write_text("by hand")
    assert "nothing changed" not in write()[2]
    assert "2.4068" in built(tmp_path)


def test_an_override_replaces_a_section(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """A file of the same name in OUTPUT/sections is rendered, linted and sandboxed like ours."""
    assert write('# Mine\n\n{# constant: 42: the answer #}\nWith 42 and {{ num("main.wave.seeds") }}.\n')[0] == 0
    assert built(tmp_path) == "# Mine\n\nWith 42 and 2.\n"
    code, _, err = write("{{ num.__func__.__globals__ }}")
    assert code == 1
    assert "unsafe" in err


def test_a_section_that_is_no_utf_8(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """One line names the file and what is allowed."""
    write()
    (tmp_path / "out" / "sections" / "technical" / "02_more.md.j2").write_bytes("caf\xe9".encode("latin-1"))
    code, _, err = write()
    assert code == 2
    assert "02_more.md.j2: unexpected end of data at byte 3; allowed: text in UTF-8" in err


def test_costs_on_different_machines_are_not_compared(
    write: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """They say as much of the machines; losses are compared all the same."""
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        one = "SELECT MIN(run_uuid) FROM params"
        store.execute(f"UPDATE params SET value = 'cuda' WHERE key = 'hardware.device' AND run_uuid = ({one})")  # noqa: S608
    store.close()
    code, _, err = write(
        '# A\n\n{{ verdict("main.val_loss") }}\n\n{{ num("main.step_ms.ratio") }} {{ one_machine() }}\n'
    )
    assert code == 0
    assert "time of a step: the runs are of different machines (device: cpu, cuda)" in err
    assert "**undecided**" in built(tmp_path)
    assert "False" in built(tmp_path)


def test_what_changes_during_a_build_is_in_the_next(
    write: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that read one thing before a change and another after it is not taken for the newest."""

    class Disturbed(edition.Build):
        def write(self, *args: Any, **options: Any) -> Any:
            done = super().write(*args, **options)
            (tmp_path / "out" / "sections" / "technical" / "02_more.md.j2").write_text("More.\n")
            return done

    with monkeypatch.context() as during:
        during.setattr(edition, "Build", Disturbed)
        assert write()[0] == 0
    assert "nothing changed" not in write()[2]
    assert "More." in built(tmp_path)
    assert "nothing changed" in write()[2]


def test_a_style_that_is_put_there_is_a_change(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """As the notice about a missing one of a conference asks for."""
    write()
    (tmp_path / "out" / "neurips_2026.sty").write_text("% A style\n")
    assert "nothing changed" not in write()[2]


def test_missing_facts_are_boxes_and_gaps(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """What was not measured is said in its place and named with its command; --strict makes that an exit code."""
    text = '# A\n\n{{ num("ablation.rgd.val_loss") }}\n\n{{ table("ablation", "Cells.") }}\n\n{{ gap_list() }}\n'
    code, _, err = write(text)
    assert code == 0
    assert built(tmp_path).count("ot measured") == 2
    assert "missing: no ablation of the components: run `spectral ablate components`" in err
    assert "- no ablation of the components: run `spectral ablate components`" in built(tmp_path)
    assert write(text, "--strict")[0] == 1


def test_the_summary_of_the_runs_is_checked_too(write: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """runs.csv has a row for each run, exact to the last digit; --check names a row that is not the store's."""
    write()
    path = tmp_path / "out" / "runs.csv"
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["cell"], row["seed"], row["best_val_loss"]) for row in rows] == [
        ("standard", "0", "2.3921"), ("standard", "1", "2.3934"), ("wave", "0", "2.4051"), ("wave", "1", "2.4085"),
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"FINISHED"}
    path.write_text(path.read_text().replace("2.4051", "2.3051"))
    code, _, err = write(TEXT, "--check")
    assert code == 1
    assert "wrong: runs.csv: the store does not have this row: R3,seeds,wave,0" in err


def test_other_runs_are_no_drift(
    write: Callable[..., tuple[int, str, str]], pair: TrackingStore, tmp_path: Path
) -> None:
    """A paper about other runs than before, as after a newer study, is built: nothing that it says has changed."""
    write()
    runs = pair.client.search_runs([pair.experiment], "tags.`spectral.seed` = '0'")
    code, _, err = write(TEXT, "--experiments", *(run.info.run_id for run in runs))
    assert code == 0, err
    assert "2.4051 (one seed, no uncertainty)" in built(tmp_path)
