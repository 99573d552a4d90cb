"""Whether a build would only repeat the one before. Finding out costs no import of pandas or matplotlib."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectral_mlflow.analysis.fingerprint import fingerprint
from spectral_mlflow.paper import manifest
from spectral_mlflow.paper.manifest import HISTORIES
from spectral_mlflow.paper.request import Request
from spectral_mlflow.provenance.repository import git


@dataclass(frozen=True)
class Done:
    """What a build gave.

    Attributes:
        paths: of the documents, for people.
        warnings: what is missing, one line each.
    """

    paths: Sequence[str]
    warnings: Sequence[str]


def unchanged(request: Request) -> Done | None:
    """What the build before gave if nothing has changed since, else None.

    Raises:
        UserError: the store cannot be read.
    """
    known = manifest.read(request.output_dir)
    if not known or not manifest.are_whole(request.output_dir, known.get("outputs") or {}):
        return None
    if known.get("state") != state(request, known["studies"], map(Path, known["inputs"])):
        return None
    return Done(known["paths"], known["warnings"])


def state(request: Request, studies: Sequence[str | None], inputs: Iterable[Path]) -> dict[str, Any]:
    """All that a build depends on, in short.

    Args:
        request: what is to be built.
        studies: names of the studies whose histories are read; None for runs found by configuration.
        inputs: files and folders of runs that figures are made from.

    Raises:
        UserError: the store cannot be read.
    """
    options = {name: str(value) for name, value in vars(request).items()}
    return {
        "options": options,
        "tools": manifest.tools() | {"pandoc": os.environ.get("PYPANDOC_PANDOC", "")},
        "commit": git("rev-parse", "HEAD", folder=manifest.PACKAGE),
        "sources": sources(request),
        "histories": _histories(request.tracking_uri, studies),
        "directories": _directories(request.experiments_dir),
        "inputs": manifest.stamps(inputs),
        "styles": manifest.stamps(request.output_dir.glob("*.sty")),  # Of a conference, which the user puts there.
    }


def sources(request: Request) -> list[str]:
    """Digests of all that a build reads at one moment or another: it is whole only if they are the same at its end."""
    return [fingerprint(request.tracking_uri), manifest.tree_digest(request.overrides), manifest.code_digest()]


def _histories(tracking_uri: str, studies: Sequence[str | None]) -> list[str]:
    """Digests of the histories of the runs that the documents are about."""
    if None in studies:
        return [fingerprint(tracking_uri, keys=HISTORIES)]
    named = sorted({study for study in studies if study is not None})
    return [fingerprint(tracking_uri, tags={"spectral.study": study}, keys=HISTORIES) for study in named]


def _directories(folder: Path | None) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder is not None and folder.is_dir() else []
