"""Thoughts go to the client, the answer goes on, wherever the tags are cut."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezflow.testing import check_module, collect
from stdlib_modules.text.think import Think, ThinkSplitter, Thought


def split(deltas: list[str] | str, *, starts_inside: bool = False) -> list[Thought | str]:
    """All parts, with neighbours of one kind joined."""
    splitter = ThinkSplitter(starts_inside=starts_inside)
    parts = [part for delta in deltas for part in splitter.feed(delta)] + splitter.end()
    joined: list[Thought | str] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, Thought):
            assert part.text
            joined[-1:] = [Thought(last.text + part.text)] if isinstance(last, Thought) else [*joined[-1:], part]
        else:
            assert part
            joined[-1:] = [last + part] if isinstance(last, str) else [*joined[-1:], part]
    return joined


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Hello there", ["Hello there"]),
        ("  Hello there\n", ["  Hello there\n"]),
        ("<think>\nabc\n</think>\n\nHello", [Thought("abc\n"), "Hello"]),
        ("Hello <think>abc</think> you", ["Hello ", Thought("abc"), "you"]),
        ("Hello<think>abc</think> you", ["Hello", Thought("abc"), " you"]),
        ("\n<think>a</think>\n x <think>b</think>\ny", [Thought("a"), "x ", Thought("b"), "y"]),
        ("<think></think>\n\nHello", ["Hello"]),
        ("a <b and 2 < 3 </thin", ["a <b and 2 < 3 </thin"]),
        ("  ", ["  "]),
    ],
)
def test_thoughts_and_answer_are_parted(text: str, parts: list[Thought | str]) -> None:
    assert split([text]) == parts == split(text)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>never ends", [Thought("never ends")]),
        ("x</think>y", ["xy"]),
        ("<think>a<think>b</think>c</think> d", [Thought("abc"), "d"]),
        ("<think>a<think>b</think>c<think>d</think>e</think>f", [Thought("abcde"), "f"]),
        ("<think>never write <think> here</think>\nHello", [Thought("never write  here"), "Hello"]),
    ],
)
def test_tags_that_nest_or_do_not_balance_lose_no_answer(text: str, parts: list[Thought | str]) -> None:
    assert split([text]) == parts == split(text)


@pytest.mark.parametrize("text", ["abc</think>\nx", "\n<think>abc</think>\nx"])
def test_a_prompt_may_have_opened_the_block(text: str) -> None:
    assert split([text], starts_inside=True) == [Thought("abc"), "x"] == split(text, starts_inside=True)


def test_only_what_may_be_a_tag_is_held_back() -> None:
    splitter = ThinkSplitter()
    assert splitter.feed("Hello <th") == ["Hello "]
    assert splitter.feed("i") == []
    assert splitter.feed("s") == ["<this"]
    assert splitter.feed("<think>so") == [Thought("so")]
    assert splitter.feed(" then</") == [Thought(" then")]
    assert splitter.feed("think>!") == ["!"]
    assert splitter.end() == []


TEXTS = st.lists(
    st.sampled_from(["<think>", "</think>", "<", "</", "thi", "nk>", "a", " ", "\n", "b c"]), max_size=20
).map("".join)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, places=st.lists(st.integers(0, 100), max_size=6), starts_inside=st.booleans())
def test_any_deltas_give_the_same_parts_and_lose_nothing(text: str, places: list[int], starts_inside: bool) -> None:
    borders = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    deltas = [text[a:b] for a, b in itertools.pairwise(borders)]
    whole = split([text], starts_inside=starts_inside)
    assert split(deltas, starts_inside=starts_inside) == whole
    assert split(text, starts_inside=starts_inside) == whole
    told = "".join(part.text if isinstance(part, Thought) else part for part in whole)
    assert "".join(told.split()) == "".join(re.sub("</?think>", "", text).split())


@pytest.mark.parametrize(("open_tag", "close_tag"), [("", "</t>"), ("<t>", ""), ("<t>", "<t>"), ("<t", "<t>")])
def test_tags_that_cannot_be_told_apart_are_refused(open_tag: str, close_tag: str) -> None:
    with pytest.raises(ValueError, match="neither may be empty"):
        Think(open_tag, close_tag)


async def test_the_answer_goes_on_and_thoughts_go_to_the_client() -> None:
    flow = Think(open_tag="[[", close_tag="]]")
    assert await collect(flow, ["[[why", " not]", "] ", "Be", "cause"]) == ["Be", "cause"]
    async with flow.open() as service, service.session("ann") as session:
        events = [event async for event in session.turn("[[why]] Because")]
    told = [(event.type, event.item) for event in events if event.item is not None]
    assert told == [("thought", Thought("why")), ("text", "Because")]


def test_the_module_conforms() -> None:
    check_module(Think(), ["Hello <thi", "nk>so</think>", " you"])
