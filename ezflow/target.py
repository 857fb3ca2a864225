"""`FILE[:NAME]`: the flows that a command line names."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .errors import EzflowError
from .flow import Flow

__all__ = ["TargetError", "file_of", "load"]


class TargetError(EzflowError):
    """The file or the name in it is not there, or is no flow."""


def load(target: str) -> dict[str, Flow[Any, Any]]:
    """The flows of a target, by name; `""` is the name of one that stands alone.

    Without a NAME: the file's `flows` mapping, or else its `flow`. What the file raises comes out as it is.
    Raises: TargetError.
    """
    file, name = _parts(target)
    path = Path(file)
    if not path.is_file():
        raise TargetError(f"{file} is no file: write ezflow ... FILE.py or FILE.py:NAME, e.g. examples/voice.py:flow.")
    namespace = vars(_run(path))
    if name and name not in namespace:
        found = ", ".join(key for key, value in namespace.items() if isinstance(value, Flow)) or "none"
        raise TargetError(f"{file} has no {name!r}; its flows: {found}.")
    value = namespace[name] if name else namespace.get("flows", namespace.get("flow"))
    if isinstance(value, Flow):
        return {"": value}
    if isinstance(value, Mapping) and value and all(isinstance(flow, Flow) for flow in value.values()):
        return dict(value)
    if value is None:
        raise TargetError(f"{file} has neither `flow` nor `flows`: name one, as in {file}:NAME.")
    raise TargetError(f"{name or 'flows'} in {file} is {type(value).__name__}: a flow, or flows by name, is needed.")


def file_of(target: str) -> Path:
    """The file that a target names."""
    return Path(_parts(target)[0])


def _parts(target: str) -> tuple[str, str]:
    """FILE and NAME."""
    file, _, name = target.rpartition(":") if target.rpartition(":")[2].isidentifier() else (target, "", "")
    return (file, name) if file else (target, "")  # a bare identifier, with no colon


def _run(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its own folder comes first, as for `python FILE`; and it is known by its name, so that annotations resolve.
    sys.path.insert(0, str(path.resolve().parent))
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
