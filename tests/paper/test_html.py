"""A document as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import manuscript
import pytest

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.html import to_html

FRAGMENT = '<div id="wide" class="plotly-graph-div"></div><script>Plotly.newPlot("wide", [], {});</script>'


class Elements(HTMLParser):
    """All start tags of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def values(self, attribute: str) -> list[str]:
        """What an attribute has as values anywhere."""
        return [attributes[attribute] for _, attributes in self.found if attribute in attributes]


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A document with its figures."""
    return manuscript.write(tmp_path)


def policy(page: Elements) -> str:
    """The content security policy."""
    metas = [attributes for tag, attributes in page.found if tag == "meta"]
    return next(meta["content"] for meta in metas if meta.get("http-equiv") == "Content-Security-Policy")


def test_it_needs_nothing_else(document: Path) -> None:
    """Everything is in the file, no script runs, no request is allowed, and each link inside has its target."""
    made = to_html(document)
    text = made.path.read_text(encoding="utf-8")
    page = Elements(text)
    assert made.notices == []
    assert "script-src 'none'" in policy(page)
    assert "default-src 'none'" in policy(page)
    assert all(source.startswith("data:image/") for source in [*page.values("src"), *page.values("srcset")])
    assert not {tag for tag, _ in page.found} & {"script", "link", "iframe", "object", "base"}
    assert "url(" not in text
    assert "@import" not in text
    inside = {link[1:] for link in page.values("href") if link.startswith("#")}
    assert inside <= set(page.values("id"))
    assert {"eq-4", "fig-3", "tab-2", "ref-kingma2015adam"} <= inside
    assert len(page.values("id")) == len(set(page.values("id")))


def test_what_people_see(document: Path) -> None:
    """Mathematics, numbers, captions, contents, highlighted code and a still for whatever moves are there."""
    text = to_html(document).path.read_text(encoding="utf-8")
    assert text.count("<math") == 4  # One is in the title.
    assert '<span class="number">(4)</span>' in text
    assert "<b>Figure 5.</b>" in text
    assert '<span class="kw">def</span>' in text
    assert 'href="#21-equations"' in text.partition("</nav>")[0]
    assert "prefers-reduced-motion" in text
    assert "data:image/gif" in text
    assert "\\tag" not in text


def test_the_same_bytes(document: Path) -> None:
    """The same document gives the same file."""
    first = to_html(document).path.read_bytes()
    assert to_html(document).path.read_bytes() == first


def test_interactive_figures(document: Path) -> None:
    """A figure with an interactive twin is that twin, with the library once, and only these two scripts may run."""
    pytest.importorskip("plotly")
    (document.parent / "figures" / "interactive").mkdir()
    (document.parent / "figures" / "interactive" / "wide.html").write_text(FRAGMENT)
    text = to_html(document).path.read_text(encoding="utf-8")
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    allowed = re.findall(r"'sha256-([^']+)'", policy(Elements(text)))
    assert {base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in scripts} == set(allowed)
    assert 'id="wide"' in text


def test_without_plotly(document: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the still figure is shown, and the extra is named to the reader and to the caller."""
    monkeypatch.setitem(sys.modules, "plotly", None)
    (document.parent / "figures" / "interactive").mkdir()
    (document.parent / "figures" / "interactive" / "wide.html").write_text(FRAGMENT)
    made = to_html(document)
    (notice,) = made.notices
    assert "pip install 'spectral-mlflow[paper]'" in notice
    text = made.path.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "spectral-mlflow[paper]" in text


def test_what_is_not_there(tmp_path: Path) -> None:
    """A missing document or figure is told in one line."""
    with pytest.raises(UserError, match="does not exist"):
        to_html(tmp_path / "none.md")
    file = tmp_path / "figure.md"
    file.write_text("# A\n\nb\n\n![x](none.svg)\n")
    with pytest.raises(UserError, match="figure that is not there"):
        to_html(file)
