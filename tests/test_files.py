"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from spectral_mlflow import files


def test_write_makes_the_folder_and_replaces_the_file(tmp_path: Path) -> None:
    """The last content is all there is, and nothing else lies beside it."""
    path = tmp_path / "new" / "file.txt"
    files.replace_file(path, b"a longer one")
    files.replace_file(path, b"short")
    assert path.read_bytes() == b"short"
    assert list(path.parent.iterdir()) == [path]


def test_a_refused_write_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """Where the file cannot be put in its place, the error comes out and no temporary file stays."""
    occupied = tmp_path / "occupied"
    occupied.mkdir()
    with pytest.raises(IsADirectoryError):
        files.replace_file(occupied, b"content")
    assert list(tmp_path.rglob("*")) == [occupied]
