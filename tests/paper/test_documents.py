"""The two documents as they come with the package, of a store with both studies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from study_store import add_main
from tracking_store import TrackingStore, falling

from spectral_mlflow.analysis.statistics import estimate
from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import manifest
from spectral_mlflow.paper.build import Build
from spectral_mlflow.paper.generator import INTUITIVE, TECHNICAL, PaperGenerator
from spectral_mlflow.paper.request import Request


@pytest.fixture(scope="module")
def documents(empty_store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """Text of the paper and of the guide, and their folder."""
    store = TrackingStore(tmp_path_factory.mktemp("store"), empty_store)
    add_main(store)
    generator = PaperGenerator(tmp_path_factory.mktemp("paper"), tracking_uri=store.uri)
    paths = generator.generate_technical_paper(), generator.generate_intuitive_guide()
    assert [Path(path).name for path in paths] == [TECHNICAL, INTUITIVE]
    return Path(paths[0]).read_text(), Path(paths[1]).read_text(), generator.output_dir


def test_the_numbers_are_those_of_the_store(documents: tuple[str, str, Path]) -> None:
    """Means and intervals are those computed here from the losses that went in, and the verdict follows them."""
    for text in documents[:2]:
        text = text.replace("&nbsp;", " ")
        assert estimate([2.4051, 2.4082, 2.4025]).text() in text
        assert estimate([2.3921, 2.3934, 2.3911]).text() in text
    assert "best validation loss of the wave model is **higher**" in documents[0]


def test_numbers_of_equations_figures_and_tables_agree(documents: tuple[str, str, Path]) -> None:
    """Each is numbered from 1 in the order of the document, every link has its anchor, every image its file."""
    for text in documents[:2]:
        anchors = re.findall(r'<a id="([\w:-]+)"></a>', text)
        for kind in ("eq", "fig", "tab"):
            places = [int(anchor.split("-")[1]) for anchor in anchors if anchor.startswith(f"{kind}-")]
            assert places == list(range(1, len(places) + 1))
        assert set(re.findall(r"\(#([\w:-]+)\)", text)) <= set(anchors)
        for image in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
            assert (documents[2] / image).stat().st_size > 1000


def test_no_run_is_a_partial_document(store: TrackingStore, tmp_path: Path) -> None:
    """An empty store gives documents that name what is missing."""
    generator = PaperGenerator(tmp_path, tracking_uri=store.uri)
    text = Path(generator.generate_intuitive_guide()).read_text()
    assert "Not measured" in text
    assert [gap.text for gap in generator.gaps()][:2] == [
        "no finished run of model=wave", "no finished run of model=standard",
    ]  # fmt: skip


def test_runs_of_different_data_are_not_compared(store: TrackingStore, tmp_path: Path) -> None:
    """Both are shown, no difference is stated, and the gap says why."""
    store.train("wave", 0, falling(2.4))
    store.train("standard", 0, falling(2.5), facts={"dataset.sha256": "ab" * 32})
    generator = PaperGenerator(tmp_path, tracking_uri=store.uri)
    assert any("dataset.sha256 differs" in gap.text for gap in generator.gaps())
    text = Path(generator.generate_technical_paper()).read_text()
    assert "2.4000" in text
    assert "**lower**" not in text


def test_a_share_is_of_the_seeds_that_were_paired(store: TrackingStore, tmp_path: Path) -> None:
    """A seed that only one model has counts in its mean, and not in the difference nor in its share."""
    add_main(store, [2.3, 2.31, 3.9], [2.4, 2.42])
    book = Build(Request(tmp_path, store.uri)).book
    difference, percent, ratio = (book.fact(f"main.val_loss.{what}") for what in ("difference", "percent", "ratio"))
    assert difference.value == pytest.approx(-0.105)
    assert percent.value == pytest.approx(100 * -0.105 / 2.41)
    assert ratio.value == pytest.approx(2.305 / 2.41)


def test_links_to_deleted_checkpoints_do_not_matter(tmp_path: Path) -> None:
    """Whoever needs room deletes checkpoints; what points to them stays."""
    (tmp_path / "checkpoint_latest.pt").symlink_to("checkpoint_step_9.pt")
    (tmp_path / "config.json").write_text("{}")
    assert list(manifest.stamps([tmp_path])) == [str(tmp_path / "config.json")]


def test_runs_that_are_asked_for_must_be_there(store: TrackingStore, tmp_path: Path) -> None:
    """An unknown id is told with the latest runs that there are."""
    store.train("wave", 0, falling(2.4), name="wave_here")
    with pytest.raises(UserError, match=r"--experiments: given 'nothing'.*wave_here"):
        PaperGenerator(tmp_path, tracking_uri=store.uri).generate_technical_paper(["nothing"])
