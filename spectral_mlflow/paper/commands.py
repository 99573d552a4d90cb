"""Commands that the documents tell their readers to run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from spectral_mlflow.config import DECISIVE
from spectral_mlflow.errors import UserError
from spectral_mlflow.settings import all_settings, as_text, build, flatten


def make_run(model: str, seed: int | None = None) -> str:
    """The command that makes one more run of a model from this repository."""
    more = "" if seed is None else f" -P seed={seed}"
    return f"mlflow run . -P model={model}{more} --env-manager local"


def training_command(settings: Mapping[str, Any]) -> str:
    """The command that trains with these settings (dotted names), naming only those that are no defaults."""
    names = [setting.name for setting in all_settings() if setting.name.split(".")[0] in DECISIVE]
    texts = {name: as_text(settings[name]) for name in names if name in settings}
    given = _not_default(texts)
    return shlex.join(
        ["spectral", "train", *(part for name in names if name in given for part in (f"--{name}", texts[name]))]
    )


def _not_default(texts: Mapping[str, str]) -> set[str]:
    """The settings to name; some defaults follow from other settings, so this asks until nothing is left to name."""
    given = {"model.type"} & texts.keys()
    while True:
        try:
            defaults = flatten(build({name: texts[name] for name in given}).to_dict())
        except UserError:  # Not trained by this program: name every setting rather than guess its defaults.
            return set(texts)
        missing = {name for name, text in texts.items() if text != as_text(defaults[name])} - given
        if not missing:
            return given
        given |= missing
