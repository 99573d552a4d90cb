"""The LaTeX bundle."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import manuscript
import pytest

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.characters import declarations
from spectral_mlflow.paper.latex import VENUES, LatexRenderer, bundle

needs_tex = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A document with its figures."""
    return manuscript.write(tmp_path_factory.mktemp("document"))


def test_what_is_in_a_bundle(document: Path, tmp_path: Path) -> None:
    """Source, figures as PDF, references and one line on how to compile; packed with the same bytes each time."""
    folder = bundle(document, "arxiv", tmp_path)
    assert folder == tmp_path / "latex" / "arxiv"
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    figures = {"figures/wide.pdf", "figures/small.pdf", "figures/moving_strip.pdf"}
    assert names == {"main.tex", "main.bbl", "references.bib", "README"} | figures
    packed = (tmp_path / "latex" / "arxiv.tar.gz").read_bytes()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        assert set(tar.getnames()) == names
    bundle(document, "arxiv", tmp_path / "again")
    assert (tmp_path / "again" / "latex" / "arxiv.tar.gz").read_bytes() == packed


def test_references_are_commands(document: Path, tmp_path: Path) -> None:
    """Links become references and citations that LaTeX resolves, and raw HTML does not get through."""
    source = (bundle(document, "arxiv", tmp_path) / "main.tex").read_text(encoding="utf-8")
    for command in (
        r"\citet{kingma2015adam} show \citep{welch1947generalization,plate1995holographic}.",
        r"Section~\ref{sec:21-equations}, Appendix~\ref{sec:appendix-b-more}, \eqref{eq:1}, \eqref{eq:4},",
        r" Figure~\ref{fig:3}, Figure~\ref{fig:5} and Table~\ref{tab:2}.",
        r"\section{Introduction}",
        r"\setcounter{figure}{4}",
        r"\bibliography{references}",
    ):
        assert command in source
    assert "alert" not in source


def test_what_latex_does_not_count_keeps_its_number(tmp_path: Path) -> None:
    """A proposition is called by its own number, not by that of its section; a list has the caption of a table."""
    file = tmp_path / "paper.md"
    file.write_text(
        '# T\n\na\n\n## 1. S\n\n<a id="prop-2"></a>**Proposition 2.** True.\n\nBy [Proposition 2](#prop-2).\n\n'
        f'<a id="tab-1"></a>*Table 1. Commands.*\n\n- {"0123456789abcdef" * 4}\n'
    )
    source = (bundle(file, "arxiv", tmp_path) / "main.tex").read_text(encoding="utf-8")
    assert r"\hyperref[sec:prop-2]{Proposition 2}" in source
    assert r"\caption{Commands.}\label{tab:1}" in source
    assert r"01234567\allowbreak{}89abcdef" in source


@needs_tex
@pytest.mark.parametrize("template", VENUES)
def test_numbers_are_those_of_the_markdown(document: Path, tmp_path: Path, template: str) -> None:
    """LaTeX compiles every layout without an unresolved reference or a line that sticks out, and counts alike."""
    folder = bundle(document, template, tmp_path)
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main"],
            cwd=folder, capture_output=True, check=False,
        )  # fmt: skip
    log = (folder / "main.log").read_text(errors="replace")
    assert done.returncode == 0, log[-2000:]
    assert "undefined" not in log
    assert all(float(wide) < 3 for wide in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log))
    labels = dict(re.findall(r"\\newlabel\{([^}]+)\}\{\{([^}]*)\}", (folder / "main.aux").read_text()))
    for kind, numbers in manuscript.NUMBERS.items():
        assert [labels[f"{kind}:{number}"] for number in numbers] == [str(number) for number in numbers]
    assert labels["sec:21-equations"] == "2.1"
    assert labels["sec:appendix-b-more"] == "B"


def test_the_official_style(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest official style in the output folder is used and packed; without one a notice says what was done."""
    monkeypatch.setenv("PATH", "")  # No TeX.
    renderer = LatexRenderer(tmp_path, "neurips")
    source = (renderer.render(document) / "main.tex").read_text(encoding="utf-8")
    assert any("no official style of neurips" in notice for notice in renderer.notices)
    assert "looks alike" in source
    for year in (2024, 2025):
        (tmp_path / f"neurips_{year}.sty").write_text("% official\n")
    folder = renderer.render(document)
    assert not any("official" in notice for notice in renderer.notices)
    assert r"\usepackage[preprint]{neurips_2025}" in (folder / "main.tex").read_text(encoding="utf-8")
    assert (folder / "neurips_2025.sty").is_file()


def test_what_cannot_be_bundled(tmp_path: Path) -> None:
    """An unknown layout, a missing document, figure or work is told in one line, before anything is written."""
    with pytest.raises(UserError, match="--template: given 'acl'; allowed: arxiv, neurips, icml"):
        LatexRenderer(tmp_path, "acl")
    with pytest.raises(UserError, match="does not exist"):
        bundle(tmp_path / "none.md", "arxiv", tmp_path)
    file = tmp_path / "broken.md"
    for text, message in (("![x](figures/none.svg)", "was not drawn"), ('<a id="ref-nobody1999"></a>N.', "no work")):
        file.write_text(f"# A\n\nb\n\n{text}\n")
        with pytest.raises(UserError, match=message):
            bundle(file, "arxiv", tmp_path)
    assert not (tmp_path / "latex").exists()


def test_characters() -> None:
    """A character that pdflatex lacks is declared, by its sign or else by its code, which is told."""
    lines, unknown = declarations("aé\u2013≤⁻日")
    assert unknown == ["日"]
    assert lines == [
        r"\DeclareUnicodeCharacter{207B}{\ensuremath{^{-}}}",
        r"\DeclareUnicodeCharacter{2264}{\ensuremath{\leq}}",
        r"\DeclareUnicodeCharacter{65E5}{\texttt{[U+65E5]}}",
    ]
