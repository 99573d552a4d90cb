"""A proxy that lets nothing through and remembers what it was asked for."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


class RefusingProxy:
    """Serves while it is entered.

    Attributes:
        asked: method and address of each request, such as ``CONNECT example.org:443``.
        address: host and port.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _refusing(self.asked))
        self.address = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()


def _refusing(asked: list[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            """Whatever the method is, the answer is no."""
            line = self.rfile.readline(65537).decode("latin-1").split()
            if line:
                asked.append(" ".join(line[:2]))
            self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            self.close_connection = True

    return Handler
