"""A page as a browser would read it, and pictures to put on one."""

from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from spectral_mlflow.monitoring import overview

MARKUP = "</script></title><img src=x onerror=alert(1)>"
VOID = {"meta", "img", "input"}
OWN_TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "div", "h1", "h2", "h3", "h4", "span", "progress", "p",
    "strong", "bdi", "details", "summary", "pre", "code", "dl", "dt", "dd", "main", "section", "label", "input",
    "output", "figure", "figcaption", "img", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "footer",
    "script",
}  # fmt: skip


class Page(HTMLParser):
    """What a browser makes of a page: its tags with their attributes, and the texts in them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.code: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a tag."""
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Make sure that what is closed was open."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text."""
        if self._open and self._open[-1] in ("style", "script"):
            self.code[self._open[-1]] = data
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        """All that can be read."""
        return " ".join(self.texts)

    @property
    def state(self) -> str:
        """What the title says last."""
        return next(text for text in self.texts if text.strip()).rsplit(" · ", 1)[-1]

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of each tag of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run_dir: Path) -> Page:
    """The page of a run, after a look at what holds for any of them."""
    page = Page(overview.write(run_dir))
    assert {tag for tag, _ in page.tags} <= OWN_TAGS
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("href", "style", "srcset")]
        assert str(attributes.get("src", "data:image/")).startswith("data:image/")
    return page


def draw(run_dir: Path, plot: str, step: int, color: str = "white") -> None:
    """A picture in the place of a plot."""
    Image.new("RGB", (64, 32), color).save(run_dir / "visualizations" / f"{plot}_step_{step}.png")
