"""ezflow/rendering.py: records as lines, and no secret of the configuration in any of them."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from typing import Any
from urllib.parse import quote

import pytest
import structlog
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from taken import taken

from ezflow import EzflowError
from ezflow.logs import failed
from ezflow.rendering import rendered

log = logging.getLogger("somebody.elses")


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_json_with_the_time_in_utc_the_level_the_logger_and_what_happened():
    stream = io.StringIO()
    with rendered("json", "info", stream=stream):
        log.info("took %d of %s", 3, "them", extra={"flow": "voice", "size": 1.5, "ok": True, "none": None})
    (line,) = lines(stream)
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert line["timestamp"][-1] == "Z"
    assert line.items() >= {"level": "info", "logger": "somebody.elses", "event": "took 3 of them"}.items()
    assert (line["flow"], line["size"], line["ok"], line["none"]) == ("voice", 1.5, True, None)


def test_each_record_is_one_line_whatever_it_holds():
    stream = io.StringIO()
    with rendered("json", stream=stream):
        log.error("a\nb\r\u2028c", extra={"x": "d\ne", "half": "\ud800", "ill": float("inf")})
        try:
            raise ValueError("two\nlines")
        except ValueError:
            log.exception("oh", stack_info=True)
    assert len(stream.getvalue().split("\n")) == 3
    first, second = lines(stream)
    assert (first["event"], first["x"], first["half"]) == ("a\nb\r\u2028c", "d\ne", "\ud800")
    assert second["error"] == {"type": "ValueError", "message": "two\nlines"}
    assert second["exception"].startswith("Traceback (most recent call last):\n")
    assert second["stack"].startswith("Stack (most recent call last):\n")


def test_from_which_level_on():
    stream = io.StringIO()
    with rendered("json", "error", stream=stream):
        log.warning("no")
        log.error("yes")
    assert [line["event"] for line in lines(stream)] == ["yes"]


def test_an_expected_error_is_told_by_its_facts_and_a_bug_by_its_traceback():
    class Down(EzflowError):
        expected = True

        def __init__(self) -> None:
            super().__init__("Ollama at http://h refused: start it")
            self.advice = "start it"
            self.status = 503

    stream = io.StringIO()
    with rendered("json", stream=stream):
        failed(log, Down(), "user %r failed", "ann", stage="ollama")
        failed(log, ZeroDivisionError("by zero"), "user %r failed", "ann")
    expected, bug = lines(stream)
    assert expected["event"] == "user 'ann' failed: Down: Ollama at http://h refused: start it"
    assert expected["error"].items() >= {"type": "Down", "advice": "start it", "status": 503}.items()
    assert ("exception" in expected, expected["stage"]) == (False, "ollama")
    assert bug["error"] == {"type": "ZeroDivisionError", "message": "by zero"}
    assert bug["exception"] == "ZeroDivisionError: by zero"


def test_what_is_logged_with_structlog_and_what_is_warned_of_goes_the_same_way():
    stream = io.StringIO()
    with rendered("json", "info", stream=stream), warnings.catch_warnings():
        structlog.get_logger("native").info("took %d", 3, text="what a user said", flow="voice")
        structlog.get_logger("native").debug("no")
        try:
            raise KeyError("x")
        except KeyError:
            structlog.get_logger("native").exception("oh")
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    took, oh, warned = lines(stream)
    assert (took["event"], took["logger"], took["text"]) == ("took 3", "native", "<16 characters>")
    assert (oh["error"], oh["level"]) == ({"type": "KeyError", "message": "'x'"}, "error")
    assert (warned["logger"], warned["level"]) == ("py.warnings", "warning")
    assert "DeprecationWarning: old" in warned["event"]


def test_the_logging_of_before_is_given_back():
    root = logging.getLogger()
    before = (root.handlers[:], root.level, warnings.showwarning, structlog.is_configured())
    hooks = (threading.excepthook, sys.unraisablehook)
    with pytest.raises(KeyError), rendered("json", "debug", stream=io.StringIO()):
        raise KeyError
    assert (root.handlers[:], root.level, warnings.showwarning, structlog.is_configured()) == before
    assert (threading.excepthook, sys.unraisablehook) == hooks


def test_warnings_that_a_program_captures_itself_stay_captured():
    logging.captureWarnings(True)
    try:
        captured = warnings.showwarning
        with rendered("json", stream=io.StringIO()):
            pass
        assert warnings.showwarning is captured
    finally:
        logging.captureWarnings(False)


def test_a_thread_that_ends_by_exit_has_not_failed():
    stream = io.StringIO()
    with rendered("json", stream=stream):
        thread = threading.Thread(target=sys.exit)
        thread.start()
        thread.join()
    assert stream.getvalue() == ""


def test_on_the_console_an_error_that_is_a_word_of_the_program_s_stays():
    stream = io.StringIO()
    with rendered("console", stream=stream):
        log.error("x", extra={"error": "E42"})
    assert "error=E42" in stream.getvalue()


def test_structlog_is_left_as_somebody_has_configured_it():
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()])
    try:
        with rendered("json", stream=io.StringIO()):
            assert structlog.get_config()["processors"] == [structlog.get_config()["processors"][0]]
        assert structlog.is_configured()
    finally:
        structlog.reset_defaults()


def test_a_record_that_cannot_be_rendered_says_so_and_nothing_of_what_it_held(capsys):
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("s3cr3t")

    stream = io.StringIO()
    with rendered("json", stream=stream):
        log.error("%d of them", "s3cr3t")
        log.error("x", extra={"odd": Odd()})
        log.error("the next")
    first, second, third = lines(stream)
    assert "cannot be rendered (TypeError): '%d of them'" in first["event"]
    assert "cannot be rendered (RuntimeError): 'x'" in second["event"]
    assert third["event"] == "the next"
    assert capsys.readouterr() == ("", "")
    assert "s3cr3t" not in stream.getvalue()


def test_where_nobody_reads_the_log_any_more_the_program_goes_on(capsys):
    stream = io.StringIO()
    with rendered("json", stream=stream):
        stream.close()
        log.error("x")
    assert capsys.readouterr() == ("", "")


def test_the_console_s_lines_are_for_a_person_and_do_not_steer_the_terminal():
    stream = io.StringIO()
    with rendered("console", "info", stream=stream):
        log.info("a \x1b[31mred\x1b[0m\nline", extra={"flow": "voice"})
        try:
            raise ValueError("\x1b]0;title\x07")
        except ValueError:
            log.exception("oh")
    out = stream.getvalue()
    assert "\x1b" not in out
    first, second, *rest = out.splitlines()
    assert first.endswith("[info     ] a \\x1b[31mred\\x1b[0m\\nline [somebody.elses] flow=voice")
    assert second.endswith("[error    ] oh [somebody.elses]")
    assert (rest[0], rest[-1]) == ("Traceback (most recent call last):", "ValueError: \\x1b]0;title\\x07")


@pytest.mark.parametrize(
    ("on_terminal", "no_color", "coloured"), [(True, "", True), (False, "", False), (True, "1", False)]
)
def test_colours_are_for_terminals_alone(on_terminal, no_color, coloured, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return on_terminal

    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with rendered("console", stream=stream):
        log.error("x")
    assert ("\x1b[" in stream.getvalue()) is coloured


# ---- no secret of the configuration, whatever its place

PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)
SECRETS = st.text(PRINTABLE | st.sampled_from("äß密钥"), min_size=8, max_size=60)


class Held:
    def __init__(self, secret: str) -> None:
        self.secret = secret

    def __repr__(self) -> str:
        return f"<Held {self.secret}>"


def raised(secret: str) -> BaseException:
    try:
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise ExceptionGroup(f"in {secret}", [ValueError(b"x" + secret.encode()), OSError(2, secret)]) from error
    except ExceptionGroup as group:
        group.add_note(f"note {secret}")
        return group


def fails_in_a_thread(secret: str) -> None:
    def fails() -> None:
        raise raised(secret)

    thread = threading.Thread(target=fails, name=secret)
    thread.start()
    thread.join()


class Ends(Held):
    def __del__(self) -> None:
        raise raised(self.secret)


class Refused(EzflowError):
    expected = True

    def __init__(self, secret: str) -> None:
        super().__init__(f"answered: {secret}")
        self.advice = f"use {secret}"


PLACES = {
    "message": lambda secret: log.error(secret),
    "argument": lambda secret: log.error("x %s y", secret),
    "quoted argument": lambda secret: log.error("x %r y", secret),
    "argument by name": lambda secret: log.error("x %(it)s y", {"it": secret}),
    "within an argument": lambda secret: log.error("x %s y", {"headers": [("a", secret)]}),
    "bytes": lambda secret: log.error("x %s y", secret.encode()),
    "an object": lambda secret: log.error("x %s y", Held(secret)),
    "a long message": lambda secret: log.error("%s", f"{'.' * 290}{secret}{'.' * 2000}"),
    "a URL": lambda secret: log.error("GET http://h/%s?q=%s", quote(secret, safe=""), quote(secret)),
    "JSON": lambda secret: log.error("sent %s", json.dumps({"a": secret})),
    "an extra": lambda secret: log.error("x", extra={"it": secret}),
    "an extra's name": lambda secret: log.error("x", extra={f"it {secret}": 1}),
    "within an extra": lambda secret: log.error("x", extra={"it": {"a": [secret, {secret: (Held(secret),)}]}}),
    "an error": lambda secret: log.error("x", exc_info=raised(secret)),
    "an expected error": lambda secret: failed(log, Refused(secret), "x"),
    "an unexpected error": lambda secret: failed(log, ValueError(secret), "x"),
    "the logger": lambda secret: logging.getLogger(f"a.{secret}").error("x"),
    "structlog": lambda secret: structlog.get_logger("n").error("x %s", secret, it=secret, exc_info=raised(secret)),
    "a warning": lambda secret: warnings.warn(secret, UserWarning, stacklevel=1),
    "a thread": lambda secret: fails_in_a_thread(secret),
    "the end of an object": lambda secret: Ends(secret),
    "a record that cannot be rendered": lambda secret: log.error(f"{secret} %d", secret),
}


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in [key, *strings(inner)]]
    return [text for inner in value for text in strings(inner)] if isinstance(value, list) else [str(value)]


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=40, deadline=None)
@given(secret=SECRETS)
@example(secret='it\'s"quoted"')
@example(secret="back\\slash\\n")
@example(secret="%s%d%(x)s")
@example(secret="a=b&c=d;token=")
def test_no_secret_of_the_configuration_is_in_a_line(place: str, form: Any, secret: str) -> None:
    if place in ("message", "a record that cannot be rendered"):
        assume("%" not in secret)  # it would be a template of its own
    if place == "the logger":
        assume("." not in secret)  # made of several names
    stream, empty = io.StringIO(), io.StringIO()
    with warnings.catch_warnings(), rendered(form, stream=empty), taken(secret):
        warnings.simplefilter("always")
        PLACES[place]("nothing")
    assume(secret not in empty.getvalue())
    with warnings.catch_warnings(), rendered(form, stream=stream), taken(secret):
        warnings.simplefilter("always")
        PLACES[place](secret)
    out = stream.getvalue()
    assert out
    assert secret not in out
    if form == "json":
        assert not [text for line in lines(stream) for text in strings(line) if secret in text]


def test_the_property_sees_a_secret_that_is_not_hidden():
    stream = io.StringIO()
    with rendered("json", stream=stream):
        PLACES["within an extra"]("an-open-secret")
    assert "an-open-secret" in stream.getvalue()


def test_the_values_of_variables_are_not_shown():
    stream = io.StringIO()

    def fails(said: str) -> None:
        raise ValueError("x")

    with rendered("console", stream=stream):
        try:
            fails("what a user said")
        except ValueError:
            log.exception("oh")
    assert "what a user said" not in stream.getvalue().replace('fails("what a user said")', "")
    assert sys.exception() is None
