"""A server's settings from all places: who comes first, what is refused, what is shown."""

from __future__ import annotations

import tomllib
from typing import Any

import attrs
import pytest

from ezflow import SettingsError
from ezflow.server.config import Settings
from ezflow.server.flags import FLAGS, SAID_IN_PYTHON, TOKENS_FILE, default_of, kind_of
from ezflow.server.sources import configured
from ezflow.talk.token import token_of
from ezflow.values import Given
from ezflow.written import Written, find, read

TOKEN = "a-token-of-27-characters-xy"


def of(
    said: dict[str, Any] | None = None, file: dict[str, Any] | None = None, around: dict[str, str] | None = None
) -> Any:
    return configured(said or {}, Written("here.toml", server=file or {}), around or {})


def test_every_setting_can_be_said_or_is_for_programs_alone():
    fields = {field.name for field in attrs.fields(Settings)}
    assert {*FLAGS, "tokens"} - {TOKENS_FILE} == fields - {*SAID_IN_PYTHON}
    assert {kind_of(name) for name in FLAGS} == {bool, int, float, str, list}


def test_the_command_line_comes_before_the_environment_before_the_file():
    names = ("max_sessions", "max_holders", "rate_burst", "history_messages")
    made = of(
        {"max_sessions": "1"},
        dict.fromkeys(names[:3], 3),
        {"EZFLOW_MAX_SESSIONS": "2", "EZFLOW_MAX_HOLDERS": "2"},
    ).made()
    assert [getattr(made, name) for name in names] == [1, 2, 3, 200]


@pytest.mark.parametrize("place", ["said", "file", "around"])
def test_a_setting_of_each_kind_comes_from_each_place(place):
    written = {
        "port": 8000,
        "turn_s": 1.5,
        "metrics": True,
        "greeting": "hi, there",
        "origins": ["https://a.example", "https://b.example"],
        "trusted": ["10.0.0.0/8"],
        "store": "sqlite:///h.db",
        "log_format": "json",
        "history_days": float("inf"),
    }
    texts = {name: ",".join(value) if isinstance(value, list) else str(value) for name, value in written.items()}
    if place == "file":
        configuration = of(file=written)
    elif place == "around":
        configuration = of(around={f"EZFLOW_{name.upper()}": text for name, text in texts.items()})
    else:  # argparse gives lists and truths as they are
        plain = {name: value if isinstance(value, list | bool) else texts[name] for name, value in written.items()}
        configuration = of(plain)
    made = configuration.made()
    for name, value in written.items():
        assert configuration.given[name].value == value
        if not isinstance(value, list):
            assert getattr(made, name) == value
    assert made.origins == ("https://a.example", "https://b.example")
    assert [str(network) for network in made.trusted] == ["10.0.0.0/8"]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"file": {"prot": 1}}, "here.toml: server.prot: it is not known. Did you mean port?"),
        ({"file": {"port": "1"}}, "here.toml: server.port: '1' was given, but int is needed."),
        ({"file": {"metrics": 1}}, "here.toml: server.metrics: 1 was given, but bool is needed."),
        ({"file": {"origins": "https://a.example"}}, "here.toml: server.origins: 'https://a.example' was given"),
        ({"file": {"request": "Mine"}}, "here.toml: server.request: only a program can say it: ezflow.serve(req"),
        ({"file": {"tokens": [TOKEN]}}, "here.toml: no tokens are written here; name their file: "),
        ({"around": {"EZFLOW_PROT": "1"}}, "EZFLOW_PROT is in the environment, and is no setting. Did you mean"),
        ({"around": {"EZFLOW_PORT": "x"}}, "EZFLOW_PORT: 'x' is not what is needed: a whole number."),
        ({"around": {"EZFLOW_METRICS": "maybe"}}, "EZFLOW_METRICS: 'maybe' is not what is needed: true or false."),
        ({"said": {"grace_s": "soon"}}, "--grace: 'soon' is not what is needed: a number."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named_with_its_place_and_the_nearest_right_one(how, said):
    with pytest.raises(SettingsError) as refused:
        of(**how)
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    ("how", "source"),
    [
        ({"file": {"port": 70000}}, "here.toml"),
        ({"around": {"EZFLOW_PORT": "70000"}}, "EZFLOW_PORT"),
        ({"said": {"port": "70000"}}, "--port"),
    ],
)
def test_a_value_that_the_settings_refuse_is_named_with_its_source(how, source):
    with pytest.raises(SettingsError) as refused:
        of(**how).made()
    assert str(refused.value) == f"port=70000 was given, but 0 to 65535 is needed. (It is from {source}.)"


def test_what_kubernetes_puts_into_the_environment_is_no_setting():
    around = {
        "EZFLOW_SERVICE_HOST": "10.1.2.3",
        "EZFLOW_SERVICE_PORT": "3421",
        "EZFLOW_SERVICE_PORT_HTTP": "3421",
        "EZFLOW_PORT": "tcp://10.1.2.3:3421",
        "EZFLOW_PORT_3421_TCP": "tcp://10.1.2.3:3421",
        "EZFLOW_PORT_3421_TCP_ADDR": "10.1.2.3",
    }
    assert of(around=around).given == {}


def test_an_empty_variable_is_as_good_as_none():
    assert of(file={"port": 8000}, around={"EZFLOW_PORT": ""}).given["port"] == Given(8000, "here.toml")


