"""Pictures: the plots of a run as one page can carry them, newest first and small enough to be sent around.

A page is written after every set of plots, of which one is new: what the page before it has is taken from there.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from PIL import Image

MOST_PICTURES = 72
MOST_STEPS = 12
LARGEST = 9_000_000  # Bytes of the files of all pictures, which come to 4 MB on the page.
WIDEST = 1400
CLEARLY_SMALLER = 0.8

# What a file may raise that is no image; a broken PNG is a SyntaxError to Pillow.
NO_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)

_NAME = re.compile(r"(?P<plot>.+)_step_(?P<step>\d{1,18})")
# As the template writes them. No text that is escaped has such quotes.
_ON_PAGE = re.compile(
    r'data-mark="([0-9a-f]{32})" src="(data:image/(?:webp|png);base64,[A-Za-z0-9+/=]+)" width="(\d+)" height="(\d+)"'
)

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A plot at one step.

    Attributes:
        step: at which it was drawn.
        mark: tells the file from another one, and from itself when it is drawn again.
        address: the image itself, as a data: address; empty where the file is no image.
        width, height: in pixels.
    """

    step: int
    mark: str = ""
    address: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class PlotSteps:
    """A plot over the steps of a run.

    Attributes:
        name: of the plot, as in the names of its files.
        pictures: oldest first; the newest is always there.
        total: number of steps that there are files of.
    """

    name: str
    pictures: tuple[Picture, ...]
    total: int


def plots(folder: Path, page: Path | None = None, largest: int = LARGEST) -> list[PlotSteps]:
    """What a page shows of a folder of plots, by name; plots beyond the first `MOST_PICTURES` are left out.

    Args:
        folder: has the files ``{plot}_step_{step}.png``.
        page: the one so far; its pictures are taken where their files have stayed the same.
        largest: bytes that the files of all pictures may have, unless the newest of each plot have more.

    Raises:
        OSError: the folder cannot be read.
    """
    known = dict(sorted(files_by_step(folder, ".png").items())[:MOST_PICTURES])
    most = min(MOST_STEPS, MOST_PICTURES // max(1, len(known)))
    while (
        most > 1
        and sum(files[step].stat().st_size for files in known.values() for step in _some(files, most)) > largest
    ):
        most //= 2
    before = _on_page(page) if page else {}
    return [
        PlotSteps(name, tuple(_picture(step, files[step], before) for step in _some(files, most)), len(files))
        for name, files in known.items()
    ]


def _some(files: Mapping[int, Path], most: int) -> list[int]:
    return spread(sorted(files), most)


def _on_page(page: Path) -> dict[str, Picture]:
    """The pictures of a page, by their marks."""
    if not page.exists():
        return {}
    found = _ON_PAGE.findall(page.read_text(encoding="utf-8", errors="replace"))
    return {mark: Picture(0, mark, address, int(width), int(height)) for mark, address, width, height in found}


def files_by_step(folder: Path, suffix: str) -> dict[str, dict[int, Path]]:
    """The files ``{name}_step_{step}{suffix}`` of a folder, by name and step.

    Raises:
        OSError: the folder cannot be read.
    """
    known: dict[str, dict[int, Path]] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.stem)
        if match and path.suffix == suffix:
            known.setdefault(match["plot"], {})[int(match["step"])] = path
    return known


def spread(steps: Sequence[T], most: int) -> list[T]:
    """First, last, and evenly between, at most so many; of a most below 2 the last alone.

    The distance between them doubles when there are more, so that what is left out once stays out as the run goes on.
    """
    if most < 2:
        return list(steps[-1:])
    stride = 1
    while -(-(len(steps) - 1) // stride) >= most:
        stride *= 2
    return [*steps[:-1:stride], *steps[-1:]]


def _picture(step: int, path: Path, before: Mapping[str, Picture]) -> Picture:
    try:
        state = path.stat()
        named = f"{path.name} {state.st_size} {state.st_mtime_ns}"
        mark = hashlib.sha256(named.encode(errors="surrogatepass")).hexdigest()[:32]
        return replace(before[mark], step=step) if mark in before else Picture(step, mark, *_embedded(path))
    except NO_IMAGE:
        return Picture(step)


def _embedded(path: Path) -> tuple[str, int, int]:
    """The image as a data: address, its width and its height."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        shown = image.copy()
    if shown.width > WIDEST:
        shown.thumbnail((WIDEST, shown.height))
    smaller = io.BytesIO()
    shown.save(smaller, "webp", quality=80, method=2, use_sharp_yuv=True)  # Blurs no thin line of one colour.
    if smaller.tell() < CLEARLY_SMALLER * len(content):
        return _address("webp", smaller.getvalue()), shown.width, shown.height
    return _address("png", content), image.width, image.height


def _address(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
