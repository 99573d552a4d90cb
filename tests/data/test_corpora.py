"""Corpora: by name, checked by hash, from real files and a real server on the loopback."""

import dataclasses
import logging
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data import corpora
from spectral_mlflow.data.documents import Source
from spectral_mlflow.errors import UserError
from spectral_mlflow.provenance import sha256
from spectral_mlflow.settings import all_settings

CONTENT = "To be, or not to be:\r\nthat is the quéstion.\n".encode()
NAMED = DatasetConfig(name="tinyshakespeare")


class Handler(BaseHTTPRequestHandler):
    """Sends what its server holds: whole, or byte by byte until the test is over."""

    server: "Server"

    def do_GET(self) -> None:
        """Answer."""
        self.server.requests += 1
        self.send_response(200 if self.path == "/input.txt" else 404)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        if not self.server.drip:
            self.wfile.write(self.server.content)
        while self.server.drip and not self.server.over.wait(0.02):
            self.wfile.write(b".")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Server(ThreadingHTTPServer):
    """A public home of a corpus."""

    content = CONTENT
    requests = 0
    drip = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where the corpus is."""
        return f"http://127.0.0.1:{self.server_port}/input.txt"


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.over.set()
        running.shutdown()
        thread.join()


@pytest.fixture
def refused() -> str:
    """A URL where nobody listens."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{reserved.getsockname()[1]}/input.txt"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> "Home":
    """Moves the home of tinyshakespeare, which for these tests is `CONTENT`."""
    return Home(monkeypatch)


class Home:
    """The registry entry of tinyshakespeare, to be pointed at a server of this test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def move(self, url: str) -> None:
        """Point the entry at a URL."""
        entry = dataclasses.replace(corpora.CORPORA["tinyshakespeare"], source=url, sha256=sha256(CONTENT))
        self._monkeypatch.setitem(corpora.CORPORA, "tinyshakespeare", entry)


def put(folder: Path, content: bytes = CONTENT) -> Path:
    """Save something as tinyshakespeare in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tinyshakespeare.txt"
    path.write_bytes(content)
    return path


def text(source: Source) -> str:
    """All that a source has."""
    return "".join(piece.text for piece in source.read())


def test_every_corpus_can_be_asked_for() -> None:
    """The names that the settings allow are those of the registry, and auto."""
    allowed = next(setting.allowed for setting in all_settings() if setting.name == "dataset.name")
    assert set(allowed.split("|")) == {*corpora.CORPORA, "auto"}


@pytest.mark.usefixtures("tinyshakespeare")
def test_tinyshakespeare_is_the_known_file() -> None:
    """1,115,394 bytes from the folder of SPECTRAL_DATA_DIR, with the expected hash."""
    corpus = corpora.find(NAMED)
    assert len(text(corpus).encode()) == corpus.size == 1_115_394
    assert sha256(text(corpus).encode()) == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    assert (corpus.name, corpus.files) == ("tinyshakespeare", 1)
    assert corpus.origin(None).startswith("https://raw.githubusercontent.com/karpathy/char-rnn/")


def test_a_download_is_kept(server: Server, home: Home, cache: Path, refused: str) -> None:
    """The first load asks the server, the second needs none; every byte arrives as it was sent."""
    home.move(server.url)
    first = corpora.find(NAMED)
    assert text(first).encode() == CONTENT
    assert first.origin(None) == server.url
    assert [path.name for path in cache.iterdir()] == ["tinyshakespeare.txt"]
    home.move(refused)
    assert text(corpora.find(NAMED)) == text(first)
    assert server.requests == 1


