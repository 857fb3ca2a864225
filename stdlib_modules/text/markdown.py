"""WithoutMarkdown and without_markdown: a language model's markdown as text that can be spoken."""

from __future__ import annotations

import html
import re
from typing import Final, TypeAlias

from ezflow import Inbox, Module, Outbox, Turn, module

_Step: TypeAlias = tuple[str, int] | None  # what to give and where to go on; None: more text is needed

_MARKUP: Final = re.compile(r"[*_~`\[!<&\\\n]")
_MARKUP_IN_CODE: Final = re.compile(r"[`\n]")
_PUNCTUATION: Final = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_RUN: Final = re.compile(r"([*_~`#])\1{0,199}")
_BLANKS: Final = re.compile(r"[ \t]+")
_FENCE: Final = re.compile(r"(`{3,99})[^`\n]{0,99}|(~{3,99})[^\n]{0,99}")
_FENCE_END: Final = re.compile(r"[ \t>]{0,99}(`{1,99}|~{1,99})?[ \t]{0,99}")
_RULE_CHARS: Final = re.compile(r"[-*_=:|+ \t]{1,199}")
_RULE: Final = re.compile(r"-+|={2,}|\*|\*{3,}|_{3,}|[-:]+\|[-:|]+")
_ROW: Final = re.compile(r"\|(.*)\|[ \t]*")
_ROW_RULE: Final = re.compile(r"[-:| \t]*-[-:| \t]*")
_CELL_BORDER: Final = re.compile(r"(?<!\\)\|")
_REFERENCE: Final = re.compile(r"[ \t]*<?(?:[A-Za-z]{2,}:|www\.|[/#.])\S*(?:[ \t]+[\"'(].*)?[ \t]*")
_ENTITY: Final = re.compile(r"&(?:#(?:[xX][0-9a-fA-F]{0,6}|\d{0,7})|[A-Za-z][A-Za-z0-9]{0,30})?")
_TAG_NAME: Final = re.compile(r"</?([A-Za-z][A-Za-z0-9+.-]{0,30})?")
_TAG_END: Final = re.compile(r"[<>\n]")
_TAG: Final = re.compile(
    r"<(/?)([A-Za-z][A-Za-z0-9]*)(?:\s+(?:open|[\w:-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)))*\s*/?>"
)
_AUTOLINK: Final = re.compile(r"<([A-Za-z][A-Za-z0-9+.-]+:[^\s<>]*|[^\s<>@]+@[^\s<>@]+)>")


def _words(line: str) -> frozenset[str]:
    return frozenset(line.split())


_BREAKING_TAGS: Final = _words("br p div li tr hr h1 h2 h3 h4 h5 h6 ul ol table blockquote pre details summary dd dt")
_TAGS: Final = _BREAKING_TAGS | _words(
    "a abbr b big center cite code del dfn dl em figcaption figure font i img ins kbd mark q s samp "
    "small span strike strong sub sup tbody td tfoot th thead tt u var"
)
_HELD_CHARS: Final = 1000  # a longer link, tag or row is taken for text
_NESTED: Final = 8  # so are brackets nested deeper than this


