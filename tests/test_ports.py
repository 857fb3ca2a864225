"""ezflow/ports.py: types compared with types, TypeVars solved, and the same as a typeguard check."""

# ruff: noqa: UP006, UP007, UP035, UP045, F821  the old spellings and the unresolved names are what is tested

import collections.abc as abc
import enum
import os
import re
import subprocess
import sys
import typing
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Callable,
    ClassVar,
    Generic,
    List,
    Literal,
    LiteralString,
    NamedTuple,
    Never,
    NewType,
    NoReturn,
    Optional,
    ParamSpec,
    Protocol,
    Sequence,
    Tuple,
    Type,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Union,
)

import attrs
import pytest
import typeguard
import typing_extensions
from hypothesis import given, settings
from hypothesis import strategies as st
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from ezflow.ports import Accepts, Port, assignable, check_edge, show, solve, substitute

T = TypeVar("T")
U = TypeVar("U")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
Num = TypeVar("Num", bound=int)
AnyText = TypeVar("AnyText", str, bytes)
Ts = TypeVarTuple("Ts")
P = ParamSpec("P")


class Animal: ...


class Dog(Animal): ...


class Cat(Animal): ...


class Stray(Dog, Cat): ...


class Box(Generic[T]):
    value: T


class Source(Generic[T_co]): ...


class Sink(Generic[T_contra]): ...


class Ints(Box[int]): ...


class Lists(Box[list[T]]): ...


class ListsOfInts(Lists[int]): ...


class Swapped(dict[U, T], Generic[T, U]): ...


class Bare(Box): ...  # type: ignore[type-arg]


class Both(Source[int], Sink[str]): ...


class Left(Box[T]): ...


class Diamond(Left[T], Box[T]): ...


@attrs.frozen(slots=True)
class Slotted(Source[T]):
    value: T


class Tree(abc.Sequence["Tree"]): ...  # type: ignore[misc]


class Words(abc.Iterator[str]): ...  # type: ignore[misc]


class Point(NamedTuple):
    x: int
    name: str


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Named(Protocol):
    name: str


class Speaks(Protocol):
    def say(self, text: str) -> bytes: ...


class Maps(Protocol):
    def map(self, item: T) -> list[T]: ...  # a generic method


class Holds(Protocol[T_co]):
    @property
    def value(self) -> T_co: ...


class Has(Protocol[T]):
    value: T


class Linked(Protocol):
    """A protocol that is about itself."""

    @property
    def label(self) -> str: ...

    next: "Linked | None"


class Chain(Protocol):
    label: str
    next: "Chain | None"


class Grows(Protocol[T]):
    deeper: "Grows[list[T]]"


class Grown(Generic[T]):
    deeper: "Grown[list[T]]"


class Equal(Protocol):
    def __eq__(self, other: object, /) -> bool: ...


class Calls(Protocol):
    def __call__(self, text: str) -> int: ...


class Sorts(Protocol):
    def mro(self) -> list[Any]: ...  # a method that every class has, as an object


class User:
    name: str

    def say(self, text: str) -> bytes: ...  # type: ignore[empty-body]

    def map(self, item: object) -> list[object]: ...  # type: ignore[empty-body]


class Loud(User): ...


class Numbered:
    name: int


class Method:
    def name(self) -> str: ...  # type: ignore[empty-body]


class Mute:
    say = None


class Node:
    label: str
    next: "Node | None"


class WrongNode:
    label: str
    next: "int | None"


@attrs.frozen
class Unhashable:
    __hash__ = None  # type: ignore[assignment]


class Settings(TypedDict):
    rate: int


class MoreSettings(Settings):
    name: str


class SomeSettings(TypedDict, total=False):
    rate: int


class TextSettings(TypedDict):
    rate: str


class Fluent(TypedDict, Generic[T]):
    value: T


class FromAny(Any):  # type: ignore[misc]
    ...


class Array(Generic[*Ts]): ...


class Rowed(Array[int, *Ts]): ...


class Meta(type): ...


class Made(metaclass=Meta): ...


UserId = NewType("UserId", int)
AdminId = NewType("AdminId", UserId)
Rows = NewType("Rows", list[int])
Texts = typing_extensions.TypeAliasType("Texts", str | list[str])
Pair = typing_extensions.TypeAliasType("Pair", tuple[T, T], type_params=(T,))
Untyped = namedtuple("Untyped", "x y")


def yes(name: str, src: Any, dst: Any) -> Any:
    return pytest.param(src, dst, True, id=name)


def no(name: str, src: Any, dst: Any) -> Any:
    return pytest.param(src, dst, False, id="no " + name)


