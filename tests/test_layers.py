"""The floors: a module-level import points only below; what importing ezflow costs; its public names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ezflow

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(ezflow.__file__).parent
# The lowest floor that each file can stand on. A package's files stand on one floor and may use each other
# where no circle comes of it; a new file anywhere else needs a line here.
FLOORS = {
    **dict.fromkeys(["annotations", "calls", "channels", "combine", "context", "errors", "fetch"], 0),
    **dict.fromkeys(["history", "items", "redaction"], 0),
    **dict.fromkeys(["branches", "definition", "driving", "events", "fields", "instrument", "logs", "ports"], 1),
    **dict.fromkeys(["store", "values", "weights"], 1),
    **dict.fromkeys(["convert", "ear", "memory", "rendering", "sqlite", "traces", "written"], 2),
    "turn": 3,
    "flow": 4,
    "timeline": 4,
    **dict.fromkeys(["combine.around", "combine.each", "combine.route", "limits", "modules", "target"], 5),
    "server": 5,  # `serve` alone: it imports the server when it is called
    **dict.fromkeys(["opening", "running", "stage"], 6),
    **dict.fromkeys(["combine.batch", "combine.fallback", "combine.latest"], 6),
    **dict.fromkeys(["combine.ordered", "combine.race", "combine.retry"], 6),
    **dict.fromkeys(["combine.budget", "combine.timeout", "request"], 7),
    "critical": 8,
    "drawing": 8,
    "check": 9,
    "doors": 6,
    "open_turn": 7,
    "catalog": 7,
    "scaffold": 2,
    "place": 8,
    "session": 9,
    "service": 10,
    "__init__": 11,
    "cli": 15,
    "__main__": 16,
}
PACKAGES = {"observe": 9, "server": 11, "client": 11, "testing": 11, "talk": 12, "top": 13, "commands": 14}
PUBLIC = [
    "Audio",
    "BudgetExceeded",
    "DefinitionError",
    "EntryError",
    "Event",
    "EzflowError",
    "Flow",
    "FlowError",
    "Inbox",
    "InputError",
    "ItemTypeError",
    "Latest",
    "MissingDependency",
    "Module",
    "ModuleOpenError",
    "NotOpenError",
    "Outbox",
    "Progress",
    "RouteError",
    "Service",
    "Session",
    "SessionBusy",
    "SessionsFull",
    "SettingsError",
    "StageError",
    "StageStuck",
    "StageTimeout",
    "StoreError",
    "Transcript",
    "Turn",
    "TurnClosedError",
    "TurnFailed",
    "Utterance",
    "batch",
    "fallback",
    "module",
    "ordered",
    "race",
    "resource",
    "retry",
    "route",
    "serve",
    "setting",
    "timeout",
]
CLIENT = ["BlockingClient", "BlockingLive", "BlockingTurn", "Client", "ClientError", "Closed", "ConnectFailed"]
CLIENT += ["Format", "Live", "ProtocolError", "Received", "Refused", "Unread"]
TESTING = ["Conformance", "ConformanceError", "Failing", "FakeASR", "FakeLLM", "FakeTTS", "FakeVAD", "Pause"]
TESTING += ["check_module", "collect"]


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


def floor(name: str) -> int:
    package = name.split(".")[0]
    if name not in FLOORS and package not in PACKAGES:
        pytest.fail(f"{name} stands on no floor yet: give it the lowest one that its imports allow.")
    return FLOORS[name] if name in FLOORS else PACKAGES[package]


def together(name: str, target: str) -> bool:
    """Are both files of one package that stands on one floor?"""
    return name.split(".")[0] == target.split(".")[0] in PACKAGES


def test_every_import_points_to_a_floor_below():
    upward = [
        f"{name} ({floor(name)}) imports {target} ({floor(target)})"
        for name, target in edges()
        if floor(target) >= floor(name) and not together(name, target)
    ]
    assert upward == []


def test_no_import_comes_back_to_where_it_began():
    wanted: dict[str, set[str]] = {name: set() for name in files()}
    for name, target in edges():
        wanted[name].add(target)
    while free := [name for name, needs in wanted.items() if not needs]:
        for name in free:
            del wanted[name]
        for needs in wanted.values():
            needs.difference_update(free)
    assert wanted == {}


def test_every_floor_is_that_of_a_file():
    assert set(FLOORS) - set(files()) == set()


def test_the_engine_never_imports_the_presets():
    for name, path in files().items():
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not [it for it in modules if it.split(".")[0] == "stdlib_modules"], name


def test_a_preset_imports_only_public_names():
    for path in sorted((ROOT.parent / "stdlib_modules").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ezflow":
                public = set(importlib.import_module(str(node.module)).__all__)
                assert {alias.name for alias in node.names} <= public, path.name
            if isinstance(node, ast.Import):
                assert not [it.name for it in node.names if it.name.startswith("ezflow.")], path.name


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_ezflow_loads_no_server_and_no_numbers():
    heavy = {"quart", "quart_trio", "hypercorn", "numpy", "typeguard", "stdlib_modules", "pytest"}
    heavy |= {"structlog", "opentelemetry", "hypothesis"}
    assert loaded_by("import ezflow") & heavy == set()
    assert "ezflow" in loaded_by("import ezflow")


def test_the_public_names_are_these():
    assert ezflow.__all__ == PUBLIC
    assert all(hasattr(ezflow, name) for name in PUBLIC)


def test_the_public_names_of_the_test_kit_are_these():
    import ezflow.testing

    assert ezflow.testing.__all__ == TESTING
    assert all(hasattr(ezflow.testing, name) for name in TESTING)


def test_the_public_names_of_the_client_are_these():
    import ezflow.client

    assert ezflow.client.__all__ == CLIENT
    assert all(hasattr(ezflow.client, name) for name in CLIENT)


def test_importing_the_client_loads_neither_its_libraries_nor_the_server():
    assert loaded_by("import ezflow.client") & {"httpcore2", "trio_websocket", "anyio", "quart", "hypercorn"} == set()
