"""Texts: one file or a folder, read piece by piece, split, and named where they cannot be used."""

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import texts
from spectral_mlflow.data.documents import Piece
from spectral_mlflow.data.texts import Texts
from spectral_mlflow.errors import UserError
from spectral_mlflow.provenance import sha256

CONTENT = "To be, or not to be:\r\nthat is the quéstion.\n".encode()


def find(path: Path, **settings: float) -> Texts:
    """The texts of a path."""
    return texts.at(str(path), "text", "unknown", DatasetConfig(path=str(path), **settings))


def read(path: Path) -> str:
    """All that is read, in its order."""
    return "".join(piece.text for piece in find(path).read())


def test_one_file_is_read_to_the_letter(tmp_path: Path) -> None:
    """Any name will do; line ends stay, and the hash is that of the file."""
    path = tmp_path / "poem.text"
    path.write_bytes(CONTENT)
    source = find(path)
    *_, last = pieces = list(source.read())
    assert "".join(piece.text for piece in pieces).encode() == CONTENT
    assert [piece.split for piece in pieces] == ["train", "val", None]
    assert last.digest == hashlib.sha256(CONTENT).digest()
    assert (source.files, source.size, source.origin(None)) == (1, len(CONTENT), str(path))


def test_a_folder_is_read_whole(tmp_path: Path) -> None:
    """All .txt and .md files at any depth, each a document with its own hash; nothing else."""
    for name in ("b.txt", "a/z.md", "a/deep/y.TXT", "a.md", "c.py", "notes"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "folder.txt").mkdir()
    pieces = list(find(tmp_path).read())
    assert sorted(piece.text for piece in pieces) == ["a.md", "a/deep/y.TXT", "a/z.md", "b.txt"]
    assert [piece.digest for piece in pieces] == [hashlib.sha256(piece.text.encode()).digest() for piece in pieces]
    assert find(tmp_path).files == 4


def test_the_order_of_a_folder_is_that_of_the_hashes_of_its_paths(tmp_path: Path) -> None:
    """So the first documents are no special ones, and every machine has the same."""
    for number in range(20):
        (tmp_path / f"{number:02}").mkdir()
        (tmp_path / f"{number:02}" / "a.txt").write_text(f"{number:02}/a.txt")
    found = [piece.text for piece in find(tmp_path).read()]
    assert found == sorted(found, key=lambda name: sha256(name.encode()))
    assert found != sorted(found)


@given(
    sizes=st.lists(st.integers(0, 100), min_size=2, max_size=30).filter(any),
    percents=st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda shares: sum(shares) <= 100),
)
def test_documents_are_divided_by_their_shares(sizes: list[int], percents: tuple[int, int]) -> None:
    """Both splits have at least one document, and none is larger than its share but for the need of one."""
    named = {f"{number}.txt": size for number, size in enumerate(sizes)}
    config = DatasetConfig(path="x", train_split=percents[0] / 100, val_split=percents[1] / 100)
    splits = texts.divided(named, config)
    assert texts.divided(dict(reversed(named.items())), config) == splits
    for split, percent in (("train", percents[0]), ("val", percents[1])):
        taken = [named[name] for name in named if splits[name] == split]
        assert taken
        room = percent / 100 * sum(sizes) + 1e-3
        assert len(taken) == 1 or sum(taken) <= room or (split == "train" and sum(percents) == 100)
    assert sum(percents) < 100 or None not in splits.values()


