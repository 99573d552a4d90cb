"""The plots of a run as images with steps: what they are called in every store, and the files that MLflow's UI shows.

MLflow shows an image beside the charts of its prefix, with a slider for the step, where its name says so:
``images/{key}+step+{step}+timestamp+{milliseconds}+{unique}``, once as PNG, and once ``+compressed.webp``, which is
the one in the chart. `MlflowClient.log_image` makes another name at each call; here the same plot always has the same
one, so that whoever sends it again replaces it.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from PIL import Image

from spectral_mlflow.journal import Record
from spectral_mlflow.stores.reader import encodable

FOLDER = "images"
TAG = "mlflow.loggedImages"
# Pixels of the one in the chart, which the description shows as it is, in a column of 600 to 900. MLflow's own 256
# leave no label of a plot readable.
WIDEST, HIGHEST = 720, 2160
SMALLER = "+compressed.webp"
LONGEST_KEY = 120

# Each plot of such a key shows all that an earlier one does, so that one image is enough: MLflow's slider begins at
# step 0, where these have none, unless there is one alone.
GROWING = ("training/", "wave/course")

_SPACE = uuid.UUID("3f1d2f5e-0f52-5c53-9b0e-6a3f9f2d7f11")

# What a file may raise that is no image; a broken PNG is a SyntaxError to Pillow.
NO_IMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def is_plot(event: Record) -> bool:
    """Whether an event tells of a plot that can be shown as an image."""
    return event.get("event") == "artifact" and event.get("kind") == "plot" and bool(event.get("path"))


def key_of(event: Record) -> str:
    """What an image is called, such as ``wave/frequencies``; plots of older runs do not say it."""
    plot = re.sub(r"_step_\d+$", "", PurePosixPath(event["path"]).stem)
    return encodable(str(event.get("key") or f"plots/{plot}"))


def name_of(event: Record, run: str, milliseconds: int) -> str:
    """The name of both files, without what tells them apart: one for each run, key and step.

    Args:
        event: of the plot.
        run: tells the run from all others.
        milliseconds: time of the image; the same for each of its step, or a plot that is drawn again makes another.
    """
    key, step = key_of(event), event.get("step") or 0
    allowed = re.sub(r"[^A-Za-z0-9_./ -]", "_", key)[:LONGEST_KEY].replace("/", "~")
    return f"{allowed}+step+{step}+timestamp+{milliseconds}+{uuid.uuid5(_SPACE, f'{run} {step} {key}')}"


def wanted(events: Iterable[Record]) -> list[Record]:
    """The plots that should be images: every one, but of a key that grows only that of the highest step."""
    plots = [event for event in events if is_plot(event)]
    last: dict[str, int] = {}
    for event in plots:
        last[key_of(event)] = max(event.get("step") or 0, last.get(key_of(event), 0))
    return [
        event
        for event in plots
        if not key_of(event).startswith(GROWING) or (event.get("step") or 0) == last[key_of(event)]
    ]


def grows(name: str) -> bool:
    """Whether an image of this name shows all that earlier ones of its key do."""
    return name.replace("~", "/").startswith(GROWING)


def superseded(name: str, stored: Iterable[str]) -> list[str]:
    """The files of a folder that belong to other images of the same key.

    Args:
        name: of the newest image.
        stored: names of files.
    """
    return [file for file in stored if file.partition("+")[0] == name.partition("+")[0] and not file.startswith(name)]


def write(picture: Path, folder: Path, name: str) -> None:
    """Write both files of an image.

    Args:
        picture: the plot.
        folder: where to.
        name: what `name_of` gave.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: it is no picture, see `NO_IMAGE`.
    """
    with Image.open(picture) as image:
        whole = folder / f"{name}.png"
        if image.format == "PNG":
            shutil.copyfile(picture, whole)
        else:
            image.save(whole)
        smaller = image.convert("RGBA")
        smaller.thumbnail((WIDEST, HIGHEST))
        smaller.save(folder / f"{name}{SMALLER}", method=0)  # A third of the time for a fifth more bytes.
