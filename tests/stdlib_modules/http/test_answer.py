"""Answers as they are parsed, however the bytes of them are cut."""

from __future__ import annotations

from itertools import pairwise

import attrs
import pytest
from http_standin import DONE, chunk, head, whole

from stdlib_modules.http.answer import LIMIT, Answer

LENGTH_5 = head(200, "Content-Length: 5", chunked=False)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@attrs.frozen
class Seen:
    status: int
    body: bytes
    complete: bool
    clean: bool
    fault: str


def parsed(data: bytes, cut: int, *, method: str = "GET", ended: bool = False) -> Seen:
    """What is made of it, cut once there and then each 64 KiB, as a second answer on its connection."""
    answer = Answer()
    answer.begin("HEAD")
    answer.feed(LENGTH_5)
    answer.begin(method)
    body = b""
    for begin, end in pairwise([0, *range(cut, len(data), LIMIT), len(data)]):
        if begin < end and not answer.complete and answer.fault is None:
            answer.feed(data[begin:end])
            body += answer.take()
    if ended:
        answer.end()
    return Seen(answer.status, body if answer.status else b"", answer.complete, answer.clean, str(answer.fault or ""))


WHOLE = [
    (whole(b"ok"), b"ok"),
    (head() + chunk(b"on") + chunk(b"e") + DONE, b"one"),
    (CONTINUE + b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 9\r\n\r\n" + whole(b"ok"), b"ok"),
    (head() + b"2;name=value\r\nok\r\n0\r\nContent-Length: 9\r\nTrailer: x\r\n\r\n", b"ok"),
    (whole(b"ok").replace(b"\r\n", b"\n"), b"ok"),
    (head(200, "Content-Length: 9") + chunk(b"ok") + DONE, b"ok"),
    (head() + b"2  \r\nok\r\n0\r\n\r\n", b"ok"),
    (head(200).replace(b"chunked", b"Chunked") + DONE, b""),
]


@pytest.mark.parametrize(("data", "body"), WHOLE)
def test_an_answer_is_whole_however_it_is_cut_and_another_may_follow(data: bytes, body: bytes) -> None:
    for cut in range(len(data) + 1):
        assert parsed(data, cut) == Seen(200, body, complete=True, clean=True, fault="")


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_ends_with_its_head(status: int) -> None:
    data = head(status, chunked=False)
    for cut in range(len(data) + 1):
        assert parsed(data, cut) == Seen(status, b"", complete=True, clean=True, fault="")


def test_the_answer_to_head_ends_with_its_head_whatever_length_it_tells() -> None:
    for cut in range(len(LENGTH_5) + 1):
        assert parsed(LENGTH_5, cut, method="HEAD") == Seen(200, b"", complete=True, clean=True, fault="")
    assert parsed(LENGTH_5 + b"12345", 0, method="HEAD") == Seen(200, b"", complete=True, clean=False, fault="")


@pytest.mark.parametrize("behind", [b"x", whole(b"late", 408), whole(b"", 204), b"\0"])
def test_what_comes_behind_an_answer_is_not_of_it_and_nothing_may_follow(behind: bytes) -> None:
    assert parsed(whole(b"ok") + behind, 0) == Seen(200, b"ok", complete=True, clean=False, fault="")


@pytest.mark.parametrize("data", [whole(b"ok", 200, "Connection: close"), whole(b"ok").replace(b"1.1", b"1.0")])
def test_nothing_follows_where_the_server_closes(data: bytes) -> None:
    assert parsed(data, 0) == Seen(200, b"ok", complete=True, clean=False, fault="")


def test_an_answer_that_tells_no_length_ends_with_its_connection_and_any_other_is_broken_off() -> None:
    without = head(200, chunked=False)
    assert parsed(without + b"all", 0, ended=True) == Seen(200, b"all", complete=True, clean=False, fault="")
    for data in (LENGTH_5 + b"ab", head() + chunk(b"ab"), head() + b"2\r\nab"):
        assert parsed(data, 0, ended=True) == Seen(200, b"ab", False, False, "broke off in the middle of its answer")
    for data in (b"HTTP/1.1 20", head(200, chunked=False)[:-2], CONTINUE):
        assert parsed(data, 0, ended=True) == Seen(0, b"", False, False, "broke off in the middle of its answer")


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", b""),
        (head(101, "Connection: upgrade", "Upgrade: x", chunked=False) + b"abc", b""),
        (head(101, chunked=False) + whole(b"ok"), b""),
        (whole(b"ok").replace(b"1.1", b"2.0"), b""),
        (whole(b"ok", 99).replace(b" 99 ", b" 099 "), b""),
        (head(200, "Transfer-Encoding: gzip, chunked", chunked=False), b""),
        (head(200, "Content-Length: 2", "Content-Length: 3", chunked=False), b""),
        (head() + chunk(b"ok") + b"zz\r\n", b"ok"),
        (head(200, "X: " + "y" * LIMIT), b""),
        (CONTINUE * (LIMIT // len(CONTINUE) + 1), b""),
        (head() + chunk(b"ok") + b"0\r\n" + b"X: y\r\n" * (LIMIT // 3), b"ok"),
        (head() + b"2;" + b"x" * LIMIT, b""),
    ],
)
def test_what_is_no_answer_is_a_fault_behind_what_came_before_it(data: bytes, body: bytes) -> None:
    for cut in (0, data.find(b"ok") + 4):
        seen = parsed(data, cut)
        assert (seen.body, seen.complete, seen.clean) == (body, False, False)
        assert seen.fault.startswith("does not speak HTTP/1.1: ")
