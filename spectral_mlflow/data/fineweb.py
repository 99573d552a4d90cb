"""FineWeb-Edu (Penedo et al. 2024): web pages of educational value, streamed, or from parquet files like theirs."""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import logging
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import texts, waiting
from spectral_mlflow.data.documents import Piece, Split
from spectral_mlflow.errors import UserError

REPOSITORY = "HuggingFaceFW/fineweb-edu"
HOME = f"https://huggingface.co/datasets/{REPOSITORY}"
SUFFIXES = (".parquet",)
FIRST_ANSWER_SECONDS = 10.0
DOCUMENT_SECONDS = 60.0  # Also for the first one, with a library that takes seconds to load and a list of files.
AHEAD = 64

Row = dict[str, Any]


class FineWebEdu:
    """A source of web pages, each of which is a row with a text and an id.

    Which split a page belongs to follows from the hash of its id alone (of its text, where there is no id), so
    neither its place nor how many others are read decides it.
    """

    name = "fineweb-edu"
    size: int | None = None
    separated = True

    def __init__(self, config: DatasetConfig, licence: str) -> None:
        """Find the files, if they are the user's; the network is asked only when reading.

        Raises:
            UserError: the user's files are not there or not such.
        """
        self.licence = licence
        self.most_train_tokens = config.max_tokens
        self._config = config
        self._paths = _parquet_files(config.path) if config.path else []
        self.files = len(self._paths)

    def identity(self) -> dict[str, Any]:
        """The subset, or path, size and time of change of the user's files."""
        if not self._config.path:
            return {"repository": REPOSITORY, "subset": self._config.subset}
        stats = ((path, path.stat()) for path in self._paths)
        return {"files": [[str(path.resolve()), stat.st_size, stat.st_mtime_ns] for path, stat in stats]}

    def origin(self, position: Any) -> str:
        """The user's path, or the page of the version that was read."""
        return self._config.path or f"{HOME}/tree/{position['revision']}"

    def read(self, position: Any = None) -> Generator[Piece]:
        """The pages; the position is the revision, the file, and where the library says that it is in that."""
        _check_extra()
        start = {"file": 0, "row": 0, "rows": 0, "version": None, "state": None}
        position = position or {"revision": self._revision(), **start}
        rows = position["rows"]
        try:
            with closing(waiting.each(lambda: self._rows(position), DOCUMENT_SECONDS, AHEAD)) as read:
                for row, after in read:
                    yield _piece(row, after, self._config)
                    rows = after["rows"]
        except Exception as failure:  # The libraries below raise whatever they like.
            place = self._config.path or HOME
            raise UserError(
                f"dataset {self.name}: cannot read {place} behind document {rows:,} ({_reason(failure)}); "
                f"{'mend the file' if self._config.path else 'start again to go on from there'}"
            ) from None

    def _revision(self) -> str | None:
        """The version of the repository today, from the first answer of the network."""
        if self._config.path:
            return None
        import huggingface_hub

        api = huggingface_hub.HfApi()
        try:
            info = waiting.once(
                lambda: api.dataset_info(REPOSITORY, timeout=FIRST_ANSWER_SECONDS), FIRST_ANSWER_SECONDS
            )
        except Exception as failure:
            raise UserError(
                f"dataset {self.name}: {HOME} does not answer ({_reason(failure)}); go online, "
                "or set dataset.path to parquet files of it, or choose another dataset.name"
            ) from None
        return str(info.sha)

    def _rows(self, position: Any) -> Generator[tuple[Row, Any]]:
        """Rows from a position on, each with the position behind it."""
        datasets = _library()
        stream = self._stream(datasets, position["revision"])
        place = position
        for file in range(position["file"], stream.num_shards):
            # By row groups, as of a whole file pyarrow decodes ahead as much as the reader is too slow for.
            part = stream.shard(stream.num_shards, file).reshard()
            if file > position["file"]:
                place = place | {"file": file, "row": 0}
            elif position["version"] == datasets.__version__:
                part.load_state_dict(position["state"])
            elif position["row"]:  # Another version may not understand what this one says of its place.
                part = part.skip(position["row"])
            with closing(iter(part)) as rows:
                for row in rows:
                    counts = {"row": place["row"] + 1, "rows": place["rows"] + 1}
                    place = place | counts | {"version": datasets.__version__, "state": part.state_dict()}
                    yield row, place

    def _stream(self, datasets: Any, revision: str | None) -> Any:
        options = {"split": "train", "streaming": True}
        if self._config.path:
            files = [glob.escape(str(path)) for path in self._paths]  # The library takes patterns.
            return datasets.load_dataset("parquet", data_files=files, columns=_columns(self._paths[0]), **options)
        options |= {"columns": ["id", "text"], "revision": revision}
        return datasets.load_dataset(REPOSITORY, self._config.subset, **options)


def _check_extra() -> None:
    found = importlib.util.find_spec("datasets")
    if found is None or found.origin is None:  # Without origin it is a folder that happens to have the name.
        raise UserError(
            "dataset fineweb-edu needs packages that are not installed: pip install 'spectral-mlflow[data]' "
            "(in a clone: pip install -e '.[data]'), or choose another dataset.name"
        )


def _library() -> Any:
    """The `datasets` library, quiet, as an answer to the user is one line of ours."""
    import datasets
    import huggingface_hub

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False  # Else it tells its makers of every use of a local file.
    return datasets


def _parquet_files(path: str) -> list[Path]:
    try:
        files = texts.listed(Path(path), SUFFIXES)
        _columns(files[0])
    except OSError as failure:
        raise UserError(
            f"dataset.path: cannot read {failure.filename or path}: {_reason(failure)}; give parquet files"
        ) from None
    return files


def _columns(path: Path) -> list[str]:
    """Those of text and id that a file has.

    Raises:
        OSError: it cannot be read.
        UserError: it is no parquet file, or has no texts.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        schema = parquet.read_schema(path)
    except pyarrow.ArrowInvalid as failure:
        raise UserError(f"dataset.path: {path} is not a parquet file ({_reason(failure)}); give one") from None
    if "text" not in schema.names:
        raise UserError(f"dataset.path: {path} has no column text, only {', '.join(schema.names)}; give one with it")
    return [name for name in ("id", "text") if name in schema.names]


def _piece(row: Row, after: Any, config: DatasetConfig) -> Piece:
    text = row["text"] or ""
    digest = hashlib.sha256(text.encode()).digest()
    named = hashlib.sha256(str(row["id"]).encode()).digest() if row.get("id") else digest
    return Piece(_split(named, config), text, begins=True, digest=digest, after=after, file=after["file"])


def _split(digest: bytes, config: DatasetConfig) -> Split | None:
    """Hashes are even over 0 .. 1: the first share of it is held out, the next one trained on."""
    place = int.from_bytes(digest[:8]) / 2**64
    if place < config.val_split:
        return "val"
    return "train" if place < config.val_split + config.train_split else None


def _reason(failure: Exception) -> str:
    text = getattr(failure, "strerror", None) or str(failure)
    return text.strip().partition("\n")[0] or type(failure).__name__
