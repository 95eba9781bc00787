"""A server on this machine that cuts, stalls, refuses and lies; entries of tiny data sets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from aigc_cli.catalog import fetch


@dataclass
class Server:
    """Files by path, and what is done to the answers."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Path and Range of each request."""
    cuts: list[int] = field(default_factory=list)
    """After how many bytes the next answers break off."""
    stalls: int = 0
    """How many of the next answers say nothing."""
    status: list[int] = field(default_factory=list)
    """Status of the next answers, without a body."""
    ignores_ranges: bool = False

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


class Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        wanted = self.headers.get("Range", "")
        state.requests.append((self.path, wanted))
        if state.stalls:
            state.stalls -= 1
            released.wait(5)
            return
        if state.status:
            self.send_error(state.status.pop(0))
            return
        body = state.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-") or 0) if wanted else 0
        if state.ignores_ranges:
            start = 0
        if start and start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = state.cuts.pop(0) + start if state.cuts else len(body)
        self.wfile.write(body[start:end])

    def log_message(self, *_: object) -> None:
        pass


released = threading.Event()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(fetch, "WAIT_S", 0.0)
    monkeypatch.setattr(fetch, "TIMEOUT_S", 1.0)
    state = Server()
    released.clear()
    handler = type("Bound", (Handler,), {"server_state": state})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    running.daemon_threads = True
    state.address = f"http://127.0.0.1:{running.server_port}/"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    released.set()
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder of this test; the catalog has the entries of the test besides."""
    monkeypatch.setenv("AIGC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("AIGC_PATH", str(tmp_path / "plugin"))
    monkeypatch.setenv("AIGC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "plugin/catalog/data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


@pytest.fixture
def entry(tmp_path: Path) -> Callable[..., None]:
    """`entry("tiny", sources=[...], layout=[...])` adds a data set to the catalog."""

    def add(name: str, **keys: object) -> None:
        about = {
            "title": "Tiny", "about": "a file", "modality": "text", "license": "MIT",
            "restricted": False, "citation": "nobody",
        }  # fmt: skip
        text = yaml.safe_dump({**about, **keys}, sort_keys=False)
        (tmp_path / f"plugin/catalog/data/{name}.yaml").write_text(text)

    return add


@pytest.fixture
def tiny(server: Server, entry: Callable[..., None]) -> bytes:
    """The data set `tiny` of one file of 100 kB, on the server."""
    body = bytes(range(256)) * 400
    server.files["/a/tiny.txt"] = body
    files = [{"path": "a/tiny.txt", "size": len(body), "sha256": sha256(body).hexdigest()}]
    source = {"base": server.address, "strip": "a/", "files": files}
    entry("tiny", sources=[source], layout=["tiny.txt"], parts={"train": "tiny.txt"})
    return body


@pytest.fixture
def left(data: Path) -> Callable[[], list[str]]:
    """What lies below the data folder."""
    return lambda: sorted(p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file())
