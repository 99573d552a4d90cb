"""The plots of a run as images with steps: what they are called in every store, and the files that MLflow's UI shows.

MLflow shows an image beside the charts of its prefix, with a slider for the step, where its name says so:
``images/{key}+step+{step}+timestamp+{milliseconds}+{unique}``, once as PNG, and once ``+compressed.webp``, which is
the one in the chart. `MlflowClient.log_image` makes another name at each call; here the same plot always has the same
one, so that whoever sends it again replaces it.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from spectral_mlflow.journal import Record
from spectral_mlflow.monitoring.plot_keys import KEYS
from spectral_mlflow.stores.base import RunView
from spectral_mlflow.stores.reader import encodable

FOLDER = "images"
TAG = "mlflow.loggedImages"
# Pixels of the one in the chart, which the description shows as it is, in a column of 600 to 900. MLflow's own 256
# leave no label of a plot readable.
WIDEST, HIGHEST = 720, 2160
SMALLER = "+compressed.webp"
LONGEST_KEY = 120
DIGEST = 8

# Each plot of such a key shows all that an earlier one does, so that one image is enough: MLflow's slider begins at
# step 0, where these have none, unless there is one alone.
GROWING = ("training/", "wave/course")

_SPACE = uuid.UUID("3f1d2f5e-0f52-5c53-9b0e-6a3f9f2d7f11")


def is_plot(event: Record) -> bool:
    """Whether an event tells of a plot that can be shown as an image."""
    return event.get("event") == "artifact" and event.get("kind") == "plot" and bool(event.get("path"))


def key_of(event: Record) -> str:
    """What an image is called, such as ``wave/frequencies``; plots of older runs do not say it."""
    return encodable(_told(event))


def tag_of(event: Record) -> str:
    """What an image is called where a scalar of the same name would be in its way.

    Ours are called as no metric is; a user may have given plot and metric one name.
    """
    key = key_of(event)
    ours = any(key == known or key.startswith(f"{known}_") for known in KEYS.values())
    return key if ours else f"{key} (plot)"


def _told(event: Record) -> str:
    plot = re.sub(r"_step_\d+$", "", PurePosixPath(event["path"]).stem)
    return str(event.get("key") or f"plots/{plot}")


@dataclass(frozen=True)
class Plot:
    """The image of a plot.

    Attributes:
        key: what it is called, such as ``wave/frequencies``.
        step: of the plot; 0 for one that was told without.
        path: of its file, relative to the run directory.
        name: of both files of the image, without what tells them apart: one for each run, key and step.
        grows: whether it shows all that earlier ones of its key do.
    """

    key: str
    step: int
    path: str
    name: str
    grows: bool


def plot_of(event: Record, run: RunView, run_id: str, milliseconds: int) -> Plot | None:
    """The image that an event means; None where it means none, its step is no number, or its file is gone.

    Args:
        event: any event.
        run: the run directory.
        run_id: tells the run from all others.
        milliseconds: time of all images of the run, or a plot that is drawn again would make another.
    """
    if not is_plot(event) or not (run.directory / event["path"]).is_file():
        return None
    step = 0 if event.get("step") is None else event["step"]
    if not isinstance(step, int) or isinstance(step, bool) or step < 0:
        return None
    key = key_of(event)
    unique = uuid.uuid5(_SPACE, f"{run_id} {step} {key}")
    name = f"{_allowed(_told(event))}+step+{step}+timestamp+{milliseconds}+{unique}"
    return Plot(key, step, event["path"], name, key.startswith(GROWING))


def _allowed(key: str) -> str:
    """The key in letters that MLflow reads; one that has others ends in a digest, so that two keys stay two."""
    like = re.sub(r"[^A-Za-z0-9_./ -]", "_", key)[:LONGEST_KEY]
    if like != key:
        digest = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:DIGEST]
        like = f"{like[: LONGEST_KEY - DIGEST - 1]}_{digest}"
    return like.replace("/", "~")


def plots_of(run: RunView, run_id: str, milliseconds: int) -> list[Plot]:
    """The images of all plots of a run that are still there, in the order of the journal."""
    found = (plot_of(event, run, run_id, milliseconds) for event in run.events("artifact"))
    return [plot for plot in found if plot is not None]


def wanted(plots: Sequence[Plot]) -> list[Plot]:
    """The images that should be in a store: every one, but of a key that grows only that of the highest step."""
    last: dict[str, int] = {}
    for plot in plots:
        last[plot.key] = max(plot.step, last.get(plot.key, 0))
    return [plot for plot in plots if not plot.grows or plot.step == last[plot.key]]


def superseded(plot: Plot, stored: Iterable[str]) -> list[str]:
    """The files of a folder that belong to other images of the same key.

    Args:
        plot: the newest image.
        stored: names of files.
    """
    beginning = plot.name.partition("+")[0] + "+step+"
    return [file for file in stored if file.startswith(beginning) and not file.startswith(plot.name)]


def is_image(name: str) -> bool:
    """Whether a file of the folder of images is one of an image, rather than a file of the run."""
    return "+step+" in name and "+timestamp+" in name


def write(picture: Path, folder: Path, name: str) -> None:
    """Write both files of an image.

    Args:
        picture: the plot.
        folder: where to.
        name: of the image, see `Plot`.

    Raises:
        OSError, ValueError, SyntaxError, Image.DecompressionBombError: it is no picture, see
            `spectral_mlflow.monitoring.page_pictures.NO_IMAGE`.
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
