"""Where the wheel and the sdist are, and how programs are run far from the checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import attrs

__all__ = ["ROOT", "Built", "Installed", "run"]

ROOT = Path(__file__).parents[2]
WITHIN_S = 120
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


def run(*command: object, cwd: Path, code: int = 0) -> str:
    # Neither the settings of who runs the tests nor the checkout's place on her path.
    strange = ("PYTHON", "EZFLOW_", "MYPY", "VIRTUAL_ENV", "PYTEST_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
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
