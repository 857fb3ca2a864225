"""What modules there are: those of the installed packages that say so, and of folders.

A package says so by an entry point of the group `ezflow.modules`, whose value is the package (or one of its modules):

    [project.entry-points."ezflow.modules"]
    mine = "my_package"
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs

from .modules import FunctionModule, Module
from .ports import show

__all__ = ["GROUP", "Broken", "Entry", "catalog", "folder", "installed"]

GROUP = "ezflow.modules"


@attrs.frozen
class Entry:
    """One module: where it is, what it takes and gives, what a request may set, and what is missing for it."""

    name: str
    place: str
    takes: str
    gives: str
    options_key: str | None
    options: tuple[str, ...]
    missing: tuple[str, ...]
    about: str

    @property
    def line(self) -> str:
        """For a list."""
        options = f"  {self.options_key}: {', '.join(self.options)}" if self.options else ""
        missing = f"  (not installed: {', '.join(self.missing)})" if self.missing else ""
        return f"{self.name}  {self.takes} -> {self.gives}{options}{missing}"


@attrs.frozen
class Broken:
    """A file that cannot be imported."""

    place: str
    problem: str


def installed() -> list[ModuleType | Broken]:
    """The modules of Python of all packages that have an entry point of the group."""
    found: list[ModuleType | Broken] = []
    for point in entry_points(group=GROUP):
        found += _files(point.value.partition(":")[0])
    return found


def folder(path: Path) -> list[ModuleType | Broken]:
    """The Python files of a folder, those of its own packages too; tests are none."""
    found: list[ModuleType | Broken] = []
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    sys.path.insert(0, str(path.resolve().parent if path.is_file() else path.resolve()))  # its files import each other
    for file in files:
        hidden = any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
        if hidden or file.name.startswith(("test_", "conftest")):
            continue
        spec = spec_from_file_location(f"_ezflow_catalog_{abs(hash(file))}", file)
        assert spec is not None
        assert spec.loader is not None
        made = module_from_spec(spec)
        sys.modules[made.__name__] = made
        try:
            spec.loader.exec_module(made)
        except Exception as error:  # noqa: BLE001  (a stranger's file may raise anything: the list says so)
            found.append(Broken(str(file), f"{type(error).__name__}: {error}"))
        else:
            found.append(made)
    return found


def catalog(files: Iterable[ModuleType | Broken]) -> list[Entry | Broken]:
    """What these define, in the order of their places and names."""
    found: list[Entry | Broken] = []
    for file in files:
        found += [file] if isinstance(file, Broken) else map(_entry, _modules(file))
    return sorted(found, key=lambda entry: (entry.place, getattr(entry, "name", "")))


def _files(name: str) -> Iterator[ModuleType | Broken]:
    try:
        root = importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  (as above)
        yield Broken(name, f"{type(error).__name__}: {error}")
        return
    yield root
    for info in pkgutil.iter_modules(getattr(root, "__path__", ()), f"{name}."):
        yield from _files(info.name)


def _modules(file: ModuleType) -> Iterator[Any]:
    """The modules that a file defines itself, of those that it says are for others, if it does."""
    for name in getattr(file, "__all__", [name for name in vars(file) if not name.startswith("_")]):
        value = getattr(file, name, None)
        is_class = inspect.isclass(value) and issubclass(value, Module) and not getattr(value, "__parameters__", ())
        home = value.function if isinstance(value, FunctionModule) else value
        if (is_class or isinstance(value, FunctionModule)) and getattr(home, "__module__", "") == file.__name__:
            yield value


def _entry(found: Any) -> Entry:
    is_function = isinstance(found, FunctionModule)
    home = found.function if is_function else found
    source = Path(inspect.getsourcefile(home) or "")
    options = None if is_function else found.options
    return Entry(
        name=getattr(home, "__name__", str(found)),
        place="/".join(source.parts[-2:]) if source.parent.name else source.name,
        takes=show(found.in_type),
        gives=show(found.out_type),
        options_key=None if is_function else found.options_key or (options and found.__name__),
        options=tuple(field.name for field in attrs.fields(options)) if options else (),
        missing=() if is_function else tuple(name for name in _needed(found) if not _is_installed(name)),
        about=(inspect.getdoc(home) or "").partition("\n")[0],
    )


def _needed(cls: type) -> Iterator[str]:
    """The distributions that a module asks for by `self.needs("name", extra=...)`, read from its source."""
    for base in cls.__mro__:
        if not issubclass(base, Module) or base is Module:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, SyntaxError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "needs":
                yield from [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]


def _is_installed(distribution: str) -> bool:
    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
