"""The page of `aigc serve` in a real browser, on a desk and on a phone, where the system has a
Chromium; `.ci/run` gets Debian's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

playwright = pytest.importorskip("playwright.sync_api")
pytest.importorskip("fastapi")

from tests.run.test_serve import Server, untrained  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    models = {name: untrained(name, folder / name) for name in ("edsr", "dcgan", "chat")}
    found = Server(models, max_pixels=100_000)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Any, server: Server) -> Iterator[Any]:
    """The page of an English visitor; it asks no other server and has no error of its own."""
    context = browser.new_context(locale="en-US", viewport={"width": 390, "height": 844})
    found, asked, errors = context.new_page(), [], []
    found.on("request", lambda request: asked.append(request.url))
    found.on("pageerror", lambda error: errors.append(str(error)))
    found.goto(f"http://127.0.0.1:{server.port}/")
    found.wait_for_selector("#model option", state="attached")
    yield found
    ours = (f"http://127.0.0.1:{server.port}/", "data:", "blob:")
    assert [url for url in asked if not url.startswith(ours)] == []
    assert errors == []
    context.close()


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.new("RGB", (30, 20), "olive").save(path)
    return path


def results(page: Any, count: int) -> Any:
    page.locator("#results .pair").nth(count - 1).wait_for(timeout=10_000)
    return page.locator("#results .pair").first


def test_an_upload_leads_to_a_result_beside_it_that_can_be_downloaded(
    page: Any, photo: Path
) -> None:
    page.set_input_files("#file", str(photo))
    page.click("#go")
    shown = results(page, 1)
    assert shown.locator("img").count() == 2
    sizes = [
        one.evaluate("i => [i.naturalWidth, i.naturalHeight]") for one in shown.locator("img").all()
    ]
    assert sizes == [[30, 20], [60, 40]]
    with page.expect_download() as started:
        shown.locator("a").first.click()
    with Image.open(started.value.path()) as image:
        assert image.size == (60, 40)
        assert "TrainedAlgorithmicMedia" in str(image.info)  # the label of what models make


def test_a_mistake_is_told_and_forgotten_at_the_next_try(
    page: Any, tmp_path: Path, photo: Path
) -> None:
    page.click("#go")
    assert page.inner_text("#error") == "Choose a file first."
    fake = tmp_path / "fake.png"
    fake.write_text("only a text")
    page.set_input_files("#file", str(fake))
    page.click("#go")
    page.locator("#error", has_text="cannot be used").wait_for()
    page.set_input_files("#file", str(photo))
    page.click("#go")
    results(page, 1)
    assert page.locator("#error").is_hidden()


def test_everything_can_be_done_by_keyboard(page: Any) -> None:
    page.focus("#model")
    page.keyboard.type("dcgan")
    page.keyboard.press("Tab")  # the language
    page.keyboard.press("Tab")  # how many
    page.keyboard.type("2")
    page.keyboard.press("Enter")
    assert results(page, 1).locator("img").count() >= 2


def test_a_chat_streams_and_goes_on(page: Any) -> None:
    page.select_option("#model", "chat")
    for turn in (1, 2):
        page.fill("#prompt", "hello")
        page.press("#prompt", "Enter")
        page.locator("#progress", has_text="done").wait_for()
        assert page.locator(".turn.user").count() == turn
    page.click("#new")
    assert page.locator(".turn").count() == 0


def test_a_second_tab_works_and_a_reload_keeps_what_was_made(page: Any, photo: Path) -> None:
    page.set_input_files("#file", str(photo))
    page.click("#go")
    results(page, 1)
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("#model option", state="attached")
    assert other.locator("#history button").count() == 0
    page.reload()
    page.locator("#history button").first.click()
    results(page, 1)


def test_it_speaks_chinese(page: Any) -> None:
    page.click("#language")
    assert page.inner_text("#go") == "生成"
    assert page.evaluate("() => document.documentElement.lang") == "zh-CN"
    page.reload()
    page.locator("#go", has_text="生成").wait_for()


def test_nothing_is_wider_than_a_phone(page: Any, photo: Path) -> None:
    page.set_input_files("#file", str(photo))
    page.click("summary")
    page.click("#go")
    results(page, 1)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390


def test_a_server_that_is_gone_is_said(page: Any, photo: Path) -> None:
    page.set_input_files("#file", str(photo))
    page.route("**/v1/sample", lambda route: route.abort())
    page.click("#go")
    page.locator("#error", has_text="Is it still running?").wait_for()