class MarkdownStripper:
    """Takes the markup out of a growing text; what it gives, joined, is the same however the text was cut.

    It holds back only what may be markup: a run of `*`, `_`, `~` or backquotes until the next character, a
    link or a tag until its end, a line's first characters, a table's row. Emphasis is therefore told from
    its neighbours: `2 * 3 * 4`, `2*3` and `snake_case_name` stay; a `*` before a word is markup even if no
    other follows. Headings, quotes and bullets lose their marks, the numbers of a list stay. A link gives
    its text, an image its description, a table's row its cells with commas between; what code spans hold is
    kept as it is. A fenced block is dropped, or replaced by `code_block`.
    """

    def __init__(self, code_block: str = "") -> None:
        self._code_block = code_block
        self._clear()

    def feed(self, delta: str) -> str:
        """Take the next piece of text; give what is certain of it."""
        self._text += delta.replace("\r", "")
        return self._take(final=False)

    def end(self) -> str:
        """Give what is left, and be ready for another text."""
        given = self._take(final=True)
        self._clear()
        return given

    def _clear(self) -> None:
        self._text = ""
        self._at_line_start = True
        self._before = "\n"  # the last character that is no markup
        self._fence = ""  # the mark that opened a block of code
        self._code = 0  # how many backquotes opened the code span
        self._open = {"*": 0, "_": 0, "~": 0}

    def _take(self, *, final: bool) -> str:
        given, at = [], 0
        while at < len(self._text):
            if self._fence:
                step = self._in_fence(at, final)
            elif self._at_line_start:
                step = self._line_start(at, final)
            else:
                step = self._inline(at, final)
            if step is None:
                break
            given.append(step[0])
            at = step[1]
        self._text = self._text[at:]
        return "".join(given)

    def _in_fence(self, at: int, final: bool) -> _Step:
        text = self._text
        if self._at_line_start and (mark := _FENCE_END.match(text, at)):
            if mark.end() == len(text) and not final:
                return None
            follows = text[mark.end() : mark.end() + 1]
            if (mark[1] or "").startswith(self._fence) and follows in {"", "\n"}:
                self._fence = ""
                return "", min(mark.end() + 1, len(text))
        newline = text.find("\n", at)
        self._at_line_start = newline >= 0
        return "", newline + 1 if newline >= 0 else len(text)

    def _line_start(self, at: int, final: bool) -> _Step:
        """Drop one mark of a block; a line may have several (`> - # x`)."""
        text = self._text
        if blanks := _BLANKS.match(text, at):
            return "", blanks.end()
        char = text[at]
        step: _Step = "", at
        if char in "\n>":
            step = char.strip(">"), at + 1
        elif char == "#":
            step = self._heading(at, final)
        elif char in "`~":
            step = self._fence_start(at, final)
        elif char == "|":
            step = self._table_row(at, final)
        elif char == "[":
            step = self._definition(at, final)
        elif char in "-*_=+":
            step = self._rule_or_bullet(at, final)
        if step == ("", at):
            self._at_line_start, self._before = False, "\n"
        elif step:
            self._open = dict.fromkeys(self._open, 0)
        return step

    def _heading(self, at: int, final: bool) -> _Step:
        end = self._run_end(at, final)
        if end is None:
            return None
        return "", end if end - at <= 6 and self._text[end : end + 1] in {"", " ", "\t", "\n"} else at

    def _fence_start(self, at: int, final: bool) -> _Step:
        text, mark = self._text, _FENCE.match(self._text, at)
        end = mark.end() if mark else self._run_end(at, final)
        if end is None or (end == len(text) and not final):
            return None
        if not mark or text[end : end + 1] not in {"", "\n"}:
            return "", at
        self._fence = mark[1] or mark[2]
        return (f"{self._code_block}\n" if self._code_block else ""), min(end + 1, len(text))

    def _table_row(self, at: int, final: bool) -> _Step:
        line = self._rest_of_line(at, final)
        if line is None:
            return None
        row = _ROW.fullmatch(line)
        if not row:
            return "", at
        cells = [] if _ROW_RULE.fullmatch(line) else _CELL_BORDER.split(row[1])
        given = ", ".join(filter(None, (_inner(cell).strip() for cell in cells)))
        return (f"{given}\n" if given else ""), min(at + len(line) + 1, len(self._text))

    def _definition(self, at: int, final: bool) -> _Step:
        """A task's box, or what a footnote or a reference stands for; other brackets are left to `_link`."""
        text, close = self._text, self._closing(at, "]", final)
        if close is None or (close and close + 1 == len(text) and not final):
            return None
        name, follows = text[at + 1 : close], text[close + 1 : close + 2]
        if close and name in {" ", "x", "X"} and follows in {" ", "\t"}:
            return "", close + 2
        if not close or follows != ":":
            return "", at
        if name.startswith("^"):
            return "", close + 2
        line = self._rest_of_line(close + 2, final)
        if line is None:
            return None
        return "", min(close + 3 + len(line), len(text)) if _REFERENCE.fullmatch(line) else at

    def _rule_or_bullet(self, at: int, final: bool) -> _Step:
        text, marks = self._text, _RULE_CHARS.match(self._text, at)
        end = marks.end() if marks else at
        if end == len(text) and not final:
            return None
        if text[end : end + 1] in {"", "\n"} and _RULE.fullmatch(re.sub(r"[ \t]", "", text[at:end])):
            return "", min(end + 1, len(text))
        return "", at + 2 if text[at] in "-*+" and text[at + 1 : at + 2] in {" ", "\t"} else at

    def _inline(self, at: int, final: bool) -> _Step:
        text = self._text
        mark = (_MARKUP_IN_CODE if self._code else _MARKUP).search(text, at)
        end = mark.start() if mark else len(text)
        if end > at:
            return self._literal(at, end)
        char = text[at]
        if char == "\n":
            self._at_line_start, self._code = True, 0
            return self._literal(at, at + 1)
        if char in "*_~":
            return self._emphasis(at, final)
        if char == "`":
            return self._code_span(at, final)
        if at + 1 == len(text):
            return self._literal(at, at + 1) if final else None
        if char == "\\":
            return self._escape(at)
        if char == "<":
            return self._tag(at, final)
        return self._entity(at, final) if char == "&" else self._link(at, final)

    def _literal(self, at: int, end: int) -> _Step:
        self._before = self._text[end - 1]
        return self._text[at:end], end

    def _escape(self, at: int) -> _Step:
        following = self._text[at + 1]
        if following in _PUNCTUATION:
            self._before = following
            return following, at + 2
        return ("", at + 1) if following == "\n" else self._literal(at, at + 1)

    def _emphasis(self, at: int, final: bool) -> _Step:
        end = self._run_end(at, final)
        if end is None:
            return None
        char, length = self._text[at], end - at
        before, after = self._before, self._text[end : end + 1] or "\n"
        in_word = before.isalnum() and after.isalnum() and (char == "_" or max(before, after) < "\u2e80")
        if char == "~" and length != 2:
            return self._literal(at, end)
        if self._open[char] and _hugs(before, after) and not (char == "_" and in_word):
            excess = max(0, length - self._open[char])
            self._open[char] = max(0, self._open[char] - length)
            return char * excess, end
        if _hugs(after, before) and not in_word and before not in ")]}%" and after != "=":
            self._open[char] += length
            return "", end
        return self._literal(at, end)

    def _code_span(self, at: int, final: bool) -> _Step:
        end = self._run_end(at, final)
        if end is None:
            return None
        if self._code and self._code != end - at:
            return self._literal(at, end)
        self._code = 0 if self._code else end - at
        return "", end

    def _link(self, at: int, final: bool) -> _Step:
        text, bracket = self._text, at + (self._text[at] == "!")
        if text[bracket] != "[":
            return self._literal(at, at + 1)
        close = self._closing(bracket, "]", final)
        if close is None or (close and close + 1 == len(text) and not final):
            return None
        label, follows = text[bracket + 1 : close], text[close + 1 : close + 2]
        end: int | None = 0
        if close and follows == "(":
            end = self._closing(close + 1, ")", final)
        elif close and follows == "[" and not self._before.isalnum():
            end = self._closing(close + 1, "]", final)
        elif close and label.startswith("^"):
            label, end = "", close
        if end is None:
            return None
        if not end:
            return self._literal(at, at + 1)
        given = _inner(label)
        self._before = given[-1:] or self._before
        return given, end + 1

    def _tag(self, at: int, final: bool) -> _Step:
        text = self._text
        name = _TAG_NAME.match(text, at)
        name_end = name.end() if name else at + 1
        if name_end == len(text) and not final:
            return None
        is_known = name is not None and (name[1] or "").lower() in _TAGS
        if not is_known and text[name_end : name_end + 1] not in {":", "@"}:
            return self._literal(at, at + 1)
        close = _TAG_END.search(text, name_end, at + _HELD_CHARS)
        if not close:
            return self._literal(at, at + 1) if final or len(text) >= at + _HELD_CHARS else None
        whole = text[at : close.end()]
        if link := _AUTOLINK.fullmatch(whole):
            self._before = whole[-2]
            return link[1], close.end()
        tag = _TAG.fullmatch(whole)
        if not tag or not is_known:
            return self._literal(at, at + 1)
        if tag[2].lower() in {"br", "hr"} or (tag[1] and tag[2].lower() in _BREAKING_TAGS):
            self._at_line_start = True
            return "\n", close.end()
        return "", close.end()

    def _entity(self, at: int, final: bool) -> _Step:
        text, name = self._text, _ENTITY.match(self._text, at)
        end = name.end() if name else at + 1
        if end == len(text) and not final:
            return None
        given = html.unescape(text[at : end + 1]).replace("\xa0", " ")
        if not text.startswith(";", end) or given == text[at : end + 1]:
            return self._literal(at, at + 1)
        self._before = given[-1:] or self._before
        return given, end + 1

    def _run_end(self, at: int, final: bool) -> int | None:
        """The index after the run of equal marks at `at`; None if it may go on."""
        run = _RUN.match(self._text, at)
        end = run.end() if run else at
        return None if end == len(self._text) and not final else end

    def _rest_of_line(self, at: int, final: bool) -> str | None:
        """The line from `at`, empty if it is too long; None if it may go on."""
        newline = self._text.find("\n", at, at + _HELD_CHARS)
        if newline >= 0:
            return self._text[at:newline]
        if len(self._text) >= at + _HELD_CHARS:
            return ""
        return self._text[at:] if final else None

    def _closing(self, at: int, closer: str, final: bool) -> int | None:
        """The index of the bracket that closes the one at `at`, 0 if there is none; None if it may come."""
        text, opener, depth, i = self._text, self._text[at], 0, at
        while i < min(len(text), at + _HELD_CHARS):
            char = text[i]
            depth += (char == opener) - (char == closer)
            if depth == 0:
                return i
            if char == "\n" or depth > _NESTED:
                return 0
            i += 2 if char == "\\" else 1
        return 0 if final or len(text) >= at + _HELD_CHARS else None


