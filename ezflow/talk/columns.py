"""Text in a terminal's columns, of which nothing steers the terminal."""

from __future__ import annotations

import re
import unicodedata

__all__ = ["BOLD", "DIM", "GREEN", "RED", "REVERSE", "YELLOW"]
__all__ += ["columns_of", "cut", "padded", "painted", "plain", "width_of"]

# A model's text must not steer the terminal that shows it.
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
BOLD, DIM, RED, GREEN, YELLOW, REVERSE = (f"\x1b[{code}m" for code in (1, 2, 31, 32, 33, 7))
USUAL = "\x1b[0m"


def plain(text: str) -> str:
    """A text without what a terminal would obey."""
    return CONTROLS.sub("", text)


def columns_of(character: str) -> int:
    """How many columns of a terminal a character takes."""
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def width_of(text: str) -> int:
    """How many columns a text takes, of which only what is printable is shown."""
    return sum(columns_of(character) for character in text if character.isprintable())


def cut(text: str, columns: int) -> str:
    """What a terminal shows in so many columns. Of what it would obey, or hide text by, nothing is left."""
    kept, used = [], 0
    for character in filter(str.isprintable, text):
        used += columns_of(character)
        if used > columns:
            break
        kept.append(character)
    return "".join(kept)


def padded(text: str, columns: int) -> str:
    """A text in just so many columns."""
    kept = cut(text, columns)
    return kept + " " * (columns - width_of(kept))


def painted(line: str, colour: str, colours: bool) -> str:
    """A line in a colour, where there are colours."""
    return f"{colour}{line}{USUAL}" if colour and colours else line
