"""Where the wheel and the sdist are, and how programs are run far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

__all__ = ["BUILD", "IN_CHECKOUT", "ROOT", "Built", "Installed", "in_git", "run"]

ROOT = Path(__file__).parents[2]
WITHIN_S = 120
# By the hatchling that is here; `nox -s build` takes one into an environment of its own.
BUILD = [sys.executable, "-m", "build", "--no-isolation"]
IN_CHECKOUT = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="not a checkout: what it holds is not known"
)
SCRIPTS, SUFFIX = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")


@attrs.frozen
class Built:
    """`python -m build`: the sdist, and the wheel made of it; and the wheel made of the checkout itself."""

    sdist: Path
    wheel_of_sdist: Path
    wheel: Path


@attrs.frozen
class Installed:
    """An environment that holds the wheel, and an empty folder in which its user sits."""

    prefix: Path
    folder: Path

    def program(self, name: str) -> str:
        return str(self.prefix / SCRIPTS / f"{name}{SUFFIX}")

    def run(self, program: str, *arguments: object, code: int = 0) -> str:
        """What a program of the environment prints; it must end with that exit code."""
        return run(self.program(program), *arguments, cwd=self.folder, code=code)


def in_git(*folders: str) -> set[str]:
    """The files of the repository, with those that are about to be added to it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in listed.split("\0") if name and (ROOT / name).exists()}


def run(*command: object, cwd: Path, code: int = 0, **given: str) -> str:
    """What a program says; it must end with that exit code. Of ezflow's variables it sees those that are given."""
    # Neither the settings of who runs the tests nor the checkout's place on her path.
    strange = ("PYTHON", "EZFLOW_", "MYPY", "VIRTUAL_ENV", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(strange)} | given
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=WITHIN_S,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr
