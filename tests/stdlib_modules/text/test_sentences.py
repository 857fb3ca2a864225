"""Sentences come out whole, early, and the same however the text was cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ezflow.testing import check_module, collect
from stdlib_modules.text.sentences import Sentences, SentenceSplitter


def split(deltas: list[str] | str, max_chars: int = 200, first_clause_chars: int = 0) -> list[str]:
    splitter = SentenceSplitter(max_chars, first_clause_chars)
    given = [sentence for delta in deltas for sentence in splitter.feed(delta)]
    return given + splitter.end()


def cut(text: str, places: list[int]) -> list[str]:
    borders = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[a:b] for a, b in itertools.pairwise(borders)] or [text]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("hello there. how are you? fine!", ["hello there.", "how are you?", "fine!"]),
        ("Oh my! What? 5?! x?! Yes.", ["Oh my!", "What?", "5?!", "x?!", "Yes."]),
        ("No. I said so. So do I. He did.", ["No.", "I said so.", "So do I.", "He did."]),
        ("Bonjour ! Ça va ?", ["Bonjour !", "Ça va ?"]),
        ("안녕하세요. 저는 봇입니다.", ["안녕하세요.", "저는 봇입니다."]),
        ("नमस्ते। आप कैसे हैं?", ["नमस्ते।", "आप कैसे हैं?"]),
    ],
)
def test_end_marks_end_sentences(text: str, sentences: list[str]) -> None:
    assert split([text]) == sentences == split(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith met Mrs. Jones, e.g. in St. Louis. He left.", 2),
        ("The U.S. economy grew. The U.K. Parliament sat.", 2),
        ("J. K. Rowling and George W. Bush met. J. R. R. Tolkien did not.", 2),
        ("Fruit, i.e. apples, pears etc., is good.", 1),
        ("He has a Ph.D. in physics from Acme Inc. of Boston.", 1),
        ("We meet at 7 p.m. on Monday.", 1),
        ("See No. 5 on p. 7 of vol. 2, by Smith et al. in Jan. 2020.", 1),
        ("It took approx. 5 min. of time vs. 6.", 1),
    ],
)
def test_abbreviations_do_not_end_sentences(text: str, sentences: int) -> None:
    assert len(split([text])) == sentences == len(split(text))


@pytest.mark.parametrize(
    "text",
    [
        "We live in the U.S.|The door is open.",
        "We meet at 7 p.m.|The door is open.",
        "He works at Acme Inc.|It grew.",
        "It has vitamin C.|This is good.",
        "Apples, pears, etc.|Then we ate.",
        "There were 5 ft.|Good.",
    ],
)
def test_an_abbreviation_may_be_the_last_word_of_a_sentence(text: str) -> None:
    assert split([text.replace("|", " ")]) == text.split("|") == split(text.replace("|", " "))


@pytest.mark.parametrize(
    "text",
    [
        "It costs 3.14 or 1,000.50 dollars.",
        "Version 2.0.1 and v3.12.4 are out.",
        "See https://example.com/a.b?x=1.2&y=!z for more.",
        "Write to a.b@c.org or visit example.com today.",
        "Node.js and .NET are names.",
        "Is it i.e.-like, and so on?",
        "Look at /search?q=what!important or a?.b or `foo!=bar` or (vec![1])",
    ],
)
def test_numbers_and_addresses_are_not_cut(text: str) -> None:
    assert split([text]) == [text] == split(text)


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Wait... what is it? Nothing.", ["Wait... what is it?", "Nothing."]),
        ("Wait... What is it?", ["Wait...", "What is it?"]),
        ("Well… He left… or not.", ["Well…", "He left… or not."]),
        ("嗯……我不知道。", ["嗯……", "我不知道。"]),
    ],
)
def test_an_ellipsis_ends_a_sentence_only_before_a_new_one(text: str, sentences: list[str]) -> None:
    assert split([text]) == sentences == split(text)


@pytest.mark.parametrize(
    "text",
    [
        '"Really?" she asked. |He said "No." |Then he went.',
        "(It was late.) |We slept. |He (really?) came.",
        "**Bold.** |And `code.` |Good!😊 |Next.",
        "**So good!** |**One. |Two two!** |'Come on!' he said. |«C'est vrai?» dit-il.",
        "他说：“你好。”|然后走了。",
        '他说"你好。"|然后走了。',
        "“你好。|我是小明。”|他走了。",
        "（他来了。）|他（真的吗？）走了。|《谁？》是一本书。",
        "彼は「はい。」と言った。|「そう。」|はい。",
    ],
)
def test_what_closes_after_the_mark_belongs_to_the_sentence(text: str) -> None:
    whole = text.replace("|", "")
    assert split([whole]) == [sentence.strip() for sentence in text.split("|")] == split(whole)


@pytest.mark.parametrize(
    "text",
    [
        "你好。|你叫什么名字？|我很好！|他来了；|我走了。",
        "我用Python 3.11写代码。|Hello world.|好的。|今天3.5度，版本2.0。",
        "Dr.王说OK.|好的",
    ],
)
def test_full_width_marks_need_no_space(text: str) -> None:
    whole = text.replace("|", "")
    assert split([whole]) == text.split("|") == split(whole)


@pytest.mark.parametrize(
    "text",
    [
        "A title\nA line without a mark\r\nAnother",
        "1. Apples\n2. Pears\n10. Plums",
        "- Apples\n- Pears\n• Plums",
        "a. Apples\nb. Pears",
    ],
)
def test_lines_and_list_items_are_pieces(text: str) -> None:
    assert split([text]) == text.splitlines() == split(text)


def test_marks_without_a_word_lead_the_next_sentence() -> None:
    assert split(["---\nHello.\n***"]) == ["---\nHello.", "***"]
    assert split(["真的？！不会吧。"]) == ["真的？", "！不会吧。"]
    assert split(["Oh my!!! What?! Good!😊 It's you?..."]) == ["Oh my!", "!! What?", "! Good!", "😊 It's you?", "..."]


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("你好。", ""),
        ("你好！", ""),
        ("Hello\n", ""),
        ("“你好。”", ""),
        ("“你好。", "我"),
        ("Hello.", " "),
        ("Hello!", ""),
        ("Isn't it well-known?", ""),
        ("好吗?", ""),
        ("أهلا؟", ""),
        ("Is it 5?", " "),
        ("Is it x?", " "),
        ("(Hello!", " "),
        ("Say 'Hello!", " "),
        ("*Hello!", " "),
        ("Hello...", " N"),
        ("“Go.”", " N"),
        ("No.", " N"),
        ("In the U.S.", " The "),
    ],
)
def test_a_sentence_leaves_as_soon_as_it_is_certain(text: str, needs: str) -> None:
    splitter = SentenceSplitter(200, 0)
    given = [splitter.feed(char) for char in text + needs]
    assert given == [[]] * (len(given) - 1) + [[text.strip()]]


def test_a_new_line_closes_what_was_open() -> None:
    assert SentenceSplitter().feed("- (One\n- **two\nIt's three!") == ["- (One", "- **two", "It's three!"]


def test_only_the_first_piece_may_end_at_a_clause() -> None:
    text = "Spiders are small animals, with legs, and they live here. They eat, mostly at night time, flies."
    assert split([text], first_clause_chars=24) == [
        "Spiders are small animals,",
        "with legs, and they live here.",
        "They eat, mostly at night time, flies.",
    ]
    assert split(["Well, yes, I think so, too."], first_clause_chars=24) == ["Well, yes, I think so, too."]
    assert split(["蜘蛛是一种小的动物，有八条腿。"], first_clause_chars=24) == [
        "蜘蛛是一种小的动物，",
        "有八条腿。",
    ]
    assert split(["It costs some 1,000,000,000,000,000 dollars."], first_clause_chars=4) == [
        "It costs some 1,000,000,000,000,000 dollars."
    ]


def test_a_long_sentence_is_cut_at_a_clause_or_between_words() -> None:
    assert split(["one two three, four five six seven eight nine"], 30) == [
        "one two three, four five six",
        "seven eight nine",
    ]
    assert split(["one two three four, five six seven eight nine"], 30) == [
        "one two three four,",
        "five six seven eight nine",
    ]
    words = " ".join(["word"] * 500)
    pieces = split([words], 50)
    assert all(len(piece) == 49 for piece in pieces[:-1])
    assert " ".join(pieces) == words


def test_a_cut_spares_visible_characters_and_marks() -> None:
    assert split(["没有标点的中文" * 3], 10) == ["没有标点的中文没有标", "点的中文没有标点的中", "文"]
    assert split(["e\u0301" * 6], 5) == ["e\u0301" * 2] * 3
    assert split(["👨\u200d👩\u200d👧" * 2], 8) == ["👨\u200d👩\u200d👧"] * 2
    assert split(["ab\ud83d\ude00\ud83d\ude00"], 3) == ["ab", "\ud83d\ude00", "\ud83d\ude00"]
    assert split(["中文abcdef，好"], 5) == ["中文", "abcde", "f，好"]


PHRASES = (
    "Dr. |e.g. |U.S. |J. |etc. |No. |7 p.m. |So do I. |The |It|word|Word|3.14|1,000.50|https://a.b/?q=1|a@b.c|"
    "1. |- |Wow!!|It's?|'Yes!' |a?b|"
    "x|5|你好|とても|...|. |? |! |, |          |😊|👨\u200d👩\u200d👧|🇩🇪🇫🇷|e\u0301|\ud83d|\ude00"
)
MARKS = ".!?…。！？；，、：,;:\"'()“”「」《》（）*_\n\r\t "
PIECES = st.sampled_from([*PHRASES.split("|"), *MARKS])
TEXTS = st.lists(PIECES | st.text(max_size=4), max_size=40).map("".join)


@settings(max_examples=300, deadline=None)
@given(
    text=TEXTS,
    places=st.lists(st.integers(0, 500), max_size=8),
    max_chars=st.sampled_from([1, 2, 5, 12, 30, 200]),
    first_clause_chars=st.sampled_from([0, 4, 24]),
)
@example(text="真的？！“好。”，", places=[3, 4], max_chars=4, first_clause_chars=0)
def test_any_deltas_give_the_same_sentences_and_lose_nothing(
    text: str, places: list[int], max_chars: int, first_clause_chars: int
) -> None:
    whole = split([text], max_chars, first_clause_chars)
    assert split(cut(text, places), max_chars, first_clause_chars) == whole
    assert split(text, max_chars, first_clause_chars) == whole
    assert "".join("".join(whole).split()) == "".join(text.split())
    assert all(0 < len(sentence) <= max_chars and sentence == sentence.strip() for sentence in whole)


def test_a_splitter_can_be_used_again() -> None:
    splitter = SentenceSplitter()
    assert splitter.feed("(One, two") == []
    assert splitter.end() == ["(One, two"]
    assert splitter.feed("1. 你好。") == ["1. 你好。"]
    assert splitter.end() == []


@pytest.mark.parametrize("wrong", [{"max_chars": 0}, {"first_clause_chars": -1}])
def test_impossible_limits_are_refused_when_the_module_is_made(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be 1 or more"):
        Sentences(**wrong)


async def test_the_module_gives_whole_sentences_and_what_is_left_at_the_end() -> None:
    assert await collect(Sentences(), ["Hel", "lo."]) == ["Hello."]
    assert await collect(Sentences(), ["Hello", ". How", " are", " you"]) == ["Hello.", "How are you"]
    assert await collect(Sentences(), []) == []


def test_the_module_conforms() -> None:
    check_module(Sentences(), ["Hello. How ", "are you? 你好。", "Fine"])
