"""Ports: what a stage takes and gives, and whether a value of one type may flow where another is taken.

Annotations are compared with each other; no value is needed. What cannot be seen from here passes, for a
static checker sees it: the signatures of a Protocol's methods. A TypeVar's constraints count as a union.
"""

from __future__ import annotations

import typing
from collections import abc
from types import GenericAlias
from typing import (
    Any,
    Generic,
    Literal,
    NewType,
    TypeVar,
    get_args,
    get_origin,
)

import attrs

from .annotations import (
    DEEP,
    TOWER,
    UNIONS,
    A,
    A_co,
    class_of,
    fields_of,
    free,
    members,
    plain,
    refuse_names,
    rows_of,
    show,
    substitute,
    union,
)

__all__ = ["Accepts", "Port", "assignable", "check_edge", "show", "solve", "substitute"]

_Trail = tuple[tuple[Any, Any], ...]


def assignable(src: Any, dst: Any) -> bool:
    """Tell whether every value of type `src` may flow where `dst` is taken.

    The members of a union are looked at one by one; an unsolved TypeVar takes and gives what its bound does.

    Takes: two annotations. Raises: TypeError where a name in one was never resolved, or one is no type.
    """
    refuse_names(src)
    refuse_names(dst)
    for given in members(src):
        bindings = {var: found for var, found in solve(dst, given).items() if _fits(found, var)}
        if not _fits(given, substitute(dst, bindings)):
            return False
    return True


def solve(pattern: Any, actual: Any) -> dict[TypeVar, Any]:
    """Bind the TypeVars of `pattern` to what `actual` has in their places; to the union, if it has several.

    Whether `actual` fits is for `assignable` to say. A TypeVar for which nothing is found stays out.
    """
    bindings: dict[TypeVar, Any] = {}
    for var, found in _places(pattern, actual):
        known = bindings.setdefault(var, found)
        bindings[var] = found if known == found else union([known, found])
    return bindings


@attrs.frozen
class Port:
    """What a stage gives: a type, and the name of the stage."""

    type: Any
    name: str


class Accepts(Generic[A]):
    """A marker for typeguard: `check_type(port, Accepts[str | Transcript])` compares the port's type with it.

    Writing `Accepts[...]` registers the checker, once: at first use and not at import, since importing
    typeguard takes 50 to 80 ms and a program that checks no flow need not wait for it.
    """

    def __class_getitem__(cls, taken: Any) -> GenericAlias:
        from typeguard import checker_lookup_functions

        if _lookup not in checker_lookup_functions:
            checker_lookup_functions.insert(0, _lookup)
        return GenericAlias(cls, (taken,))


def check_edge(port: Port, accepts: Any) -> None:
    """Have typeguard check that what `port` gives may flow where `accepts` is taken.

    Raises: typeguard.TypeCheckError where it may not; TypeError as `assignable` does.
    """
    from typeguard import check_type

    check_type(port, Accepts.__class_getitem__(accepts))


def _lookup(origin: Any, args: tuple[Any, ...], extras: tuple[Any, ...]) -> abc.Callable[..., None] | None:
    return _check_port if origin is Accepts else None


def _check_port(value: Any, origin: Any, args: tuple[Any, ...], memo: Any) -> None:
    from typeguard import TypeCheckError

    if not isinstance(value, Port):
        raise TypeCheckError("is not a Port")
    if args and not assignable(value.type, args[0]):
        raise TypeCheckError(f"({value.name}) gives {show(value.type)}, but {show(args[0])} is taken")


def _fits(src: Any, dst: Any, trail: _Trail = ()) -> bool:
    """Compare two types; `trail` holds the questions that this one is a part of.

    A recursive type comes back to a question under way: no difference was met on the way round, so yes.
    One that grows at each step (a `P[list[T]]` inside of `P[T]`) never comes back: hence `DEEP`.
    """
    if src == dst or (src, dst) in trail or len(trail) > DEEP:
        return True
    trail, wanted = (*trail, (src, dst)), members(dst)
    return all(given is Any or any(_one_fits(given, one, trail) for one in wanted) for given in members(src))


def _one_fits(src: Any, dst: Any, trail: _Trail) -> bool:
    """Compare two types of which neither is a union, a TypeVar or an alias."""
    if dst is Any or dst is object or src == dst:
        return True
    if isinstance(src, NewType):
        return _fits(src.__supertype__, dst, trail)
    if isinstance(dst, NewType) or get_origin(dst) is Literal:
        return False
    if get_origin(src) is Literal:
        return _fits(type(get_args(src)[0]), dst, trail)
    cls, target = class_of(src), class_of(dst)
    if typing.is_typeddict(target):
        return typing.is_typeddict(cls) and _keys_fit(src, dst, trail)
    if typing.is_typeddict(cls):
        return _fits(abc.Mapping[str, object], dst, trail)
    if (rows := rows_of(src, dst)) is not None:
        return all(_argument_fits(*row, trail) for row in rows)
    if cls is type and any(isinstance(arg, target) for arg in get_args(src)):
        return True  # of a metaclass
    if cls is type and issubclass(target, type):
        return Any in (get_args(src) or (Any,))
    return issubclass(cls, (target, typing.cast(type, Any), *TOWER.get(target, ())))


def _argument_fits(src: Any, dst: Any, param: Any, trail: _Trail) -> bool:
    """Compare two type arguments as the variance of their parameter asks for."""
    if not isinstance(param, TypeVar):
        return True
    if param.__covariant__:
        return _fits(src, dst, trail)
    if param.__contravariant__:
        return _fits(dst, src, trail)
    decide = any if getattr(param, "__infer_variance__", False) else all
    return decide((_fits(src, dst, trail), _fits(dst, src, trail)))


def _keys_fit(src: Any, dst: Any, trail: _Trail) -> bool:
    """Compare two TypedDicts: a key that can be written has the same type and is as required (PEP 589)."""
    given, wanted, must = fields_of(src), fields_of(dst), class_of(dst).__required_keys__
    written = wanted.keys() - getattr(class_of(dst), "__readonly_keys__", ())
    had = class_of(src).__required_keys__
    if not (wanted.keys() <= given.keys() and must <= had and had & written <= must):
        return False
    return all(_argument_fits(given[k], wanted[k], A if k in written else A_co, trail) for k in wanted)


def _places(pattern: Any, actual: Any, trail: _Trail = ()) -> abc.Iterator[tuple[TypeVar, Any]]:
    """Find what `actual` has at the place of each TypeVar of `pattern`."""
    if isinstance(pattern, TypeVar):
        yield pattern, next((one for one in pattern.__constraints__ if _fits(actual, one)), actual)
    names, pattern = free(pattern), plain(pattern)
    if not names or (pattern, actual) in trail or len(trail) > DEEP:
        return
    trail, choices = (*trail, (pattern, actual)), get_args(pattern) if get_origin(pattern) in UNIONS else ()
    for given in members(actual):
        if given is Any:
            yield from ((name, Any) for name in names if isinstance(name, TypeVar))
            continue
        closed = [one for one in choices if not isinstance(one, TypeVar) and _fits(given, one)]
        rows = [(given, one) for one in closed[:1] or choices if closed or isinstance(one, TypeVar)]
        for found, inner, *_ in rows if choices else rows_of(given, pattern) or ():
            yield from _places(inner, found, trail)
