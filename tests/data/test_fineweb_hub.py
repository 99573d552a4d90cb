"""FineWeb-Edu over HTTP: the real libraries against a server that answers as the Hub does."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from pages import WriteParquet

pytest.importorskip("datasets", reason="needs the packages of the extra data")

REPOSITORY = "HuggingFaceFW/fineweb-edu"
REVISION = "0123456789abcdef0123456789abcdef01234567"
README = """---
configs:
- config_name: default
  data_files: [{split: train, path: data/*/*}]
- config_name: sample-10BT
  data_files: [{split: train, path: sample/10BT/*}]
---
"""


class Handler(BaseHTTPRequestHandler):
    """The few answers of the Hub that reading one repository takes."""

    protocol_version = "HTTP/1.1"
    server: "Hub"

    def do_HEAD(self) -> None:
        """Answer without the content."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer with what the repository is, what is in a folder of it, or a part of a file."""
        address = urlparse(self.path)
        path, recursive = unquote(address.path), "recursive=true" in address.query
        self.server.requests.append(f"{path} {self.headers.get('Range', '')}")
        files = self.server.files
        if file := re.fullmatch(f"/datasets/{REPOSITORY}/resolve/{REVISION}/(.*)", path):
            self._send_file(files.get(file[1]))
        elif folder := re.fullmatch(f"/api/datasets/{REPOSITORY}/tree/{REVISION}/?(.*)", path):
            self._send_json(list(self._entries(folder[1], recursive=recursive)))
        elif re.fullmatch(f"/api/datasets/{REPOSITORY}(/revision/.*)?", path):
            self._send_json({"id": REPOSITORY, "sha": REVISION, "siblings": [{"rfilename": name} for name in files]})
        else:
            self._send_json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})

    def _entries(self, folder: str, *, recursive: bool) -> Iterator[dict[str, object]]:
        paths = [Path(name) for name in self.server.files]
        folders = {parent for path in paths for parent in path.parents} - {Path()}
        for path in sorted({*paths, *folders}):
            if path.parent == Path(folder) or (recursive and Path(folder) in path.parents):
                content = self.server.files.get(str(path))
                kind = "directory" if content is None else "file"
                yield {"type": kind, "path": str(path), "oid": "0" * 40, "size": len(content or b"")}

    def _send_file(self, content: bytes | None) -> None:
        if content is None:
            self._send_json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": '"1"', "X-Repo-Commit": REVISION, "Accept-Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted:
            self._send(content, 200, headers)
            return
        first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(content[first : last + 1], 206, headers)

    def _send_json(self, values: object, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(values).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


class Hub(ThreadingHTTPServer):
    """A home of one repository."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = files
        self.requests: list[str] = []

    def handle_error(self, *_: object) -> None:
        """A reader that has enough closes the connection."""


@pytest.fixture
def hub(write_parquet: WriteParquet) -> Iterator[Hub]:
    """A running server with two files of pages in the subset, and a larger rest."""
    pages = [write_parquet(f"{number}.parquet", 100, first=100 * number).read_bytes() for number in range(3)]
    files = {f"sample/10BT/00{number}_00000.parquet": pages[number] for number in range(2)}
    with Hub({"README.md": README.encode(), "data/CC-MAIN-2024-10/train.parquet": pages[2], **files}) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


SCRIPT = """
import hashlib, json, sys
from contextlib import closing
from itertools import islice
from spectral_mlflow.config import DatasetConfig
from spectral_mlflow.data.fineweb import FineWebEdu

def shown(pieces):
    return [[piece.text, piece.split] for piece in pieces]

online = FineWebEdu(DatasetConfig(name="fineweb-edu"), "")
local = FineWebEdu(DatasetConfig(name="fineweb-edu", path=sys.argv[1]), "")
pieces = list(online.read())
assert shown(pieces) == shown(local.read())
assert shown(online.read(pieces[120].after)) == shown(pieces[121:])
with closing(online.read()) as read:
    assert shown(islice(read, 5)) == shown(pieces[:5])
print(len(pieces), online.origin(pieces[0].after))
"""


def test_the_hub_is_read_as_local_files_are(hub: Hub, tmp_path: Path) -> None:
    """All pages of the subset and no others, from any position on, at the revision that the position names."""
    local = tmp_path / "local"
    local.mkdir()
    for number in range(2):
        (tmp_path / f"{number}.parquet").rename(local / f"{number}.parquet")
    endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(local)], capture_output=True, text=True, timeout=300,
        check=False, env={**os.environ, **endpoint},
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout == f"200 https://huggingface.co/datasets/{REPOSITORY}/tree/{REVISION}\n"
    assert not any("resolve" in request and "data/CC-MAIN" in request for request in hub.requests)
