"""The house style: in force only where it is asked for, legible, and the same bytes every time."""

import subprocess
import sys
import threading
import unicodedata
from itertools import combinations
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.plots import attention, ink, style, training, waves, wording
from spectral_mlflow.plots.palette import DARK, LIGHT, Palette

# Severity 1 of Machado, Oliveira and Fernandes (2009), for linear RGB.
COLOR_VISION = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def _linear(color: str) -> np.ndarray:
    rgb = np.array(to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(XYZ @ np.clip(linear, 0, 1) / XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def _contrast(one: str, other: str) -> float:
    bright, dim = sorted(((XYZ[1] @ _linear(color)) + 0.05 for color in (one, other)), reverse=True)
    return float(bright / dim)


@pytest.mark.parametrize("colors", [DARK, LIGHT])
@pytest.mark.parametrize("vision", COLOR_VISION)
def test_lines_can_be_told_apart(colors: Palette, vision: str) -> None:
    """Whatever a reader's colour vision, no two of the first four line colours look alike."""
    seen = [_lab(np.array(COLOR_VISION[vision]) @ _linear(color)) for color in colors.lines[:4]]
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 12


@pytest.mark.parametrize("colors", [DARK, LIGHT])
def test_everything_stands_out_from_the_ground(colors: Palette) -> None:
    """Texts have a contrast of 4.5 to 1 and lines of 3 to 1 (WCAG 2.2), in both styles."""
    assert min(_contrast(text, colors.ground) for text in (colors.ink, colors.muted, colors.alert)) >= 4.5
    assert min(_contrast(line, colors.ground) for line in colors.lines) >= 3


@pytest.mark.parametrize("make", [style.dark, style.light])
def test_a_style_ends_with_its_context(make: type[style.Style]) -> None:
    """Settings hold inside of the context, in both spellings, and are back afterwards, after an error too."""
    before = dict(matplotlib.rcParams)
    with make():
        inside = dict(matplotlib.rcParams)
    with matplotlib.rc_context(make()):
        assert dict(matplotlib.rcParams) == inside != before
    with pytest.raises(ZeroDivisionError), make():
        _ = 1 / 0
    assert dict(matplotlib.rcParams) == before


def test_drawing_changes_no_setting(tmp_path: Path) -> None:
    """Outside of any context a plot is light, and leaves the user's settings as they were."""
    before = dict(matplotlib.rcParams)
    figure = training.loss_curve([1, 2], [3, 2])
    style.save(figure, tmp_path / "loss.png")
    assert style.ground(figure) == LIGHT.ground
    assert dict(matplotlib.rcParams) == before


def test_ticks_have_the_style_of_their_figure(tmp_path: Path) -> None:
    """A dark figure that is saved outside of the context has ticks for a dark ground."""
    with style.dark():
        figure = training.loss_curve([1, 2], [3, 2])
    style.save(figure, tmp_path / "loss.png")
    (axes,) = figure.axes
    assert {label.get_color() for label in axes.get_xticklabels()} == {DARK.muted}


def test_bytes_repeat(tmp_path: Path) -> None:
    """The same data give the same file, byte for byte, in another process too."""
    code = (
        "import sys; from spectral_mlflow.plots import style, waves\n"
        "for path in sys.argv[1:]:\n"
        "    style.save(waves.frequencies([[0.25, 0.5], [0.75, 0.1]]), path, title='Waves')"
    )
    paths = [tmp_path / f"a.{suffix}" for suffix in style.FORMATS]
    for path in paths:
        style.save(waves.frequencies([[0.25, 0.5], [0.75, 0.1]]), path, title="Waves")
    here = [path.read_bytes() for path in paths]
    subprocess.run([sys.executable, "-c", code, *map(str, paths)], check=True)
    assert [path.read_bytes() for path in paths] == here


STEPS = np.arange(1, 6)
WAVES = np.random.default_rng(0).random((5, 4))
MAPS = np.tril(np.full((2, 2, 5, 5), 0.2))
TOKENS = ["\n", " the", "$x$", "漢", "é"]
FIGURES = {
    "training_dynamics": lambda: training.training_dynamics({"loss": (STEPS, 1 / STEPS), "lr": (STEPS, STEPS)}),
    "wave_course": lambda: training.wave_course({"wave_ratio": (STEPS, 1 / STEPS), "wave/temperature": (STEPS, STEPS)}),
    "phases": lambda: waves.phases(WAVES),
    "harmonics": lambda: waves.harmonics(WAVES[..., None]),
    "frequency_evolution": lambda: waves.frequency_evolution(STEPS, WAVES[..., None]),
    "wave_packets": lambda: waves.wave_packets(WAVES, WAVES, WAVES[..., None], np.arange(4), TOKENS),
    "interference": lambda: waves.interference(WAVES, WAVES, WAVES[..., None], np.arange(4), TOKENS),
    "attention_maps": lambda: attention.attention_maps(MAPS, TOKENS),
    "phase_coherence": lambda: attention.phase_coherence(MAPS, TOKENS),
}


@pytest.mark.parametrize("suffix", style.FORMATS)
@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_repeats_in_every_format(name: str, suffix: str, tmp_path: Path) -> None:
    """The same data, drawn twice, give the same file in every format, and no letter is missing from the font."""
    one, two = (style.save(FIGURES[name](), tmp_path / f"{place}.{suffix}").read_bytes() for place in ("one", "two"))
    assert one == two


def test_axes_stand_still(tmp_path: Path) -> None:
    """Whatever the numbers, the axes of a plot are where they were: from step to step only the data move."""
    early = training.training_dynamics({"loss": ([1, 2], [4.0, 3.9]), "learning_rate": ([1, 2], [1e-7, 2e-7])})
    late = training.training_dynamics({"loss": ([1, 10**6], [4.0, 0.1]), "learning_rate": ([1, 10**6], [1e-3, 0.25])})
    places = [[axes.get_position().bounds for axes in figure.axes] for figure in (early, late)]
    for figure in (early, late):
        style.save(figure, tmp_path / "a.png")
    assert places[0] == places[1] == [axes.get_position().bounds for axes in late.axes]


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    """Drawing and saving every kind of file needs no pyplot, which would keep figures and pick a backend."""
    code = (
        "import sys; from spectral_mlflow.plots import comparison, style, training, waves\n"
        "for suffix in style.FORMATS:\n"
        "    style.save(training.loss_curve([1, 2], [3, 2]), f'{sys.argv[1]}/a.{suffix}')\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("suffix", "name"), [("png", b"Description"), ("svg", b"description"), ("pdf", b"Subject")])
def test_metadata_travel_in_the_file(suffix: str, name: bytes, tmp_path: Path) -> None:
    """Title, author and description are in the file, under the names of its format."""
    path = tmp_path / f"a.{suffix}"
    style.save(ink.empty("Loss"), path, title="Loss of a run", author="Somebody", description="made from run 12ab")
    content = path.read_bytes()
    assert all(text in content for text in (b"Loss of a run", b"Somebody", b"made from run 12ab", name))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    """A figure that cannot be drawn replaces nothing and leaves nothing behind."""
    path = style.save(ink.empty("Loss"), tmp_path / "a.png")
    before = path.read_bytes()
    broken = Figure()
    broken.text(0, 0, "$\\broken{$")
    with matplotlib.rc_context({"text.parse_math": True}):
        broken.text(0, 0, "$\\broken{$", parse_math=True)
    with pytest.raises(ValueError, match="broken"):
        style.save(broken, path)
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_file()] == ["a.png"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["plot", "plot.jpg"])
def test_other_formats_are_refused(name: str, tmp_path: Path) -> None:
    """A suffix that is none of ours is a user's mistake, and the message names those that are."""
    with pytest.raises(UserError, match=r"\.png, \.svg, \.pdf"):
        style.save(ink.empty("Loss"), tmp_path / name)


@given(st.text(max_size=30))
def test_any_text_can_be_drawn(text: str) -> None:
    """A token of any letters becomes a label that the font can show, without mathematics, on one line."""
    label = wording.token(text)
    assert "\n" not in label
    assert all(ord(letter) in wording._letters() for letter in label)
    assert not {unicodedata.category(letter) for letter in label} & {"Cc", "Cf", "Zs", "Zl", "Zp"}
    assert 0 < len(label) <= wording.MOST_LETTERS


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("", "∅"),
        (" a\n", "␣a↵"),
        ("\u00a0", "\\xa0"),
        ("\u202eabc", "\\u202eabc"),
        ("\u2028", "\\u2028"),
        ("internationalisation", "intern…sation"),
        ("\u200b" * 9, "\\u200b…\\u200b"),
        ("\U0001fae0\U0001f3fd", "\\U0001fae0…"),
    ],
)
def test_tokens_are_seen(text: str, label: str) -> None:
    """White space and what nobody sees is escaped, an escape is never cut, and a long token keeps both of its ends."""
    assert wording.token(text) == label


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0.5, 0.500005, 0.50001], ["0.5", "0.500005", "0.50001"]),
        ([1_234_000, 1_234_020], ["1.234M", "1.23402M"]),
        ([-25_000, 0], ["\N{MINUS SIGN}25k", "0"]),
        ([7.0], ["7"]),
    ],
)
def test_ticks_have_the_digits_of_their_distance(ticks: list[float], texts: list[str]) -> None:
    """However near ticks are, their texts differ."""
    assert ink.Numbers().format_ticks(ticks) == texts


