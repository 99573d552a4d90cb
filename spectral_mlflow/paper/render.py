"""Markdown to PDF with tools that pip installs: pandoc turns it into typst, and typst sets it.

No LaTeX and no system fonts are needed: typst brings its own, so a document looks the same everywhere.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.paper.markdown import TEMPLATES

# tex_math_dollars is what makes $...$ mathematics; the rest is Markdown as GitHub shows it.
READER = "gfm+tex_math_dollars"

LAYOUTS: dict[str, dict[str, str]] = {
    "arxiv": {
        "papersize": "a4", "columns": "1", "mainfont": "New Computer Modern", "fontsize": "10.5pt",
        "marginx": "2.6cm", "margintop": "2.6cm", "marginbottom": "2.8cm",
    },
    "neurips": {
        "papersize": "us-letter", "columns": "1", "mainfont": "Libertinus Serif", "fontsize": "10pt",
        "marginx": "1.5in", "margintop": "1in", "marginbottom": "1in", "rules": "true",
    },
    "icml": {
        "papersize": "us-letter", "columns": "2", "mainfont": "Libertinus Serif", "fontsize": "10pt",
        "marginx": "0.75in", "margintop": "1in", "marginbottom": "1in", "twocolumn": "true", "rules": "true",
    },
}  # fmt: skip


class PdfToolsMissing(Exception):  # noqa: N818 - named by what it says
    """The tools for PDF are not installed; the message tells how to get them."""


def check_tools() -> None:
    """Find out early whether a PDF can be made.

    Raises:
        PdfToolsMissing: pandoc or typst is not there.
    """
    _pandoc()
    _import_typst()


def to_pdf(markdown_file: Path, template: str = "arxiv") -> Path:
    """Set a Markdown document; figures are found relative to it.

    Args:
        markdown_file: the document.
        template: layout, one of `LAYOUTS`.

    Returns:
        The PDF, beside the document; whole or as it was before.

    Raises:
        PdfToolsMissing: pandoc or typst is not there.
        UserError: the document is not there or cannot be set.
    """
    if not markdown_file.is_file():
        raise UserError(f"{markdown_file} does not exist; give a Markdown file")
    source = to_typst(markdown_file.read_text(encoding="utf-8"), template)
    typst = _import_typst()
    with tempfile.NamedTemporaryFile("w", suffix=".typ", dir=markdown_file.parent, encoding="utf-8") as file:
        file.write(source)
        file.flush()
        try:
            content = typst.compile(file.name, root=str(markdown_file.parent), ignore_system_fonts=True, format="pdf")
        except typst.TypstError as failure:
            raise UserError(f"{markdown_file} cannot be set as PDF: {failure.message}") from failure
    pdf = markdown_file.with_suffix(".pdf")
    replace_file(pdf, content)
    return pdf


def to_typst(text: str, template: str = "arxiv") -> str:
    """Markdown as typst source, in a layout.

    Raises:
        PdfToolsMissing: pandoc is not there.
        UserError: pandoc does not take the document.
    """
    command = [
        _pandoc(),
        f"--from={READER}",
        "--to=typst",
        "--wrap=none",
        f"--lua-filter={TEMPLATES / 'filter.lua'}",
        f"--template={TEMPLATES / 'paper.typ'}",
        *(f"--variable={name}={value}" for name, value in LAYOUTS[template].items()),
    ]
    done = subprocess.run(command, input=text, capture_output=True, text=True, encoding="utf-8", check=False)  # noqa: S603 - ours
    if done.returncode:
        raise UserError(f"pandoc cannot read the document: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def _pandoc() -> str:
    try:
        import pypandoc

        return str(pypandoc.get_pandoc_path())
    except (ImportError, OSError) as failure:
        raise PdfToolsMissing(
            "no PDF was made because pandoc is missing: run `pip install pypandoc_binary`, "
            "or set PYPANDOC_PANDOC to a pandoc of 3.2 or later"
        ) from failure


def _import_typst() -> Any:
    try:
        import typst
    except ImportError as failure:
        raise PdfToolsMissing("no PDF was made because typst is missing: run `pip install typst==0.14.9`") from failure
    return typst