@given(text=st.text(st.sampled_from("ab é\n\t\u3000🌊"), min_size=1, max_size=300), size=st.integers(4, 40))
def test_a_text_is_the_same_from_any_of_its_places(
    text: str, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """In pieces of any size, and from behind any piece on, all of it is read, once."""
    path = tmp_path_factory.getbasetemp() / "pieces.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(texts, "PIECE", size)
        source = find(path, train_split=0.6, val_split=0.4)
        pieces = list(source.read())
        assert "".join(piece.text for piece in pieces) == text
        assert max(len(piece.text.encode()) for piece in pieces) <= size
        for number, piece in enumerate(pieces, 1):
            assert list(source.read(piece.after)) == pieces[number:]


def test_pieces_end_between_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece ends in front of a blank or line end behind a visible character; only a word without end is cut."""
    monkeypatch.setattr(texts, "PIECE", 20)
    path = tmp_path / "corpus.txt"
    path.write_text("to be or  \n not to be that is the question" + "n" * 50)
    pieces = [piece.text for piece in find(path, train_split=0.99, val_split=0.01).read() if piece.split == "train"]
    assert pieces[:3] == ["to be or  \n not to", " be that is the", " questionnnnnnnnnnnn"]
    assert all(piece == "n" * len(piece) for piece in pieces[3:])


def test_what_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that has lost its end is not taken for a short one."""
    monkeypatch.setattr(texts, "PIECE", 8)
    path = tmp_path / "corpus.txt"
    path.write_text("wave " * 20)
    pieces = find(path).read()
    assert isinstance(next(pieces), Piece)
    path.write_text("wave")
    with pytest.raises(UserError, match="corpus.txt has become shorter"):
        list(pieces)


def test_identity_follows_the_files(tmp_path: Path) -> None:
    """It stays while nothing changes, and differs with a file's content, its split or the set of files."""
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text("wave" * 9)
    before = find(tmp_path).identity()
    assert find(tmp_path).identity() == before
    assert find(tmp_path, train_split=0.2, val_split=0.5).identity() != before
    (tmp_path / "1.txt").write_text("WAVE" * 9)
    changed = find(tmp_path).identity()
    assert changed != before
    (tmp_path / "1.txt").rename(tmp_path / "4.txt")
    assert find(tmp_path).identity() != changed


def _nothing(_: Path) -> None:
    """Leave the place empty."""


UNUSABLE = {
    "missing": (_nothing, "No such file or directory"),
    "empty file": (Path.touch, "is empty"),
    "empty folder": (Path.mkdir, r"no file in .* ends in .txt or .md"),
    "latin-1": (lambda path: path.write_bytes(b"caf\xe9"), r"not UTF-8 \(byte 3 is 0xe9\)"),
    "pipe": (os.mkfifo, "neither a file nor a folder"),
    "loop": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_text_is_refused(case: str, tmp_path: Path) -> None:
    """The error names the setting, the path and what is wrong, in one line."""
    make, reason = UNUSABLE[case]
    path = tmp_path / "given"
    make(path)
    with pytest.raises(UserError, match=reason) as failure:
        read(path)
    message = str(failure.value)
    assert message.startswith("dataset.path: ")
    assert str(path) in message
    assert "\n" not in message


def test_a_damaged_file_in_a_folder_is_named(tmp_path: Path) -> None:
    """Among many files the error says which one is not UTF-8."""
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"bad.txt is not UTF-8"):
        read(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that even root cannot read from")
def test_an_unreadable_text_is_refused() -> None:
    """An error of the disk comes out as one line with the path."""
    with pytest.raises(UserError, match="cannot read /proc/self/mem: "):
        read(Path("/proc/self/mem"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_refused(tmp_path: Path) -> None:
    """A folder that may not be listed is not left out in silence."""
    (tmp_path / "a.txt").write_text("readable")
    (tmp_path / "locked").mkdir(mode=0)
    with pytest.raises(UserError, match=r"cannot read .*locked: Permission denied"):
        read(tmp_path)


def test_what_a_model_has_written_is_not_read(tmp_path: Path) -> None:
    """Run directories and hidden folders inside a folder of texts are passed over."""
    for name in (
        "book.txt",
        "experiments/run/samples/sample.txt",
        ".cache/page.md",
        "experiments/run/logs/events.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert read(tmp_path) == "book.txt"
