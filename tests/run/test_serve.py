"""`aigc serve` answers as `aigc sample` would, whoever else asks, or refuses with a sentence."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

import uvicorn

from aigc_cli.cli._app import invoke
from aigc_cli.recipe.example import example_recipe
from aigc_cli.run.build import attach_networks, build
from aigc_cli.run.request import Request
from aigc_cli.run.sample import make
from aigc_cli.run.serving import listen
from aigc_cli.run.serving.api import Settings, build_app
from aigc_cli.run.serving.engine import Engine, FullError, Job
from aigc_cli.run.trained import Trained

# Of libraries that are not ours.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def untrained(family: str, folder: Path) -> Trained:
    recipe = example_recipe(family, folder)
    data, model = build(recipe)
    attach_networks(model, recipe)
    return Trained(model.eval(), recipe, data.spec)


class Server:
    """One that really listens, in a thread."""

    def __init__(self, models: dict[str, Trained], **settings: Any) -> None:
        self.socket = listen.bind("127.0.0.1", 0)
        self.port = self.socket.getsockname()[1]
        config = uvicorn.Config(build_app(models, Settings(**settings)), log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, content

    def post(self, path: str, data: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, _, content = self.ask(
            "POST", path, json.dumps(data).encode(), content_type="application/json"
        )
        return status, json.loads(content)

    def sample(
        self, fields: dict[str, str], upload: tuple[str, bytes] | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        body, kind = multipart(fields, upload)
        return self.ask("POST", "/v1/sample", body, content_type=kind, **headers)

    def chat(self, content: str, seed: int = 0, **more: Any) -> tuple[int, dict[str, Any]]:
        turns = [{"role": "user", "content": content}]
        asked = {"model": "chat", "messages": turns, "seed": seed, "max_tokens": 8, **more}
        return self.post("/v1/chat/completions", asked)


def multipart(fields: dict[str, str], upload: tuple[str, bytes] | None) -> tuple[bytes, str]:
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n'.encode()
        for k, v in fields.items()
    ]
    if upload is not None:
        name, content = upload
        head = f'--x\r\nContent-Disposition: form-data; name="input"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content + b"\r\n")
    return b"".join([*parts, b"--x--\r\n"]), "multipart/form-data; boundary=x"


def png(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((width, height), 60).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder = tmp_path_factory.mktemp("models")
    return {name: untrained(name, folder / name) for name in ("edsr", "dcgan", "chat")}


@pytest.fixture(scope="module")
def server(models: dict[str, Trained]) -> Iterator[Server]:
    found = Server(models, max_mb=0.5, max_pixels=10_000)
    yield found
    found.stop()


def error_of(content: bytes) -> str:
    found = json.loads(content)["error"]
    assert "\n" not in found["message"] or found["code"] in ("recipe", "data.bad_pictures")
    return str(found["message"])


# What is made.


def test_an_upload_comes_back_as_aigc_sample_makes_it(
    server: Server, models: dict[str, Trained], tmp_path: Path
) -> None:
    image = png(20, 12)
    status, headers, content = server.sample({"model": "edsr"}, ("photo.png", image))
    assert (status, headers["content-type"]) == (200, "image/png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0.png").write_bytes(image)
    record = make(models["edsr"], Request(tmp_path / "out", input=tmp_path / "in" / "0.png"))
    assert content == (tmp_path / "out" / record["items"][0]["path"]).read_bytes()


def test_several_files_come_as_json_and_follow_from_the_seed(server: Server) -> None:
    asked = {"model": "dcgan", "n": "2", "seed": "5"}
    first, again = (json.loads(server.sample(asked)[2]) for _ in "ab")
    assert [item["content"] for item in first["items"]] == [i["content"] for i in again["items"]]
    assert sum(item["sample"] for item in first["items"]) == 2
    other = json.loads(server.sample({**asked, "seed": "6"})[2])
    assert other["items"][0]["content"] != first["items"][0]["content"]


def test_lines_of_a_prompt_end_as_they_were_typed(server: Server) -> None:
    status, _, content = server.sample(
        {"model": "chat", "prompt": "a\r\nb", "options": '{"max_tokens": 2}'},
        accept="application/json",
    )
    assert status == 200, content
    rows = next(i for i in json.loads(content)["items"] if i["name"] == "samples.jsonl")
    assert json.loads(base64.b64decode(rows["content"]))["prompt"] == "a\nb"


def test_answers_in_a_batch_are_those_given_alone(models: dict[str, Trained]) -> None:
    def jobs() -> list[Job]:
        said = ("hello", "what is 3", "a", "hello")
        return [
            Job("chat", ("max_tokens=12",), messages=[{"role": "user", "content": w}], seed=n)
            for n, w in enumerate(said)
        ]

    sizes: list[int] = []
    engine = Engine(models, batch_size=8)
    engine.seen.batch = lambda model, size, seconds: sizes.append(size)
    together = [engine.submit(job) for job in jobs()]  # before the thread begins
    engine.start()
    alone = []
    for future in together:
        future.result(20)
    for job in jobs():
        alone.append(engine.submit(job).result(20).ids)
    engine.stop(5)
    assert sizes == [4, 1, 1, 1, 1]
    assert [future.result().ids for future in together] == alone


def test_a_stream_tells_what_a_whole_answer_says(server: Server) -> None:
    status, whole = server.chat("hello", seed=3)
    assert status == 200
    (choice,) = whole["choices"]
    turns = [{"role": "user", "content": "hello"}]
    asked = {"model": "chat", "messages": turns, "seed": 3, "max_tokens": 8, "stream": True}
    status, headers, content = server.ask(
        "POST", "/v1/chat/completions", json.dumps(asked).encode(), content_type="application/json"
    )
    assert headers["content-type"].startswith("text/event-stream")
    *events, last = [line[6:] for line in content.decode().split("\n\n") if line]
    assert last == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]
    assert json.loads(events[-1])["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_fifty_clients_lose_no_answer(server: Server) -> None:
    def one(number: int) -> tuple[int, Any]:
        status, found = server.chat("hello", seed=number % 5)
        return status, found["choices"][0]["message"]["content"] if status == 200 else found

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(one, range(50)))
    assert [status for status, _ in answers] == [200] * 50
    assert all(answers[n] == answers[n % 5] for n in range(50))


# What is refused.


@pytest.mark.parametrize(
    "fields, upload, status, told",
    [
        ({"model": "edsrr"}, ("a.png", b"x"), 404, "'edsrr' is not served"),
        ({"model": "edsr"}, ("a.exe", b"x"), 415, "'.exe' is none of"),
        ({"model": "edsr"}, ("a.png", b"only a text"), 422, "cannot be used"),
        ({"model": "edsr"}, ("a.png", b""), 422, "is empty"),
        ({"model": "edsr"}, ("bomb.png", png(200, 200)), 422, "pixels"),
        ({"model": "edsr", "options": "[1]"}, ("a.png", png(4, 4)), 422, "not a JSON object"),
        ({"model": "edsr", "options": '{"tlie": 1}'}, ("a.png", png(4, 4)), 422, "'tile'"),
        ({"model": "dcgan"}, ("a.png", png(4, 4)), 422, "takes no input"),
        ({"model": "dcgan", "n": "1000"}, None, 422, "less than or equal to 64"),
        ({"model": "dcgan", "prompt": "a"}, None, 422, "--prompt"),
        ({"seed": "1"}, None, 422, "model: Field required"),
    ],
)
def test_bad_requests_get_a_sentence_and_the_right_status(
    server: Server,
    fields: dict[str, str],
    upload: tuple[str, bytes] | None,
    status: int,
    told: str,
) -> None:
    found, _, content = server.sample(fields, upload)
    assert found == status, content
    assert told in error_of(content)
    assert b"aigc-serve" not in content  # no folder of this machine


def test_a_request_that_is_too_large_is_not_read(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        head = f"POST /v1/sample HTTP/1.1\r\nHost: localhost:{server.port}\r\n"
        connection.sendall(f"{head}Content-Length: 2000000000\r\n\r\n".encode())
        assert b" 413 " in connection.recv(65536)
    part = b'--x\r\nContent-Disposition: form-data; name="input"; filename="a.png"\r\n\r\n'
    first, chunk = (b"%x\r\n%b\r\n" % (len(x), x) for x in (part, b"x" * 65536))
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        kind = "Content-Type: multipart/form-data; boundary=x\r\nTransfer-Encoding: chunked\r\n\r\n"
        connection.sendall((head + kind).encode())
        try:
            connection.sendall(first)
            for _ in range(20):  # 1.3 MB without a length
                connection.sendall(chunk)
        except OSError:
            pass  # it has hung up
        assert b" 413 " in connection.recv(65536)


def test_a_chat_that_is_too_long_is_refused_and_others_go_on(server: Server) -> None:
    status, found = server.chat("hello " * 5000)
    assert status == 422
    assert found["error"]["code"] in ("prompt", "input")
    assert server.chat("hello")[0] == 200


def test_models_that_do_not_chat_say_so(server: Server) -> None:
    status, found = server.chat("hello", model="edsr")
    assert (status, found["error"]["message"]) == (422, "model 'edsr' does not write texts")


def test_other_sites_and_other_names_are_refused(server: Server) -> None:
    assert server.ask("GET", "/v1/models", origin="http://elsewhere.example")[0] == 403
    assert server.ask("GET", "/v1/models", host="elsewhere.example")[0] == 403
    same = f"http://localhost:{server.port}"
    assert server.ask("GET", "/v1/models", origin=same, host=same[7:])[0] == 200


def test_a_token_is_asked_for_everything_but_the_page(models: dict[str, Trained]) -> None:
    guarded = Server({"edsr": models["edsr"]}, token="secret")
    try:
        for path in ("/v1/models", "/metrics", "/openapi.json"):
            assert guarded.ask("GET", path)[0] == 401
            assert guarded.ask("GET", path, authorization="Bearer wrong")[0] == 401
            assert guarded.ask("GET", path, authorization="Bearer secret")[0] == 200
        assert guarded.ask("GET", "/")[0] == 200
    finally:
        guarded.stop()


class Slow(Server):
    """A server whose model waits until it may answer."""

    def __init__(self, models: dict[str, Trained], monkeypatch: Any, **settings: Any) -> None:
        self.may, self.began = threading.Event(), threading.Event()
        self.answered: list[str] = []

        def answer(engine: Engine, batch: list[Job]) -> None:
            self.began.set()
            assert self.may.wait(20)
            for job in batch:
                self.answered.append(job.options[0])
                job.future.set_result([])

        monkeypatch.setattr(Engine, "_answer", answer)
        super().__init__(models, **settings)

    def begin(self, number: int, pool: ThreadPoolExecutor) -> Any:
        fields = {"model": "dcgan", "options": json.dumps({"truncation": number + 1})}
        return pool.submit(self.sample, fields)


@pytest.fixture
def slow(models: dict[str, Trained], monkeypatch: pytest.MonkeyPatch) -> Iterator[Slow]:
    found = Slow({"dcgan": models["dcgan"]}, monkeypatch, queue=1, timeout_s=1.0)
    yield found
    found.may.set()
    found.stop()


def test_when_too_many_wait_it_says_come_back_later(slow: Slow) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = slow.begin(0, pool)
        assert slow.began.wait(10)
        second = slow.begin(1, pool)
        while json.loads(slow.ask("GET", "/health")[2])["waiting"] < 1:
            time.sleep(0.01)
        status, headers, _ = slow.begin(2, pool).result(10)
        assert (status, headers["retry-after"]) == (429, "2")
        slow.may.set()
        assert (first.result(10)[0], second.result(10)[0]) == (200, 200)


def test_what_takes_too_long_is_given_up_and_what_waits_behind_it_is_not_made(slow: Slow) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = slow.begin(0, pool)
        assert slow.began.wait(10)
        second = slow.begin(1, pool)
        assert first.result(10)[0] == 504
        assert second.result(10)[0] == 504
        slow.may.set()
        third = slow.begin(2, pool)
        assert third.result(10)[0] == 200
    assert slow.answered == ["truncation=1", "truncation=3"]


def test_what_waits_for_a_client_that_went_away_is_not_made(
    models: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Slow({"dcgan": models["dcgan"]}, monkeypatch, timeout_s=10.0)
    with ThreadPoolExecutor(2) as pool:
        first = server.begin(0, pool)
        assert server.began.wait(10)
        body, kind = multipart({"model": "dcgan", "options": '{"truncation": 9}'}, None)
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("POST", "/v1/sample", body, {"content-type": kind})
        while json.loads(server.ask("GET", "/health")[2])["waiting"] < 1:
            time.sleep(0.01)
        connection.close()
        time.sleep(0.6)  # it looks four times a second
        server.may.set()
        assert first.result(10)[0] == 200
    server.stop()
    assert server.answered == ["truncation=1"]


def test_a_stop_waits_for_what_is_in_progress(
    models: dict[str, Trained], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Slow({"dcgan": models["dcgan"]}, monkeypatch, timeout_s=10.0)
    with ThreadPoolExecutor(2) as pool:
        first = server.begin(0, pool)
        assert server.began.wait(10)
        server.server.should_exit = True
        time.sleep(0.3)
        server.may.set()
        assert first.result(10)[0] == 200
    server.thread.join(10)
    assert not server.thread.is_alive()


def test_more_jobs_than_may_wait_are_refused_at_once(models: dict[str, Trained]) -> None:
    engine = Engine(models, queue=1)
    engine.submit(Job("dcgan", request=Request(Path("x"))))
    with pytest.raises(FullError):
        engine.submit(Job("dcgan", request=Request(Path("x"))))


# Around it.


def test_metrics_count_requests_and_batches(server: Server) -> None:
    server.chat("hello")
    text = server.ask("GET", "/metrics")[2].decode()
    assert re.search(r'aigc_requests_total\{path="/v1/chat/completions",status="200"\} [1-9]', text)
    assert 'aigc_batch_size_count{model="chat"}' in text
    assert "aigc_waiting 0" in text


def test_the_api_describes_itself(server: Server) -> None:
    described = json.loads(server.ask("GET", "/openapi.json")[2])
    assert {"/v1/sample", "/v1/chat/completions", "/v1/completions"} <= set(described["paths"])
    found = {m["id"]: m for m in json.loads(server.ask("GET", "/v1/models")[2])["data"]}
    assert found["chat"]["chat"]
    assert ".png" in found["edsr"]["endings"]
    assert "truncation" in found["dcgan"]["options"]["properties"]


def test_the_page_asks_no_other_server_for_anything(server: Server) -> None:
    for name in ("index.html", "page.js", "page.css"):
        text = (files("aigc_cli.run.serving") / "page" / name).read_text(encoding="utf-8")
        assert "://" not in text
        path = "/" if name == "index.html" else f"/{name}"
        status, headers, content = server.ask("GET", path)
        assert (status, content.decode()) == (200, text)
        assert "default-src 'self'" in headers["content-security-policy"]


def test_the_page_says_everything_in_both_languages() -> None:
    text = (files("aigc_cli.run.serving") / "page" / "page.js").read_text(encoding="utf-8")
    english, chinese = (
        set(re.findall(r"(?:^|[ ,{])(\w+): (?=[\"{])", part))
        for part in re.findall(r"^  (?:en|zh): \{\n(.*?)^  \},", text, re.MULTILINE | re.DOTALL)
    )
    assert english == chinese
    assert len(english) > 25


@pytest.mark.parametrize(
    "words, code, told",
    [
        (["serve", "nowhere"], 2, "there is no such run or checkpoint"),
        (["serve", "a", "--host", "0.0.0.0"], 2, "choose a token"),
        (["serve", "m=a", "m=b"], 2, "the same name"),
    ],
)
def test_mistakes_of_the_command_are_one_sentence(
    words: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert invoke(words) == code
    assert told in capsys.readouterr().err


def test_a_port_in_use_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with listen.bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert invoke(["serve", "some", "--port", port]) == 2
    assert f"127.0.0.1:{port}: cannot listen there: address already in use" in (
        capsys.readouterr().err
    )


def test_without_the_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(listen.importlib.util, "find_spec", lambda name: None)
    assert invoke(["serve", "some"]) == 5
    assert 'pip install "aigc-cli[serve]"' in capsys.readouterr().err
