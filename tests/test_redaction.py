"""ezflow/redaction.py: what looks like a secret is hidden, wherever it stands; what is long is cut."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

import attrs
import pytest
from taken import taken

from ezflow import Audio
from ezflow.redaction import Redactor, secrets_of_environment, secrets_of_modules

SECRET = "s3cr3t/+v4lue!"
plain = Redactor()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "authorization={}",
        "{{'Authorization': 'Bearer {}', 'accept': '*/*'}}",
        '{{"api_key": "{}"}}',
        "{{'X-API-Key': b'{}'}}",
        "[(b'authorization', b'Bearer {}'), (b'host', b'h')]",
        "Cookie: theme=dark; session={}",
        "Set-Cookie: sid={}; HttpOnly",
        "Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==",
        "the header said Bearer {} and no more",
        "Bearer;{}",
        "Client(token='{}', url='http://h')",
        "openai_api_key={}",
        "password = {}",
        "GET /ws?user=ann&token={}&x=1",
        "https://user:s3cr3tv4lue!@host:1/p",
        "https://s3cr3tv4lue!@host/p?key={}",
        "ezflow.v1, token.s3cr3tv4lue-of-sixteen",
        "Incorrect API key provided: sk-proj-s3cr3tv4lue-s3cr3tv4lue",
        "a JWT eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s3cr3tv4lue",
    ],
)
def test_what_looks_like_a_secret_is_hidden_without_being_known(text):
    shown = plain.text(text.format(SECRET))
    assert "s3cr3t" not in shown
    assert "dXNlcj" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "user 'ann', turn 1, stage ollama failed",
        "Ollama at http://127.0.0.1:11434/api/chat cannot be reached: Connection refused: start it",
        "a token is needed: none was sent",
        "options: max_tokens=512, {'num_tokens': 7}",
        "GET /flow?of=events&user=ann",
        "it doesn't matter, and isn't long",
        'model "x" not found: pull it first (ollama pull x)',
    ],
)
def test_what_is_no_secret_is_left_as_it_is(text):
    assert plain.text(text) == text


def test_around_a_secret_the_rest_can_be_read():
    assert (
        plain.text("POST http://ann:pw@h:1/a?x=1&key=abc&y=2 failed") == "POST http://***@h:1/a?x=1&key=***&y=2 failed"
    )


@pytest.mark.parametrize("name", ["authorization", "Cookie", "api_key", "API-Key", "access_token", "password", "key"])
@pytest.mark.parametrize("value", [SECRET, 12345678, [SECRET], {"a": SECRET}])
def test_what_stands_under_a_secret_s_name_is_hidden_whatever_it_is(name, value):
    assert plain.field(name, value) == "***"
    assert plain.field("request", {"headers": {name: value}}) == {"headers": {name: "***"}}


def test_a_count_of_tokens_is_none():
    assert plain.field("prompt_tokens", 512) == 512


@pytest.mark.parametrize("name", ["text", "input", "prompt", "user_text", "messages", "audio", "content"])
def test_what_users_say_is_counted_not_shown(name):
    assert plain.field(name, "my pin is 1234") == "<14 characters>"
    assert plain.field(name, b"RIFF....") == "<8 bytes>"
    assert plain.field(name, Audio(b"\0\0" * 8, 16_000)) == "<Audio>"


def test_sound_is_never_shown():
    assert plain.field("piece", bytearray(7)) == "<7 bytes>"
    pcm = bytes(range(256)) * 4
    assert len(plain.text(f"bad sound {pcm!r} in the middle")) < 150
    assert plain.text("data: " + "UklGR" * 100) == "data: <500 characters>"


def test_long_texts_are_cut():
    said = "she said this and that, and then something else. " * 50
    shown = plain.text(said)
    assert (shown[:300], shown[300:]) == (said[:300], f"… ({len(said)} characters)")
    assert len(plain.text(f"cannot convert {said!r}: no number")) < 100


def test_a_traceback_is_bounded_and_so_is_each_of_its_lines():
    lines = [f'  File "x.py", line {number}, in f' for number in range(2_000)] + ["ValueError: " + "so long " * 500]
    shown = plain.traceback("\n".join(lines))
    assert shown.startswith(lines[0])
    assert (len(shown.splitlines()), shown.splitlines()[100]) == (201, "… (1801 lines)")
    assert shown.splitlines()[-1].endswith("… (4012 characters)")


def test_a_deep_or_endless_structure_is_bounded():
    endless: dict[str, Any] = {"n": 1}
    endless["self"] = endless
    assert len(str(plain.field("x", endless))) < 500
    assert len(plain.field("x", list(range(1_000)))) == 30


def test_what_json_does_not_know_is_told_in_words():
    assert plain.field("x", float("nan")) == "nan"
    assert plain.field("x", Redactor) == "<class 'ezflow.redaction.Redactor'>"


@pytest.mark.parametrize(
    "text",
    ["'" * 60_000, "\"'" * 30_000, "a=" * 30_000, "." * 60_000, "token=" * 10_000, "://" * 20_000, "\\" * 60_000],
)
def test_no_text_takes_long(text):
    begun = time.process_time()
    with taken("some secret or other"):
        Redactor().text(text)
    assert time.process_time() - begun < 2


def test_a_secret_at_the_place_where_a_text_is_cut_does_not_begin_to_show():
    secret = "abcdefghijklmnopqrstuvwxyz0123456789"
    for before in range(16 * 1024 - 40, 16 * 1024 + 5):
        with taken(secret):
            hidden = Redactor()._hidden("." * before + secret)
        assert "abcd" not in hidden[-50:], before


def test_of_a_secret_of_several_lines_each_is_hidden():
    key = "-----BEGIN KEY-----\nMIIBVgIBADANBg\nkqhkiG9w0BAQEF\n"
    with taken(key):
        assert Redactor().traceback(f"ValueError: {key}") == "ValueError: ***\n***\n***"


def test_what_is_taken_as_secret_later_is_hidden_by_a_redactor_that_is_there_already():
    redactor = Redactor()
    with taken("first-word"):
        assert redactor.text("first-word later-word 424242") == "*** later-word 424242"
        with taken("later-word", "424242"):
            assert redactor.text("first-word later-word") == "*** ***"
            assert redactor.field("code", 424242) == "***"


def test_what_is_taken_as_secret_is_hidden_though_a_thread_learns_it_while_another_still_learns_less():
    learns, goes_on = threading.Event(), threading.Event()

    class Slow(str):
        """Holds up the thread that learns it first, when that has seen which secrets there are."""

        def __len__(self) -> int:
            if threading.current_thread() is late:
                learns.set()
                goes_on.wait()
            return super().__len__()

    class Watched(Redactor):
        """Lets the late thread go on to its end where another has just set what it has learned."""

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if learns.is_set() and threading.current_thread() is not late and isinstance(value, re.Pattern | tuple):
                goes_on.set()
                late.join()

    redactor = Watched()
    late = threading.Thread(target=redactor.text, args=["x"])
    with taken(Slow("first-word")):
        late.start()
        learns.wait()
        with taken("later-word"):
            redactor.text("x")
            assert redactor.text("first-word later-word") == "*** ***"


def test_a_secret_of_fewer_than_4_characters_is_not_cut_out_of_other_words():
    with taken("ann", "anna"):
        assert Redactor().text("ann, anna, planned") == "ann, ***, planned"


def test_secrets_of_the_environment_are_those_whose_names_say_so():
    environment = {
        "OPENAI_API_KEY": "openai-value",
        "DIFY_TOKEN": "dify-value",
        "DB_PASSWORD": "db-value",
        "HTTP_PROXY": "http://ann:proxy-value@proxy:3128",
        "EZFLOW_TOKENS_FILE": "/run/tokens",
        "HOME": "/home/ann",
        "PWD": "/home/ann/work",
        "KEY": "short",
    }
    assert secrets_of_environment(environment) == {"openai-value", "dify-value", "db-value", "proxy-value"}


def test_secrets_of_modules_are_what_their_fields_hold_or_name():
    @attrs.frozen
    class Remote:
        url: str = "https://ann:in%2Furl@h/v1?key=in-query"
        api_key_env: str = "THE_KEY"
        appid_env: str = "UNSET"
        password: str = "in-field"
        model: str = "small"
        max_tokens: int = 5

    found = secrets_of_modules([Remote()], {"THE_KEY": "in-environment"})
    assert found == {"in%2Furl", "in/url", "in-query", "in-environment", "in-field"}
