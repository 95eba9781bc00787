"""Models by an id of the hub, against a server of its protocol on this machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = (
    "import sys\nfrom aigc_cli.run.hub import fetch_folder\n"
    "from aigc_cli.errors import AigcError\n"
    "try:\n    path, commit = fetch_folder(sys.argv[1])\n"
    "except AigcError as error:\n    print(type(error).__name__, error.message)\n"
    "else:\n    print(commit, (path / 'config.json').read_text(), sorted(path.iterdir())[0].name)"
)


class Hub(BaseHTTPRequestHandler):
    """One model, `tiny/model`, with a file that must not be fetched."""

    files = {"config.json": b'{"a": 1}', "model.bin": b"a pickle"}  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:4] == ["api", "models", "tiny", "model"]:
            names = list(self.files)
            facts = {
                "id": "tiny/model",
                "sha": COMMIT,
                "siblings": [{"rfilename": n} for n in names],
            }
            tree = [
                {"type": "file", "path": n, "size": len(self.files[n]), "oid": f"{i:040}"}
                for i, n in enumerate(names)
            ]
            self.answer(json.dumps(tree if "tree" in parts else facts).encode())
        elif parts[:3] == ["tiny", "model", "resolve"] and parts[-1] in self.files:
            self.answer(self.files[parts[-1]])
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def fetched(name: str, endpoint: str, home: Path) -> str:
    """In a process of its own: the library reads its endpoint when it is imported."""
    import os

    env = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_ETAG_TIMEOUT": "5"}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, name], capture_output=True, text=True, env=env, check=True
    )
    return done.stdout.strip()


def test_a_model_of_the_hub_is_fetched_at_its_commit_without_pickles(
    hub: str, tmp_path: Path
) -> None:
    said = fetched("hub:tiny/model", hub, tmp_path)
    assert said == f'{COMMIT} {{"a": 1}} config.json'
    # pinned, and from the cache: the hub may be gone
    assert fetched(f"hub:tiny/model@{COMMIT}", "http://127.0.0.1:9", tmp_path) == said


def test_ids_that_do_not_exist_and_a_hub_that_is_not_there_are_one_sentence(
    hub: str, tmp_path: Path
) -> None:
    assert fetched("hub:tiny/mode", hub, tmp_path) == (
        f"InputError {hub} has no model tiny/mode (HTTP 404)"
    )
    assert fetched("hub:tiny", hub, tmp_path).startswith("InputError hub:tiny: an id of the hub is")
    gone = fetched("hub:tiny/other", "http://127.0.0.1:9", tmp_path)
    assert gone.startswith("MissingError tiny/other at http://127.0.0.1:9 cannot be had: ")