CASES = [
    # Any, object, None, Never
    yes("Any to str", Any, str),
    yes("str to Any", str, Any),
    yes("str to object", str, object),
    no("object to str", object, str),
    yes("Any to object", Any, object),
    yes("object to Any", object, Any),
    yes("None to NoneType", None, type(None)),
    yes("None to object", None, object),
    no("None to str", None, str),
    no("str to None", str, None),
    yes("Never to str", Never, str),
    yes("NoReturn to Never", NoReturn, Never),
    no("str to Never", str, Never),
    no("object to Never", object, Never),
    yes("Any to Never", Any, Never),
    yes("Never to None", Never, None),
    yes("list[Never] to Sequence[str]", list[Never], Sequence[str]),
    yes("class made from Any", FromAny, str),
    yes("Self takes anything", str, typing.Self),
    yes("LiteralString to str", LiteralString, str),
    # unions
    yes("member to union", str, str | int),
    yes("member to Optional", str, Optional[str]),
    yes("None to Optional", None, Optional[str]),
    no("Optional to member", Optional[str], str),
    yes("union to wider union", str | int, Union[int, bytes, str]),
    no("union to narrower union", str | int | bytes, str | int),
    yes("union to common base", Dog | Cat, Animal),
    yes("Optional order", Union[None, str], str | None),
    yes("nested union in list", list[str | int], list[int | str]),
    no("list of union to union of lists", list[str | int], list[str] | list[int]),
    yes("union of lists to Sequence of union", list[str] | list[int], Sequence[str | int]),
    no("union of lists to list of union", list[str] | list[int], list[str | int]),
    yes("Any within a union", str | Any, str),
    no("Any does not excuse the others", int | Any, str),
    # classes and the numeric tower
    yes("subclass", Dog, Animal),
    no("superclass", Animal, Dog),
    yes("two bases", Stray, Cat),
    no("siblings", Dog, Cat),
    yes("bool to int", bool, int),
    yes("int to float", int, float),
    yes("bool to complex", bool, complex),
    no("float to int", float, int),
    no("str to float", str, float),
    no("bytearray to bytes", bytearray, bytes),
    yes("Sequence[int] to Sequence[float]", Sequence[int], Sequence[float]),
    no("list[int] to list[float]", list[int], list[float]),
    yes("str to Hashable", str, abc.Hashable),
    no("list to Hashable", list[int], abc.Hashable),
    # generics of the standard library
    yes("typing.List is list", List[int], list[int]),
    yes("list to Sequence", list[Dog], Sequence[Animal]),
    yes("list to Iterable", list[Dog], abc.Iterable[Animal]),
    no("list is invariant", list[Dog], list[Animal]),
    no("Iterable to list", abc.Iterable[int], list[int]),
    no("wrong item", list[int], Sequence[str]),
    yes("bare list to list[int]", list, list[int]),
    yes("list[int] to bare list", list[int], list),
    yes("list[Any] to list[int]", list[Any], list[int]),
    yes("list[int] to list[Any]", list[int], list[Any]),
    yes("list[list] nested", list[list[int]], Sequence[Sequence[int]]),
    no("list[list] nested invariant", list[list[int]], list[Sequence[int]]),
    yes("str is a Sequence of str", str, Sequence[str]),
    no("str is no Sequence of int", str, Sequence[int]),
    yes("bytes are ints", bytes, abc.Iterable[int]),
    no("bytes are no str", bytes, abc.Iterable[str]),
    yes("deque to Sequence", deque[int], Sequence[int]),
    yes("frozenset is covariant", frozenset[Dog], frozenset[Animal]),
    no("set is invariant", set[Dog], set[Animal]),
    yes("set to AbstractSet", set[Dog], typing.AbstractSet[Animal]),
    yes("dict to Mapping, covariant values", dict[str, Dog], abc.Mapping[str, Animal]),
    no("Mapping keys are invariant", dict[Dog, int], abc.Mapping[Animal, int]),
    no("dict values are invariant", dict[str, Dog], dict[str, Animal]),
    yes("dict iterates keys", dict[str, int], abc.Iterable[str]),
    no("dict does not iterate values", dict[str, int], abc.Iterable[int]),
    yes("Counter to dict", Counter[str], dict[str, int]),
    no("Counter to another dict", Counter[str], dict[str, str]),
    yes("defaultdict to Mapping", defaultdict[str, list[int]], abc.Mapping[str, Sequence[int]]),
    yes("OrderedDict to dict", OrderedDict[str, int], dict[str, int]),
    yes("async generator to AsyncIterator", abc.AsyncGenerator[Dog, None], abc.AsyncIterator[Animal]),
    no("async generator of another", abc.AsyncGenerator[Dog, None], abc.AsyncIterator[str]),
    yes("generator to Iterable", typing.Generator[int, None, str], abc.Iterable[int]),
    yes("generator's send is contravariant", abc.Generator[int, Animal, None], abc.Generator[int, Dog, None]),
    no("generator's send", abc.Generator[int, Dog, None], abc.Generator[int, Animal, None]),
    yes("coroutine to Awaitable", abc.Coroutine[Any, Any, Dog], abc.Awaitable[Animal]),
    no("coroutine of another", abc.Coroutine[Any, Any, str], abc.Awaitable[int]),
    no("Iterator to AsyncIterator", abc.Iterator[int], abc.AsyncIterator[int]),
    yes("unlisted generic is covariant", re.Pattern[str], re.Pattern[str | bytes]),
    no("unlisted generic of another", re.Pattern[str], re.Pattern[bytes]),
    yes("only registered: arguments pass", Path, os.PathLike[bytes]),
    # generics of one's own
    yes("generic base filled in", Ints, Box[int]),
    no("generic base of another", Ints, Box[str]),
    no("generic base to a narrower one", Ints, Box[bool]),
    yes("generic base to bare", Ints, Box),
    yes("bare to filled", Box, Box[str]),
    yes("bare base", Bare, Box[str]),
    yes("base argument built from ours", Lists[int], Box[list[int]]),
    no("base argument built from ours, wrong", Lists[int], Box[int]),
    yes("two levels", ListsOfInts, Box[list[int]]),
    no("two levels, wrong", ListsOfInts, Box[list[str]]),
    yes("parameters swapped", Swapped[int, str], dict[str, int]),
    no("parameters not swapped", Swapped[int, str], dict[int, str]),
    no("own generic is invariant", Box[Dog], Box[Animal]),
    yes("covariant parameter", Source[Dog], Source[Animal]),
    no("covariant parameter backwards", Source[Animal], Source[Dog]),
    yes("contravariant parameter", Sink[Animal], Sink[Dog]),
    no("contravariant parameter backwards", Sink[Dog], Sink[Animal]),
    yes("contravariant of covariant", Sink[Source[Animal]], Sink[Source[Dog]]),
    yes("two generic bases, first", Both, Source[int]),
    yes("two generic bases, second", Both, Sink[str]),
    no("two generic bases, second wrong", Both, Sink[int]),
    yes("diamond", Diamond[int], Box[int]),
    no("diamond wrong", Diamond[int], Box[str]),
    yes("attrs class with slots", Slotted[int], Source[int]),
    no("attrs class with slots, wrong", Slotted[int], Source[str]),
    yes("own iterator", Words, abc.Iterable[str]),
    no("own iterator of another", Words, abc.Iterable[int]),
    yes("a class of its own kind", Tree, abc.Sequence[Tree]),
    yes("a name in a base passes", Tree, abc.Sequence[int]),
    yes("variadic generic", Rowed[str], Array[int, str]),
    yes("variadic generic passes", Rowed[str], Array[str]),
    # tuples
    yes("fixed to same", tuple[int, str], tuple[int, str]),
    yes("fixed is covariant", tuple[Dog, int], tuple[Animal, float]),
    no("fixed of other length", tuple[int, str], tuple[int, str, int]),
    no("fixed of other order", tuple[int, str], tuple[str, int]),
    yes("fixed to any number", tuple[Dog, Cat], tuple[Animal, ...]),
    no("fixed to any number, wrong", tuple[Dog, int], tuple[Animal, ...]),
    no("any number to fixed", tuple[int, ...], tuple[int, int]),
    yes("any number of Any to fixed", tuple[Any, ...], tuple[int, int]),
    yes("any number of Any to empty", tuple[Any, ...], tuple[()]),
    yes("bare tuple to fixed", tuple, tuple[int, str]),
    yes("bare typing.Tuple", Tuple, tuple[int, str]),
    yes("any number to any number", tuple[Dog, ...], Tuple[Animal, ...]),
    yes("empty to any number", tuple[()], tuple[int, ...]),
    no("any number to empty", tuple[int, ...], tuple[()]),
    no("one to empty", tuple[int], tuple[()]),
    no("empty to one", tuple[()], tuple[int]),
    yes("fixed to Sequence", tuple[int, str], Sequence[int | str]),
    no("fixed to Sequence, wrong", tuple[int, str], Sequence[int]),
    yes("empty to Sequence", tuple[()], Sequence[int]),
    yes("unpacked passes", tuple[int, *tuple[str, ...]], tuple[int, str]),
    yes("variadic passes", tuple[int, str], tuple[int, *Ts]),
    yes("named tuple to tuple", Point, tuple[int, str]),
    no("named tuple to another tuple", Point, tuple[str, int]),
    no("tuple to named tuple", tuple[int, str], Point),
    yes("named tuple to Iterable", Point, abc.Iterable[int | str]),
    yes("named tuple without types", Untyped, tuple[int, str]),
    no("named tuple without types, length", Untyped, tuple[int, str, str]),
    # Callable
    yes("callable to same", Callable[[int], str], abc.Callable[[int], str]),
    yes("takes more, gives less", Callable[[Animal], Dog], Callable[[Dog], Animal]),
    no("takes less", Callable[[Dog], Dog], Callable[[Animal], Animal]),
    no("gives more", Callable[[Animal], Animal], Callable[[Animal], Dog]),
    no("other count", Callable[[int, int], str], Callable[[int], str]),
    yes("ellipsis", Callable[..., str], Callable[[int], str]),
    yes("to ellipsis", Callable[[int], str], Callable[..., str]),
    no("to ellipsis, wrong result", Callable[[int], str], Callable[..., int]),
    yes("bare callable", Callable, Callable[[int], str]),
    yes("none at all", Callable[[], int], Callable[[], float]),
    yes("ParamSpec passes", Callable[[int], str], Callable[P, str]),
    yes("Concatenate passes", Callable[typing.Concatenate[int, P], str], Callable[[int], str]),
    yes("class to Callable", type[Dog], Callable[..., Animal]),
    no("class to Callable of another", type[Dog], Callable[..., str]),
    no("str to Callable", str, Callable[..., Any]),
    yes("callable object", Calls, Callable[[str], int]),
    yes("callable to Protocol with __call__", Callable[[str], int], Calls),
    yes(
        "callback taking callback",
        Callable[[Callable[[Dog], None]], None],
        Callable[[Callable[[Animal], None]], None],
    ),
    # Literal, Enum, bool
    yes("literal to its class", Literal["a"], str),
    yes("literal to more", Literal["a"], Literal["a", "b"]),
    no("literals to less", Literal["a", "b"], Literal["a"]),
    no("class to literal", str, Literal["a"]),
    no("literal to another class", Literal["a"], int),
    yes("mixed literals to union", Literal["a", 1], str | int),
    yes("literals to union of literals", Literal["a", "b"], Literal["a"] | Literal["b"]),
    no("1 is not True", Literal[1], Literal[True]),
    yes("literal True to float", Literal[True], float),
    yes("None to Literal[None]", None, Literal["a", None]),
    yes("Literal[None] to None", Literal[None], None),
    yes("literal enum", Literal[Colour.RED], Colour),
    no("enum to literal", Colour, Literal[Colour.RED]),
    no("literal in list", list[Literal["a"]], list[str]),
    yes("literal in Sequence", list[Literal["a"]], Sequence[str]),
    yes("literal str is a Sequence", Literal["a"], Sequence[str]),
    # NewType
    yes("NewType to supertype", UserId, int),
    no("supertype to NewType", int, UserId),
    yes("NewType of NewType", AdminId, UserId),
    yes("NewType of NewType to int", AdminId, float),
    no("NewType backwards", UserId, AdminId),
    yes("NewType of a generic", Rows, Sequence[int]),
    no("NewType of a generic, wrong", Rows, Sequence[str]),
    yes("NewType in a union", UserId | None, int | None),
    no("NewType is invariant in list", list[UserId], list[int]),
    no("Literal to NewType", Literal[1], UserId),
    # Annotated, aliases, qualifiers
    yes("Annotated src", Annotated[str, "x"], str),
    yes("Annotated dst", str, Annotated[str, "x"]),
    yes("other metadata", Annotated[str, "x"], Annotated[str, "y"]),
    yes("unhashable metadata", Annotated[str, {"unhashable": []}], Annotated[str, []]),
    yes("Annotated in union", Annotated[str, 1] | None, Union[None, Annotated[str, 2]]),
    yes("Annotated in list", list[Annotated[int, 1]], list[int]),
    yes("Annotated of union", str, Annotated[str | int, "either"]),
    no("Annotated hides nothing", Annotated[str, int], int),
    yes("ClassVar", ClassVar[int], int),
    yes("alias", str, Texts),
    yes("alias src", Texts, str | Sequence[str]),
    no("alias wrong", int, Texts),
    yes("generic alias", tuple[int, int], Pair[int]),
    no("generic alias wrong", tuple[int, str], Pair[int]),
    yes("alias in list", list[Pair[int]], list[tuple[int, int]]),
    # TypeVars
    yes("unbound TypeVar takes all", str, T),
    yes("unbound TypeVar gives all", T, str),
    yes("list of TypeVar", list[int], list[T]),
    no("not a list of TypeVar", int, list[T]),
    yes("within bound", bool, Num),
    no("out of bound", str, Num),
    yes("list within bound", list[bool], list[Num]),
    no("list out of bound", list[str], list[Num]),
    yes("nested invariant within bound", list[list[bool]], list[list[Num]]),
    yes("bound of src", Num, float),
    no("bound of src, wrong", Num, str),
    yes("constraint", str, AnyText),
    no("no constraint", int, AnyText),
    yes("items of either constraint", str | bytes, AnyText),
    yes("constraints count as a union", list[str | bytes], list[AnyText]),
    yes("list of one constraint", list[bytes], list[AnyText]),
    yes("constrained src", AnyText, str | bytes),
    no("constrained src, one left out", AnyText, str),
    yes("one TypeVar twice", dict[int, int], dict[T, T]),
    no("one TypeVar twice, two types", dict[int, str], dict[T, T]),
    yes("one TypeVar twice, covariant", tuple[int, str], tuple[T, T]),
    yes("TypeVar or None", None, T | None),
    yes("two TypeVars", dict[int, str], dict[T, U]),
    yes("contravariant place", Callable[[object], None], Callable[[Num], None]),
    # Protocol
    yes("method", User, Speaks),
    yes("inherited method", Loud, Speaks),
    no("no such method", Dog, Speaks),
    no("method is None", Mute, Speaks),
    yes("data", User, Named),
    no("no such data", Dog, Named),
    no("data of another type", Numbered, Named),
    no("method where data is needed", Method, Named),
    yes("generic method", User, Maps),
    no("no generic method", Dog, Maps),
    yes("named tuple has it", Point, Named),
    yes("property", Path, Named),
    yes("protocol to protocol", Named, Named),
    yes("generic protocol with data", Ints, Has[int]),
    no("generic protocol with data, wrong", Ints, Has[str]),
    yes("inherited data two levels up", ListsOfInts, Has[list[int]]),
    no("inherited data two levels up, wrong", ListsOfInts, Has[int]),
    yes("property of a protocol", Slotted[int], Holds[int]),
    yes("recursive protocol", Node, Chain),
    yes("recursive protocol with property", Node, Linked),
    no("recursive protocol, wrong within", WrongNode, Chain),
    yes("recursive to recursive protocol", Chain, Linked),
    yes("protocol that grows", Grown[int], Grows[int]),
    yes("protocol of __eq__", Dog, Equal),
    yes("protocol of __eq__ and no hash", list[int], Equal),
    no("a class's own methods are not its objects'", User, Sorts),
    yes("runtime protocol of typing", int, typing.SupportsFloat),
    no("not a runtime protocol of typing", str, typing.SupportsFloat),
    yes("union of protocols", User, Named | Speaks),
    yes("NewType to protocol", NewType("Chief", User), Speaks),
    # TypedDict
    yes("same keys", Settings, Settings),
    yes("more keys", MoreSettings, Settings),
    no("fewer keys", Settings, MoreSettings),
    no("key of another type", TextSettings, Settings),
    no("optional to required", SomeSettings, Settings),
    no("required to optional", Settings, SomeSettings),
    yes("to Mapping", Settings, abc.Mapping[str, object]),
    no("to Mapping of int", Settings, abc.Mapping[str, int]),
    no("to dict", Settings, dict[str, Any]),
    no("from dict", dict[str, int], Settings),
    yes("generic", Fluent[int], Fluent[int]),
    no("generic, wrong", Fluent[int], Fluent[str]),
    # type[X]
    yes("type is covariant", type[Dog], type[Animal]),
    no("type backwards", type[Animal], type[Dog]),
    yes("typing.Type", Type[Dog], type[Animal]),
    yes("bare type", type, type[Dog]),
    yes("type of union", type[Dog | Cat], type[Animal]),
    yes("type of union to union of types", type[Dog | Cat], type[Dog] | type[Cat]),
    no("object to type", Dog, type[Dog]),
    yes("type to its metaclass", type[Made], Meta),
    no("type to another metaclass", type[Dog], Meta),
    yes("metaclass to type", Meta, type[Any]),
    yes("type of Any to a metaclass", type[Any], Meta),
    yes("enum class is iterable", type[Colour], abc.Iterable[Colour]),
    no("other class is not iterable", type[Dog], abc.Iterable[Dog]),
    yes("type to object", type[Dog], object),
]


