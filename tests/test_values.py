"""`setting`: what a flow's file takes from outside, by whom it is given, and what is said of what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from ezflow import SettingsError, setting
from ezflow.redaction import SECRETS
from ezflow.values import Given, Values, using


def of(**places: Any) -> Values:
    return Values(**{"environment": {}, **places})


def test_the_command_line_comes_before_the_environment_before_the_file_before_the_default():
    places = {
        "said": {"A": "said"},
        "environment": {"A": "around", "B": "around"},
        "written": dict.fromkeys("ABC", "file"),
    }
    with using(of(**places)) as values:
        assert [setting(name, "default") for name in "ABCD"] == ["said", "around", "file", "default"]
    assert [given.source for given in values.asked.values()] == ["--set", "environment", "ezflow.toml", "default"]


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [(1, "7", 7), (0.5, "7", 7.0), (True, "off", False), (False, "Yes", True), ("a", " b ", " b "), (None, "x", "x")],
)
def test_a_text_becomes_what_the_default_is(default, text, value):
    for places in ({"said": {"X": text}}, {"environment": {"X": text}}):
        with using(of(**places)):
            assert setting("X", default) == value
            assert type(setting("X", default)) is type(value)


def test_an_empty_variable_is_as_good_as_none():
    with using(of(environment={"X": ""}, written={"X": 3})):
        assert setting("X", 1) == 3


def test_a_whole_number_in_the_file_is_a_fine_float():
    with using(of(written={"X": 3})):
        assert setting("X", 0.5) == 3.0


def test_a_script_takes_it_from_the_environment_alone(monkeypatch):
    monkeypatch.setenv("EXAMPLE_URL", "http://gpu")
    assert setting("EXAMPLE_URL", "http://127.0.0.1") == "http://gpu"


@pytest.mark.parametrize(
    ("places", "default", "said"),
    [
        ({"said": {"X": "two"}}, 1, "--set X: 'two' is not what is needed: a whole number."),
        ({"environment": {"X": "two"}}, 1.0, "X: 'two' is not what is needed: a number."),
        ({"environment": {"X": "2"}}, True, "X: '2' is not what is needed: true or false."),
        ({"written": {"X": "2"}}, 1, "ezflow.toml: values.X: '2' is not what is needed: a whole number."),
        ({"written": {"X": True}}, 1, "ezflow.toml: values.X: True is not what is needed: a whole number."),
        ({"written": {"X": 2}}, "a", "ezflow.toml: values.X: 2 is not what is needed: a string."),
        ({}, [], "setting('X'): a string, a number or a bool is needed, not [].$"),
    ],
)
def test_a_value_of_another_type_is_named_with_its_place(places, default, said):
    with using(of(**places)), pytest.raises(SettingsError) as refused:
        setting("X", default)
    assert str(refused.value) == said.rstrip("$")


@pytest.mark.parametrize("name", ["A B", 'A"B', "a.b", "a-b", "A\n", "2ND", "Ä", ""])
def test_a_name_that_a_shell_or_toml_would_not_take_is_refused(name):
    with using(of(said={name: "x"})), pytest.raises(SettingsError) as refused:
        setting(name, "")
    assert str(refused.value) == f"setting({name!r}): a name of letters, digits and _ is needed, as in OLLAMA_URL."


def test_what_has_no_default_must_be_given():
    with using(of(file="here.toml")), pytest.raises(SettingsError) as refused:
        setting("DIFY_API_KEY")
    assert str(refused.value) == (
        "DIFY_API_KEY is not set, and has no default: say --set DIFY_API_KEY=…, set it in the environment, or under "
        "[values] in here.toml."
    )


@pytest.mark.parametrize("places", [{"said": {"OLLAMA_ULR": "x"}}, {"written": {"OLLAMA_ULR": "x"}}])
def test_a_value_that_nobody_asks_for_is_an_error_with_the_nearest_that_is_asked_for(places):
    with using(of(**places)) as values:
        setting("DIFY_URL", "")
        setting("OLLAMA_URL", "")
        with pytest.raises(SettingsError, match=r"voice\.py does not ask for\. Did you mean OLLAMA_URL\?"):
            values.check("voice.py")


def test_where_none_is_near_all_are_named():
    with using(of(said={"COLOUR": "x"})) as values:
        setting("DIFY_URL", "")
        with pytest.raises(
            SettingsError, match=r"^--set gives COLOUR, which a\.py does not ask for\. Known: DIFY_URL\.$"
        ):
            values.check("a.py")


def test_a_secret_is_in_no_error_and_is_known_to_the_log():
    with using(of(environment={"PIN": "12ab", "KEY": "s3cret"}, written={"CODE": 5})) as values:
        for name, default in (("PIN", 0), ("CODE", "")):
            with pytest.raises(SettingsError, match="what was given is not what is needed") as refused:
                setting(name, default, secret=True)
            assert not {"12ab", "5"} & set(str(refused.value).split())
        assert setting("KEY", secret=True) == "s3cret"
        assert values.asked["KEY"] == Given("s3cret", "environment", is_secret=True)
        assert setting("KEY", "") == "s3cret"  # asked for again, it is one still
        assert values.asked["KEY"].is_secret
        assert "s3cret" in SECRETS