def test_the_cache_comes_before_the_data_folder_and_that_before_the_network(
    server: Server, home: Home, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is asked as long as the file lies in the folder of SPECTRAL_DATA_DIR, which may be relative."""
    home.move(server.url)
    put(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPECTRAL_DATA_DIR", "data")
    assert text(corpora.find(NAMED)).encode() == CONTENT
    put(cache)
    put(tmp_path / "data", b"damaged, but never looked at")
    assert text(corpora.find(NAMED)).encode() == CONTENT
    assert server.requests == 0


def test_a_damaged_cache_is_named_and_mended(
    server: Server, home: Home, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file with another hash is warned of, not used, and replaced by what is downloaded."""
    home.move(server.url)
    damaged = put(cache, CONTENT[:-1])
    assert text(corpora.find(NAMED)).encode() == CONTENT
    assert f"{damaged} is damaged" in caplog.text
    assert damaged.read_bytes() == CONTENT


def test_a_damaged_file_alone_is_refused(
    home: Home, refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without another place to go the error names the damaged file, both hashes and what to do, in one line."""
    home.move(refused)
    damaged = put(tmp_path / "data", b"damaged")
    monkeypatch.setenv("SPECTRAL_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(UserError) as failure:
        corpora.find(NAMED)
    message = str(failure.value)
    assert f"{damaged} is damaged: sha256 {sha256(b'damaged')}, expected {sha256(CONTENT)}" in message
    assert "Connection refused" in message
    assert f"save {refused} as" in message
    assert "\n" not in message


def test_a_download_with_another_hash_is_refused_and_not_kept(server: Server, home: Home, cache: Path) -> None:
    """What the server sends is checked before it is used or written."""
    home.move(server.url)
    server.content = b"<html>Please log in</html>"
    with pytest.raises(UserError, match="download: something else came, sha256"):
        corpora.find(NAMED)
    assert not cache.exists()


def test_a_download_that_is_broken_off_is_refused(home: Home, server: Server, cache: Path) -> None:
    """Fewer bytes than announced are not a corpus."""
    home.move(server.url)
    server.content = CONTENT[:10]
    with pytest.raises(UserError, match="something else came"):
        corpora.find(NAMED)
    assert not cache.exists()


def test_a_missing_page_is_named(server: Server, home: Home) -> None:
    """The HTTP status is part of the reason."""
    home.move(server.url.replace("input", "moved"))
    with pytest.raises(UserError, match="download: HTTP status 404"):
        corpora.find(NAMED)


def test_a_server_that_drips_is_left_within_the_time(
    server: Server, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is for the whole download, not for each of its reads."""
    monkeypatch.setattr(corpora, "DOWNLOAD_SECONDS", 0.2)
    home.move(server.url)
    server.drip = True
    with pytest.raises(UserError, match=r"not there within 0.2 s"):
        corpora.find(NAMED)


def test_a_download_is_used_where_it_cannot_be_kept(
    server: Server, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache that cannot be written costs a warning, not the corpus."""
    home.move(server.url)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert text(corpora.find(NAMED)).encode() == CONTENT
    assert "was downloaded but not kept" in caplog.text


def test_auto_takes_tinyshakespeare_where_it_can(cache: Path, home: Home, refused: str) -> None:
    """The name of the corpus says which one it has become."""
    home.move(refused)
    put(cache)
    assert corpora.find(DatasetConfig()).name == "tinyshakespeare"


def test_auto_falls_back_with_one_plain_line(home: Home, refused: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without cache, folder and network auto is python-docs, and the log says so and why."""
    home.move(refused)
    with caplog.at_level(logging.WARNING, logger="spectral_mlflow.data"):
        corpus = corpora.find(DatasetConfig())
    assert corpus.name == "python-docs"
    [record] = caplog.records
    assert record.getMessage().startswith("dataset auto: taking python-docs instead, because dataset tinyshakespeare")
    assert "\n" not in record.getMessage()


def test_a_corpus_asked_for_by_name_never_falls_back(home: Home, refused: str) -> None:
    """Where tinyshakespeare is named it is that or an error."""
    home.move(refused)
    with pytest.raises(UserError, match="dataset tinyshakespeare is not to be had"):
        corpora.find(NAMED)


def test_python_docs_is_part_of_python() -> None:
    """A quarter of a megabyte or more of the language reference, the same each time."""
    corpus = corpora.find(DatasetConfig(name="python-docs"))
    content = text(corpus)
    assert len(content) > 250_000
    assert 'The "assert" statement' in content
    assert content == text(corpora.find(DatasetConfig(name="python-docs")))
    assert (corpus.origin(None), corpus.files) == ("pydoc_data.topics", 1)
    assert "Python Software Foundation" in corpus.licence


def test_python_docs_has_each_paragraph_once() -> None:
    """Nothing that is held out is there a second time to be trained on."""
    paragraphs = text(corpora.find(DatasetConfig(name="python-docs"))).split("\n\n")
    assert len(paragraphs) > 1000
    assert len(set(paragraphs)) == len(paragraphs)
