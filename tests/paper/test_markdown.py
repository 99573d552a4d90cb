"""Markdown of what users supplied, and the numbers of a document."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pypandoc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectral_mlflow.paper.equations import EQUATIONS
from spectral_mlflow.paper.held import Holder
from spectral_mlflow.paper.markdown import code_span, md
from spectral_mlflow.paper.numbering import Numbering
from spectral_mlflow.paper.render import READER

HOSTILE = st.text(st.sampled_from("|*_<>`$#[]()!~\\^@&:;.\"'{}=+-/\n\r\t abwx1é≤"), max_size=30)


def cells(texts: list[str]) -> list[Any]:
    """The inline elements of one-cell rows of a table, as pandoc reads them."""
    table = "| head |\n|:--|\n" + "".join(f"| {text} |\n" for text in texts)
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), f"--from={READER}", "--to=json"],
        input=table,
        capture_output=True,
        text=True,
        check=True,
    )
    (block,) = json.loads(done.stdout)["blocks"]
    assert block["t"] == "Table"
    return [row[1][0][4] for row in block["c"][4][0][3]]


def plain_text(inlines: list[Any]) -> str:
    """The text of plain words; anything else is markup that got through."""
    assert {inline["t"] for inline in inlines} <= {"Str", "Space"}, inlines
    return "".join(inline.get("c", " ") for inline in inlines)


@settings(max_examples=15, deadline=None)
@given(st.lists(HOSTILE, min_size=10, max_size=40))
def test_no_text_of_a_user_is_markup(texts: list[str]) -> None:
    """Whatever stands in a name, a cell of a table shows it, character by character."""
    found = cells([md(text) for text in texts])
    assert len(found) == len(texts)
    for blocks, text in zip(found, texts, strict=True):
        shown = plain_text(blocks[0]["c"]) if blocks else ""
        assert " ".join(shown.split()) == " ".join(text.split())


@settings(max_examples=15, deadline=None)
@given(st.lists(HOSTILE.filter(lambda text: text.strip() and "\\" not in text), min_size=10, max_size=40))
def test_code_spans_show_what_they_were_given(texts: list[str]) -> None:
    """Bars and backticks neither end a code span nor its cell."""
    for blocks, text in zip(cells([code_span(text, table=True) for text in texts]), texts, strict=True):
        ((inline,),) = [block["c"] for block in blocks]
        assert inline["t"] == "Code"
        assert " ".join(inline["c"][1].split()) == " ".join(text.split())


def test_links_and_names_stay_text() -> None:
    """Addresses, mentions and HTML in a name do not become links or tags."""
    texts = [
        "www.example.org",
        "http://example.org",
        "me@example.org",
        "<script>x</script>",
        "[a](b)",
        ":smile:",
        "![x](y)",
    ]
    for blocks, text in zip(cells([md(text) for text in texts]), texts, strict=True):
        assert plain_text(blocks[0]["c"]) == text


def test_a_direction_mark_cannot_turn_a_line_around() -> None:
    """Control characters, line ends and direction marks become a space."""
    assert md("a\u202eb\x00c\r\nd") == "a b c d"


def test_what_is_not_known_is_named() -> None:
    """A missing value is shown as n/a, never as an empty text."""
    assert md(None) == "n/a"


def test_numbers_follow_the_order_and_references_agree() -> None:
    """A reference further up shows the number that is given further down."""
    first = Numbering(Holder())
    for kind, name in (("eq", "mix"), ("eq", "fast"), ("fig", "curves"), ("prop", "odd")):
        first.define(kind, name)
    holder = Holder()
    second = Numbering(holder, lambda _, name: name == "absent", first.found)
    assert holder.expand(second.eqref("fast"))[0] == "[(2)](#eq-2)"
    assert holder.expand(second.ref("fig", "curves"))[0] == "[Figure 1](#fig-1)"
    assert holder.expand(second.ref("fig", "absent"))[0] == "(not measured)"
    assert holder.expand(second.label("prop", "odd"))[0] == '<a id="prop-1"></a>**Proposition 1**'
    assert r"\tag{1}" in holder.expand(second.equation("mix"))[0]
    with pytest.raises(ValueError, match="no eq dot"):
        second.eqref("dot")
    with pytest.raises(ValueError, match="twice"):
        second.equation("mix")


def test_every_equation_is_read_as_mathematics() -> None:
    """Pandoc turns each equation to typst without falling back to its source, which it would tell."""
    done = subprocess.run(
        [pypandoc.get_pandoc_path(), f"--from={READER}", "--to=typst"],
        input="\n\nnext\n\n".join(f"$$\n{equation}\n$$" for equation in EQUATIONS.values()),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    found = done.stdout.split("\nnext\n")
    for name, equation in zip(EQUATIONS, found, strict=True):
        assert equation.strip().startswith("$ "), name
        assert "\\text" not in equation, name
