"""`nox -s serve` to see it run, `nox -s tests` for all that must hold."""

from __future__ import annotations

import shutil

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["tests"]
nox.options.reuse_existing_virtualenvs = True

CODE = ["ezflow", "stdlib_modules", "deploy", "examples", "tests", "docs/conf.py", "noxfile.py"]


def check_style(session: nox.Session) -> None:
    session.run("ruff", "check", *CODE)
    session.run("ruff", "format", "--check", *CODE)


def check_types(session: nox.Session) -> None:
    session.run("mypy")
    session.run("pyright", "--pythonpath", str(session.virtualenv.bin) + "/python")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and known mistakes."""
    session.install("-e", ".[dev]")
    check_style(session)


@nox.session
def types(session: nox.Session) -> None:
    """mypy --strict and pyright over the library and the presets."""
    session.install("-e", ".[dev]")
    check_types(session)


@nox.session
def tests(session: nox.Session) -> None:
    """Style, types, and every test, those of the real models too. `nox -s tests -- -k name` runs tests alone."""
    session.install("-e", ".[dev]")
    session.run("ezflow", "models", "pull")
    if not session.posargs:
        check_style(session)
        check_types(session)
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    # By file, so that what the tests of one file share is made once. A browser that hears and plays comes after, alone.
    session.run("pytest", "-n", "2", "--dist", "loadfile", "--ignore", "tests/playground")
    session.run("pytest", "tests/playground")


@nox.session
def serve(session: nox.Session) -> None:
    """The voice agent of examples/voice.py; `nox -s serve -- --port 8000` passes options on."""
    session.install("-e", ".[speech,embedded,client]")
    session.run("ezflow", "models", "pull")
    session.run("ezflow", "serve", "examples/voice.py", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist and the wheel in dist/, and what an index would say of them."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", "dist/ezflow_trio-*")


@nox.session
def bench(session: nox.Session) -> None:
    """What an item, a turn, an interruption and an idle session cost, beside hand-written code in the same run."""
    session.install("-e", ".[http,bench]")
    session.run("python", "-m", "tests.bench", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Half an hour of mixed load with faults: nothing may grow; `nox -s soak -- --minutes 5`. See .artifacts/soak."""
    session.install("-e", ".[http,observe]")
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def autobahn(session: nox.Session) -> None:
    """The Autobahn test suite against the WebSocket layer; `nox -s autobahn -- FOLDER` puts its report there."""
    session.install("-e", ".", "kosoku==0.1.0")
    session.run("python", "-m", "tests.server.autobahn", *(session.posargs or [session.create_tmp()]))


@nox.session
def schemathesis(session: nox.Session) -> None:
    """Tries servers of fakes by their descriptions, for some minutes, with other data each time."""
    session.install("-e", ".[dev]")
    session.run("pytest", "tests/server/test_schemathesis.py", "--long", "-s", *session.posargs)


@nox.session
def phoenix(session: nox.Session) -> None:
    """Traces as Arize Phoenix gets them, which has an environment of its own: its packages are many."""
    session.install("-e", ".[dev]")
    where = f"{session.create_tmp()}/phoenix"
    session.run("python", "-m", "venv", where)
    session.run(f"{where}/bin/pip", "install", "arize-phoenix==20.26.1", external=True)
    session.run("pytest", "tests/server/test_traces_phoenix.py", env={"TEST_PHOENIX": f"{where}/bin/phoenix"})


@nox.session
def docs(session: nox.Session) -> None:
    """The pages as a site in docs/_build, where each reference must lead somewhere; and all their code blocks run."""
    session.install("-e", ".[dev]")
    session.run("sphinx-build", "-n", "-W", "--keep-going", "-E", "docs", "docs/_build")
    session.run("pytest", "tests/docs", *session.posargs)
