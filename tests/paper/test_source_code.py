"""Source code in documents."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

from spectral_mlflow.errors import UserError
from spectral_mlflow.paper.source_code import PACKAGE, extract, web_page

SOURCE = '''"""Module."""

import functools


class Wave:
    """A class.

    With more.
    """

    @functools.cached_property
    def phase(self) -> float:
        """One line."""
        # A comment stays.
        return 0.5

    class Inner:
        """Only this."""
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in a repository of its own, committed, with a remote on the web."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "wave.py").write_text(SOURCE, encoding="utf-8")
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", "https://someone:secret@example.org/group/waves.git"],
        ["add", "."],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return folder


def test_a_method(package: Path) -> None:
    """A method comes with its decorators and comments, without docstring and indentation, and says where it stands."""
    found = extract("wave.py", "Wave.phase", package=package)
    assert found.text == (
        "@functools.cached_property\ndef phase(self) -> float:\n    # A comment stays.\n    return 0.5"
    )
    assert (found.first, found.last) == (12, 16)
    assert found.place == f"package/wave.py:12-16@{found.commit[:10]}"
    assert found.url == f"https://example.org/group/waves/blob/{found.commit}/package/wave.py#L12-L16"
    assert "secret" not in found.markdown
    assert found.markdown.startswith("```python\n@functools")


def test_docstrings(package: Path) -> None:
    """Docstrings are kept if asked for, and where a body has nothing else."""
    assert extract("wave.py", "Wave", docstring=True, package=package).text in SOURCE
    bare = extract("wave.py", "Wave", package=package).text
    assert "With more" not in bare
    assert "Only this" in bare
    ast.parse(bare)


def test_a_changed_file(package: Path) -> None:
    """Code that is not committed as it stands claims no commit."""
    path = package / "wave.py"
    path.write_text(SOURCE + "\n", encoding="utf-8")
    found = extract("wave.py", "Wave.phase", package=package)
    assert (found.commit, found.url, found.place) == ("", "", "package/wave.py:12-16")


def test_what_is_not_there() -> None:
    """A file or a name that is not there is told, with the nearest name."""
    with pytest.raises(UserError, match=r"models/none\.py is not a file"):
        extract("models/none.py", "A")
    with pytest.raises(UserError, match=r"does not define WaveEmbedding\.forwards; nearest: WaveEmbedding\.forward"):
        extract("models/embeddings.py", "WaveEmbedding.forwards")


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("models/*.py")), ids=lambda path: path.stem)
def test_every_class_of_the_models(path: Path) -> None:
    """What is taken out of our own files is whole: it parses, alone."""
    source = path.read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            ast.parse(extract(f"models/{path.name}", node.name).text)


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("git@example.org:a/b.git", "https://example.org/a/b"),
        ("ssh://git@example.org/a/b", "https://example.org/a/b"),
        ("https://token@example.org/a/b.git", "https://example.org/a/b"),
        ("/srv/git/b.git", ""),
        ("", ""),
    ],
    ids=["scp", "ssh", "https", "folder", "none"],
)
def test_pages_of_remotes(remote: str, page: str) -> None:
    """The address of a remote on the web gives a page, without user names; a folder gives none."""
    assert web_page(remote) == page
