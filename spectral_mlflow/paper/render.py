"""Markdown to PDF with tools that pip installs: pandoc turns it into typst, and typst sets it.

No LaTeX and no system fonts are needed: typst brings its own, so a document looks the same everywhere.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.paper.markdown import TEMPLATES
from spectral_mlflow.paper.tools import PdfToolsMissing, check_tools, import_typst, pandoc

__all__ = ["FILTERS", "LAYOUTS", "READER", "PdfToolsMissing", "check_tools", "to_pdf", "to_typst"]

# tex_math_dollars is what makes $...$ mathematics; the rest is Markdown as GitHub shows it.
READER = "gfm+tex_math_dollars"

# From Markdown to the parts of a document, and these fitted to a page; a filter of the format follows.
FILTERS = ("filter", "equations", "tables")

# The capacities tell how many characters of the type of a table a line (of a column; of the page) holds.
LAYOUTS: dict[str, dict[str, str]] = {
    "arxiv": {
        "papersize": "a4", "columns": "1", "mainfont": "New Computer Modern", "fontsize": "10pt",
        "marginx": "2.2cm", "margintop": "2cm", "marginbottom": "2.1cm",
        "capacity": "91",
    },
    "neurips": {
        "papersize": "us-letter", "columns": "1", "mainfont": "Libertinus Serif", "fontsize": "10pt",
        "marginx": "1.5in", "margintop": "1in", "marginbottom": "1in", "rules": "true",
        "capacity": "82",
    },
    "icml": {
        "papersize": "us-letter", "columns": "2", "mainfont": "Libertinus Serif", "fontsize": "10pt",
        "marginx": "0.75in", "margintop": "1in", "marginbottom": "1in", "twocolumn": "true", "rules": "true",
        "capacity": "48", "fullcapacity": "100",
    },
}  # fmt: skip


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
    source = to_typst(markdown_file.read_text(encoding="utf-8"), template, markdown_file.parent)
    typst = import_typst()
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


def to_typst(text: str, template: str = "arxiv", folder: Path | None = None) -> str:
    """Markdown as typst source, in a layout.

    Args:
        text: the document.
        template: layout, one of `LAYOUTS`.
        folder: where its figures are; None: the current folder.

    Raises:
        PdfToolsMissing: pandoc is not there.
        UserError: pandoc does not take the document.
    """
    layout = LAYOUTS[template]
    return pandoc(
        text,
        f"--from={READER}",
        "--to=typst",
        "--wrap=none",
        *(f"--lua-filter={TEMPLATES / name}.lua" for name in (*FILTERS, "typst")),
        f"--template={TEMPLATES / 'paper.typ'}",
        *(f"--metadata={name}={value}" for name, value in layout.items()),
        folder=folder,
    )
