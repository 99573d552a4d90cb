"""The press: PDF, LaTeX and HTML of documents, made again only where their text or a figure changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from spectral_mlflow.paper import manifest
from spectral_mlflow.paper.document import FILES, Rendered

# What decides how a document looks, beside its text.
CODE = (
    "paper/render.py",
    "paper/latex.py",
    "paper/html.py",
    "paper/tools.py",
    "paper/characters.py",
    "paper/bibliography.py",
    "paper/templates",
    "paper/references.bib",
)
NO_PLOTLY = "the guide has no interactive plots, which need plotly: run `pip install 'spectral-mlflow[paper]'`"

_log = logging.getLogger(__name__)


class Press:
    """Sets documents, and knows which ones lie there already.

    Attributes:
        folder: of the documents.
        template: layout of the PDF and the LaTeX.
        made: for each kind of output of each document what it was made of, its files and notices.
    """

    def __init__(self, folder: Path, template: str, made: Mapping[str, Any]) -> None:
        self.folder = folder
        self.template = template
        self.made: dict[str, Any] = dict(made)

    def set(self, rendered: Rendered, figures: Iterable[Path]) -> tuple[list[Path], list[str]]:
        """Make what belongs to a document: its PDF, a LaTeX bundle of the paper, one HTML file of the guide.

        Args:
            rendered: the document, which lies in the folder.
            figures: files of its figures.

        Returns:
            The files, and what they lack, each in one sentence.

        Raises:
            PdfToolsMissing: pandoc or typst is not installed.
            UserError: the document cannot be set.
        """
        source = self._source(rendered, figures)
        kinds = ("pdf", "html") if rendered.file == FILES["guide"] else ("pdf", "latex")
        paths: list[Path] = []
        notices: list[str] = []
        for kind in kinds:
            name, key = f"{kind} of {rendered.file}", f"{kind} {self.template} {source}"
            known = self.made.get(name, {})
            if known.get("key") != key or not manifest.are_whole(self.folder, known["files"]):
                _log.info("setting %s", name)
                path, told = self._make(kind, self.folder / rendered.file)
                known = {
                    "key": key, "path": str(path.relative_to(self.folder)), "notices": told,
                    "files": manifest.outputs(self.folder, _files(path)),
                }  # fmt: skip
                self.made[name] = known
            paths.append(self.folder / known["path"])
            notices += known["notices"]
        return paths, notices

    def _source(self, rendered: Rendered, figures: Iterable[Path]) -> str:
        made = hashlib.sha256(f"{rendered.text}{manifest.code_digest(CODE)}{manifest.tools()}".encode())
        for name, digest in manifest.outputs(self.folder, [*figures, *self.folder.glob("*.sty")]).items():
            made.update(f"{name} {digest}\0".encode())
        return made.hexdigest()

    def _make(self, kind: str, document: Path) -> tuple[Path, list[str]]:
        from spectral_mlflow.paper import html, latex, render

        if kind == "pdf":
            return render.to_pdf(document, self.template), []
        if kind == "html":
            page = html.to_html(document)
            lacking = [] if find_spec("plotly") else [NO_PLOTLY]
            return page.path, lacking or page.notices
        renderer = latex.LatexRenderer(self.folder, self.template)
        return renderer.render(document), renderer.notices


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
