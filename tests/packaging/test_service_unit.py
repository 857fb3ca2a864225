"""deploy/ezflow.service and its settings: systemd and ezflow understand them, and they fit each other."""

from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from deployed import DEPLOY, UNIT, unit
from packaged import ROOT, run

from ezflow.cli import _parser
from ezflow.server.config import Settings

SETTINGS = DEPLOY / "ezflow.toml"
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed: apt-get install systemd"
)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The unit, with a program that this machine has in the place of the one that it will have."""
    (command,) = unit()["ExecStart"]
    program = command.partition(" ")[0]
    text = UNIT.read_text(encoding="utf-8").replace(program, sys.executable)
    (tmp_path / UNIT.name).write_text(text, encoding="utf-8")
    return tmp_path / UNIT.name


@needs_systemd
def test_systemd_understands_each_line(here):
    assert run("systemd-analyze", "verify", "--man=no", here, cwd=here.parent) == ""


@needs_systemd
def test_systemd_finds_it_well_enclosed(here):
    """At most 1.5 of 10, of which 0.9 is that it uses the network."""
    run("systemd-analyze", "security", "--no-pager", "--offline=true", "--threshold=15", here, cwd=here.parent)


def test_what_it_runs_is_a_command_line_that_ezflow_takes():
    (command,) = unit()["ExecStart"]
    program, *rest = command.split(" ")
    options = _parser().parse_args(rest)
    assert program == "/opt/ezflow/bin/ezflow"
    assert (options.target, str(options.config)) == ("/etc/ezflow/flow.py", "/etc/ezflow/ezflow.toml")


def test_the_page_shows_what_holds_with_the_unit_s_own_command_and_environment():
    page = (ROOT / "docs" / "how-to" / "deploy-as-a-service.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^sudo systemd-run .* config .*$", page, re.MULTILINE)
    assert line.endswith(unit()["ExecStart"][0].replace(" serve ", " config "))
    (source,), (tokens,) = unit()["EnvironmentFile"], unit()["LoadCredential"]
    assert f" -p EnvironmentFile={source} " in line
    assert f" -E EZFLOW_TOKENS_FILE={tokens.partition(':')[2]} " in line


def test_its_settings_and_values_are_understood(tmp_path):
    text = SETTINGS.read_text(encoding="utf-8")
    (tmp_path / "ezflow.toml").write_text(text.replace("/var/lib/ezflow", str(tmp_path)), encoding="utf-8")
    shown = run(sys.executable, "-m", "ezflow", "config", DEPLOY / "flow.py", cwd=tmp_path)
    written = tomllib.loads(text)
    for name in [*written["server"], *written["values"]]:
        assert re.search(rf"^{name} = .* # ezflow\.toml$", shown, re.MULTILINE), shown


def test_no_library_in_it_reports_to_its_maker():
    assert "ORT_DISABLE_TELEMETRY=1" in unit()["Environment"]


def test_it_writes_where_it_may():
    assert unit()["StateDirectory"] == unit()["CacheDirectory"] == ["ezflow"]
    assert tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["server"]["store"].startswith(
        "sqlite:////var/lib/ezflow/"
    )
    told = " ".join(unit()["Environment"]).split(" ")
    assert {"EZFLOW_CACHE=%C/ezflow", "EZFLOW_TOKENS_FILE=%d/tokens"} <= set(told)
    assert unit()["LoadCredential"] == ["tokens:/etc/ezflow/tokens"]


def test_turns_may_end_and_models_be_released_before_it_is_killed():
    grace_s = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))["server"]["grace_s"]
    assert float(unit()["TimeoutStopSec"][0]) > grace_s + 2 * Settings().cleanup_s
