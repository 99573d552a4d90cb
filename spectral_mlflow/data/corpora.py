"""The texts that a model can be trained on, by name: where each comes from and how to be sure of it.

To add one: an entry in `CORPORA` and its name in `DatasetConfig.name`.
"""

from __future__ import annotations

import http.client
import logging
import os
import queue
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.provenance import sha256

DOWNLOAD_SECONDS = 5.0
LARGEST_DOWNLOAD = 64 * 2**20
TEXT_SUFFIXES = (".txt", ".md")

_log = logging.getLogger("spectral_mlflow.data")


@dataclass(frozen=True)
class Corpus:
    """A text and where it comes from.

    Attributes:
        name: its name in `CORPORA`.
        text: all of it, line ends as they are in its files.
        sha256: of the text as UTF-8; for a corpus of one file this is the hash of that file.
        source: URL, module or path.
        licence: what is known of the rights in it.
        files: number of files it was read from.
    """

    name: str
    text: str
    sha256: str
    source: str
    licence: str
    files: int


@dataclass(frozen=True)
class Entry:
    """What is known of a corpus before it is read.

    Attributes:
        source: URL or module; empty where the user names a path.
        licence: what is known of the rights in it.
        sha256: what its bytes must hash to; None where they may differ, by Python version or by user.
        read: its texts, one for each file.
    """

    source: str
    licence: str
    sha256: str | None
    read: Callable[[str, DatasetConfig], list[str]]


def load(config: DatasetConfig) -> Corpus:
    """The corpus that the settings ask for.

    ``auto`` takes tinyshakespeare where it can be had within seconds, else python-docs, and says
    so in the log. A corpus asked for by name is never replaced by another one.

    Raises:
        UserError: it is not to be had, is damaged, is empty or is not UTF-8.
    """
    if config.name != "auto":
        return _load(config.name, config)
    try:
        return _load("tinyshakespeare", config)
    except UserError as failure:
        _log.warning("dataset auto: taking python-docs instead, because %s", failure)
        return _load("python-docs", config)


def _load(name: str, config: DatasetConfig) -> Corpus:
    entry = CORPORA[name]
    texts = entry.read(name, config)
    text = "\n".join(texts)
    return Corpus(name, text, sha256(text.encode()), entry.source or str(config.path), entry.licence, len(texts))


def _read_download(name: str, _config: DatasetConfig) -> list[str]:
    """A corpus of one public file: from the cache, from SPECTRAL_DATA_DIR, else from its home."""
    entry = CORPORA[name]
    cached = _cache_folder() / f"{name}.txt"
    reasons: list[str] = []
    for path in _places(name, cached):
        if path == cached and not path.exists():  # As with every first use; no reason to speak of.
            continue
        content = _read_checked(path, entry, reasons)
        if content is not None:
            return [content.decode()]
    content = _download_checked(entry, reasons)
    if content is None:
        raise UserError(
            f"dataset {name} is not to be had ({'; '.join(reasons)}); "
            f"save {entry.source} as {cached}, or choose another dataset.name"
        )
    try:
        replace_file(cached, content)
    except OSError as failure:
        _log.warning("dataset %s was downloaded but not kept in %s: %s", name, cached, failure.strerror)
    return [content.decode()]


def _cache_folder() -> Path:
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        base = given if given.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # A container's user without a home; the hash guards against a foreign file.
        base = Path(tempfile.gettempdir())
    return base / "spectral_mlflow"


def _places(name: str, cached: Path) -> Iterator[Path]:
    yield cached
    if folder := os.environ.get("SPECTRAL_DATA_DIR"):
        yield Path(folder) / f"{name}.txt"


def _read_checked(path: Path, entry: Entry, reasons: list[str]) -> bytes | None:
    """The file if it is there and undamaged; else the reason is added to the reasons."""
    try:
        content = path.read_bytes()
    except OSError as failure:
        reasons.append(f"{path}: {failure.strerror}")
        return None
    if sha256(content) == entry.sha256:
        return content
    reasons.append(f"{path} is damaged: sha256 {sha256(content)}, expected {entry.sha256}")
    _log.warning("%s; it is not used, delete it", reasons[-1])
    return None


