"""Reading type annotations: what a type may be, what it is made of, and how a message writes it.

For `ports`, which decides whether one fits another. What an annotation does not show passes there, since a
static checker sees it: variance that PEP 695 leaves to be inferred, unpacked tuples, the type arguments of a
class that is only registered with an ABC. A name that was never resolved is a TypeError: nothing is guessed.
"""

from __future__ import annotations

import inspect
import typing
from collections import Counter, OrderedDict, abc, defaultdict, deque
from enum import Enum
from itertools import repeat
from types import GenericAlias, NoneType, UnionType
from typing import (
    Any,
    ForwardRef,
    Generic,
    Literal,
    NewType,
    Protocol,
    TypeVar,
    TypeVarTuple,
    get_args,
    get_origin,
)

__all__ = [
    "DEEP",
    "TOWER",
    "UNIONS",
    "class_of",
    "fields_of",
    "free",
    "members",
    "plain",
    "refuse_names",
    "rows_of",
    "show",
    "substitute",
    "union",
]

A = TypeVar("A")
B = TypeVar("B")
A_co = TypeVar("A_co", covariant=True)
B_co = TypeVar("B_co", covariant=True)
C_co = TypeVar("C_co", covariant=True)
B_contra = TypeVar("B_contra", contravariant=True)


def _of(cls: Any, *args: Any) -> Any:
    return GenericAlias(cls, args)


# What typeshed says and the classes themselves do not: a class with its parameters, then its bases.
# A generic class of the standard library that is missing here counts as covariant in all its parameters.
_ROWS: tuple[tuple[Any, ...], ...] = (
    (str, _of(abc.Sequence, str)),
    (bytes, _of(abc.Sequence, int)),
    (bytearray, _of(abc.MutableSequence, int)),
    (range, _of(abc.Sequence, int)),
    (_of(list, A), _of(abc.MutableSequence, A)),
    (_of(deque, A), _of(abc.MutableSequence, A)),
    (_of(set, A), _of(abc.MutableSet, A)),
    (_of(frozenset, A_co), _of(abc.Set, A_co)),
    (_of(dict, A, B), _of(abc.MutableMapping, A, B)),
    (_of(defaultdict, A, B), _of(dict, A, B)),
    (_of(OrderedDict, A, B), _of(dict, A, B)),
    (_of(Counter, A), _of(dict, A, int)),
    (_of(type, A_co), _of(abc.Callable, ..., A_co)),
    (_of(abc.Collection, A_co), _of(abc.Iterable, A_co), _of(abc.Container, A_co)),
    (_of(abc.Reversible, A_co), _of(abc.Iterable, A_co)),
    (_of(abc.Sequence, A_co), _of(abc.Reversible, A_co), _of(abc.Collection, A_co)),
    (_of(abc.MutableSequence, A), _of(abc.Sequence, A)),
    (_of(abc.Set, A_co), _of(abc.Collection, A_co)),
    (_of(abc.MutableSet, A), _of(abc.Set, A)),
    (_of(abc.Mapping, A, B_co), _of(abc.Collection, A)),
    (_of(abc.MutableMapping, A, B), _of(abc.Mapping, A, B)),
    (_of(abc.Iterator, A_co), _of(abc.Iterable, A_co)),
    (_of(abc.Generator, A_co, B_contra, C_co), _of(abc.Iterator, A_co)),
    (_of(abc.AsyncIterator, A_co), _of(abc.AsyncIterable, A_co)),
    (_of(abc.AsyncGenerator, A_co, B_contra), _of(abc.AsyncIterator, A_co)),
    (_of(abc.Coroutine, A_co, B_contra, C_co), _of(abc.Awaitable, C_co)),
)
_STDLIB = {get_origin(head) or head: (get_args(head), bases) for head, *bases in _ROWS}
TOWER: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}  # PEP 484; typeguard does it too
_SAME = ((None, NoneType), (typing.NoReturn, typing.Never), (typing.Self, Any), (typing.LiteralString, str))
_QUALIFIERS = {"ClassVar", "Final", "Required", "NotRequired", "ReadOnly"}
_ROOTS = (Generic, Protocol)
UNIONS = (typing.Union, UnionType)
_MISFIT = [(object, typing.Never, A_co)]
DEEP = 10
_literal: Any = Literal


def substitute(annotation: Any, bindings: abc.Mapping[Any, Any]) -> Any:
    """Give `annotation` with its TypeVars replaced by what they are bound to; the unbound stay."""
    if isinstance(annotation, TypeVar):
        return bindings.get(annotation, annotation)
    names = free(annotation)
    if not set(names) & set(bindings):
        return annotation
    kept = [[*n] if isinstance(n, TypeVarTuple) and n not in bindings else [bindings.get(n, n)] for n in names]
    return annotation[tuple(one for ones in kept for one in ones)]