def _hugs(inner: str, outer: str) -> bool:
    """Whether a mark between the two belongs to `inner`: Chinese and Japanese need no space around it."""
    if inner.isspace():
        return False
    return inner.isalnum() or outer.isspace() or not outer.isalnum() or outer >= "\u2e80"


def _inner(text: str) -> str:
    """The text of a link or a cell, where no block begins."""
    stripper = MarkdownStripper()
    stripper._at_line_start = False
    return stripper.feed(text) + stripper.end()


@module
class WithoutMarkdown(Module[str, str]):
    """Takes the markdown out of a model's answer while it is being written.

    What may be markup is held back until it is certain; all else goes on at once, in order.

    Takes: str, a model's deltas. Gives: str, deltas without markup, never empty ones.
    `code_block`: what to say in place of a fenced block, e.g. `(code)`; by default it is dropped.
    Source: CommonMark and GitHub's tables, as far as a model's answer uses them. markdown-it-py is the
    well-kept parser, but takes only whole documents: its answer would begin when the model's has ended.
    """

    code_block: str = ""

    async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
        stripper = MarkdownStripper(self.code_block)
        async for delta in inbox:
            if text := stripper.feed(delta):
                await outbox.send(text)
        if text := stripper.end():
            await outbox.send(text)


@module
def without_markdown(text: str) -> str:
    """A whole text without its markdown; for deltas use `WithoutMarkdown()`.

    Takes: str, a text or paragraph. Gives: str; empty where all was markup.
    """
    stripper = MarkdownStripper()
    return stripper.feed(text) + stripper.end()
