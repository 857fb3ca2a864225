"""Sentences: whole sentences out of a model's deltas, each as soon as it is certain."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ezflow import Inbox, Module, Outbox, Turn, module

_NEWLINES: Final = "\n\r\u2028\u2029"
_CJK_ENDS: Final = "。！？；｡"
_ENDS: Final = ".!?…؟۔।॥"
_BRACKETS: Final = dict(zip("([{“‘「『（《〈【〔", ")]}”’」』）》〉】〕", strict=True))
_CJK_OPENERS: Final = "“‘「『（《〈【〔"
_CLOSERS: Final = "".join(_BRACKETS.values()) + "\"'»›*_`"
_CLAUSES: Final = ",;:–—"
_CJK_CLAUSES: Final = "，、："
_NEVER_LEADING: Final = _CLOSERS + _ENDS + _CJK_ENDS + _CLAUSES + _CJK_CLAUSES + "ー々"
_MARKS: Final = "".join({*_NEWLINES, *_CJK_ENDS, *_ENDS, *_BRACKETS, *_BRACKETS.values(), '"'})
_MARK: Final = re.compile(f"[{re.escape(_MARKS)}]")
_MARK_OR_CLAUSE: Final = re.compile(f"[{re.escape(_MARKS)}{_CLAUSES}{_CJK_CLAUSES}]")
_CLAUSE_BORDER: Final = re.compile(rf"[{_CLAUSES}][{re.escape(_CLOSERS)}]*(?=\s)|[{_CJK_CLAUSES}；…]+")

_OPEN_BRACKETS: Final = 8  # more of them at once are not prose
_WORD_CHARS: Final = 24  # no abbreviation is longer
_GAP_CHARS: Final = 8  # a wider gap than this after a full stop ends the sentence

_MAY_CLOSE: Final = re.compile(r"[*_`«»„‚]|'(?<!\w')")  # openers that are not in _BRACKETS
_PLAIN_WORD: Final = re.compile(r"[A-Za-z'\u0080-\U0010ffff-]{2,}")  # no part of an address or of code
_WORD: Final = re.compile(r"[A-Za-z\u00c0-\u04ff\d.&'’]*$")
_DOTTED: Final = re.compile(r"[A-Za-z]|(?:[A-Za-z]{1,2}\.)+[A-Za-z]{1,2}")
_NEXT_WORD: Final = re.compile(r"[\"“'‘]?([A-Za-z]{0,12})")
_LIST_NUMBER: Final = re.compile(r"\s*(?:[-+*•]\s+)?(?:\d{1,3}|[A-Za-z]|[ivxIVX]{1,4})")


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


_NEVER_LAST: Final = _words(
    "mr mrs ms dr prof Mr Mrs Ms Mx Messrs Dr Prof Rev Fr Gen Sen Rep Gov Hon Capt Cmdr Col Sgt Lt "
    "Maj Adm Pres e.g E.g eg i.e I.e ie cf Cf viz vs approx Approx ca"
)
_LAST_BEFORE_CAPITAL: Final = _words(
    "no nos fig figs vol vols ch pp sec secs art eq ref ed eds tel ext dept min mins hr hrs yr yrs ft "
    "oz lb lbs etc al incl excl max avg jan feb mar apr jun jul aug sep sept oct nov dec"
)
_LAST_BEFORE_STARTER: Final = _words("inc ltd co corp jr sr bros st mt ave blvd rd esq")
_STARTERS: Final = _words(
    "The A An This That These Those It He She We You They I There Here His Her Its Our Your My Their "
    "What When Where Who Why How Which If In On At For With As So But And Or Then However Also Yes No "
    "Not Please Let Do Does Did Is Are Was Were Can Could Would Should Now After Before While Since "
    "Because Although Once Some Many Most All Each Every Both Another"
)


class SentenceSplitter:
    """Cuts a growing text into sentences, the same ones however the text was cut into deltas.

    How far it looks ahead:

    - not at all after `。！？；`, after a newline, and after `!` and `?` that follow a plain word of two letters
      or more;
    - one character after other `!` and `?` (`/?q=1`, `2?`) and after `.`, for which no word settles it
      (`example` may become `example.com`); and after all these marks while a bracket, quotation or emphasis is
      open, whose closing mark belongs to the sentence;
    - to the next letter after an ellipsis or a closing mark (`"Really?" she asked`) and after abbreviations
      such as `etc.` and `No.`;
    - to the end of the next word after those that are parts of names (`U.S.`, `J.`, `Inc.`, also `7 p.m.`).

    So what directly follows a mark that settles it leads the next piece, a second mark (`？！`, `!!!`), an
    emoji or the `'s` of `Yahoo!'s`. Where no word follows such marks, they are the last piece.

    No character but white space is lost, none is doubled, and no piece is longer than `max_chars`.
    """

    def __init__(self, max_chars: int = 200, first_clause_chars: int = 24) -> None:
        if max_chars < 1 or first_clause_chars < 0:
            raise ValueError(
                f"max_chars={max_chars}, first_clause_chars={first_clause_chars}: "
                "max_chars must be 1 or more, first_clause_chars 0 (off) or more."
            )
        self._max_chars = max_chars
        self._first_clause_chars = first_clause_chars
        self._clear()

    def _clear(self) -> None:
        self._text = ""
        self._start = 0  # where the sentence begins
        self._at = 0  # what lies before it has been judged
        self._open = ""  # the closing marks still expected, innermost last
        self._on_new_line = True
        self._may_close = False  # whether the line has had openers that `_open` does not know
        self._marks = _MARK_OR_CLAUSE if self._first_clause_chars else _MARK  # the latter after the first piece

    def feed(self, delta: str) -> list[str]:
        """Take the next piece of text; give the sentences that are now certain."""
        all_is_judged = self._at == len(self._text)
        self._text += delta
        if all_is_judged and len(self._text) <= self._max_chars and not self._marks.search(delta):
            self._at = len(self._text)  # the usual delta: no sentence can end in it
            return []
        return self._take(final=False)

    def end(self) -> list[str]:
        """Give what is left, and be ready for another text."""
        sentences = self._take(final=True)
        self._clear()
        return sentences

    def _take(self, *, final: bool) -> list[str]:
        sentences = []
        while (end := self._next_end(final)) is not None:
            sentence = self._text[self._start : end]
            sentences.append(sentence.rstrip())
            self._start, self._at = end, max(self._at, end)
            self._on_new_line = sentence[-1] in _NEWLINES
            self._may_close = not self._on_new_line and (self._may_close or bool(_MAY_CLOSE.search(sentence)))
            self._marks = _MARK
        self._text = self._text[self._start :]
        self._start, self._at = 0, self._at - self._start
        return sentences

    def _next_end(self, final: bool) -> int | None:
        """The index after the next sentence, or None while it is not certain."""
        self._skip_space()
        text, limit = self._text, self._start + self._max_chars
        while mark := self._marks.search(text, self._at, limit):
            verdict = self._judge(mark.start(), limit, final)
            if verdict is None:
                self._at = mark.start()
                return None
            self._at, is_end = verdict
            # Marks without a word, such as the second of ？！ or a line of dashes, lead the next sentence.
            if is_end and any(char.isalnum() for char in text[self._start : self._at]):
                return self._at
        self._at = max(self._at, min(len(text), limit))
        if len(text) > limit:
            return _best_cut(text, self._start, limit)
        return len(text) if final and self._start < len(text) else None

    def _skip_space(self) -> None:
        text = self._text
        while self._start < len(text) and text[self._start].isspace():
            if text[self._start] in _NEWLINES:
                self._on_new_line, self._open, self._may_close = True, "", False
            self._start += 1
        self._at = max(self._at, self._start)

    def _judge(self, i: int, limit: int, final: bool) -> tuple[int, bool] | None:
        """Where to go on after the mark at `i`, and whether a sentence ends there; None: not yet known."""
        char = self._text[i]
        if char in _NEWLINES:
            self._open = ""
            return i + 1, True
        if char in _CLAUSES or char in _CJK_CLAUSES:
            return self._judge_first_clause(i, final)
        if (char in _CJK_ENDS and not self._open) or (char in "!?؟" and self._follows_plain_word(i)):
            return i + 1, True
        if char not in _CJK_ENDS and char not in _ENDS:
            self._open = _after_bracket(self._open, char)
            return i + 1, False
        closed = self._closing(i, limit, final)
        if closed is None:
            return None
        j, still_open = closed
        is_end: bool | None = True
        if j < min(limit, len(self._text)):
            is_end = self._ends_cjk(j) if char in _CJK_ENDS else self._ends(i, j, final)
        if is_end is None:
            return None
        self._open = still_open
        return j, is_end

    def _follows_plain_word(self, i: int) -> bool:
        """Whether the mark at `i` follows a word that cannot go on after it, and nothing may still close."""
        word_at = self._text.rfind(" ", self._start, i) + 1 or self._start
        if self._open or self._may_close or not _PLAIN_WORD.fullmatch(self._text, word_at, i):
            return False
        return not _MAY_CLOSE.search(self._text[self._start : i])

    def _judge_first_clause(self, i: int, final: bool) -> tuple[int, bool] | None:
        text = self._text
        spoken = sum(3 if _is_wide(char) else 1 for char in text[self._start : i])
        if self._open or spoken < self._first_clause_chars:
            return i + 1, False
        if text[i] in _CJK_CLAUSES:
            return i + 1, True
        if i + 1 == len(text):
            return (i + 1, False) if final else None
        return i + 1, text[i + 1].isspace()

    def _closing(self, i: int, limit: int, final: bool) -> tuple[int, str] | None:
        """The index after all that closes with the mark at `i` (`."`, `?!`), and what is still open."""
        text, still_open, j = self._text, self._open, i + 1
        while j < limit:
            if j == len(text):
                return (j, still_open) if final else None
            if not _is_closing(text[j]):
                break
            still_open = _after_bracket(still_open, text[j])
            j += 1
            if text[i] in _CJK_ENDS and not still_open and text[j - 1] in '”’"':
                break
        return j, still_open

    def _ends_cjk(self, j: int) -> bool:
        """Whether a sentence ends at `j`, after a full-width mark inside brackets or quotation marks."""
        last, following = self._text[j - 1], self._text[j]
        if last in "」』":
            return following not in "とっ"  # 「はい。」と言った: the particle goes on with the sentence
        if last in "）】〕》〉":
            return last not in "》〉" and self._text[self._start] in _CJK_OPENERS
        return True

    def _ends(self, i: int, j: int, final: bool) -> bool | None:
        """Whether a sentence ends with the mark at `i`, when `text[i:j]` is all that closes with it."""
        text, run = self._text, self._text[i:j]
        if not (text[j].isspace() or _is_wide(text[j]) or text[j] in _CJK_OPENERS):
            return False
        word = self._word_before(i) if run.rstrip(_CLOSERS) == "." else ""
        if word in _NEVER_LAST or (word and self._is_list_number(i)):
            return False
        before_starter = word.casefold() in _LAST_BEFORE_STARTER or bool(_DOTTED.fullmatch(word))
        before_capital = word.casefold() in _LAST_BEFORE_CAPITAL
        may_go_on = before_starter or before_capital or run.startswith(("..", "…")) or run[-1] in _CLOSERS
        k = j
        while may_go_on and k < j + _GAP_CHARS and text[k : k + 1].isspace() and text[k] not in _NEWLINES:
            k += 1
        if k == len(text):
            return True if final else None
        if not may_go_on or text[k].isspace():
            return True
        if before_starter:
            return self._starts_sentence(k, final)
        return not (text[k].islower() or (before_capital and text[k].isdigit()))

    def _word_before(self, i: int) -> str:
        """The word that ends at `i`; empty for the pronoun `I`, which a sentence may end with."""
        text = self._text
        found = _WORD.search(text[max(self._start, i - _WORD_CHARS) : i])
        word = found[0].lstrip("'’") if found else ""
        if word == "I" and text[max(self._start, i - 3) : i - 1].strip().islower():
            return ""
        return word

    def _is_list_number(self, i: int) -> bool:
        """Whether all the line holds before `i` is a number or letter, as in `2. Pears`."""
        line = max(self._text.rfind(newline, self._start, i) for newline in _NEWLINES) + 1
        if line == 0 and not self._on_new_line:
            return False
        return _LIST_NUMBER.fullmatch(self._text, max(line, self._start), i) is not None

    def _starts_sentence(self, k: int, final: bool) -> bool | None:
        """Whether the word at `k` is one that begins sentences and seldom a name."""
        found = _NEXT_WORD.match(self._text, k)
        assert found is not None, "the pattern fits the empty text too"
        if found.end() == len(self._text) and len(found[1]) < 12 and not final:
            return None
        return found[1] in _STARTERS and not self._text.startswith(".", found.end())


def _after_bracket(still_open: str, char: str) -> str:
    """The closing marks still expected after `char`."""
    if still_open.endswith(char):
        return still_open[:-1]
    expected = '"' if char == '"' else _BRACKETS.get(char, "")
    return still_open + expected if len(still_open) < _OPEN_BRACKETS else still_open


def _is_closing(char: str) -> bool:
    """Whether `char`, right after an end mark, belongs to the sentence that ended: `."`, `?!`, `!😊`."""
    return char in _CLOSERS + _ENDS + _CJK_ENDS or unicodedata.category(char) in {"So", "Sk", "Mn", "Cf"}


def _is_wide(char: str) -> bool:
    """Whether `char` is of a script that puts no space after an end mark: Chinese, Japanese (and Hangul)."""
    return (
        "\u3040" <= char <= "\ud7ff"
        or "\uf900" <= char <= "\ufaff"
        or "\uff66" <= char <= "\uff9d"
        or "\U00020000" <= char <= "\U0003ffff"
        or char in "々〆〇"
    )


def _best_cut(text: str, start: int, limit: int) -> int:
    """Where to cut a text that has no sentence end before `limit`: at a clause, a space, a wide character."""
    clauses = [found.end() for found in _CLAUSE_BORDER.finditer(text, start, limit)]
    if clauses and clauses[-1] - start >= (limit - start) // 2:
        return clauses[-1]
    whole = [p for p in range(limit, start, -1) if not _sticks(text[p - 1], text[p])]
    for p in whole:
        before, after = text[p - 1], text[p]
        if before.isspace() or after.isspace():
            return p
        if (_is_wide(before) or _is_wide(after)) and after not in _NEVER_LEADING and before not in _BRACKETS:
            return p
    return whole[0] if whole else limit


def _sticks(char: str, following: str) -> bool:
    """Whether two code points make one visible character: accents, joined emoji, flags, surrogates."""
    return (
        char == "\u200d"
        or following in "\u200c\u200d"
        or "\U0001f3fb" <= following <= "\U0001f3ff"
        or ("\ud800" <= char <= "\udbff" and "\udc00" <= following <= "\udfff")
        or ("\U0001f1e6" <= char <= "\U0001f1ff" and "\U0001f1e6" <= following <= "\U0001f1ff")
        or unicodedata.category(following)[0] == "M"
    )


@module
class Sentences(Module[str, str]):
    """Gives whole sentences for a text that comes in pieces: what a speech synthesis needs to sound right.

    Each sentence leaves as soon as it is certain (`SentenceSplitter` says how far that looks ahead), what
    is left when the input ends. Nothing but white space is lost; how the text was cut into deltas makes no
    difference.

    Takes: str, a model's deltas. Gives: str, stripped pieces of 1 to `max_chars` characters. The last may be
    marks alone (`!`, an emoji), in which a speech synthesis has nothing to say: the presets skip it.
    `first_clause_chars`: so that sound begins early, the first piece may also end after a comma, colon,
    semicolon or dash, once it has this many characters (a Chinese or Japanese one counts for three); 0
    waits for the whole sentence. 24 is some 1.5 s of speech: enough to cover the making of the next piece,
    and a pause is natural there.
    `max_chars`: a sentence that is longer is cut, at a clause if there is one in its second half, else
    between words.
    Raises: ValueError for `max_chars` below 1 or `first_clause_chars` below 0.
    Source: our own rules, because sentence-stream 1.3.0 ends a sentence after the number in `2. Pears`, but
    not in `No. I said so.`, `hello. how are you?`, after `；` or at the end of a line, deletes the stars of
    `2 * 3 * 4`, waits for the word after `!` and has no bound; pysbd 0.3.4 takes whole texts only.
    """

    max_chars: int = 200
    first_clause_chars: int = 24

    def __attrs_post_init__(self) -> None:
        SentenceSplitter(self.max_chars, self.first_clause_chars)

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        splitter = SentenceSplitter(self.max_chars, self.first_clause_chars)
        async for delta in inbox:
            for sentence in splitter.feed(delta):
                await outbox.send(sentence)
        for sentence in splitter.end():
            await outbox.send(sentence)