@pytest.mark.parametrize(("src", "dst", "verdict"), CASES)
def test_a_type_flows_where_its_values_may(src, dst, verdict):
    assert assignable(src, dst) is verdict


POOL = [
    *(object, None, str, int, bool, float, bytes, Never, str | None, str | int, Dog, Animal, Dog | Cat),
    *(
        list[int],
        list[Dog],
        list[Animal],
        Sequence[int],
        Sequence[float],
        Sequence[Animal],
        abc.Iterable[object],
    ),
    *(dict[str, Dog], abc.Mapping[str, Animal], tuple[int, str], tuple[int, ...], tuple[()], tuple[Dog, Cat]),
    *(Callable[[Dog], Animal], Callable[[Animal], Dog], Literal["a"], Literal["a", "b"], Literal[1], UserId),
    *(AdminId, UserId | None, Ints, Box[int], Source[Dog], Source[Animal], Sink[Dog], Sink[Animal], Both),
    *(Named, Speaks, User, Has[int], Settings, MoreSettings, type[Dog], type[Animal], type[Made]),
]


@pytest.mark.parametrize("annotation", POOL, ids=show)
def test_a_type_flows_into_itself_and_into_any_union_that_has_it(annotation):
    assert assignable(annotation, annotation)
    assert assignable(annotation, annotation | bytearray if annotation else Optional[bytearray])
    assert assignable(Annotated[annotation, "note"], annotation)


