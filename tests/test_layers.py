"""The floors: a module-level import points only to floors below its own; what importing ezflow costs; its names."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ezflow

ROOT = Path(ezflow.__file__).parent
FLOORS: dict[str, int] = {}


def files() -> dict[str, Path]:
    """Each file of the package under its name, `combine.latest`."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(ROOT.rglob("*.py"))
    }


def imported(name: str, path: Path) -> Iterator[str]:
    """What a file imports of the package when it is imported itself."""
    package = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    package = [] if name == "__init__" else package
    for node in module_level(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("ezflow.") for alias in node.names if alias.name.startswith("ezflow"))
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
            elif (node.module or "").split(".")[0] == "ezflow":
                base = []
            else:
                continue
            said = (node.module or "").removeprefix("ezflow").strip(".")
            target = ".".join([*base, *filter(None, [said])])
            yield from (f"{target}.{alias.name}".strip(".") for alias in node.names)


def module_level(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        yield node
        yield from module_level(node)


def edges() -> Iterator[tuple[str, str]]:
    known = files()
    for name, path in known.items():
        for target in imported(name, path):
            yield name, target if target in known else (target.rpartition(".")[0] or "__init__")
