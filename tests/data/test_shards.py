"""Shards: made once, gone on with after any interruption, never half, in memory that does not grow."""

import dataclasses
import json
import os
import random
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pages import WriteParquet, words

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora, dataset, encoding, shards
from spectral_mlflow.data.document_table import Documents
from spectral_mlflow.data.documents import Piece
from spectral_mlflow.data.encoding import Encoded, State
from spectral_mlflow.data.texts import Texts
from spectral_mlflow.data.tokenizers import CharTokenizer
from spectral_mlflow.errors import UserError

TOKENIZERS = pytest.mark.parametrize("tokenizer", ["char", "bpe"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Thirty documents."""
    generator = random.Random(0)
    path = tmp_path / "texts"
    path.mkdir()
    for number in range(30):
        (path / f"{number}.txt").write_text(words(generator, generator.randint(1, 200)))
    return path


@pytest.fixture
def config(folder: Path) -> DatasetConfig:
    """The settings for them."""
    return DatasetConfig(path=str(folder), tokenizer="bpe", bpe_vocab_size=300)


def same(one: Encoded, other: Encoded) -> bool:
    """Whether tokens, hash and counts are equal; what a library says of its place depends on where it began."""
    assert one.documents is not None
    assert other.documents is not None
    assert all(np.array_equal(column, getattr(other.documents, name)) for name, column in vars(one.documents).items())
    pairs = ((one.train, other.train), (one.val, other.val))
    counts = [dataclasses.replace(encoded.state, position=None) for encoded in (one, other)]
    return counts[0] == counts[1] and all(torch.equal(a[:], b[:]) for a, b in pairs)


def made(config: DatasetConfig) -> Encoded:
    """The tokens on disk."""
    return shards.on_disk(corpora.find(config), config)


def cached(cache: Path) -> Path:
    """The one folder of tokens."""
    [found] = (cache / "tokens").iterdir()
    return found


@TOKENIZERS
def test_tokens_on_disk_are_those_in_memory(
    tokenizer: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corpus that is large enough for the disk has the tokens it would have in memory, in files of bounded size."""
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1000)
    monkeypatch.setattr(shards, "KEPT_EVERY", 300)
    config = DatasetConfig(path=str(folder), tokenizer=tokenizer, bpe_vocab_size=300)
    on_disk, in_memory = made(config), encoding.in_memory(corpora.find(config), config)
    # In memory all is known that may come; on disk there is one character more, for what was not learned from.
    assert on_disk.tokenizer.vocab_size - in_memory.tokenizer.vocab_size == (tokenizer == "char")
    assert same(on_disk, in_memory)
    files = sorted(cached(cache).glob("train-*.bin"))
    assert len(files) == -(-len(on_disk.train) // 1000) > 2
    assert {file.stat().st_size for file in files[:-1]} == {2000}


def test_a_large_corpus_goes_to_disk_and_a_small_one_does_not(
    config: DatasetConfig, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user sees no difference."""
    small = dataset.prepare(config, block_size=8)
    assert not cache.exists()
    monkeypatch.setattr(encoding, "SMALL", 1000)
    large = dataset.prepare(config, block_size=8)
    assert cached(cache).is_dir()
    assert small.info()["sha256"] == large.info()["sha256"]


def test_one_large_file_is_cut_where_a_small_one_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same first share of it is trained on, read in many pieces or in one."""
    path = tmp_path / "corpus.txt"
    path.write_text("the wave and the particle;\n" * 3000)
    config = DatasetConfig(path=str(path))
    in_memory = encoding.in_memory(corpora.find(config), config)
    monkeypatch.setattr("spectral_mlflow.data.texts.PIECE", 5000)
    assert same(made(config), in_memory)


def test_tokens_are_made_once(config: DatasetConfig, folder: Path, cache: Path) -> None:
    """The second time no document is read and nothing is written; a changed corpus is made anew."""
    first = made(config)
    before = {path: path.stat().st_mtime_ns for path in cached(cache).iterdir()}
    changed = folder / "1.txt"
    time, content = changed.stat().st_mtime_ns, changed.read_text()
    changed.write_text(content.upper())
    os.utime(changed, ns=(time, time))  # No reader can tell without reading it.
    assert same(made(config), first)
    assert {path: path.stat().st_mtime_ns for path in cached(cache).iterdir()} == before
    os.utime(changed, ns=(time, time + 1))
    assert not same(made(config), first)


@pytest.mark.parametrize(
    "change", [{"tokenizer": "char"}, {"bpe_vocab_size": 301}, {"val_split": 0.05}, {"train_split": 0.8}]
)
def test_what_decides_the_tokens_decides_the_place(change: dict[str, Any], config: DatasetConfig, cache: Path) -> None:
    """Other settings never find tokens that were made by these; those that change no token do."""
    made(config)
    made(DatasetConfig(**{**vars(config), "val_windows": 7}))
    assert len(list((cache / "tokens").iterdir())) == 1
    made(DatasetConfig(**{**vars(config), **change}))
    assert len(list((cache / "tokens").iterdir())) == 2


def test_long_vocabularies_take_longer_tokens() -> None:
    """65,536 tokens fit into 16 bits, one more does not."""
    characters = [chr(code) for code in range(0x20000, 0x20000 + 65_537)]
    assert encoding.token_type(CharTokenizer("".join(characters[:-1]))) is np.uint16
    assert encoding.token_type(CharTokenizer("".join(characters))) is np.uint32


class Interrupted(Texts):
    """A folder that is interrupted once in the middle, and knows from where on it was read."""

    def __init__(self, source: Texts, failure: BaseException) -> None:
        super().__init__(source.name, source.origin(None), source.licence, source.stretches)
        self.failure: BaseException | None = failure
        self.positions: list[Any] = []

    def read(self, position: Any = None) -> Generator[Piece]:
        """The texts, up to the eleventh."""
        self.positions.append(position)
        for number, piece in enumerate(super().read(position)):
            if number == 11 and self.failure and len(self.positions) == 2:  # The first look is for the tokenizer.
                failure, self.failure = self.failure, None
                raise failure
            yield piece


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), UserError("the network is gone")])
def test_an_interruption_loses_nothing(
    failure: BaseException, config: DatasetConfig, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The next process goes on at the document where it stopped, and has the tokens of one that was not stopped."""
    source = Interrupted(corpora.find(config), failure)
    with pytest.raises(type(failure)):
        shards.on_disk(source, config)
    index = json.loads((cached(cache) / "index.json").read_bytes())
    assert (index["complete"], index["state"]["documents"]) == (False, 11)
    again = shards.on_disk(source, config)
    assert source.positions == [None, None, [11, 0]]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert same(again, made(config))


def earlier(folder: Path) -> None:
    """What the version before the table of documents would have left."""
    path = folder / "index.json"
    index = json.loads(path.read_bytes())
    del index["rows"]
    path.write_text(json.dumps(index))
    for column in folder.glob("documents-*.bin"):
        column.unlink()


def test_tokens_of_an_earlier_version_are_used(config: DatasetConfig, cache: Path) -> None:
    """Finished or not, they count, without a table of documents."""
    before = made(config).train[:].tolist()
    earlier(cached(cache))
    found = made(config)
    assert (found.documents, found.cache_hits) == (None, 2)
    assert found.train[:].tolist() == before


def test_tokens_that_an_earlier_version_began_are_gone_on_with(config: DatasetConfig, cache: Path) -> None:
    """To the same tokens."""
    source = Interrupted(corpora.find(config), KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        shards.on_disk(source, config)
    earlier(cached(cache))
    found = shards.on_disk(source, config)
    assert source.positions[-1] == [11, 0]
    assert found.documents is None
    assert torch.equal(found.train[:], encoding.in_memory(corpora.find(config), config).train[:])


def test_an_interrupt_between_tokens_and_their_state_is_cut_off(tmp_path: Path) -> None:
    """Tokens that no state counts are not there for whoever goes on."""
    writer = shards._Writer(tmp_path, np.uint16, State())
    writer.add(State(train=2, rows=1), Piece("train", "", True, b"", 1, file=4), np.array([1, 2]))
    writer._pending["train"].append(np.array([3, 4], dtype=np.uint16))
    writer._rows.append((2, 5, False))
    writer.keep()
    assert np.fromfile(tmp_path / "train-00000.bin", np.uint16).tolist() == [1, 2]
    writer.add(State(train=3, rows=2), Piece("train", "", True, b"", 2, file=6, augmented=True), np.array([5]))
    writer.keep()
    assert np.fromfile(tmp_path / "train-00000.bin", np.uint16).tolist() == [1, 2, 5]
    table = Documents.mapped(tmp_path, 2)
    assert (table.starts.tolist(), table.files.tolist()) == ([0, 2], [4, 6])
    assert table.augmented.tolist() == [False, True]


PREPARE = """
import json, sys
from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import dataset, encoding, shards
encoding.SMALL = 1000
shards.KEPT_EVERY = 20_000
made = dataset.prepare(DatasetConfig(**json.loads(sys.argv[1])), block_size=16)
print(json.dumps([made.info(), made.train[:100].tolist()]))
"""


def process(config: DatasetConfig) -> "subprocess.Popen[str]":
    """A process that makes the tokens of a configuration."""
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, json.dumps(vars(config))],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_a_killed_process_is_gone_on_from(
    write_parquet: WriteParquet,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """SIGKILL in the middle leaves an index that counts whole documents; the next process ends with equal tokens."""
    monkeypatch.setattr(encoding, "SMALL", 1000)
    path = write_parquet("pages.parquet", 3_000)
    config = DatasetConfig(name="fineweb-edu", path=str(path), bpe_vocab_size=300)
    child = process(config)
    index: dict[str, Any] = {"state": {"documents": 0}}
    while index["state"]["documents"] < 20 and child.poll() is None:
        found = list(cache.glob("tokens/*/index.json"))
        index = json.loads(found[0].read_bytes()) if found else index
    child.kill()
    _, errors = child.communicate()
    assert child.returncode == -9, errors
    index = json.loads((cached(cache) / "index.json").read_bytes())
    assert not index["complete"]
    resumed = made(config)
    assert cached(cache).is_dir()
    assert f"going on behind document {index['state']['documents']:,} in" in caplog.text
    assert resumed.state.documents == 3_000 > index["state"]["documents"] >= 20
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert same(resumed, made(config))


def test_two_processes_at_once_share_the_work(write_parquet: WriteParquet, cache: Path) -> None:
    """One makes the tokens, the other waits and takes them."""
    path = write_parquet("pages.parquet", 2_000)
    config = DatasetConfig(name="fineweb-edu", path=str(path), bpe_vocab_size=300)
    children = [process(config) for _ in range(2)]
    outputs = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert len({output for output, _ in outputs}) == 1
    index = json.loads((cached(cache) / "index.json").read_bytes())
    assert (index["complete"], index["state"]["documents"]) == (True, 2000)


DAMAGES = {
    "a file is gone": lambda folder: (folder / "train-00000.bin").unlink(),
    "the tokenizer is damaged": lambda folder: (folder / "tokenizer.json").write_text("{"),
    "a file is short": lambda folder: os.truncate(folder / "val-00000.bin", 10),
    "a column is gone": lambda folder: (folder / "documents-files.bin").unlink(),
    "a column is short": lambda folder: os.truncate(folder / "documents-starts.bin", 10),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_tokens_are_made_again(
    case: str, config: DatasetConfig, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Files that are not as long as the index says are not used, nor a tokenizer that cannot be read."""
    first = made(config)
    before = first.train[:].tolist()
    DAMAGES[case](cached(cache))
    again = made(config)
    assert again.train[:].tolist() == before
    assert "is damaged; it is made again" in caplog.text


def test_a_cache_that_cannot_be_written_is_refused(
    config: DatasetConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the place and the way out, in one line."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot keep the tokens of dataset text in .*set XDG_CACHE_HOME") as failure:
        made(config)
    assert "\n" not in str(failure.value)


def test_long_work_shows_how_far_it_is(
    config: DatasetConfig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it starts and, from time to time, documents and tokens so far."""
    monkeypatch.setattr(shards, "REPORT_SECONDS", 0.0)
    made(config)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("dataset text: making its tokens in ")
    assert sum(line.startswith("dataset text: 30 documents, ") for line in lines) == 1


MEASURE = """
import json, sys
from pathlib import Path
from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import batches, dataset, encoding
encoding.SMALL = 1 << 20
made = dataset.prepare(DatasetConfig(**json.loads(sys.argv[1])), block_size=64)
for step in range(20):
    batches.batch(made.train, seed=0, step=step, batch_size=16, block_size=64)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([int(peak.split()[1]) / 1024, len(made.train)]))
"""


def peak(config: DatasetConfig) -> tuple[float, int]:
    """Largest memory of a process that prepares a corpus, in MiB, and how many tokens it has."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(vars(config))],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    memory, num_tokens = json.loads(done.stdout)
    return memory, num_tokens


# The peak of a process, which getrusage says too; but that starts with the memory of whoever starts the process.
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak memory of a process from /proc")
@pytest.mark.parametrize("kind", ["folder", "parquet"])
def test_memory_does_not_grow_with_the_corpus(kind: str, tmp_path: Path) -> None:
    """Of 24 MiB more text, which are 48 MiB more tokens, less than 12 MiB more memory is needed."""
    text = words(random.Random(0), 170_000)[: 1 << 20]
    peaks = []
    for size in (8, 32):
        if kind == "folder":
            place = tmp_path / str(size)
            place.mkdir()
            for number in range(size):
                (place / f"{number}.txt").write_text(f"{number} {text}")
            config = DatasetConfig(path=str(place))
        else:
            pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
            pytest.importorskip("datasets", reason="needs the packages of the extra data")
            place = tmp_path / f"{size}.parquet"
            rows = [{"id": str(number), "text": text[: 1 << 16]} for number in range(size * 16)]
            parquet.write_table(pyarrow.Table.from_pylist(rows), place, row_group_size=16, use_dictionary=False)
            config = DatasetConfig(name="fineweb-edu", path=str(place), tokenizer="char")
        peaks.append(peak(config))
    (less, few), (more, many) = peaks
    assert many > 3.5 * few > 15e6
    assert more - less < 12, peaks