def test_what_flows_on_twice_flows_on_at_once():
    """Without Any, bare generics and TypeVars the relation is transitive."""
    flows = {src: {dst for dst in POOL if assignable(src, dst)} for src in POOL}
    for src in POOL:
        for between in flows[src]:
            assert flows[between] <= flows[src], (show(src), show(between))


@pytest.mark.parametrize(
    ("annotation", "other"),
    [
        ("Speaker", Any),
        (list["Speaker"], object),
        (List["Speaker"], list),
        (Optional["Speaker"], None),
        (Callable[["Speaker"], int], str),
        (type["Speaker"], type),
        (Annotated["Speaker", 1], str),
    ],
    ids=str,
)
def test_a_name_that_was_never_resolved_is_refused_on_either_side(annotation, other):
    with pytest.raises(TypeError, match="'Speaker' is only a name, never resolved"):
        assignable(annotation, other)
    with pytest.raises(TypeError, match="'Speaker' is only a name, never resolved"):
        assignable(other, annotation)


def test_text_in_a_literal_or_in_metadata_is_no_name():
    assert assignable(Literal["Speaker"], Annotated[str, "Speaker"])


@pytest.mark.parametrize(("thing", "shown"), [(any, "any"), (5, "5"), (P, "P")], ids=str)
def test_what_is_no_type_is_refused(thing, shown):
    with pytest.raises(TypeError, match=f"{shown} is not a type that a stage can take or give"):
        assignable(str, thing)


