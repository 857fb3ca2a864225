"""Lines and Server-Sent Events, however their bytes were cut on the way."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stdlib_modules.http.decoding import Decoder, Event, Events, Lines, TooLong, events, lines

T = TypeVar("T")

TEXTS = st.text(st.characters(exclude_characters="\n\r\ufeff", codec="utf-8"), max_size=12)
FIELDS = st.text(st.characters(exclude_characters="\n\r\ufeff\0", codec="utf-8"), max_size=12)
CUTS = st.lists(st.integers(0, 60), max_size=30)


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    marks = [0, *sorted(place for place in places if place < len(data)), len(data)]
    return [data[start:end] for start, end in pairwise(marks)]


def decoded(decoder: Decoder[T], *pieces: bytes) -> list[T]:
    return [found for piece in pieces for found in decoder.feed(piece)] + decoder.end()


class Sent:
    """Pieces of an answer, as a `Reply` gives them."""

    def __init__(self, *pieces: bytes) -> None:
        self.left = list(pieces)
        self.problem = ""

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)

    def broken(self, problem: str) -> Exception:
        self.problem = problem
        return RuntimeError(problem)


@given(st.lists(TEXTS.filter(str.strip)), st.sampled_from(["\n", "\r\n"]), st.booleans(), CUTS)
def test_any_cutting_gives_the_same_lines(texts: list[str], ending: str, ended: bool, places: list[int]) -> None:
    data = ending.join(texts).encode() + (ending.encode() if ended else b"")
    assert decoded(Lines(), *cut(data, places)) == texts


@given(st.binary(max_size=60), CUTS)
def test_any_cutting_of_garbage_gives_the_same_lines(data: bytes, places: list[int]) -> None:
    assert decoded(Lines(), *cut(data, places)) == decoded(Lines(), data)


@given(
    st.lists(st.sampled_from([b"data: a", b"data:b", b"event: e", b"id: 7", b":", b"", b"x", b"\xef\xbb\xbf"])), CUTS
)
@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
def test_any_cutting_gives_the_same_events_under_any_line_ending(
    ending: bytes, rows: list[bytes], places: list[int]
) -> None:
    data = b"".join(row + ending for row in rows)
    assert decoded(Events(), *cut(data, places)) == decoded(Events(), data.replace(ending, b"\n"))


@given(st.binary(max_size=60), CUTS)
def test_any_cutting_of_garbage_gives_the_same_events(data: bytes, places: list[int]) -> None:
    assert decoded(Events(), *cut(data, places)) == decoded(Events(), data)


@given(st.lists(st.tuples(FIELDS, st.lists(FIELDS, min_size=1, max_size=3))), CUTS)
def test_events_come_back_as_they_were_written(sent: list[tuple[str, list[str]]], places: list[int]) -> None:
    written = "".join(
        f"event: {kind}\n" + "".join(f"data: {row}\n" for row in rows) + "\n" for kind, rows in sent
    ).encode()
    assert decoded(Events(), *cut(written, places)) == [
        Event("\n".join(rows), kind or "message") for kind, rows in sent
    ]


def test_a_character_cut_in_two_is_whole_in_its_line() -> None:
    first, second = "好".encode()[:1], "好".encode()[1:]
    assert decoded(Lines(), b"{" + first, second + b"}\n") == ["{好}"]


def test_separators_that_json_may_hold_do_not_end_a_line() -> None:
    text = '{"a": "one\u2028two\x85three\x0bfour"}'
    assert decoded(Lines(), text.encode() + b"\n") == [text]


def test_a_line_comes_with_its_newline_and_not_later() -> None:
    feed = Lines().feed
    assert [feed(b"one"), feed(b"\r\ntwo"), feed(b"\n\n"), feed(b"three\nfour\n")] == [
        [],
        ["one"],
        ["two"],
        ["three", "four"],
    ]


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert decoded(Lines(), b"\xef\xbb", b"\xbfone\n") == ["one"]
    assert decoded(Events(), b"\xef", b"\xbb\xbfdata: one\n\n") == [Event("one")]


def test_what_is_not_utf8_is_replaced() -> None:
    assert decoded(Lines(), b"a\xffb\n") == ["a\ufffdb"]


def test_three_events_in_one_piece() -> None:
    assert Events().feed(b"data: 1\n\ndata: 2\n\ndata: 3\n\n") == [Event("1"), Event("2"), Event("3")]


def test_one_event_in_three_pieces() -> None:
    feed = Events().feed
    assert [feed(b"da"), feed(b"ta: on"), feed(b"e\n\n")] == [[], [], [Event("one")]]


def test_an_event_comes_with_its_blank_line_whatever_follows_a_carriage_return() -> None:
    feed = Events().feed
    assert [feed(b"data: 1\r\n\r"), feed(b"\ndata: 2\r\r"), feed(b"data: 3\n\n")] == [
        [Event("1")],
        [Event("2")],
        [Event("3")],
    ]


def test_a_line_end_cut_in_two_ends_one_line() -> None:
    feed = Events().feed
    assert [feed(b"data: 1\r"), feed(b"\ndata: 2\n\n")] == [[], [Event("1\n2")]]


def test_lines_of_data_are_joined_and_one_space_is_taken_off() -> None:
    assert decoded(Events(), b"data: one\ndata:  two\ndata\ndata:\n\n") == [Event("one\n two\n\n")]


def test_an_event_has_its_type_alone_and_keeps_the_id() -> None:
    data = b"id: 7\nevent: delta\ndata: 1\n\ndata: 2\n\nid\ndata: 3\n\n"
    assert decoded(Events(), data) == [Event("1", "delta", "7"), Event("2", "message", "7"), Event("3")]


def test_pings_comments_and_unknown_fields_give_nothing() -> None:
    assert decoded(Events(), b": keep-alive\n\nevent: ping\n\nretry: 10\n\nfield\n\nid: 1\0\ndata: x\n\n") == [
        Event("x")
    ]


def test_an_event_whose_blank_line_is_missing_at_the_end_is_given() -> None:
    assert decoded(Events(), b"data: [DONE]\n") == [Event("[DONE]")]
    assert decoded(Events(), b"data: [DONE]") == [Event("[DONE]")]


@given(CUTS)
def test_a_line_over_the_limit_is_refused_however_it_comes(places: list[int]) -> None:
    with pytest.raises(TooLong, match="a line of more than 100 bytes"):
        decoded(Lines(100), *cut(b"short\n" + b"x" * 101 + b"\n", places))
    assert decoded(Lines(100), *cut(b"x" * 100 + b"\n", places)) == ["x" * 100]


@given(CUTS)
def test_an_event_over_the_limit_is_refused_however_it_comes(places: list[int]) -> None:
    with pytest.raises(TooLong, match="an event of more than 100 bytes"):
        decoded(Events(100), *cut(b"data: ok\n\n" + b"data: 123456789\n" * 10 + b"\n", places))
    assert len(decoded(Events(100), *cut((b"data: 123456789\n" * 8 + b"\n") * 2, places))) == 2


async def test_lines_of_an_answer_come_as_they_are_complete() -> None:
    sent = Sent(b'{"a":1}\n{"b"', b":2}\n", b"last")
    found = lines(sent)
    assert await anext(found) == '{"a":1}'
    assert sent.left == [b":2}\n", b"last"]
    assert [line async for line in found] == ['{"b":2}', "last"]
    with pytest.raises(StopAsyncIteration):
        await anext(found)


async def test_events_of_an_answer_may_be_left_early() -> None:
    sent = Sent(b"data: 1\n\ndata: 2\n\n", b"data: 3\n\n")
    async for event in events(sent):
        assert event == Event("1")
        break
    assert sent.left == [b"data: 3\n\n"]


async def test_a_line_over_the_limit_makes_the_answer_a_broken_one() -> None:
    sent = Sent(b"ok\n", b"x" * 20)
    with pytest.raises(RuntimeError, match="sent a line of more than 10 bytes"):
        assert [line async for line in lines(sent, 10)] == []
    assert sent.problem