def test_threads_draw_one_at_a_time() -> None:
    """Threads that draw in different styles each get theirs, and leave the settings as they were."""
    before, grounds = dict(matplotlib.rcParams), []

    def draw(make: type[style.Style], wanted: str) -> None:
        for _ in range(8):
            with make():
                grounds.append(style.ground(ink.empty("Loss")) == wanted)

    looks = ((style.dark, DARK.ground), (style.light, LIGHT.ground)) * 2
    threads = [threading.Thread(target=draw, args=look) for look in looks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert grounds == [True] * 32
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1"),
        (-2.5, "\N{MINUS SIGN}2.5"),
        (12500, "12.5k"),
        (3e6, "3M"),
        (0.0003, "0.0003"),
        (4e-6, "4e\N{MINUS SIGN}6"),
        (1e20, "1e20"),
    ],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Numbers on axes are written as people write them."""
    assert wording.number(value) == text


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.08))
def test_labels_are_moved_apart(heights: list[float], gap: float) -> None:
    """Labels keep their order, the gap between them, and the room of the axes."""
    places = ink._apart(np.array(sorted(heights)), gap)
    assert np.all(np.diff(places) >= gap - 1e-9)
    assert places[0] >= gap / 2 - 1e-9
    assert places[-1] <= 1 - gap / 2 + 1e-9
