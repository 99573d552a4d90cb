"""FineWeb-Edu: split by ids, resumable anywhere, bounded in time; proven on local files of the same schema."""

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pages import WriteParquet

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import dataset
from spectral_mlflow.data.documents import Piece
from spectral_mlflow.data.fineweb import FineWebEdu
from spectral_mlflow.errors import UserError

pytest.importorskip("datasets", reason="needs the packages of the extra data")


def find(path: Path, **settings: object) -> FineWebEdu:
    """The documents of a path."""
    return FineWebEdu(DatasetConfig(name="fineweb-edu", path=str(path), **settings), "unknown")


def read(path: Path, **settings: object) -> list[Piece]:
    """All documents of a path."""
    return list(find(path, **settings).read())


def test_files_are_read_row_by_row(write_parquet: WriteParquet) -> None:
    """Every row of every file below the folder is one document, in the order of the paths."""
    write_parquet("pages/b.parquet", 30, first=130)
    folder = write_parquet("pages/a/a.parquet", 130).parent.parent
    (folder / "README.txt").write_text("not a page")
    pieces = read(folder)
    assert len(pieces) == 160
    assert [piece.text for piece in pieces[130:]] == [piece.text for piece in read(folder / "b.parquet")]
    assert all(piece.begins and piece.digest for piece in pieces)
    assert pieces[-1].after["rows"] == 160
    assert [piece.file for piece in pieces] == [0] * 130 + [1] * 30


def test_a_path_is_no_pattern(write_parquet: WriteParquet) -> None:
    """Brackets and stars in a path mean themselves; no other file is read for it."""
    write_parquet("pages[1]/ab.parquet", 5)
    assert len(read(write_parquet("pages[1]/a*.parquet", 3))) == 3


def test_reading_goes_on_behind_any_document(write_parquet: WriteParquet) -> None:
    """From each position on come the documents behind it, also into the next file; and so for another library."""
    folder = write_parquet("pages/a.parquet", 30, group=10).parent
    write_parquet("pages/b.parquet", 15, first=30, group=10)
    pieces = read(folder)
    for number in (1, 9, 10, 11, 29, 30, 31, 44, 45):
        position = pieces[number - 1].after
        for version in (position["version"], "0.0.0"):
            rest = list(find(folder).read(position | {"version": version}))
            assert [piece.text for piece in rest] == [piece.text for piece in pieces[number:]]
            assert not rest or rest[-1].after["rows"] == 45


