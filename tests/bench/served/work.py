"""The simulated work of a voice turn: what the stub models say, when, and how the load generator knows it again.

A language model writes 60 tokens, one each 10 ms, in 6 sentences; each sentence takes 50 ms to say, in 10 pieces of
4 KB. So a turn that costs nothing has its first text after 10 ms, its first sound after 105 ms (the 10th token ends a
sentence) and its end after 650 ms. Everything in it bears the marker of the question: what is lost, doubled or another
user's shows.
"""

from __future__ import annotations

TOKENS = 60
TOKEN_S = 0.010
SENTENCES = 6
PIECES = 10  # of a sentence's sound
PIECE_S = 0.005
PIECE_BYTES = 4096
RATE_HZ = 24_000
UNIT_BYTES = 32  # of which a piece is made: so much of a piece is enough to know whose it is

IDEAL_TEXT_S = TOKEN_S
IDEAL_SOUND_S = TOKENS // SENTENCES * TOKEN_S + PIECE_S

# By the kind of question: what ends a sentence. A full-width mark does so by itself; a full stop may be that of 3.14,
# so that a splitter which is right waits for the character after it, here 10 ms.
ENDS = {"wide": "。", "stop": "."}
STALL = "stall"  # the kind to which the model answers nothing, for ever
WORDS = (" one", " two", " three", " four", " five", " six", " seven", " eight", " nine")


def question(marker: str, kind: str) -> str:
    return f"{marker} {kind}"


def read_question(text: str) -> tuple[str, str]:
    """Its marker and kind."""
    marker, _, kind = text.partition(" ")
    return marker, kind


def tokens(marker: str, kind: str) -> list[str]:
    """The answer, as the model writes it."""
    found = []
    for number in range(SENTENCES):
        found += [f"{' ' if number else ''}{marker}s{number}", *WORDS]
        found[-1] += ENDS[kind]
    return found


def pieces(sentence: str) -> list[bytes]:
    """The sound of a sentence, whose first word is its marker and number."""
    word = sentence.split(" ", 1)[0]
    return [
        f"{word}p{number}".ljust(UNIT_BYTES, "_").encode() * (PIECE_BYTES // UNIT_BYTES) for number in range(PIECES)
    ]


def whole_answer(marker: str, kind: str) -> tuple[str, bytes]:
    """All the text and all the sound that a turn must have."""
    sound = b"".join(piece for number in range(SENTENCES) for piece in pieces(f"{marker}s{number}"))
    return "".join(tokens(marker, kind)), sound


def fault_of(text: str, sound: bytes, marker: str, kind: str) -> str:
    """What is wrong with a turn: "lost", "doubled", "mixed"; empty if nothing is."""
    expected_text, expected_sound = whole_answer(marker, kind)
    if text == expected_text and sound == expected_sound:
        return ""
    units = [sound[place : place + UNIT_BYTES] for place in range(0, len(sound), UNIT_BYTES)]
    own = f"{marker}s".encode()
    words = [word for word in text.split() if word[0] == marker[0] and "s" in word]
    if not all(unit.startswith(own) for unit in units) or not all(word.startswith(f"{marker}s") for word in words):
        return "mixed"
    longer = len(sound) > len(expected_sound) or len(text) > len(expected_text)
    return "doubled" if longer else "lost" if len(sound) < len(expected_sound) or text != expected_text else "mixed"
