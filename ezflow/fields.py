"""The fields of a module's class: its configuration, its resources, and a request's options for it."""

from __future__ import annotations

import inspect
from collections.abc import Hashable
from typing import Any, cast

import attrs

from .errors import DefinitionError

__all__ = ["RESOURCE", "check_fields", "check_options", "tolerant"]

RESOURCE = "ezflow.resource"
# What a module may define of what a flow has; all else a flow uses itself.
OVERRIDABLE = frozenset({"process", "run", "lifespan", "decode", "name", "probe", "status"})


def check_fields(cls: type, base: type) -> None:
    """Refuse a class whose fields cannot be a module's configuration; `base` is what every module derives from.

    Raises: DefinitionError for an own __init__, a name that `base` uses itself, a missing annotation, a mutable
    default.
    """
    name, annotations = cls.__name__, inspect.get_annotations(cls)
    if "__init__" in vars(cls):
        raise DefinitionError(
            f"{name} defines __init__, which @module makes: write its configuration as annotated fields, e.g. "
            'mark: str = "!", and acquire what it needs in lifespan.'
        )
    for field in annotations:
        if not field.startswith("_") and hasattr(base, field):
            raise DefinitionError(
                f"{name}.{field}: every flow has a {field!r} of its own: choose another name, e.g. {field}_."
            )
    for field, value in vars(cls).items():
        default = getattr(value, "_default", value)  # of an attrs.field(...), what it holds
        if field not in annotations:
            if not field.startswith("_") and hasattr(base, field) and field not in OVERRIDABLE:
                raise DefinitionError(
                    f"{name}.{field}: every flow has a {field!r} of its own: choose another name, e.g. {field}_."
                )
            if RESOURCE in (getattr(value, "metadata", None) or {}):
                raise DefinitionError(
                    f"{name}.{field} has no annotation: write {field}: Client = resource(), with its own type."
                )
            constant = any(_is_class_variable(inspect.get_annotations(up).get(field)) for up in cls.__mro__[1:])
            plain = not (constant or callable(value) or hasattr(value, "__get__") or field.startswith("_"))
            if plain:
                raise DefinitionError(
                    f"{name}.{field} has no annotation: write {field}: {type(value).__name__} = ..., "
                    f"or {field}: ClassVar = ... for a constant."
                )
        elif not _is_class_variable(annotations[field]) and _is_mutable(default):
            raise DefinitionError(
                f"{name}.{field} has a mutable default, which all users would share: write a tuple, a frozenset or "
                "an attrs-frozen class."
            )


def tolerant(cls: type, fields: list[attrs.Attribute[Any]]) -> list[attrs.Attribute[Any]]:
    """The fields with validators that leave a value of a wrong type to the startup check, which reports all faults.

    A bound (`ge(0)`) would raise a bare TypeError for a string, at the first fault and without its module's name.
    """
    return [field.evolve(validator=_tolerant(field.validator)) if field.validator else field for field in fields]


def _tolerant(validator: Any) -> Any:
    def validate(module: Any, field: attrs.Attribute[Any], value: Any) -> None:
        try:
            validator(module, field, value)
        except TypeError:
            import typeguard

            try:
                typeguard.check_type(value, type(module).field_types.get(field.name, Any))
            except typeguard.TypeCheckError:
                return  # its type is wrong: check() says so, with what is needed
            raise

    return validate


def _is_class_variable(annotation: Any) -> bool:
    return "ClassVar" in (annotation if isinstance(annotation, str) else repr(annotation))


def _is_mutable(default: object) -> bool:
    if not isinstance(default, cast(type, attrs.Factory)):
        return not isinstance(default, Hashable)
    factory: Any = default
    if isinstance(factory.factory, type):
        return not issubclass(factory.factory, Hashable)
    if factory.takes_self:
        return False  # it needs an instance: check() looks at what it made
    try:
        return not isinstance(factory.factory(), Hashable)
    except Exception:  # noqa: BLE001  (the factory's own: it comes out where the module is made)
        return False


def check_options(name: str, options: type | None, key: str | None) -> None:
    """Refuse options that are no attrs class, or that a request could not leave out. Raises: DefinitionError."""
    if options is None:
        if key is not None:
            raise DefinitionError(f"{name}: key={key!r} names its options: write @module(options=Cls, key={key!r}).")
        return
    if not (isinstance(options, type) and attrs.has(options)):
        raise DefinitionError(f"{name}: options must be an attrs class, not {options!r}.")
    for field in attrs.fields(options):
        if field.init and field.default is attrs.NOTHING:
            raise DefinitionError(
                f"{name}: {options.__name__}.{field.name} has no default, which counts when a request says nothing: "
                f"write {field.name}: Type = ..."
            )
