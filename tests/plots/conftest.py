"""What the tests of the plots share: eyes."""

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from spectral_mlflow.plots import style
from spectral_mlflow.plots.palette import Palette

Check = Callable[[Figure], None]


def _tick_labels(axes: Axes) -> Iterator[Text]:
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        yield from (tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)


def _texts(figure: Figure) -> list[Text]:
    """Every text that a reader sees."""
    ticks = {text for axes in figure.axes for text in (*axes.get_xticklabels(), *axes.get_yticklabels())}
    labels = [text for axes in figure.axes if axes.axison for text in _tick_labels(axes)]
    others = [text for text in figure.findobj(Text) if text not in ticks]
    return [text for text in {*labels, *others} if text.get_visible() and text.get_text().strip()]


@pytest.fixture
def readable() -> Check:
    """A check that no two texts of a figure overlap and none leaves it."""

    def check(figure: Figure) -> None:
        canvas = FigureCanvasAgg(figure)
        with style.Style(style.palette(style.ground(figure))):
            canvas.draw()
            texts = _texts(figure)
            boxes = [(text.get_text(), text.get_window_extent(canvas.get_renderer()).padded(-1)) for text in texts]
        assert boxes
        overlaps = [(a, b) for (a, one), (b, other) in combinations(boxes, 2) if one.overlaps(other)]
        assert not overlaps
        width, height = canvas.get_width_height()
        outside = [text for text, box in boxes if box.x0 < 0 or box.y0 < 0 or box.x1 > width or box.y1 > height]
        assert not outside

    return check


@pytest.fixture(params=["dark", "light"])
def both_styles(request: pytest.FixtureRequest) -> Iterator[Palette]:
    """The test runs in the dark and in the light style."""
    with {"dark": style.dark, "light": style.light}[request.param]():
        yield style.palette()
