"""The picture of `ezflow top` in docs/pictures, taken of a server under load: `python -m tests.docs.top_picture`.

A real `ezflow top` draws on a pseudo-terminal; a Chromium turns what it wrote into a picture.
"""

from __future__ import annotations

import fcntl
import html
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from chromium import CHROMIUM, FLAGS

__all__ = ["PICTURE", "screen", "served", "take"]

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "top.png"
COLUMNS, LINES = 118, 24
WITHIN_S = 60.0
STYLES = {
    "1": "font-weight:bold",
    "2": "opacity:.55",
    "7": "background:#ddd;color:#111",
    "31": "color:#f66",
    "33": "color:#fc5",
}
PAGE = """<meta charset="utf-8"><style>
body {{ margin: 0; background: #111 }}
pre {{ margin: 0; padding: 12px; color: #ddd; font: 13px/1.35 "DejaVu Sans Mono", monospace; display: inline-block }}
</style><pre>{text}</pre>"""
SERVER = """
from collections.abc import AsyncIterator, Mapping
import trio
from ezflow import Module, Turn, module, serve
from ezflow.testing import FakeLLM, FakeTTS
from stdlib_modules.text.sentences import Sentences

ANSWER = "One moment please. I have looked it up for you. The train leaves at nine. Have a good journey. " * 40

@module
class Ollama(Module[str, str]):
    each_s: float = 0.02

    def status(self) -> Mapping[str, float]:
        return {"connections_in_use": 14, "connections_idle": 6, "connections_waited_for": 0}

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        for word in ANSWER.split(" "):
            await trio.sleep(self.each_s)
            yield word + " "

flow = Ollama().shown() >> Sentences() >> FakeTTS(delay_s=0.5).named("gpt_sovits")
serve({"voice": flow}, port=0, metrics=True, ear=32, capacity=4, grace_s=0.1)
"""


@contextmanager
def served() -> Iterator[str]:
    """The URL of a server with six turns; one of its clients reads nothing."""
    command, readers, answers = [sys.executable, "-c", SERVER], list[Thread](), ExitStack()
    with answers, subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        assert process.stdout is not None
        try:
            found = next(filter(None, (re.search(r"Listening on (\S+)", line) for line in process.stdout)))
            for user in ("ann", "bob", "carla", "desk-4", "dora", "emil"):
                body = json.dumps({"user": user, "input": "When does it leave?"}).encode()
                request = urllib.request.Request(f"{found[1]}/turns", body)
                answer = answers.enter_context(urllib.request.urlopen(request, timeout=WITHIN_S))
                if user != "ann":
                    readers.append(Thread(target=_read, args=(answer,)))
                    readers[-1].start()
                time.sleep(0.4)  # so that they are of different ages
            yield found[1]
        finally:
            process.terminate()
            process.stdout.read()  # its last words
            for reader in readers:
                reader.join()


def _read(answer: Any) -> None:
    with suppress(OSError, HTTPException):  # the server ends first
        while answer.read1():
            pass


def screen(url: str, frames: int = 4) -> str:
    """What stands on a terminal after some pictures of `ezflow top`."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "ezflow", "top", url]
    with subprocess.Popen(command, stdin=slave, stdout=slave, env=environment) as process:
        os.close(slave)
        shown, end = "", time.monotonic() + WITHIN_S
        while shown.count("\x1b[J") < frames and time.monotonic() < end:
            shown += os.read(master, 65536).decode(errors="ignore")
        os.write(master, b"q")
        try:
            while os.read(master, 65536):
                pass
        except OSError:  # the other end is closed
            os.close(master)
        assert process.wait(WITHIN_S) == 0
    return shown.split("\x1b[J")[frames - 1].rpartition("\x1b[H")[2].replace("\r", "")


def as_html(shown: str) -> str:
    def style(code: re.Match[str]) -> str:
        return "</span>" if code[1] == "0" else f'<span style="{STYLES[code[1]]}">'

    return PAGE.format(text=re.sub(r"\x1b\[(\d*)m", style, html.escape(shown).replace("\x1b[K", "")))


def take(path: Path, frame: str) -> None:
    """Make a picture of what stands on a terminal."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page: Any = browser.new_page(device_scale_factor=1)
        page.set_content(as_html(frame))
        page.locator("pre").screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    with served() as url:
        take(PICTURE, screen(url))
    print(PICTURE)
