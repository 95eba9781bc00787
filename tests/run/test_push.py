"""Models go to a hub, which is a stand-in of its protocol on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load

from aigc_cli.cli import invoke
from tests.run.conftest import EDSR, Ending, paint

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_secret_of_this_test"
REPO = "me/small"


@dataclass
class Hub:
    """What it has, and how it answers."""

    address: str = ""
    there: bool = False
    private: bool = False
    refuse: int = 0
    """Status of every answer about the commit."""
    files: dict[str, bytes] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)


def answer(hub: Hub, method: str, path: str, body: bytes) -> tuple[int, Any]:
    """Status and JSON of one request."""
    kind = (method, path)
    if hub.refuse and "/commit/" in path:
        return hub.refuse, {"error": "because"}
    if kind == ("GET", f"/api/models/{REPO}"):
        facts = {"id": REPO, "sha": COMMIT, "private": hub.private, "siblings": []}
        return (200, facts) if hub.there else (404, {"error": "Repository not found"})
    if kind == ("POST", "/api/repos/create"):
        asked = json.loads(body)
        hub.there, hub.private = True, asked.get("visibility") == "private"
        return 200, {"url": f"{hub.address}/{asked['organization']}/{asked['name']}"}
    if kind == ("POST", "/api/validate-yaml"):
        return 200, {"warnings": [{"message": "no license"}]}
    if kind == ("POST", f"/api/models/{REPO}/preupload/main"):
        modes = [
            {"path": f["path"], "shouldIgnore": False}
            | {"uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
            for f in json.loads(body)["files"]
        ]
        return 200, {"files": modes}
    if kind == ("POST", f"/{REPO}.git/info/lfs/objects/batch"):
        todo = [
            one | {"actions": {"upload": {"href": f"{hub.address}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": todo}
    if method == "PUT" and path.startswith("/lfs/"):
        hub.large[path.removeprefix("/lfs/")] = body
        return 200, {}
    if kind == ("POST", f"/api/models/{REPO}/commit/main"):
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                hub.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                hub.files[value["path"]] = hub.large[value["oid"]]
        url = f"{hub.address}/{REPO}/commit/{COMMIT}"
        return 200, {"commitUrl": url, "commitOid": COMMIT}
    return 404, {"error": f"{method} {path}?"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    found = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else self.chunks()
            path = self.path.partition("?")[0]
            found.asked.append(f"{self.command} {path}")
            found.bodies.append(body)
            right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            if not right and not path.startswith("/lfs/"):
                status, said = 401, {"error": "Invalid credentials in Authorization header"}
            else:
                status, said = answer(found, self.command, path, body)
            data = json.dumps(said).encode()
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            elif status >= 400:
                self.send_header("X-Error-Message", said["error"])
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = respond

        def chunks(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return b""
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    found.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", found.address)  # read when it was imported
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose recipe names its photographs by an absolute path."""
    folder = tmp_path_factory.mktemp("push")
    paint(folder / "photos", 11)
    (folder / "edsr.yaml").write_text(EDSR)
    data = f"data.train={folder / 'photos'}"
    words = [str(folder / "edsr.yaml"), data, "trainer.max_steps=1", "--out", str(folder / "run")]
    assert invoke(["train", *words, "--quiet"]) == 0
    return folder / "run"


def test_a_run_is_there_whole_and_names_no_place_of_this_machine(
    aigc: Any, hub: Hub, run: Path
) -> None:
    ending: Ending = aigc("model", "push", run, REPO, "--private", "--json")
    assert ending.code == 0, ending.err
    assert ending.json["url"] == f"{hub.address}/{REPO}"
    assert ending.json["commit"] == COMMIT
    assert hub.private
    assert sorted(hub.files) == ["README.md", "model.safetensors", "recipe.yaml", "spec.json"]
    assert {name: len(data) for name, data in hub.files.items()} == ending.json["files"]
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)
    sent = load(hub.files["model.safetensors"])
    assert sent.keys() >= state["weights"].keys()
    assert all(torch.equal(sent[name], value) for name, value in state["ema"].items())
    assert hashlib.sha256(hub.files["model.safetensors"]).hexdigest() in hub.large
    everything = b"".join(hub.bodies + list(hub.files.values()))
    assert str(run.parent).encode() not in everything
    assert b"train: photos" in hub.files["recipe.yaml"]
    assert TOKEN not in ending.out + ending.err


def test_a_dry_run_lists_and_sends_nothing(aigc: Any, hub: Hub, run: Path) -> None:
    ending = aigc("model", "push", run, REPO, "--dry-run")
    assert ending.code == 0, ending.err
    assert ending.out.strip() == f"would be sent to {hub.address}/{REPO}"
    assert [line.split()[-1] for line in ending.err.splitlines()] == [
        "README.md", "model.safetensors", "recipe.yaml", "spec.json",
    ]  # fmt: skip
    assert hub.asked == []


def test_an_export_is_sent_as_it_is_without_what_is_no_model(
    aigc: Any, hub: Hub, run: Path, here: Path
) -> None:
    assert aigc("model", "export", run, "--format", "safetensors", "--out", "given").code == 0
    (here / "given/photo.png").write_bytes(b"of the training data")
    (here / "given/.env").write_text("secret")
    hub.there = True
    ending = aigc("model", "push", "given", REPO)
    assert ending.code == 0, ending.err
    assert ending.err.splitlines()[-1].endswith("left out: .env, photo.png")
    assert "photo.png" not in hub.files
    card = (here / "given/README.md").read_bytes()
    assert hub.files["README.md"] == card
    (here / "given/README.md").write_bytes(card + f"\nfrom {run.parent / 'photos'}.\n".encode())
    ending = aigc("model", "push", "given", REPO)
    assert (ending.code, "names a path of this machine" in ending.err) == (2, True)


def test_a_public_repository_is_not_taken_for_a_private_one(aigc: Any, hub: Hub, run: Path) -> None:
    hub.there = True
    ending = aigc("model", "push", run, REPO, "--private")
    assert (ending.code, "is there already and public" in ending.err) == (2, True)
    assert hub.files == {}


@pytest.mark.parametrize(("status", "code"), [(403, 2), (409, 2), (501, 3)])
def test_a_refusal_is_one_sentence(aigc: Any, hub: Hub, run: Path, status: int, code: int) -> None:
    hub.refuse = status
    ending = aigc("model", "push", run, REPO, "--quiet")
    assert ending.code == code
    assert f"(HTTP {status}): because" in ending.err
    assert len(ending.err.splitlines()) <= 2
    assert hub.files == {}


def test_tokens_names_and_hubs_that_are_wrong_are_one_sentence(
    aigc: Any, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    ending = aigc("model", "push", run, REPO, "--quiet")
    assert (ending.code, "(HTTP 401)" in ending.err) == (2, True)
    assert "hf_wrong" not in ending.err
    monkeypatch.delenv("HF_TOKEN")
    ending = aigc("model", "push", run, REPO, "--quiet")
    assert (ending.code, "there is no token" in ending.err) == (2, True)
    for name in ("small", "me/small/er", "me/.hidden..", "../etc"):
        ending = aigc("model", "push", run, name, "--quiet")
        assert (ending.code, "is no repository of the hub" in ending.err) == (2, True), name
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    ending = aigc("model", "push", run, REPO, "--quiet")
    assert (ending.code, "cannot be reached" in ending.err) == (5, True)