def show(annotation: Any) -> str:
    """Write a type as our messages do: short names, `A | B`, `None`; what Annotated adds is left out."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return show(args[0])
    if origin in UNIONS:
        return " | ".join(map(show, args))
    if origin is Literal:
        values = (f"{type(v).__name__}.{v.name}" if isinstance(v, Enum) else repr(v) for v in args)
        return f"Literal[{', '.join(values)}]"
    if isinstance(annotation, list):
        return f"[{', '.join(map(show, annotation))}]"
    if isinstance(annotation, str | ForwardRef):
        return repr(getattr(annotation, "__forward_arg__", annotation))
    if annotation is Ellipsis or annotation is NoneType:
        return "..." if annotation is Ellipsis else "None"
    name = getattr(origin or annotation, "__name__", None) or str(annotation).rpartition(".")[2]
    return f"{name}[{', '.join(map(show, args)) or '()'}]" if args or annotation == tuple[()] else str(name)


def rows_of(src: Any, dst: Any) -> list[tuple[Any, Any, Any]] | None:
    """Pair what must fit for a `src` to be a `dst`: (of src, of dst, parameter); None: not related."""
    while isinstance(src, NewType):
        src = src.__supertype__
    src = type(get_args(src)[0]) if get_origin(src) is Literal else src
    if (found := _seen_as(src, class_of(dst))) is not None:
        return _argument_rows(found, dst)
    if not getattr(class_of(dst), "_is_protocol", False):
        return None
    wanted = [(name, want) for name in _protocol_members(dst) if (want := _attribute(dst, name)) is not None]
    rows = [(_attribute(src, name), want, A_co) for name, want in wanted]
    return rows if all(given is not None for given, *_ in rows) else _MISFIT


def _argument_rows(src: Any, dst: Any) -> list[tuple[Any, Any, Any]]:
    """Pair the type arguments of two forms of one class; those of a bare one are Any."""
    cls, given, taken, params = class_of(dst), get_args(src), get_args(dst), _parameters(class_of(dst))
    if cls is tuple:
        (given, endless), (taken, any_number) = _items(src), _items(dst)
        if any_number:
            taken *= len(given)
        elif endless and given != (Any,):
            return _MISFIT
        elif endless:
            given *= len(taken)
        if len(given) != len(taken):
            return _MISFIT
    elif cls is abc.Callable and given and taken:
        if isinstance(given[0], list) and isinstance(taken[0], list):
            if len(given[0]) != len(taken[0]):
                return _MISFIT
            params = (*(B_contra for _ in given[0]), A_co)
            given, taken = (*given[0], given[1]), (*taken[0], taken[1])
        else:
            given, taken = given[1:], taken[1:]
    return list(zip(given or repeat(Any), taken, params or repeat(A_co)))  # noqa: B905


def _seen_as(t: Any, target: type) -> Any:
    """Give the form in which `t` is its base `target`, with type arguments; None where it is not a base."""
    if class_of(t) is target:
        return t
    return next((form for base in _bases(t) if (form := _seen_as(base, target)) is not None), None)


def _bases(t: Any) -> list[Any]:
    """Give the bases of a type, one level up, their arguments filled in from its own."""
    cls = class_of(t)
    if cls is tuple:
        return [_of(abc.Sequence, union(_items(t)[0]))]
    bases = _STDLIB[cls][1] if cls in _STDLIB else vars(cls).get("__orig_bases__", cls.__bases__)
    if "_fields" in vars(cls) and issubclass(cls, tuple):
        hints = _own_hints(cls)
        bases = [_of(tuple, *(hints.get(name, Any) for name in vars(cls)["_fields"]))]
    origins = [(base, get_origin(base) or base) for base in bases]  # NamedTuple and TypedDict are functions
    return [substitute(base, _bound(t)) for base, of in origins if isinstance(of, type) and of not in _ROOTS]


def _bound(t: Any) -> dict[Any, Any]:
    """Give what the parameters of a generic class stand for in this form of it."""
    return dict.fromkeys(params := _parameters(class_of(t)), Any) | dict(zip(params, get_args(t), strict=False))


def _parameters(cls: Any) -> tuple[Any, ...]:
    return _STDLIB[cls][0] if cls in _STDLIB else getattr(cls, "__parameters__", ())


def free(t: Any) -> tuple[Any, ...]:
    """Give the type parameters that stand open in an annotation; in a bare class they are Any."""
    return () if isinstance(t, type) else getattr(t, "__parameters__", ())


def _items(t: Any) -> tuple[tuple[Any, ...], bool]:
    """Give the types of a tuple's items, and whether it may hold any number of them."""
    args = get_args(t)
    unpacked = any(get_origin(arg) is typing.Unpack or getattr(arg, "__unpacked__", False) for arg in args)
    if unpacked or (not args and t != tuple[()]):
        return (Any,), True
    return (args[:1], True) if args[-1:] == (Ellipsis,) else (args, False)


