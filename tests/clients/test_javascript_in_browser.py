"""The JavaScript client in a real Chromium: on the page of another site, with its loudspeaker and microphone."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import trio
from chromium import CHROMIUM, FLAGS
from playwright.sync_api import Page, expect, sync_playwright

from ezflow import Audio, Module, Turn, module
from ezflow.server.config import Settings
from ezflow.server.run import run
from ezflow.testing import FakeASR, FakeLLM, FakeTTS
from stdlib_modules.sound import from_float32

EXAMPLE = Path(__file__).parents[2] / "examples" / "clients" / "javascript"
IN_PAGE = Path(__file__).with_name("javascript") / "in_browser.js"
WITHIN_S = 60
RATE_HZ = 48_000
TONE_HZ = 1_000

expect.set_options(timeout=1000 * WITHIN_S / 2)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="no Chromium on the PATH: apt install chromium"
)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of a site of its own, which has the example's folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(EXAMPLE))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def tone(tmp_path_factory) -> Path:
    """What the microphone hears: a tone, again and again."""
    import numpy as np

    path = tmp_path_factory.mktemp("microphone") / "tone.wav"
    samples = 0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(2 * RATE_HZ) / RATE_HZ)
    path.write_bytes(from_float32(samples.astype(np.float32), RATE_HZ).to_wav())
    return path


@pytest.fixture
def in_page(tone, site):
    """`await in_page(use)` runs `use(page)` in a thread of its own, with a page of the example's site."""

    def visit(use: Callable[[Page], Any]) -> Any:
        assert CHROMIUM is not None, "there is no Chromium on the PATH: apt install chromium"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=[*FLAGS, f"--use-file-for-fake-audio-capture={tone}"]
            )
            page = browser.new_page()
            try:
                return use(page)
            finally:
                browser.close()

    async def run_in_page(use: Callable[[Page], Any]) -> Any:
        with trio.fail_after(WITHIN_S):
            # A browser that hangs is left behind: the test has failed, and it ends with the test run.
            return await trio.to_thread.run_sync(visit, use, abandon_on_cancel=True)

    return run_in_page


@pytest.fixture
def looked_at(in_page, site):
    """`await looked_at("play", 24000)` is what a function of in_browser.js gives."""

    async def look(name: str, *given: Any) -> Any:
        def use(page: Page) -> Any:
            page.goto(f"{site}/package.json")
            return page.evaluate(f"([name, given]) => ({IN_PAGE.read_text()})[name](...given)", [name, given])

        return await in_page(use)

    return look


@module
class Counts(Module[Audio, str]):
    """Says of each sound how many samples it has; before that, whether it was silence."""

    async def process(self, sound: Audio, turn: Turn) -> str:
        return f"{sound.samples} at {sound.rate_hz}, {'heard' if any(sound.pcm) else 'silence'}; "


@pytest.mark.parametrize("rate_hz", [8_000, 22_050, 24_000, 48_000])
async def test_pieces_of_a_sound_are_heard_as_one(looked_at, rate_hz):
    heard = await looked_at("play", rate_hz)
    # A gap, or a repetition, would be off by as much as the tone is loud, which is 0.5.
    assert heard["worst"] < 0.002
    assert heard["silence"] < 1e-6


async def test_what_was_heard_is_told_until_it_is_stopped(looked_at):
    told = await looked_at("hear")
    last = dict(told)
    assert [seq for seq, _ in told] == sorted(seq for seq, _ in told)
    assert last[0] == 300
    assert last[1] == 100
    assert 0 < last[2] < 5000


async def test_the_microphone_gives_frames_of_what_it_hears(looked_at):
    heard = await looked_at("listen", 80)
    assert heard["lengths"] == [512]
    assert heard["level"] > 0.01
    # The device's own tone, and next to nothing beside it.
    assert heard["tone"] > 0.95 * heard["all"] > 100


async def test_a_page_of_another_site_asks_and_talks(in_page, site):
    voice = FakeASR() >> FakeLLM("Eight legs.").named("local_llm").shown() >> FakeTTS()
    stop = trio.Event()

    def use(page: Page, server: str) -> None:
        page.goto(f"{site}/page.html?server={server}")
        log = page.get_by_role("log")
        page.get_by_role("textbox", name="Question").fill("How many legs?")
        page.get_by_role("textbox", name="Question").press("Enter")
        expect(log).to_have_text("How many legs?Eight legs.")
        page.get_by_role("button", name="Talk").click()
        expect(log).to_contain_text(re.compile("(512 at 16000, heard;.*){2}"))
        page.get_by_role("textbox", name="Question").fill("And how many eyes?")
        page.get_by_role("textbox", name="Question").press("Enter")
        expect(log).to_contain_text(re.compile(r"eyes\?.*I heard: And how many eyes\?"))
        page.get_by_role("button", name="Talk", pressed=True).click()
        expect(page.get_by_role("button", name="Talk", pressed=False)).to_be_visible()
        assert page.locator("[data-who=error]").count() == 0

    async with trio.open_nursery() as nursery:
        settings = Settings(port=0, grace_s=1.0, origins=(site,))
        flows = {"voice": voice, "live": Counts() >> FakeLLM("I heard: {}").named("local_llm")}
        server = await nursery.start(partial(run, flows, settings, say=lambda line: None, stop=stop))
        try:
            await in_page(partial(use, server=server))
        finally:
            stop.set()


async def test_a_page_of_a_site_that_is_not_allowed_says_so(in_page, site):
    stop = trio.Event()

    def use(page: Page, server: str) -> None:
        page.goto(f"{site}/page.html?server={server}")
        page.get_by_role("textbox", name="Question").fill("How many legs?")
        page.get_by_role("textbox", name="Question").press("Enter")
        expect(page.locator("[data-who=error]")).to_contain_text("does not answer")
        page.get_by_role("button", name="Talk").click()
        expect(page.locator("[data-who=error]").nth(1)).to_contain_text("may this page use it?")

    async with trio.open_nursery() as nursery:
        settings = Settings(port=0, grace_s=1.0)
        server = await nursery.start(partial(run, Counts(), settings, say=lambda line: None, stop=stop))
        try:
            await in_page(partial(use, server=server))
        finally:
            stop.set()