def test_a_field_whose_type_cannot_be_looked_up_counts_as_present():
    """It is imported under TYPE_CHECKING in its own file: what it is cannot be known here."""

    class Held(Protocol):
        held: "Unknown"  # type: ignore[name-defined]

    class Holder:
        held: "Unknown"  # type: ignore[name-defined]

    assert assignable(Holder, Held)
    assert not assignable(Dog, Held)


# The syntax is new in Python 3.12: below it there is nothing to test.
if sys.version_info >= (3, 12):

    def test_the_type_statement_and_bracketed_parameters_are_understood():
        scope: dict[str, Any] = {"Animal": Animal, "Dog": Dog, "Protocol": Protocol}
        exec(
            "type Json = str | list[Json] | dict[str, Json]\n"
            "type Tree[T] = T | list[Tree[T]]\n"
            "type Twice[T] = tuple[T, T]\n"
            "class Crate[T]:\n    item: T\n"
            "class DogCrate(Crate[Dog]): ...\n"
            "class HasItem[T](Protocol):\n    item: T\n"
            "class Order[T: int]: ...\n"
            "class Compares[T: 'Compares']: ...\n",
            scope,
        )
        Json, Tree, Twice, Crate, HasItem = (scope[name] for name in ("Json", "Tree", "Twice", "Crate", "HasItem"))
        assert assignable(Json, Json)
        assert assignable(str, Json)
        assert assignable(list[Json], Json)
        assert not assignable(int, Json)
        assert not assignable(list[int], Json)
        assert assignable(Tree[str], Tree[str])
        assert assignable(list[Tree[str]], Tree[str])
        assert not assignable(Tree[int], Tree[str])
        assert assignable(tuple[int, int], Twice[int])
        assert not assignable(tuple[int, str], Twice[int])
        assert assignable(scope["DogCrate"], Crate[Dog])
        assert assignable(scope["DogCrate"], Crate[Animal])  # its variance is left for a type checker to infer
        assert not assignable(scope["DogCrate"], Crate[str])
        assert assignable(Crate[int], HasItem[int])
        assert not assignable(Crate[int], HasItem[str])
        (T_695,) = scope["Order"].__type_params__
        assert assignable(bool, T_695)
        assert not assignable(str, T_695)
        (itself,) = scope["Compares"].__type_params__
        assert assignable(scope["Compares"][Any], itself)
        assert show(Json) == "Json"
        assert show(Tree[str] | None) == "Tree[str] | None"


