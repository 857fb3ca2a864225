"""What the files of deploy/ say, read as those do that use them."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Any

import yaml
from packaged import ROOT

__all__ = [
    "COMPOSE",
    "DEPLOY",
    "DOCKERFILE",
    "UNIT",
    "environment",
    "in_context",
    "instructions",
    "service",
    "the",
    "unit",
    "words",
]

DEPLOY = ROOT / "deploy"
DOCKERFILE, COMPOSE, UNIT = DEPLOY / "Dockerfile", DEPLOY / "compose.yaml", DEPLOY / "ezflow.service"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each with what follows it; lines that go on are joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, re.sub(r" +", " ", rest)) for name, rest in re.findall(r"^([A-Z]+) +(.+)$", text, re.MULTILINE)]


def the(name: str) -> str:
    """What follows the last instruction of that name: it holds for the image."""
    return [rest for known, rest in instructions() if known == name][-1]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for pair in the("ENV").split(" "))


def in_context(files: set[str]) -> set[str]:
    """Of the checkout's files those that a build is given: of the lines of .dockerignore that fit, the last decides."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def is_given(file: str) -> bool:
        given = True
        places = [file, *map(str, PurePosixPath(file).parents)]
        for pattern in patterns:
            plain = pattern.removeprefix("!")
            if any(fnmatchcase(place, plain) or fnmatchcase(f"/{place}", plain.replace("**", "*")) for place in places):
                given = pattern.startswith("!")
        return given

    return {file for file in files if is_given(file)}


def service(name: str) -> dict[str, Any]:
    """One of compose.yaml."""
    made: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"][name]
    return made


def unit() -> dict[str, list[str]]:
    """The unit's settings, each with all that is said of it."""
    said: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE):
        said.setdefault(name, []).append(value)
    return said


def words(text: str) -> list[str]:
    """An instruction in its exec form: without a shell, so that signals arrive."""
    listed: list[str] = json.loads(text)
    return listed
