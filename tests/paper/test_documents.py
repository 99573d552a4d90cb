"""The two documents as Markdown: what they say is what the store has."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
from tracking_store import TEXT_HASH, TrackingStore, falling

from spectral_mlflow.analysis.statistics import estimate, paired_difference
from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.generator import INTUITIVE, TECHNICAL, PaperGenerator


def technical(store: TrackingStore, folder: Path, *experiments: str) -> str:
    """Text of the technical paper."""
    path = PaperGenerator(folder, tracking_uri=store.uri).generate_technical_paper(experiments)
    assert path == str(folder / TECHNICAL)
    return Path(path).read_text()


def guide(store: TrackingStore, folder: Path) -> str:
    """Text of the guide."""
    path = PaperGenerator(folder, tracking_uri=store.uri).generate_intuitive_guide()
    assert path == str(folder / INTUITIVE)
    return Path(path).read_text()


def table_row(text: str, first: str) -> list[str]:
    """Cells of the first table row that begins with a label."""
    (line, *_) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip().replace("&nbsp;", " ") for cell in line.strip("|").split("|")]


def test_the_tables_hold_the_numbers_of_the_store(study: TrackingStore, tmp_path: Path) -> None:
    """Means, intervals, perplexities and counts are those computed here from the losses that went in."""
    text = technical(study, tmp_path)
    for label, losses in (("V1", [2.3921, 2.3934, 2.3911]), ("V2", [2.4051, 2.4082, 2.4025])):
        row = table_row(text, label)
        assert row[4] == estimate(losses).text()
        assert row[5] == estimate([math.exp(loss) for loss in losses]).text(2)
        assert row[3] == "3"
    run = table_row(text, "R1")
    assert run[1:] == [
        "wave", "AdamW", "CE", "0", "300", "826,609", "tinyshakespeare", "2.4051", "11.08", "12,175", "finished",
    ]  # fmt: skip
    assert TEXT_HASH in text


def test_the_verdict_is_the_one_of_the_data(study: TrackingStore, tmp_path: Path) -> None:
    """Three seeds in which wave is higher each time give "higher", with the paired interval."""
    difference = paired_difference({0: 2.4051, 1: 2.4082, 2: 2.4025}, {0: 2.3921, 1: 2.3934, 2: 2.3911})
    for text in (technical(study, tmp_path), guide(study, tmp_path)):
        text = text.replace("&nbsp;", " ")
        assert f"was **higher** by {difference.mean:.4f} nats per token" in text
        assert f"wave minus standard {difference.text()}, 95 % interval, paired by seed" in text
        assert "826,609 parameters and the standard one 810,880" in text
        assert "**lower**" not in text


@pytest.mark.parametrize(
    ("wave", "words"),
    [
        ([2.30, 2.31, 2.29], "was **lower** by"),
        ([2.30, 2.50, 2.41], "The interval contains zero"),
        ([2.3], "One seed gives no"),
    ],
)
def test_the_words_follow_the_runs(store: TrackingStore, tmp_path: Path, wave: list[float], words: str) -> None:
    """The same template says lower, undecided, or that one seed decides nothing."""
    for seed, loss in enumerate(wave):
        store.train("wave", seed, falling(loss))
        store.train("standard", seed, falling(2.4 + 0.002 * seed))
    text = technical(store, tmp_path / "out")
    assert words in text
    assert ("**undecided**" in text) == ("lower" not in words)


def test_every_run_can_be_traced(study: TrackingStore, tmp_path: Path) -> None:
    """The appendix has the run id, the experiment id, the commit and the command of each run."""
    text = technical(study, tmp_path)
    runs = study.client.search_runs([study.experiment])
    assert len(runs) == 6
    for run in runs:
        assert f"| `{run.data.tags['spectral.key']}` | `{run.info.run_id}` | `0123abcd01` |" in text
    assert (
        "`spectral train --model.type wave --training.steps 300 --training.seed 2 --dataset.name tinyshakespeare`"
        in text
    )


def test_numbers_of_equations_figures_and_tables_agree(study: TrackingStore, tmp_path: Path) -> None:
    """Each is numbered from 1 in the order of the document, and every link leads to an anchor."""
    for text in (technical(study, tmp_path), guide(study, tmp_path)):
        anchors = re.findall(r'<a id="([\w-]+)"></a>', text)
        for kind in ("eq", "fig", "tab"):
            places = [int(anchor.split("-")[1]) for anchor in anchors if anchor.startswith(kind)]
            assert places == list(range(1, len(places) + 1))
        assert set(re.findall(r"\(#([\w-]+)\)", text)) <= set(anchors)
        for image in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (tmp_path / image).read_text().startswith("<?xml")
    assert [int(tag) for tag in re.findall(r"\\tag\{(\d+)\}", technical(study, tmp_path))] == list(range(1, 18))


def test_documents_repeat_byte_for_byte(study: TrackingStore, tmp_path: Path) -> None:
    """One store gives one text and one set of figures: nothing of the clock or of chance is in them."""
    for folder in (tmp_path / "a", tmp_path / "b"):
        technical(study, folder)
        guide(study, folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 8
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_no_run_is_a_named_gap(store: TrackingStore, tmp_path: Path) -> None:
    """An empty store gives both documents, with what to run, and without a result."""
    for text in (technical(store, tmp_path / "out"), guide(store, tmp_path / "out")):
        assert "no finished run of model=wave. Run `mlflow run . -P model=wave --env-manager local`" in text
        assert "no finished run of model=standard. Run `mlflow run . -P model=standard --env-manager local`" in text
        assert "loss was **" not in text
        assert "[Figure 0]" not in text


def test_one_run_is_half_a_study(store: TrackingStore, tmp_path: Path) -> None:
    """With one run its value stands without uncertainty, and the missing model is named."""
    store.train("wave", 0, falling(2.4))
    text = technical(store, tmp_path / "out")
    assert table_row(text, "V1")[4] == "2.4000 (one seed, no uncertainty)"
    assert "no finished run of model=standard" in text
    assert "No statement about wave against standard is made" in text


def test_unfinished_runs_are_listed_and_left_out(store: TrackingStore, tmp_path: Path) -> None:
    """A failed run is in the table of all runs and among the gaps, and in no mean."""
    store.train("wave", 0, falling(2.4))
    store.train("wave", 1, falling(9.0), status="KILLED")
    store.train("wave", 2, falling(9.0), status="RUNNING")
    text = technical(store, tmp_path / "out")
    assert table_row(text, "R2")[-1] == "killed"
    assert "ended as KILLED and is left out" in text
    assert "is still running" in text
    assert table_row(text, "V1")[3:5] == ["1", "2.4000 (one seed, no uncertainty)"]


def test_unequal_runs_are_not_compared(store: TrackingStore, tmp_path: Path) -> None:
    """The document refuses with the setting and both values."""
    store.train("wave", 0, falling(2.4), settings={"steps": "300"})
    store.train("standard", 0, falling(2.4), settings={"steps": "200"})
    text = technical(store, tmp_path / "out")
    assert "training.steps differs (wave 300, standard 200)" in text.replace("\\", "")
    assert "differed by" not in text


def test_a_hostile_name_breaks_no_table(store: TrackingStore, tmp_path: Path) -> None:
    """Bars, stars, tags and backticks in a run's name stay text and inside their cell."""
    store.train("wave", 0, falling(2.4), name="a|b*c*_d_`e`<script>$x$")
    store.train("wave", 1, falling(2.4), name="x|*_<`", status="FAILED")
    text = technical(store, tmp_path / "out")
    assert "`` a\\|b" not in text
    assert "``a\\|b*c*_d_`e`<script>$x$``" in text
    assert r"x\|\*\_\<\`" in text
    assert "<script>" not in text.replace("``a\\|b*c*_d_`e`<script>$x$``", "")


def test_only_the_runs_that_were_asked_for(study: TrackingStore, tmp_path: Path) -> None:
    """Experiment ids, run ids, their beginnings and run directories select runs; anything else is refused."""
    runs = study.client.search_runs([study.experiment], order_by=["attributes.start_time ASC"])
    key = runs[0].data.tags["spectral.key"]
    text = technical(study, tmp_path, f"experiments/{key}", runs[1].info.run_id[:12])
    assert runs[0].info.run_id in text
    assert runs[1].info.run_id in text
    assert runs[2].info.run_id not in text
    with pytest.raises(UserError, match="given 'nothing', but no training run has that id"):
        technical(study, tmp_path, "nothing")
    with pytest.raises(UserError, match="several runs begin with it"):
        technical(study, tmp_path, "wave_2025")


def test_an_unknown_template_is_refused(study: TrackingStore, tmp_path: Path) -> None:
    """The message lists the layouts that there are."""
    with pytest.raises(UserError, match="given 'nature'; allowed: arxiv, neurips, icml"):
        PaperGenerator(tmp_path, tracking_uri=study.uri).generate_technical_paper(template="nature")
