"""The pictures of an overview: which steps are on the page, and where they are from."""

from itertools import pairwise
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from overview_page import draw, page_of

from spectral_mlflow.monitoring.page_pictures import plots, spread


def test_each_plot_shows_its_newest_step_and_hides_the_others_behind_a_slider(tmp_path: Path) -> None:
    """So that it can be seen without scripts too; groups and plots stand in the order of the stores."""
    (tmp_path / "visualizations").mkdir()
    for step in (9, 10, 100):
        draw(tmp_path, "my_own", step)
        draw(tmp_path, "loss_curve", step)
    draw(tmp_path, "frequencies", 100)
    page = page_of(tmp_path)
    images = page.all("img")
    assert [image["data-step"] for image in images] == ["9", "10", "100", "100", "9", "10", "100"]
    assert [image["data-step"] for image in images if "hidden" not in image] == ["100"] * 3
    assert images[2]["alt"] == "Plot of loss curve at step 100"
    assert [box["max"] for box in page.all("input") if box["type"] == "range"] == ["2", "2"]
    assert [text for text in page.texts if text in ("training", "wave", "plots")] == ["training", "wave", "plots"]


def test_a_long_run_shows_some_steps_and_says_so(tmp_path: Path) -> None:
    """First and last are among them; the samples are thinned too."""
    (tmp_path / "visualizations").mkdir()
    (tmp_path / "samples").mkdir()
    for step in range(1, 41):
        draw(tmp_path, "phases", step)
        (tmp_path / "samples" / f"sample_step_{step}.txt").write_text(f"text {step}")
    page = page_of(tmp_path)
    steps = [int(str(image["data-step"])) for image in page.all("img")]
    assert {1, 40} <= set(steps)
    assert len(steps) <= 12
    assert {"text 1", "text 40"} <= {text.strip() for text in page.texts}
    assert "all of them are in visualizations/" in page.text
    assert "of 40 samples" in page.text


def test_pictures_that_would_make_the_page_too_large_are_fewer(tmp_path: Path) -> None:
    """The newest of each plot is always there."""
    (tmp_path / "visualizations").mkdir()
    for step in range(6):
        draw(tmp_path, "phases", step)
        draw(tmp_path, "harmonics", step)
    sizes = sum(path.stat().st_size for path in (tmp_path / "visualizations").iterdir())
    for largest, most in ((100_000, 6), (sizes // 2, 3), (0, 1)):
        shown = plots(tmp_path / "visualizations", largest=largest)
        assert [plot.name for plot in shown] == ["harmonics", "phases"]
        assert {plot.pictures[-1].step for plot in shown} == {5}
        assert {len(plot.pictures) for plot in shown} == {most}


def test_a_plot_that_was_drawn_again_is_shown_as_it_is_now(tmp_path: Path) -> None:
    """Pictures of the page so far are taken from there only where the file is the same."""
    (tmp_path / "visualizations").mkdir()
    draw(tmp_path, "phases", 1)
    draw(tmp_path, "phases", 2)
    first = page_of(tmp_path)
    path = tmp_path / "overview.html"
    taken = path.read_text().replace(str(first.all("img")[0]["src"]), "data:image/webp;base64,AAAA")
    path.write_text(taken)
    draw(tmp_path, "phases", 2, "red")
    second = page_of(tmp_path)
    assert second.all("img")[0]["src"] == "data:image/webp;base64,AAAA"
    assert second.all("img")[1]["src"] not in (None, first.all("img")[1]["src"])


@given(st.integers(0, 300), st.integers(0, 40))
def test_steps_are_spread_from_the_first_to_the_last(number: int, most: int) -> None:
    """Evenly but for the last, and what is left out once is left out for good as a run goes on."""
    chosen = spread(range(number), most)
    assert len(chosen) <= max(1, most)
    assert chosen[-1:] == list(range(number))[-1:]
    if most >= 2:
        assert chosen[:1] == list(range(number))[:1]
        assert len({later - earlier for earlier, later in pairwise(chosen[:-1])}) <= 1
        assert set(spread(range(number + 1), most)) <= {*chosen, number}
