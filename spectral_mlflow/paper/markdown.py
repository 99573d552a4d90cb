"""Markdown from templates: what users supplied stays text, and numbers of figures and equations agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from spectral_mlflow.paper.equations import EQUATIONS

TEMPLATES = Path(__file__).parent / "templates"
NOTHING = "n/a"

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#+!|~$&:@^])")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


def md(value: object) -> str:
    """Any value as one line of plain text: nothing in it is markup, a link or the end of a table's cell."""
    if value is None:
        return NOTHING
    text = _CONTROL.sub(" ", str(value)).strip()
    text = _SPECIAL.sub(r"\\\1", text)
    return re.sub(r"(?i)\bwww\.", lambda found: found[0][:-1] + r"\.", text)


def code(value: object, table: bool = False) -> str:
    """Any value as one code span; in a table the bars in it are escaped."""
    text = _CONTROL.sub(" ", str(value)).strip() or " "
    text = text.replace("|", r"\|") if table else text
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def number(value: float | None, digits: int = 4) -> str:
    """A measured value with so many digits behind the point; n/a for none."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A whole number with thin groups of three; n/a for none."""
    return NOTHING if value is None else f"{round(value):,}"


def listing(values: object) -> str:
    """Several values in a row as plain text; n/a for none."""
    texts = [md(plain(value)) for value in values] if isinstance(values, list | tuple) else [md(plain(values))]
    return ", ".join(texts) or NOTHING


def plain(value: object) -> object:
    """A setting as people write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else value


class Numbering:
    """Numbers of equations, figures and tables, given in the order of the document.

    A document is rendered twice: the first time finds the order, the second one knows every
    number, also of what is shown further down.
    """

    def __init__(self, known: Mapping[tuple[str, str], int] | None = None) -> None:
        self.known = known
        self.found: dict[tuple[str, str], int] = {}

    def define(self, kind: str, name: str) -> int:
        """The number of the next thing of a kind.

        Raises:
            ValueError: the name was given before.
        """
        if (kind, name) in self.found:
            raise ValueError(f"{kind} {name} is defined twice")
        self.found[kind, name] = sum(other == kind for other, _ in self.found) + 1
        return self.found[kind, name]

    def refer(self, kind: str, name: str) -> int:
        """The number of something in the document.

        Raises:
            ValueError: the document has no such thing.
        """
        if self.known is None:
            return 0
        if (kind, name) not in self.known:
            raise ValueError(f"the document has no {kind} {name}")
        return self.known[kind, name]

    def equation(self, name: str) -> str:
        """An equation by name, displayed with its number."""
        place = self.define("eq", name)
        return f'<a id="eq-{place}"></a>\n\n$$\n{EQUATIONS[name]} \\tag{{{place}}}\n$$'

    def eqref(self, name: str) -> str:
        """Reference to an equation."""
        place = self.refer("eq", name)
        return f"[({place})](#eq-{place})"

    def caption(self, kind: str, name: str, text: str) -> str:
        """Caption of the figure above it or the table below it."""
        place = self.define(kind, name)
        word = {"fig": "Figure", "tab": "Table"}[kind]
        return f'<a id="{kind}-{place}"></a>*{word} {place}. {text}*'

    def ref(self, kind: str, name: str) -> str:
        """Reference to a figure or a table."""
        place = self.refer(kind, name)
        return f"[{ {'fig': 'Figure', 'tab': 'Table'}[kind] } {place}](#{kind}-{place})"


def render(template: str, values: Mapping[str, Any]) -> str:
    """A document from its template, with all numbers filled in.

    Raises:
        jinja2.UndefinedError: the template asks for what it was not given.
        ValueError: a reference to nothing, or two definitions of one name.
    """
    first = Numbering()
    _render(template, values, first)
    text = _render(template, values, Numbering(first.found))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _render(template: str, values: Mapping[str, Any], numbering: Numbering) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - HTML escaping would not help: the `md` filter escapes for Markdown
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., Any]] = {
        "md": md, "code": code, "number": number, "count": count, "listing": listing, "plain": plain,
    }  # fmt: skip
    environment.filters.update(filters)
    environment.globals.update(
        equation=numbering.equation, eqref=numbering.eqref, caption=numbering.caption, ref=numbering.ref
    )
    return environment.get_template(template).render(values)