@pytest.mark.parametrize(
    ("pattern", "actual", "bindings"),
    [
        pytest.param(T, str, {T: str}, id="the item itself"),
        pytest.param(T, str | None, {T: str | None}, id="a union"),
        pytest.param(T, Any, {T: Any}, id="Any"),
        pytest.param(str, str, {}, id="nothing to bind"),
        pytest.param(list, list[int], {}, id="bare pattern"),
        pytest.param(list, Any, {}, id="bare pattern, Any"),
        pytest.param(list[T], list[int], {T: int}, id="list"),
        pytest.param(list[T], list, {T: Any}, id="bare actual"),
        pytest.param(list[T], Any, {T: Any}, id="Any for a list"),
        pytest.param(list[T], int, {}, id="unrelated"),
        pytest.param(list[T], list[int] | list[str], {T: int | str}, id="two lists"),
        pytest.param(abc.Iterable[T], dict[str, int], {T: str}, id="through bases"),
        pytest.param(abc.Iterable[T], str, {T: str}, id="str is iterable"),
        pytest.param(Box[T], ListsOfInts, {T: list[int]}, id="own generic"),
        pytest.param(Lists[T], ListsOfInts, {T: int}, id="own generic, nearer"),
        pytest.param(dict[T, U], Swapped[int, str], {T: str, U: int}, id="swapped"),
        pytest.param(dict[T, list[U]], dict[str, list[int]], {T: str, U: int}, id="nested"),
        pytest.param(tuple[T, ...], tuple[int, str], {T: int | str}, id="fixed for any number"),
        pytest.param(tuple[T, U], tuple[int, str], {T: int, U: str}, id="fixed"),
        pytest.param(tuple[T, U], tuple[int, str, str], {}, id="fixed of another length"),
        pytest.param(tuple[T, ...], tuple[str, ...], {T: str}, id="any number"),
        pytest.param(Sequence[T], tuple[int, ...], {T: int}, id="tuple as a Sequence"),
        pytest.param(tuple[T, T], tuple[int, str], {T: int | str}, id="one name, two finds"),
        pytest.param(T | None, str | None, {T: str}, id="optional"),
        pytest.param(T | None, str, {T: str}, id="optional, given always"),
        pytest.param(T | None, None, {}, id="optional, never given"),
        pytest.param(Optional[T], str | int | None, {T: str | int}, id="optional of a union"),
        pytest.param(list[T] | T, list[int] | str, {T: int | str}, id="item or list of them"),
        pytest.param(Callable[[T], U], Callable[[int], str], {T: int, U: str}, id="callable"),
        pytest.param(Callable[..., T], type[Dog], {T: Dog}, id="class called"),
        pytest.param(type[T], type[Dog], {T: Dog}, id="class"),
        pytest.param(abc.AsyncIterator[T], abc.AsyncGenerator[int, None], {T: int}, id="async generator"),
        pytest.param(Has[T], Ints, {T: int}, id="protocol, by its member"),
        pytest.param(Grows[T], Grown[int], {}, id="protocol that grows"),
        pytest.param(AnyText, NewType("Line", str), {AnyText: str}, id="constraint"),
        pytest.param(Annotated[list[T], "all"], list[int], {T: int}, id="annotated"),
        pytest.param(Pair[T], tuple[int, int], {T: int}, id="alias"),
        pytest.param(list[T], Rows, {T: int}, id="NewType"),
        pytest.param(T, UserId, {T: UserId}, id="NewType itself"),
        pytest.param(Sequence[T], Literal["a"], {T: str}, id="Literal"),
        pytest.param(T, Annotated[str, []], {T: Annotated[str, []]}, id="unhashable metadata"),
    ],
)
def test_type_variables_are_solved(pattern, actual, bindings):
    assert {var: found for var, found in solve(pattern, actual).items() if pattern is not Grows[T]} == bindings