def test_tokens_of_the_command_line_come_before_those_of_the_environment_before_those_of_the_file(tmp_path):
    files = {}
    for name in ("said", "around", "written"):
        files[name] = tmp_path / name
        files[name].write_text(f"{TOKEN}-{name} {name}\n")
    said, file = {TOKENS_FILE: str(files["said"])}, {TOKENS_FILE: str(files["written"])}
    around = {"EZFLOW_TOKENS": f"{TOKEN} ann", "EZFLOW_TOKENS_FILE": str(files["around"])}

    def users(*how: Any) -> set[str]:
        return {user for token in of(*how).made().tokens for user in token.users}

    assert users(said, file, around) == {"said"}
    assert users({}, file, around) == {"ann", "around"}
    assert users({}, file, {"EZFLOW_TOKENS": around["EZFLOW_TOKENS"]}) == {"ann"}
    assert users({}, file) == {"written"}
    assert users() == set()


def test_all_that_holds_is_shown_as_toml_with_the_source_of_each_and_without_secrets():
    configuration = of(
        {"port": "8000", "playground": False},
        {"max_sessions": 50, "traces": "http://me:hidden-word@127.0.0.1:4318"},
        {"EZFLOW_GRACE_S": "9", "EZFLOW_TOKENS": f"{TOKEN} ann; {TOKEN}-2"},
    )
    asked = {
        "OLLAMA_URL": Given("http://gpu", "--set"),
        "DIFY_API_KEY": Given("app-1234", "environment"),
        "PIN": Given(1234, "here.toml", is_secret=True),
    }
    lines = list(configuration.lines(asked))
    shown = "\n".join(lines)
    for secret in (TOKEN, "hidden-word", "1234"):
        assert secret not in shown
    sources = {line.partition(" ")[0]: line.rpartition("  # ")[2] for line in lines if " = " in line}
    assert sources["port"] == "--port"
    assert sources["playground"] == "--no-playground"
    assert sources["max_sessions"] == "here.toml"
    assert sources["grace_s"] == "EZFLOW_GRACE_S"
    assert sources["host"] == "default"
    assert "# 2 tokens of EZFLOW_TOKENS" in lines
    table = tomllib.loads(shown)
    assert table["values"] == {"OLLAMA_URL": "http://gpu", "DIFY_API_KEY": "***", "PIN": "***"}
    for name, value in table["server"].items():
        expected = configuration.given[name].value if name in configuration.given else default_of(name)
        assert value == expected or name == "traces"


def test_characters_that_toml_or_a_terminal_does_not_take_as_they_are_are_escaped():
    odd = "".join(map(chr, [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029])) + 'ä"\\'
    shown = "\n".join(of({"greeting": odd, "hosts": [odd]}).lines({"ODD": Given(odd, "--set")}))
    assert not [line for line in shown.split("\n") if not line.isprintable()]
    table = tomllib.loads(shown)
    assert (table["server"]["greeting"], table["server"]["hosts"], table["values"]["ODD"]) == (odd, [odd], odd)


def test_what_is_shown_can_be_read_again(tmp_path):
    file = tmp_path / "ezflow.toml"
    file.write_text("\n".join(of({"port": "8000"}).lines({})))
    again = configured({}, read(file), {})
    assert again.made() == of({"port": "8000"}).made()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[sever]\n", "[sever] is not known. Did you mean server?"),
        ("port = 1\n[server]\n", "port is under no table: write [server] above a setting, [values] above what a flow"),
        ('origins = ["https://a.example"]\n', "origins is under no table: write [server] above a setting, "),
        ("server = 1\n", "server is under no table: write [server] above a setting, "),
        ("[server\n", "is not TOML: "),
        (f"[server]\nport = {'9' * 5000}\n", "is not TOML: Exceeds the limit (4300 digits)"),
    ],
)
def test_a_file_that_is_not_as_it_must_be_says_where(tmp_path, text, said):
    file = tmp_path / "ezflow.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refused:
        read(file)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


def test_the_mark_that_editors_of_windows_begin_a_file_with_is_read_over(tmp_path):
    mark = "\ufeff"
    (tmp_path / "ezflow.toml").write_text(f"{mark}[server]\nport = 8000\n", encoding="utf-8")
    (tmp_path / "tokens").write_text(f"{mark}{TOKEN} ann\n", encoding="utf-8")
    file = attrs.evolve(read(tmp_path / "ezflow.toml"), file="here.toml")
    made = configured({TOKENS_FILE: str(tmp_path / "tokens")}, file, {}).made()
    assert (made.port, made.tokens[0].users) == (8000, ("ann",))
    assert token_of(tmp_path / "tokens", {}) == TOKEN


def test_the_file_is_the_one_that_is_named_or_that_of_this_folder_or_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find(None, {}) == Written()
    for number, name in enumerate(("ezflow.toml", "around.toml", "said.toml")):
        (tmp_path / name).write_text(f"[server]\nport = {number}\n")
    assert find(None, {}).server == {"port": 0}
    assert find(None, {"EZFLOW_CONFIG": "around.toml"}).server == {"port": 1}
    assert find("said.toml", {"EZFLOW_CONFIG": "around.toml"}).server == {"port": 2}
    with pytest.raises(SettingsError, match=r"^other\.toml cannot be read: No such file"):
        find("other.toml", {})
