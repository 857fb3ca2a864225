"""examples/chat.py, in a terminal and served, with its real model."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

pytest.importorskip("termios", reason="a terminal of this kind is POSIX's")

from programs import EXAMPLES, WITHIN_S, run, serving, texts, turn

pytestmark = pytest.mark.model

CTRL_C = b"\x03"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("chat") as url:
        yield url


def test_what_was_said_before_is_known_and_an_answer_is_as_long_as_its_option_lets_it_be(tmp_path):
    typed = "My name is Anna and I live in Oslo.\nWhat is my name?\nWhere do I live?\nTell me about the sea.\n"
    _, _, name, place, sea, _ = run("chat", "--max-tokens", 12, cwd=tmp_path, typed=typed).stdout.split("> ")
    assert "Anna" in name
    assert "Oslo" in place
    assert 5 < len(sea.split()) <= 12


def test_an_option_out_of_bounds_is_refused_before_the_model_is_loaded(tmp_path):
    assert "'temperature' must be >= 0" in run("chat", "--temperature", "-1", cwd=tmp_path, code=2).stderr


# A session of its own, whose terminal this is: so that its Ctrl+C is a signal for the program.
IN_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


class Terminal:
    """A terminal in which the chat runs."""

    def __init__(self) -> None:
        self._keys, screen = os.openpty()
        command = [sys.executable, "-c", IN_A_TERMINAL, str(EXAMPLES / "chat.py")]
        self._chat = subprocess.Popen(command, stdin=screen, stdout=screen, stderr=screen, start_new_session=True)
        os.close(screen)
        self._shown = b""

    def press(self, keys: bytes) -> None:
        os.write(self._keys, keys)

    def until(self, shown: str) -> str:
        """What is shown next, up to and with this."""
        mark = shown.encode()
        while mark not in self._shown:
            assert select.select([self._keys], [], [], WITHIN_S)[0], self._shown
            self._shown += os.read(self._keys, 1000)
        seen, mark, self._shown = self._shown.partition(mark)
        return (seen + mark).decode()

    def ended(self) -> int:
        """The exit code."""
        code = self._chat.wait(WITHIN_S)
        os.close(self._keys)
        return code


def test_ctrl_c_ends_an_answer_and_at_the_prompt_the_chat():
    terminal = Terminal()
    terminal.until("> ")
    terminal.press(b"Tell me a long story about the sea.\n")
    terminal.until("sea.\r\n")
    terminal.until(" ")  # the answer has begun
    terminal.press(CTRL_C)
    terminal.until(" …\r\n> ")
    terminal.press(b"What is the capital of France?\n")
    assert "Paris" in terminal.until("> ")
    terminal.press(CTRL_C)
    assert terminal.ended() == 0


def test_served_each_user_has_a_history_of_their_own(url):
    turn(url, user="ann", input="My name is Anna.")
    assert "Anna" in "".join(texts(turn(url, user="ann", input="What is my name?")))
    assert "Anna" not in "".join(texts(turn(url, user="bob", input="What is my name?")))


def test_served_a_request_has_options_of_its_own(url):
    events = turn(url, user="cid", input="Tell me about the sea.", options={"LLM": {"max_tokens": 3}})
    assert 1 <= len("".join(texts(events)).split()) <= 3
    assert events[-1]["reason"] == "done"