@pytest.mark.parametrize(
    ("annotation", "bindings", "result"),
    [
        pytest.param(T, {T: str}, str, id="itself"),
        pytest.param(T, {U: str}, T, id="unbound stays"),
        pytest.param(str, {T: int}, str, id="nothing in it"),
        pytest.param(None, {T: int}, None, id="None"),
        pytest.param(Box, {T: int}, Box, id="bare stays bare"),
        pytest.param(tuple[T, ...], {T: str}, tuple[str, ...], id="any number"),
        pytest.param(dict[T, U], {U: int}, dict[T, int], id="one of two"),
        pytest.param(T | None, {T: str | int}, str | int | None, id="union"),
        pytest.param(list[T] | None, {T: str}, list[str] | None, id="nested in a union"),
        pytest.param(Callable[[T], list[U]], {T: int, U: str}, Callable[[int], list[str]], id="callable"),
        pytest.param(abc.Callable[[T], None], {T: int}, abc.Callable[[int], None], id="abc callable"),
        pytest.param(Callable[P, T], {T: int}, Callable[P, int], id="ParamSpec stays"),
        pytest.param(tuple[T, *Ts], {T: int}, tuple[int, *Ts], id="TypeVarTuple stays"),
        pytest.param(Box[list[T]], {T: Any}, Box[list[Any]], id="own generic"),
        pytest.param(Annotated[T, "x"], {T: int}, Annotated[int, "x"], id="annotated"),
        pytest.param(list[T], {T: U}, list[U], id="another TypeVar"),
    ],
)
def test_type_variables_are_replaced(annotation, bindings, result):
    assert substitute(annotation, bindings) == result


def test_a_batch_of_texts_gives_tuples_of_texts():
    assert substitute(tuple[T, ...], solve(T, str)) == tuple[str, ...]


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (str, "str"),
        (None, "None"),
        (type(None), "None"),
        (Any, "Any"),
        (object, "object"),
        (User | Dog, "User | Dog"),
        (Union[User, str, None], "User | str | None"),
        (Optional[User], "User | None"),
        (tuple[str, ...], "tuple[str, ...]"),
        (tuple[()], "tuple[()]"),
        (tuple, "tuple"),
        (Tuple, "tuple"),
        (List[User], "list[User]"),
        (List, "list"),
        (abc.Mapping[str, list[User | None]], "Mapping[str, list[User | None]]"),
        (typing.AsyncIterator[bytes], "AsyncIterator[bytes]"),
        (Literal["a"], "Literal['a']"),
        (Literal["a", 1, None, Colour.RED], "Literal['a', 1, None, Colour.RED]"),
        (Callable[[User, int], str], "Callable[[User, int], str]"),
        (abc.Callable[..., None], "Callable[..., None]"),
        (Callable, "Callable"),
        (Annotated[User, "a note"], "User"),
        (list[Annotated[User, "a note"]], "list[User]"),
        (type[User], "type[User]"),
        (UserId, "UserId"),
        (T, "T"),
        (list[T], "list[T]"),
        (Box[int], "Box[int]"),
        (Box, "Box"),
        (Pair[int], "Pair[int]"),
        (Never, "Never"),
        (typing.Self, "Self"),
        (ClassVar[int], "ClassVar[int]"),
        ("User", "'User'"),
        (list["User"], "list['User']"),
        (List["User"], "list['User']"),
        (5, "5"),
    ],
    ids=str,
)
def test_a_type_is_shown_by_short_names(annotation, text):
    assert show(annotation) == text


def test_typeguard_lets_an_edge_pass_whose_types_fit():
    port = Port(str, "sentences")
    assert check_type(port, Accepts[str | User]) is port
    check_edge(port, str | None)


def test_typeguard_refuses_an_edge_whose_types_do_not_fit():
    with pytest.raises(TypeCheckError, match=r"\(sentences\) gives str, but User \| Dog is taken"):
        check_type(Port(str, "sentences"), Accepts[User | Dog])
    with pytest.raises(TypeCheckError, match=r"\(asr\) gives str \| None, but str is taken"):
        check_edge(Port(str | None, "asr"), str)


@pytest.mark.parametrize("accepts", [None, Any, Annotated[str, "x"], "unresolved", T, Callable[[int], str]], ids=str)
def test_an_edge_is_decided_as_assignable_decides_it(accepts):
    try:
        fits = assignable(str, accepts)
    except TypeError as refusal:
        with pytest.raises(TypeError, match=re.escape(str(refusal))):
            check_edge(Port(str, "x"), accepts)
    else:
        if fits:
            check_edge(Port(str, "x"), accepts)
        else:
            with pytest.raises(TypeCheckError):
                check_edge(Port(str, "x"), accepts)