def _download_checked(entry: Entry, reasons: list[str]) -> bytes | None:
    try:
        content = _download(entry.source, DOWNLOAD_SECONDS)
    except OSError as failure:
        reasons.append(f"download: {failure}")
        return None
    if sha256(content) == entry.sha256:
        return content
    reasons.append(f"download: something else came, sha256 {sha256(content)}, expected {entry.sha256}")
    return None


def _download(url: str, seconds: float) -> bytes:
    """The body behind a URL.

    Raises:
        OSError: refused, not found, broken off, or not there within that many seconds.
    """
    outcome: queue.SimpleQueue[bytes | OSError] = queue.SimpleQueue()

    def fetch() -> None:
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:  # noqa: S310 - from the registry
                outcome.put(response.read(LARGEST_DOWNLOAD))
        except urllib.error.HTTPError as failure:
            failure.close()
            outcome.put(OSError(f"HTTP status {failure.code}"))
        except (OSError, http.client.HTTPException) as failure:
            outcome.put(OSError(str(getattr(failure, "reason", failure)) or type(failure).__name__))

    # The time-out of urllib is for each read and not at all for the name look-up: a thread bounds all of it.
    threading.Thread(target=fetch, name="download", daemon=True).start()
    try:
        result = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError(f"not there within {seconds:g} s") from None
    if isinstance(result, OSError):
        raise result
    return result


def _read_python_docs(_name: str, _config: DatasetConfig) -> list[str]:
    """The language reference as ``help()`` prints it, each paragraph once.

    Topics quote each other; without a second copy nothing that is held out can also be trained on.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise UserError(
            "dataset python-docs: this Python comes without pydoc_data; choose another dataset.name"
        ) from None
    paragraphs = (part.strip("\n") for topic in sorted(topics) for part in topics[topic].split("\n\n"))
    return ["\n\n".join(dict.fromkeys(paragraphs))]


def _read_text(_name: str, config: DatasetConfig) -> list[str]:
    """The user's file, or every text file below the user's folder in the order of their paths."""
    root = Path(config.path or "")
    try:
        texts = [_decode(path, path.read_bytes()) for path in _text_files(root)]
    except (OSError, ValueError) as failure:
        reason = failure.strerror if isinstance(failure, OSError) else failure
        place = (isinstance(failure, OSError) and failure.filename) or root
        raise UserError(f"dataset.path: cannot read {place}: {reason}; give a file or folder of UTF-8 text") from None
    if not any(texts):
        raise UserError(f"dataset.path: {root} is empty; give a file or folder with text in it")
    return texts


def _text_files(root: Path) -> list[Path]:
    if not root.is_dir():
        root.stat()  # Says why, where there is nothing.
        if not root.is_file():
            raise UserError(f"dataset.path: {root} is neither a file nor a folder; give one of these")
        return [root]
    found = [path for path in _walk(root) if path.suffix.lower() in TEXT_SUFFIXES and path.is_file()]
    if not found:
        raise UserError(
            f"dataset.path: no file in {root} ends in {' or '.join(TEXT_SUFFIXES)}; give another folder or a file"
        )
    return sorted(found, key=lambda path: path.relative_to(root).parts)


def _walk(root: Path) -> Iterator[Path]:
    def refuse(failure: OSError) -> None:
        raise failure  # By default os.walk leaves out what it may not read, without a word.

    for folder, below, names in os.walk(root, onerror=refuse):
        below[:] = [name for name in below if not name.startswith(".") and not _is_run(Path(folder, name))]
        yield from (Path(folder, name) for name in names)


def _is_run(folder: Path) -> bool:
    """Whether it is a run directory: what a model has written is no text to train on."""
    return (folder / "logs" / "events.jsonl").exists()


def _decode(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as failure:
        raise UserError(
            f"dataset.path: {path} is not UTF-8 (byte {failure.start} is 0x{content[failure.start]:02x}); convert it, "
            f"for example with iconv -t UTF-8"
        ) from None


CORPORA = {
    "tinyshakespeare": Entry(
        source="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        licence="plays of William Shakespeare, public domain; compiled in karpathy/char-rnn, MIT",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        read=_read_download,
    ),
    "python-docs": Entry(
        source="pydoc_data.topics",
        licence="Python documentation, Python Software Foundation License Version 2",
        sha256=None,
        read=_read_python_docs,
    ),
    "text": Entry(source="", licence="the user's own text, rights not known", sha256=None, read=_read_text),
}