def test_a_reader_that_stops_leaves_nothing_behind(write_parquet: WriteParquet) -> None:
    """A program that takes the first document ends by itself, without a word."""
    path = write_parquet("pages.parquet", 500)
    script = (
        "from spectral_mlflow.config import DatasetConfig\n"
        "from spectral_mlflow.data.fineweb import FineWebEdu\n"
        "from contextlib import closing\n"
        f"source = FineWebEdu(DatasetConfig(name='fineweb-edu', path={str(path)!r}), '')\n"
        "with closing(source.read()) as pieces:\n"
        "    print(next(pieces).after['rows'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_the_split_of_a_page_follows_from_its_id(write_parquet: WriteParquet) -> None:
    """Wherever it stands and whatever stands beside it; the shares come out, and the rest is left."""
    settings = {"train_split": 0.5, "val_split": 0.3}
    everything = {piece.text: piece.split for piece in read(write_parquet("a.parquet", 600), **settings)}
    part = read(write_parquet("b.parquet", 200, first=300), **settings)
    assert all(piece.split == everything[piece.text] for piece in part)
    counted = {split: sum(found == split for found in everything.values()) / 600 for split in ("train", "val", None)}
    assert counted == pytest.approx({"train": 0.5, "val": 0.3, None: 0.2}, abs=0.06)  # Three standard deviations.
    more = {piece.text: piece.split for piece in read(write_parquet("a.parquet", 600), train_split=0.7, val_split=0.3)}
    assert all(more[text] == split for text, split in everything.items() if split)


def test_pages_without_ids_are_split_by_their_text(tmp_path: Path) -> None:
    """Equal pages never stand on both sides, and a page without a text is an empty one."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pages = [f"page {number % 40}" for number in range(80)] + [None]
    parquet.write_table(pyarrow.table({"text": pages}), tmp_path / "pages.parquet")
    pieces = read(tmp_path / "pages.parquet", val_split=0.5, train_split=0.5)
    assert [piece.split for piece in pieces[:40]] == [piece.split for piece in pieces[40:80]]
    assert {piece.split for piece in pieces} == {"train", "val"}
    assert pieces[80].text == ""


def test_a_dataset_of_pages(write_parquet: WriteParquet) -> None:
    """Tokens to train on up to the most that was asked for, and pages, tokens and windows in what is recorded."""
    path = write_parquet("pages.parquet", 400)
    config = DatasetConfig(name="fineweb-edu", path=str(path), bpe_vocab_size=300, val_windows=20)
    whole = dataset.prepare(config, block_size=16)
    assert whole.info() | {"name": "fineweb-edu", "num_documents": 400, "files": 1, "source": str(path)} == whole.info()
    assert (whole.info()["num_val_windows"], len(whole.val)) == (20, 321)
    assert whole.tokenizer.kind == "bpe"
    most = len(whole.train) // 2
    part = dataset.prepare(DatasetConfig(**{**vars(config), "max_tokens": most}), block_size=16)
    assert len(part.train) == most
    assert part.train[:].tolist() == whole.train[:most].tolist()
    assert part.info()["num_documents"] < 400
    assert part.info()["sha256"] != whole.info()["sha256"]


def test_parts_of_the_text_are_found_again(write_parquet: WriteParquet) -> None:
    """Pages stand in the tokens as they were written, with the end-of-text token between them."""
    path = write_parquet("pages.parquet", 60)
    config = DatasetConfig(name="fineweb-edu", path=str(path), bpe_vocab_size=300, val_windows=0)
    prepared = dataset.prepare(config, block_size=16)
    pieces = read(path)
    for split, tokens in (("train", prepared.train), ("val", prepared.val)):
        texts = prepared.tokenizer.decode(tokens[:]).split("<|endoftext|>")
        assert texts == [piece.text for piece in pieces if piece.split == split]


UNUSABLE = {
    "missing": (lambda path: path, "No such file or directory"),
    "empty folder": (Path.mkdir, r"no file in .* ends in .parquet"),
    "no parquet": (lambda path: path.write_bytes(b"something else"), "is not a parquet file"),
    "empty": (Path.touch, "is not a parquet file"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_are_refused(case: str, tmp_path: Path) -> None:
    """The error is one line with the setting, the path and what is wrong."""
    make, reason = UNUSABLE[case]
    make(tmp_path / "given")
    with pytest.raises(UserError, match=reason) as failure:
        find(tmp_path / "given")
    assert str(failure.value).startswith("dataset.path: ")
    assert "\n" not in str(failure.value)


def test_a_file_without_texts_is_refused(tmp_path: Path) -> None:
    """The error names the columns that there are."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"content": ["page"], "id": ["1"]}), tmp_path / "pages.parquet")
    with pytest.raises(UserError, match="has no column text, only content, id"):
        find(tmp_path)


def test_a_damaged_file_is_named_where_it_is_reached(
    write_parquet: WriteParquet, capfd: pytest.CaptureFixture[str]
) -> None:
    """What lies in front of it is read; then one line says behind which document, and nothing else is printed."""
    folder = write_parquet("pages/a.parquet", 20).parent
    (folder / "b.parquet").write_bytes(b"PAR1 damaged PAR1")
    with closing(find(folder).read()) as pieces:
        assert len([next(pieces) for _ in range(20)]) == 20
        with pytest.raises(UserError, match="cannot read .* behind document 20 .*; mend the file") as failure:
            next(pieces)
    assert "\n" not in str(failure.value)
    assert capfd.readouterr().err == ""


def test_without_the_packages_the_extra_is_named(write_parquet: WriteParquet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that were made before need no package; new ones do, and the error says how to get it."""
    path = write_parquet("pages.parquet", 100)
    config = DatasetConfig(name="fineweb-edu", path=str(path), bpe_vocab_size=300)
    made = dataset.prepare(config, block_size=16)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert dataset.prepare(config, block_size=16).info() == made.info()
    with pytest.raises(UserError, match=r"pip install 'spectral-mlflow\[data\]'"):
        dataset.prepare(DatasetConfig(name="fineweb-edu", path=str(path), bpe_vocab_size=301), block_size=16)


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


SCRIPT = """
import sys
from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import fineweb
from spectral_mlflow.errors import UserError
fineweb.FIRST_ANSWER_SECONDS = 1.0
try:
    next(fineweb.FineWebEdu(DatasetConfig(name="fineweb-edu"), "").read())
except UserError as failure:
    sys.exit(str(failure))
"""


@pytest.mark.parametrize("case", ["offline", "refused", "silent"])
def test_without_the_network_one_line_says_so(case: str, silent: str, tmp_path: Path) -> None:
    """In offline mode, without a server and with one that does not answer: soon, and with what to do."""
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refused = f"http://127.0.0.1:{gone.getsockname()[1]}"
    variable, value, reason = {
        "offline": ("HF_HUB_OFFLINE", "1", "offline mode is enabled"),
        "refused": ("HF_ENDPOINT", refused, "refused"),
        "silent": ("HF_ENDPOINT", silent, "timed out|not there within"),
    }[case]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "HF_HOME": str(tmp_path), variable: value},
    )  # fmt: skip
    [line] = done.stderr.splitlines()
    assert re.search(rf"fineweb-edu does not answer \(.*({reason}).*\); go online, or set dataset.path to", line)
