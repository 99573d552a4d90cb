"""Works, citations and the list of references."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper import bibliography
from spectral_mlflow.paper.bibliography import cite, citet, load, reference_list

BIB = r"""
% @article{commented, out = 1}
@article{godel1931, author = {G{\"o}del, Kurt}, title = "{\"U}ber {Formal} S{\"a}tze: I", journal = {Monatshefte},
  year = 1931, volume = 38, pages = {173--198}}
@misc{two2000b, author = {Lee, Ann-Marie and {The Group}}, title = {Later}, year = {2000}, url = {https://x.org/a_b}}
@misc{two2000a, author = {Lee, Ann-Marie and {The Group}}, title = {Earlier}, year = {2000}}
@misc{three, author = {Ada B. Lovelace and X, Y and Z, Q}, title = {Is it so?}, year = {2001}, eprint = {2001.00001}}
"""


@pytest.fixture
def works(tmp_path: Path) -> dict[str, bibliography.Work]:
    """A small bibliography."""
    file = tmp_path / "references.bib"
    file.write_text(BIB, encoding="utf-8")
    return dict(load(file))


def test_names_accents_and_venues(works: dict[str, bibliography.Work]) -> None:
    """TeX accents, braces, organisations and both orders of a name are understood."""
    assert set(works) == {"godel1931", "two2000a", "two2000b", "three"}
    assert works["godel1931"].entry == "Gödel, K. (1931). Über Formal Sätze: I. *Monatshefte*, 38, 173\u2013198."
    assert works["two2000b"].entry.startswith("Lee, A.-M. and The Group (2000b). Later. <https://x.org/a_b>")
    assert works["three"].entry == (
        "Lovelace, A. B., X, Y., and Z, Q. (2001). Is it so? [arXiv:2001.00001](https://arxiv.org/abs/2001.00001)."
    )


def test_citations(works: dict[str, bibliography.Work]) -> None:
    """Citations link to the entries, and works of the same authors and year have letters, by title."""
    assert cite(["three", "two2000a"], works) == (
        "([Lovelace et al., 2001](#ref-three); [Lee and The Group, 2000a](#ref-two2000a))"
    )
    assert citet("two2000b", works) == "[Lee and The Group (2000b)](#ref-two2000b)"
    listed = reference_list(["three", "two2000b", "two2000a", "three"], works)
    assert re.findall(r'<a id="ref-(\w+)">', listed) == ["two2000a", "two2000b", "three"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("@misc{a, title = {T}, year = {2000}}", "a has no author"),
        ("@misc{a, author = {A, B}, title = {T}, year = 1}\n@misc{a, author = {C, D}, title = {U}, year = 2}", "twice"),
        ("@misc{a, author = {A, B", "no end of the field"),
    ],
    ids=["no_author", "twice", "open"],
)
def test_a_broken_bibliography(tmp_path: Path, text: str, message: str) -> None:
    """What a work lacks is told with its key."""
    file = tmp_path / "broken.bib"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        load(file)


def test_an_unknown_work(works: dict[str, bibliography.Work]) -> None:
    """A citation of a work that is not there names the nearest one."""
    with pytest.raises(UserError, match=r"no work 'godel1932'; nearest: godel1931"):
        cite(["godel1932"], works)


def test_the_works_of_the_package() -> None:
    """Every work can be found by its readers: it names where it appeared, and its number or page has the right form."""
    works = load()
    assert len(works) > 35
    for work in works.values():
        fields = work.fields
        assert re.fullmatch(r"(19|20)\d\d", fields["year"])
        assert re.search(rf"{fields['year']}|\d", work.key)
        assert {"journal", "booktitle", "institution", "publisher", "howpublished", "eprint"} & set(fields), work.key
        assert re.fullmatch(r"\d{4}\.\d{4,5}", fields.get("eprint", "1706.03762")), work.key
        assert re.fullmatch(r"10\.\d{4,}/\S+", fields.get("doi", "10.1000/x")), work.key
        assert not set("{}\\") & set(work.entry.replace("\\(", "").replace("\\)", "")), work.entry
