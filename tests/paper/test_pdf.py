"""PDF from Markdown."""

from __future__ import annotations

import re
from pathlib import Path

import manuscript
import pypdfium2
import pytest
from tracking_store import TrackingStore

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.generator import PaperGenerator
from spectral_mlflow.paper.render import LAYOUTS, to_pdf, to_typst

# Unbroken lines are longer than this in no layout: what lies outside of the page was cut off by somebody's printer.
MARGIN = 25


def pages(path: str | Path) -> list[str]:
    """Text of each page."""
    document = pypdfium2.PdfDocument(path)
    texts = [page.get_textpage().get_text_bounded() for page in document]
    document.close()
    return texts


def outermost(path: str | Path) -> tuple[float, float]:
    """How far text comes to the left and right edges of any page, in points."""
    document = pypdfium2.PdfDocument(path)
    left, right = [], []
    for page in document:
        text = page.get_textpage()
        boxes = [text.get_charbox(index) for index in range(text.count_chars())]
        boxes = [box for box in boxes if box[2] > box[0]]
        left.append(min(box[0] for box in boxes))
        right.append(page.get_width() - max(box[2] for box in boxes))
    document.close()
    return min(left), min(right)


@pytest.fixture(scope="module")
def paper(study: TrackingStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The technical paper as Markdown."""
    generator = PaperGenerator(tmp_path_factory.mktemp("paper"), tracking_uri=study.uri)
    return Path(generator.generate_technical_paper())


@pytest.mark.parametrize("template", LAYOUTS)
def test_the_paper_in_every_layout(paper: Path, template: str) -> None:
    """Title, abstract, captions, numbers and references are there, and nothing runs off the page."""
    path = to_pdf(paper, template)
    found = pages(path)
    text = " ".join(" ".join(found).split())
    assert len(found) >= 4
    assert "Wave-Based and Standard GPTs" in found[0]
    assert "Abstract" in found[0]
    assert "(17)" in text
    assert re.search(r"Table \d+\. Main comparison: best validation loss", text)
    assert re.search(r"Figure \d+\. Validation loss", text)
    assert "2.3922 [2.3893, 2.3951]" in text.replace("\u00a0", " ")
    assert "??" not in text
    assert "\ufffd" not in text
    assert r"\tag" not in text
    assert "<a id" not in text
    assert min(outermost(path)) > MARGIN


def test_the_guide(study: TrackingStore, tmp_path: Path) -> None:
    """The guide becomes pages with its title, its tables and its drawings."""
    generator = PaperGenerator(tmp_path, tracking_uri=study.uri)
    path = generator.render_to_pdf(generator.generate_intuitive_guide())
    found = pages(path)
    assert "Tokens as Waves" in found[0]
    assert "Figure 5." in "".join(found)
    assert min(outermost(path)) > MARGIN
    assert not list(tmp_path.glob("*.typ"))


def test_links_between_numbers_survive() -> None:
    """A reference becomes a link to the label of its equation, figure or table."""
    source = to_typst(
        "# T\n\nSee [(1)](#eq-1), [Figure 1](#fig-1), [Table 1](#tab-1).\n\n$$\nx = 1 \\tag{1}\n$$\n\n"
        '![alt](figures/x.svg)\n\n<a id="fig-1"></a>*Figure 1. Of **x** and y.*\n\n'
        '<a id="tab-1"></a>*Table 1. Of z.*\n\n| a |\n|:--|\n| b |\n'
    )
    for label in ("eq-1", "fig-1", "tab-1"):
        assert source.count(f"#link(<{label}>)") == 1
        assert source.replace(f"#link(<{label}>)", "").count(f"<{label}>") == 1
    assert "Of #strong[x] and y." in source
    assert "Of z." in source
    assert "Figure 1. Of" not in source


@pytest.mark.parametrize("template", LAYOUTS)
def test_everything_that_a_paper_may_have(tmp_path: Path, template: str) -> None:
    """Numbers are those of the Markdown in every layout, nothing sticks out, and the same text gives the same bytes."""
    document = manuscript.write(tmp_path)
    content = to_pdf(document, template).read_bytes()
    text = " ".join(" ".join(pages(document.with_suffix(".pdf"))).split())
    for word in ("Figure 1. A wide", "Figure 3. None", "Figure 5. A moving", "Table 2. Every", "(1)", "(2)", "(4)"):
        assert word in text
    assert text.count("Cell") == len([page for page in pages(document.with_suffix(".pdf")) if "without_feedf" in page])
    assert min(outermost(document.with_suffix(".pdf"))) > MARGIN
    assert to_pdf(document, template).read_bytes() == content


def test_a_list_in_the_place_of_a_table() -> None:
    """Its caption is that of a table, and it may go on over pages."""
    source = to_typst('# T\n\na\n\n<a id="tab-7"></a>*Table 7. Commands.*\n\n- one\n- two\n')
    assert re.search(
        r"#long\[\s*#figure\(kind: table, supplement: \[Table\], numbering: _ => \"7\", caption: \[", source
    )


def test_a_link_to_nothing(tmp_path: Path) -> None:
    """A reference that leads nowhere is an error, not a dead link."""
    file = tmp_path / "dead.md"
    file.write_text("# A\n\nb\n\nSee [Figure 9](#fig-9).\n")
    with pytest.raises(UserError, match="fig-9"):
        to_pdf(file)


def test_user_text_is_not_typst(tmp_path: Path) -> None:
    """What typst would run or resolve is set as it stands."""
    file = tmp_path / "hostile.md"
    file.write_text(
        '# A\n\nline\n\ntext \\#panic("x") \\@nobody // no comment /* nor this */ \\<label\\> --- ~ "q" end\n'
    )
    (page,) = pages(to_pdf(file))
    assert '#panic("x") @nobody // no comment /* nor this */ <label> --- ~ "q" end' in page


def test_a_document_that_is_not_there(tmp_path: Path) -> None:
    """A missing document, or one with a missing figure, is told in one line and leaves no PDF."""
    with pytest.raises(UserError, match="does not exist"):
        to_pdf(tmp_path / "none.md")
    file = tmp_path / "figure.md"
    file.write_text("# A\n\nb\n\n![x](nothing.svg)\n")
    with pytest.raises(UserError, match="cannot be set as PDF"):
        to_pdf(file)
    assert not file.with_suffix(".pdf").exists()
