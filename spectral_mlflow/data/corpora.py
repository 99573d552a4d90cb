"""The texts that a model can be trained on, by name: where each comes from and how to be sure of it.

To add one: an entry in `CORPORA` and its name in `DatasetConfig.name`.
"""

from __future__ import annotations

import http.client
import logging
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import cache, fineweb, texts, tunes, waiting
from spectral_mlflow.data.documents import Source
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.provenance import sha256

DOWNLOAD_SECONDS = 5.0
LARGEST_DOWNLOAD = 64 * 2**20

_log = logging.getLogger("spectral_mlflow.data")


@dataclass(frozen=True)
class Entry:
    """What is known of a corpus before it is read.

    Attributes:
        source: URL or module; empty where the user names a path.
        licence: what is known of the rights in it.
        sha256: what its bytes must hash to; None where they may differ, by Python version or by user.
        find: what reads its documents.
    """

    source: str
    licence: str
    sha256: str | None
    find: Callable[[str, DatasetConfig], Source]


def find(config: DatasetConfig) -> Source:
    """The documents that the settings ask for.

    ``auto`` takes tinyshakespeare where it can be had within seconds, else python-docs, and says
    so in the log. A corpus asked for by name is never replaced by another one.

    Raises:
        UserError: it is not to be had, is damaged or is empty.
    """
    if config.name != "auto":
        return CORPORA[config.name].find(config.name, config)
    try:
        return CORPORA["tinyshakespeare"].find("tinyshakespeare", config)
    except UserError as failure:
        _log.warning("dataset auto: taking python-docs instead, because %s", failure)
        return CORPORA["python-docs"].find("python-docs", config)


def _find_download(name: str, config: DatasetConfig) -> Source:
    entry = CORPORA[name]
    return texts.one(name, entry.source, entry.licence, _read_download(name, entry), config)


def _read_download(name: str, entry: Entry) -> bytes:
    """A corpus of one public file: from the cache, from SPECTRAL_DATA_DIR, else from its home."""
    cached = cache.folder() / f"{name}.txt"
    reasons: list[str] = []
    for path in _places(name, cached):
        if path == cached and not path.exists():  # As with every first use; no reason to speak of.
            continue
        content = _read_checked(path, entry, reasons)
        if content is not None:
            return content
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
    return content


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

    def fetch() -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=seconds) as response:  # noqa: S310 - from the registry
                content: bytes = response.read(LARGEST_DOWNLOAD)
                return content
        except urllib.error.HTTPError as failure:
            failure.close()
            raise OSError(f"HTTP status {failure.code}") from None
        except (OSError, http.client.HTTPException) as failure:
            raise OSError(str(getattr(failure, "reason", failure)) or type(failure).__name__) from None

    return waiting.once(fetch, seconds)


def _find_python_docs(name: str, config: DatasetConfig) -> Source:
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
    content = "\n\n".join(dict.fromkeys(paragraphs)).encode()
    return texts.one(name, CORPORA[name].source, CORPORA[name].licence, content, config)


def _find_texts(name: str, config: DatasetConfig) -> Source:
    return texts.at(config.path or "", name, CORPORA[name].licence, config)


def _find_fineweb(name: str, config: DatasetConfig) -> Source:
    return fineweb.FineWebEdu(config, CORPORA[name].licence)


def _find_tunes(name: str, config: DatasetConfig) -> Source:
    return tunes.Tunes(config, CORPORA[name].licence)


CORPORA = {
    "tinyshakespeare": Entry(
        source="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        licence="plays of William Shakespeare, public domain; compiled in karpathy/char-rnn, MIT",
        sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        find=_find_download,
    ),
    "python-docs": Entry(
        source="pydoc_data.topics",
        licence="Python documentation, Python Software Foundation License Version 2",
        sha256=None,
        find=_find_python_docs,
    ),
    "text": Entry(source="", licence="the user's own text, rights not known", sha256=None, find=_find_texts),
    "fineweb-edu": Entry(
        source=fineweb.HOME,
        licence="Open Data Commons Attribution License 1.0 for the collection; the pages are their authors'",
        sha256=None,
        find=_find_fineweb,
    ),
    "oneills": Entry(
        source="music21",
        licence="Francis O'Neill, The Music of Ireland (1903), public domain; transcribed by the volunteers whom the "
        "files name, distributed with the package music21 by their permission",
        sha256=None,
        find=_find_tunes,
    ),
}