def test_only_ports_have_a_type_to_compare():
    with pytest.raises(TypeCheckError, match="is not a Port"):
        check_type("text", Accepts[str])
    with pytest.raises(TypeCheckError, match="did not match any element in the union"):
        check_type(Port(str, "x"), Union[int, Accepts[int]])


def test_the_checker_is_registered_once():
    before = len(typeguard.checker_lookup_functions)
    for accepts in (str, int, str):
        Accepts[accepts]
    ours = [lookup for lookup in typeguard.checker_lookup_functions if lookup.__module__ == "ezflow.ports"]
    assert len(ours) == 1
    assert len(typeguard.checker_lookup_functions) in (before, before + 1)


def test_other_checks_of_typeguard_are_as_before():
    Accepts[str]
    assert check_type([1], list[int]) == [1]
    with pytest.raises(TypeCheckError):
        check_type(["a"], list[int])


def test_a_port_is_a_frozen_value():
    assert Port(str, "asr") == Port(str, "asr")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Port(str, "asr").name = "tts"  # type: ignore[misc]


def test_typeguard_is_loaded_by_the_first_question_and_not_by_the_import():
    program = (
        "import sys; from ezflow.ports import Accepts; before = 'typeguard' in sys.modules;"
        "Accepts[str]; print(before, 'typeguard' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False True"


def shape(value: Any) -> Any:
    """The narrowest annotation of a value; of an empty container, the bare class."""
    if isinstance(value, list | frozenset):
        kind: Any = type(value)
        return kind[Union[tuple(map(shape, value))]] if value else kind
    if isinstance(value, tuple):
        return tuple[tuple(map(shape, value))] if value else tuple[()]
    if isinstance(value, dict):
        return dict[str, Union[tuple(map(shape, value.values()))]] if value else dict
    return type(value)


def accepted(value: Any, annotation: Any) -> bool:
    try:
        check_type(value, annotation, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError:
        return False
    return True


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=2) | st.binary(max_size=2)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
        | st.frozensets(scalars, max_size=2)
    ),
    max_leaves=6,
)
annotations = st.recursive(
    st.sampled_from([None, bool, int, float, complex, str, bytes, object, Any, list, tuple, Literal["", 0]]),
    lambda inner: (
        st.builds(lambda a: list[a], inner)
        | st.builds(lambda a: Sequence[a], inner)
        | st.builds(lambda a: tuple[a, ...], inner)
        | st.builds(lambda a, b: tuple[a, b], inner, inner)
        | st.builds(lambda a: dict[str, a], inner)
        | st.builds(lambda a: abc.Mapping[str, a], inner)
        | st.builds(lambda a: typing.AbstractSet[a], inner)
        | st.builds(lambda a, b: Union[a, b], inner, inner)
        | st.builds(lambda a: a if a is Any else Annotated[a, "note"], inner)
    ),
    max_leaves=5,
)


@st.composite
def wider(draw: st.DrawFn, annotation: Any) -> Any:
    """An annotation that takes all that the given one does."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    choices = [
        st.just(annotation),
        st.just(object),
        st.builds(lambda other: Union[annotation, other], annotations),
        st.just(Annotated[annotation, "note"]),
        st.just(TypeVar("Taken", bound=annotation)),
    ]
    if origin in (list, frozenset):
        base = {list: Sequence, frozenset: typing.AbstractSet}[origin]
        choices.append(st.builds(lambda item: base[item], wider(args[0])))
    elif origin is tuple and args:
        choices.append(st.builds(lambda *items: tuple[items], *map(wider, args)))
        choices.append(st.just(tuple[Union[args], ...]))
    elif origin is dict:
        choices.append(st.builds(lambda item: abc.Mapping[str, item], wider(args[1])))
    elif origin is Union:
        choices.append(st.builds(lambda *items: Union[items], *map(wider, args)))
    elif annotation in (bool, int):
        choices.append(st.just(float))
    return draw(st.one_of(choices))


@given(values, annotations)
@settings(max_examples=300, deadline=None)
def test_where_a_types_values_may_flow_typeguard_takes_the_value(value, annotation):
    if assignable(shape(value), annotation):
        assert accepted(value, annotation)


@given(st.data(), values)
@settings(max_examples=150, deadline=None)
def test_a_type_flows_into_every_wider_one_and_typeguard_takes_the_value(data, value):
    annotation = data.draw(wider(shape(value)))
    assert assignable(shape(value), annotation)
    assert accepted(value, annotation)


@pytest.mark.parametrize(
    "value",
    [User(), Stray(), Ints(), Both(), Point(1, "a"), Colour.RED, Made, Dog],
    ids=lambda v: show(type(v)),
)
def test_where_an_objects_class_may_flow_typeguard_takes_the_object(value):
    given_type = type[value] if isinstance(value, type) else type(value)
    taken = [dst for dst in POOL if assignable(given_type, dst)]
    assert taken
    for dst in taken:
        # typeguard looks for data on the object, where an annotation without a value leaves none;
        # and it reads the signature of a class, which passes here
        if dst not in (Named, Has[int]) and typing.get_origin(dst) is not abc.Callable:
            assert accepted(value, dst), dst
