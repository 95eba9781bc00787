"""A file server on this machine that answers ranges, and can be told to misbehave."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Behavior:
    """What the next answers are."""

    cuts: int = 0
    """So many answers of shards end in their middle, the connection with them."""
    ranges: bool = True
    keys: bool = False
    """Whether only requests with a signature are answered, as S3 does."""
    asked: list[tuple[str, int, int]] = field(default_factory=list)
    """(path, first byte, bytes) of each answer."""


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, Behavior]]:
    """The address of a folder."""
    behavior = Behavior()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            file = folder / self.path.lstrip("/")
            self.send_response(200 if file.is_file() else 404)
            self.send_header("Content-Length", str(file.stat().st_size if file.is_file() else 0))
            self.end_headers()

        def do_GET(self) -> None:
            file = folder / self.path.lstrip("/")
            if behavior.keys and "Credential=me/" not in self.headers.get("Authorization", ""):
                self.send_error(403)
                return
            if not file.is_file():
                self.send_error(404)
                return
            data, whole = file.read_bytes(), file.stat().st_size
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first = 0
            if match and behavior.ranges:
                first = int(match[1])
                data = data[first : int(match[2]) + 1]
                if not data:
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{whole}")
            else:
                self.send_response(200)
            behavior.asked.append((self.path, first, len(data)))
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if behavior.cuts and file.suffix == ".tar":
                behavior.cuts -= 1
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                return
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", behavior
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
