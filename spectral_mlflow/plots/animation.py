"""Figures one after the other, as an animated GIF."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.plots import style

COLORS = 96  # Of all frames together: the house style has few.
DPI = 110


def write(frames: Iterable[Figure], path: str | Path, *, milliseconds: int = 80, hold: int = 0) -> Path:
    """Write figures of one size as an endless animation; the same figures always give the same bytes.

    Args:
        frames: what to show, one after the other.
        path: where to, with the suffix .gif; its folder is made if it is missing.
        milliseconds: how long each frame is shown.
        hold: how much longer the last one is shown.

    Returns:
        The path.

    Raises:
        UserError: no frame, or another suffix.
        OSError: the disk refuses.
    """
    from PIL import Image

    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise UserError(f"animation {path.name}: given the suffix {path.suffix!r}; allowed: .gif")
    pictures: list[Any] = []
    for frame in frames:
        with style.Style(style.palette(style.ground(frame))):
            frame.set_dpi(DPI)
            canvas: Any = FigureCanvasAgg(frame)
            canvas.draw()
        pictures.append(Image.frombytes("RGBA", canvas.get_width_height(), bytes(canvas.buffer_rgba())).convert("RGB"))
    if not pictures:
        raise UserError(f"animation {path.name}: given no frame; allowed: at least one")
    colors = _common(pictures).quantize(COLORS, method=Image.Quantize.MEDIANCUT)
    first, *others = (picture.quantize(palette=colors, dither=Image.Dither.NONE) for picture in pictures)
    times = [milliseconds] * (len(pictures) - 1) + [milliseconds + hold]
    content = io.BytesIO()
    first.save(content, "GIF", save_all=True, append_images=others, duration=times, loop=0, optimize=False)
    replace_file(path, content.getvalue())
    return path


def _common(pictures: list[Any]) -> Any:
    """All frames in one picture, so that a colour looks the same in each; of many frames evenly chosen ones."""
    from PIL import Image

    chosen = pictures[:: -(-len(pictures) // 8)]
    width, height = chosen[0].size
    sheet = Image.new("RGB", (width, height * len(chosen)))
    for place, picture in enumerate(chosen):
        sheet.paste(picture, (0, place * height))
    return sheet
