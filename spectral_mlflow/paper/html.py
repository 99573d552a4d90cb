"""A document as one HTML file that needs nothing else: figures, mathematics and interactive plots are in it.

Its content security policy forbids every request, and every script but those that were put in here.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.paper.markdown import TEMPLATES
from spectral_mlflow.paper.render import READER
from spectral_mlflow.paper.tools import pandoc

INTERACTIVE = "interactive"  # Folder, beside the figures, with the interactive twin of a figure as NAME.html.
EXTRA = "pip install 'spectral-mlflow[paper]'"

_IMAGE = re.compile(r'<img\s+src="([^"]+)"\s*(?:alt="([^"]*)")?\s*/?>')
_SCRIPT = re.compile(r"<script[^>]*>(.*?)</script>", re.DOTALL)
_TYPES = {".svg": "svg+xml", ".gif": "gif", ".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass
class Page:
    """An HTML file that was written.

    Attributes:
        path: the file.
        notices: what it lacks, each in one sentence.
    """

    path: Path
    notices: list[str] = field(default_factory=list)


def to_html(markdown_file: Path) -> Page:
    """Write a document as HTML beside it.

    A figure ``figures/NAME.svg`` (or gif, png) is replaced by the interactive ``figures/interactive/NAME.html``
    if that is there and plotly is installed.

    Args:
        markdown_file: the document; figures are found relative to it.

    Raises:
        PdfToolsMissing: pandoc is not there.
        UserError: the document or a figure of it is not there, or pandoc does not take it.
    """
    if not markdown_file.is_file():
        raise UserError(f"{markdown_file} does not exist; give a Markdown file")
    text = pandoc(
        markdown_file.read_text(encoding="utf-8"),
        f"--from={READER}",
        "--to=html",
        "--mathml",
        "--wrap=none",
        "--toc",
        "--toc-depth=3",
        f"--lua-filter={TEMPLATES / 'filter.lua'}",
        f"--lua-filter={TEMPLATES / 'html.lua'}",
        f"--template={TEMPLATES / 'page.html'}",
        folder=markdown_file.parent,
    )
    page = Page(markdown_file.with_suffix(".html"))
    figures = _Figures(markdown_file.parent, page)
    text = _IMAGE.sub(lambda image: figures.shown(image[1], image[2] or ""), text)
    if figures.scripts:
        from spectral_mlflow.plots import interactive  # Slow, and most documents are still.

        figures.scripts.insert(0, interactive.library())
        text = text.replace("</head>", f"<script>{figures.scripts[0]}</script>\n</head>", 1)
    replace_file(page.path, text.replace("POLICY", _policy(figures.scripts), 1).encode())
    return page


class _Figures:
    """The figures of a page, as what stands in it instead of a path."""

    def __init__(self, folder: Path, page: Page) -> None:
        self.folder = folder
        self.page = page
        self.scripts: list[str] = []

    def shown(self, path: str, alt: str) -> str:
        """The interactive twin of a figure if it can be shown, else the figure."""
        path = html.unescape(path)
        file = self.folder / path
        twin = file.parent / INTERACTIVE / f"{file.stem}.html"
        if not twin.is_file():
            return self._picture(file, alt)
        if find_spec("plotly") is None:
            notice = f"{twin.name} is shown without its interactive version, which needs plotly: run `{EXTRA}`"
            self.page.notices.append(notice)
            return f'{self._picture(file, alt)}<p class="notice">{html.escape(notice)}</p>'
        fragment = twin.read_text(encoding="utf-8")
        self.scripts += _SCRIPT.findall(fragment)
        return fragment

    def _picture(self, file: Path, alt: str) -> str:
        """The picture itself; for whoever wants no motion the strip of its frames."""
        image = f'<img src="{_inline(file)}" alt="{alt}">'
        strip = file.with_name(f"{file.stem}_strip.svg")
        if file.suffix != ".gif" or not strip.is_file():
            return image
        return f'<picture><source media="(prefers-reduced-motion: reduce)" srcset="{_inline(strip)}">{image}</picture>'


def _inline(file: Path) -> str:
    """A picture as a data URI."""
    if file.suffix not in _TYPES:
        raise UserError(f"{file} cannot be put into HTML; allowed: {', '.join(_TYPES)}")
    try:
        content = file.read_bytes()
    except OSError as failure:
        raise UserError(
            f"{file} cannot be read ({failure.strerror}); the document names a figure that is not there"
        ) from failure
    return f"data:image/{_TYPES[file.suffix]};base64,{base64.b64encode(content).decode()}"


def _policy(scripts: list[str]) -> str:
    """Content security policy: no request at all, and these scripts only."""
    hashes = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts}
    allowed = " ".join(f"'sha256-{digest}'" for digest in sorted(hashes)) or "'none'"
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}; "
        "base-uri 'none'; form-action 'none'"
    )