def fields_of(t: Any) -> dict[str, Any]:
    """Give the annotated fields of a class, inherited ones too, with type arguments filled in."""
    inherited: dict[str, Any] = {}
    for base in reversed(_bases(t)):
        inherited |= fields_of(base)
    return inherited | {name: substitute(hint, _bound(t)) for name, hint in _own_hints(class_of(t)).items()}


def _own_hints(cls: type) -> dict[str, Any]:
    names = inspect.get_annotations(cls)
    try:
        hints = typing.get_type_hints(cls) if names else {}
    except (NameError, AttributeError):
        hints = {}  # types imported under TYPE_CHECKING alone: the fields are there all the same
    return {name: hints.get(name, Any) for name in names}


@typing.runtime_checkable
class _Empty(Protocol):
    """A Protocol without a member: whatever it holds is none."""


def _protocol_members(protocol: Any) -> set[str]:
    bases = [base for base in class_of(protocol).__mro__[:-1] if base not in _ROOTS]
    return {name for base in bases for name in (*vars(base), *inspect.get_annotations(base))} - _NO_MEMBERS


_SYNTAX = "__annotations__ __class_getitem__ __match_args__ __new__ __orig_bases__ __slots__ __type_params__"
_NO_MEMBERS = {*vars(_Empty), *_SYNTAX.split()}


def _attribute(t: Any, name: str) -> Any:
    """Give the type of an attribute, as far as a class shows it; None where there is no such attribute."""
    if name in (known := fields_of(t)):
        return known[name]
    value = next((vars(base)[name] for base in class_of(t).__mro__ if name in vars(base)), None)
    if callable(value) or isinstance(value, classmethod | staticmethod):
        return abc.Callable
    return None if value is None else Any


def members(t: Any) -> list[Any]:
    """Give what a value of type `t` may be: members of a union, values of a Literal, constraints, a bound."""
    t = plain(t)
    origin, args = get_origin(t), get_args(t)
    if isinstance(t, TypeVar):
        args = t.__constraints__ or (Any if t.__bound__ is None else t.__bound__,)
    elif origin is Literal:
        return [NoneType if value is None else _literal[value] for value in args]
    elif origin is type and args:
        return [_of(type, one) for one in members(args[0])]
    elif origin not in UNIONS:
        return [] if t is typing.Never else [t]
    return [one for arg in args for one in members(arg)]


def plain(t: Any) -> Any:
    """Strip what says nothing about where a value may flow: Annotated, qualifiers, the name of an alias."""
    while True:
        origin = get_origin(t) or t
        if type(origin).__name__ == "TypeAliasType":  # Python 3.12, or typing_extensions
            t = substitute(origin.__value__, dict(zip(origin.__type_params__, get_args(t), strict=False)))
        elif origin is typing.Annotated or str(origin).rpartition(".")[2] in _QUALIFIERS:
            t = (*get_args(t), Any)[0]
        elif isinstance(t, str | ForwardRef):
            return Any  # a name in a bound, a base or a field: what is asked for has none any more
        else:
            return next((same for special, same in _SAME if t is special), t)


def class_of(t: Any) -> Any:
    """Give the class behind a type that is one."""
    if not isinstance(cls := get_origin(t) or t, type):
        raise TypeError(f"{show(t)} is not a type that a stage can take or give.")
    return cls


def refuse_names(t: Any) -> None:
    """Raise for a name that nobody looked up, wherever in an annotation it stands."""
    if isinstance(t, str | ForwardRef):
        raise TypeError(f"The type {show(t)} is only a name, never resolved: use the class itself.")
    args = t if isinstance(t, list) else get_args(t)
    if get_origin(t) is not Literal:
        for arg in args[:1] if get_origin(t) is typing.Annotated else args:
            refuse_names(arg)


def union(types: abc.Iterable[Any]) -> Any:
    return typing.cast(Any, typing.Union)[tuple(types) or (typing.Never,)]
