"""The wheel and the sdist, built once; and the wheel in an environment of its own, far from the checkout."""

from __future__ import annotations

import os
import sys
import venv

import pytest
from packaged import BUILD, ROOT, Built, Installed, run


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    both, one = tmp_path_factory.mktemp("dist"), tmp_path_factory.mktemp("wheel")
    run(*BUILD, "--outdir", both, ROOT, cwd=both)
    run(*BUILD, "--wheel", "--outdir", one, ROOT, cwd=one)
    (sdist,), (wheel_of_sdist,), (wheel,) = both.glob("*.tar.gz"), both.glob("*.whl"), one.glob("*.whl")
    return Built(sdist, wheel_of_sdist, wheel)


@pytest.fixture(scope="session")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """With the core dependencies alone, and pytest, which runs the test that `ezflow new module` writes."""
    prefix, folder = tmp_path_factory.mktemp("environment"), tmp_path_factory.mktemp("elsewhere")
    venv.create(prefix, symlinks=os.name != "nt")  # without a pip of its own, which takes longer than all the rest
    place = Installed(prefix, folder)
    pip = [sys.executable, "-m", "pip", "--python", place.program("python"), "install", "--quiet"]
    run(*pip, built.wheel_of_sdist, "pytest", cwd=folder)
    return place
