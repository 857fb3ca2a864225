"""Markdown becomes text that can be spoken, wherever the markup is cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezflow.testing import check_module, collect
from stdlib_modules.text.markdown import MarkdownStripper, WithoutMarkdown, without_markdown


def stripped(deltas: list[str] | str, code_block: str = "") -> str:
    stripper = MarkdownStripper(code_block)
    return "".join([stripper.feed(delta) for delta in deltas]) + stripper.end()


def check(text: str, plain: str) -> None:
    assert without_markdown(text) == plain
    assert stripped(text) == plain


@pytest.mark.parametrize(
    "text",
    [
        "2 * 3 * 4 = 24 and 2*3*4, 2 ** 3, 2**3",
        "snake_case_name, x_1, a__b and f(x)*g(y)",
        "x *= 2, price*, ~5 minutes, a | b",
        "un*frigging*real",
        "$x_1 + y^{2}$ is 5 > 3, 3 < 5, x<y and y>z, a<b and c>d",
        "List<T>, AT&T; R&D, C:\\temp, [note], a[0][1], f[",
        "#hashtag\n####### seven",
        "-5 degrees\n1. one\n2) two",
        "Hello! What!? |x| is the value of x",
        "<think>a</think>",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    check(text, text)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("**bold**, *em*, _em_, __bold__, ***both***, ~~no~~", "bold, em, em, bold, both, no"),
        ("**a *b* c** and *a **b** c*", "a b c and a b c"),
        ("这是**重点**内容，**“引用”**吧。", "这是重点内容，“引用”吧。"),
        ('"**q**" (**p**) **a**b **[l](u)**', '"q" (p) ab l'),
        ("*args and **kwargs", "args and kwargs"),
        ("`a*b_c` and ``x ` y`` and `<b>`", "a*b_c and x ` y and <b>"),
        (r"\*not\* 1\. \_x\_", "*not* 1. _x_"),
    ],
)
def test_emphasis_and_code_lose_their_marks(text: str, plain: str) -> None:
    check(text, plain)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("See [the page](https://a.b/c_(d)) now", "See the page now"),
        ('[a **b**](u "title") [c][1] [^1]', "a b c "),
        ("![a *cat*](cat.png) ![](x.png)", "a cat "),
        ("[![logo](l.png)](https://a.b)", "logo"),
        ("<https://x.y/z_a> <a@b.c>", "https://x.y/z_a a@b.c"),
        ("[1]: https://a.b 'title'\n[^1]: a note\n[Note]: this", "a note\n[Note]: this"),
        ("[not a link] (x), [a](b\nc)", "[not a link] (x), [a](b\nc)"),
    ],
)
def test_links_and_images_give_their_text(text: str, plain: str) -> None:
    check(text, plain)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# Title\n### Sub\nText", "Title\nSub\nText"),
        ("Title\n=====\nSub\n---\nText", "Title\nSub\nText"),
        ("a\n\n---\n\n* * *\n\n___\nb", "a\n\n\n\nb"),
        ("- a\n* b\n+ c\n  - [ ] d\n  - [x] e\n1. f", "a\nb\nc\nd\ne\n1. f"),
        ("> quote\n> > - # all\n>\n> more", "quote\nall\n\nmore"),
        ("| A | B |\n|---|:-:|\n| **x** | `y` |\nend", "A, B\nx, y\nend"),
        ("    indented\r\n\ttoo", "indented\ntoo"),
        ("**Note:** text\n* **Item**: more", "Note: text\nItem: more"),
    ],
)
def test_blocks_lose_their_marks(text: str, plain: str) -> None:
    check(text, plain)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("<b>bold</b> x <i class='a'>y</i><br>line", "bold x y\nline"),
        ("<p>one</p><p>two</p>", "one\ntwo\n"),
        ("Tom &amp; Ann &lt;b&gt;&nbsp;&#39;q&#39; &nope;", "Tom & Ann <b> 'q' &nope;"),
    ],
)
def test_html_is_taken_out(text: str, plain: str) -> None:
    check(text, plain)


@pytest.mark.parametrize("fence", ["```", "~~~", "`````"])
def test_a_fenced_block_is_dropped_or_announced(fence: str) -> None:
    text = f"before\n{fence}python\nx = 1\n\n``\n  # **y**\n{fence}\nafter ```inline``` x"
    check(text, "before\nafter inline x")
    assert stripped(text, "(code)") == "before\n(code)\nafter inline x"
    check(f"before\n{fence}\nunclosed", "before\n")


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("Hello you, ", "Hello you, "),
        ("Hello **you", "Hello you"),
        ("Hello you*", "Hello you"),
        ("Hello [you](", "Hello "),
        ("Hello <s", "Hello "),
        ("Hello < ", "Hello < "),
        ("Hello <xyz ", "Hello <xyz "),
        ("Hello.\n-", "Hello.\n"),
        ("Hello.\n- y", "Hello.\ny"),
        ("Hello.\n| a | b", "Hello.\n"),
    ],
)
def test_only_what_may_be_markup_is_held_back(text: str, given: str) -> None:
    assert MarkdownStripper().feed(text) == given


@pytest.mark.parametrize("start", ["", "x "])
@pytest.mark.parametrize("text", ["[" * 3000, "*" * 3000, "| a " * 1000, "<a " * 1000, "- " * 1000])
def test_what_never_becomes_markup_is_not_held_for_ever(start: str, text: str) -> None:
    stripper = MarkdownStripper()
    stripper.feed(start + text)
    assert len(stripper.end()) <= 1000
    assert stripped(start + text) == stripped([start + text])


PHRASES = (
    "** *** __ ~~ `` ``` ```py\n ~~~ ](u) [^1] [x]:/a <b> </p> <br> <a@b.c> <http://x> &amp; \n\n \r\n "
    "-\t *\t #\t >\t |a|b|\n |---|\n --- 1.\t [x]\t word b\tc"
)
MARKS = '*_~`[]()!<>&\\\n|-#=+: \t.,"a2你，'
PIECES = st.sampled_from([*PHRASES.split(" "), *MARKS])


@settings(max_examples=300, deadline=None)
@given(text=st.lists(PIECES, max_size=25).map("".join), places=st.lists(st.integers(0, 300), max_size=8))
def test_any_deltas_give_the_same_text(text: str, places: list[int]) -> None:
    borders = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    deltas = [text[a:b] for a, b in itertools.pairwise(borders)]
    assert stripped(deltas) == stripped([text]) == stripped(text)


@given(text=st.text(alphabet="abc XYZ 123 .,:;?%()你好。", max_size=80))
def test_text_without_marks_is_unchanged(text: str) -> None:
    assert without_markdown(f"x{text}") == f"x{text}"


async def test_the_module_and_the_function_do_the_same_in_a_flow() -> None:
    assert await collect(WithoutMarkdown(), ["**Hel", "lo** [y", "ou](u", ")"]) == ["Hel", "lo ", "you"]
    assert await collect(WithoutMarkdown(code_block="(code)"), ["```\nx\n```"]) == ["(code)\n"]
    assert await collect(without_markdown, ["**Hello** [you](u)"]) == ["Hello you"]


def test_the_modules_conform() -> None:
    check_module(WithoutMarkdown(), ["**Hel", "lo** [y", "ou](u)"])
    check_module(without_markdown, ["**Hello**", "*you*"])
