"""The programs that set documents, which pip installs: pandoc and typst."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from spectral_mlflow.errors import UserError


class PdfToolsMissing(Exception):  # noqa: N818 - named by what it says
    """The tools for PDF are not installed; the message tells how to get them."""


def check_tools() -> None:
    """Find out early whether a document can be set.

    Raises:
        PdfToolsMissing: pandoc or typst is not there.
    """
    pandoc_path()
    import_typst()


def pandoc(text: str, *options: str, folder: Path | None = None) -> str:
    """What pandoc makes of a text, started in a folder.

    Raises:
        PdfToolsMissing: pandoc is not there.
        UserError: pandoc does not take the text.
    """
    done = subprocess.run(  # noqa: S603 - ours
        [pandoc_path(), *options],
        input=text, capture_output=True, text=True, encoding="utf-8", check=False, cwd=folder,
    )  # fmt: skip
    if done.returncode:
        raise UserError(f"pandoc cannot read the document: {' '.join(done.stderr.split())}")
    return done.stdout


def pandoc_path() -> str:
    """Path of the pandoc that pypandoc found.

    Raises:
        PdfToolsMissing: there is none.
    """
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError) as failure:
        raise PdfToolsMissing(
            "no PDF was made because pandoc is missing: run `pip install pypandoc_binary`, "
            "or set PYPANDOC_PANDOC to a pandoc of 3.2 or later"
        ) from failure


def import_typst() -> Any:
    """The typst module.

    Raises:
        PdfToolsMissing: it is not installed.
    """
    try:
        import typst
    except ImportError as failure:
        raise PdfToolsMissing("no PDF was made because typst is missing: run `pip install typst==0.14.9`") from failure
    return typst
