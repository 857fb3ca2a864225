"""A module: the leaf of a flow, an attrs class or a function made with `@module`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ClassVar, Generic, Literal, ParamSpec, TypeVar, cast, dataclass_transform, overload

import attrs

from .channels import Inbox, Outbox
from .definition import (
    Form,
    base_arguments,
    base_types,
    form_of,
    makes_context,
    reject_yield_in_scope,
    resolve,
    run_form_of,
)
from .driving import drive
from .errors import DefinitionError, MissingDependency, NotOpenError
from .events import snake_case
from .fields import RESOURCE, check_fields, check_options, tolerant
from .flow import Flow
from .ports import assignable, show, substitute
from .turn import Turn

__all__ = ["FunctionModule", "Module", "module", "resource"]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound="type[Module[Any, Any]]")


def resource(*, init: Literal[False] = False) -> Any:
    """A field that exists only while its module is open: `lifespan` sets it, reading it earlier is an error.

    It is no part of the module's configuration: not an argument, not compared, not shown.
    """
    return attrs.field(init=init, eq=False, repr=False, on_setattr=attrs.setters.NO_OP, metadata={RESOURCE: True})


class Module(Flow[In, Out]):
    """A leaf flow: what turns an item of type `In` into any number of type `Out`.

    Write one of two forms: `process(item, turn)` for one item at a time (return one, or `yield` any number), or
    `run(inbox, outbox, turn)` for a stage that sees the whole stream. Configuration is annotated fields, frozen;
    what belongs to a turn lives in local variables, never on the module, which all users share.
    """

    in_type: ClassVar[Any] = Any
    out_type: ClassVar[Any] = Any
    form: ClassVar[Form | None] = None
    blocking: ClassVar[bool] = False
    options: ClassVar[type | None] = None
    options_key: ClassVar[str | None] = None
    field_types: ClassVar[Mapping[str, Any]] = {}

    @property
    def name(self) -> str:
        """What its stage is called unless the flow says otherwise."""
        return snake_case(type(self).__name__)

    def process(self, item: In, turn: Turn, /) -> Awaitable[Out] | AsyncIterator[Out] | Iterator[Out] | Out:
        """Turn one item into one (return) or any number (yield)."""
        raise NotImplementedError

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        """Turn the whole stream; ends when `inbox` does. The engine closes both ends afterwards.

        In this form a stage may open nurseries, gather many items into one, or give items unasked.
        """
        assert self.form is not None
        rest = (turn,) if self.form.takes_turn else ()
        limiter = turn.threads if self.blocking else None
        await drive(self.process, self.form.kind, rest, inbox, outbox, limiter, turn.answered)

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        """Acquire what the module needs, once for each service; released in reverse order."""
        yield

    async def probe(self) -> None:
        """Raise if what the module stands on, such as a model server, does not answer; override where it has one.

        `/health/ready` and EZPipe's heartbeat ask it, beside running turns and not more than once a second.
        """

    def status(self) -> Mapping[str, float]:
        """What it holds at this moment, each figure under a name: connections in use, requests that wait; override
        where there is such.

        `/metrics` and `/debug/tree` ask it, beside running turns: it must return at once. The names are few, and
        always the same.
        """
        return {}

    def decode(self, payload: Any) -> Any:
        """What a client sent for this stage, as an item. Override for an input that its type alone cannot decode.

        Raises: InputError (or ValueError, whose text the client gets).
        """
        from .convert import decode

        return decode(payload, self.in_type)

    @contextmanager
    def needs(self, distribution: str, *, extra: str) -> Generator[None, None, None]:
        """Import a preset's dependency under it: an ImportError says which package to install, or why it does not load.

        `with self.needs("hibari-tts", extra="speech"): from hibari import Hibari`
        """
        try:
            yield
        except ModuleNotFoundError as error:
            raise MissingDependency(type(self).__name__, distribution, extra) from error
        except ImportError as error:  # a library of the system is missing, or it was made for another machine
            raise MissingDependency(type(self).__name__, distribution, extra, str(error)) from error

    def __getattr__(self, field: str) -> Any:
        if any(known.name == field and RESOURCE in known.metadata for known in fields_of(type(self))):
            raise NotOpenError(type(self).__name__, field)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {field!r}", name=field, obj=self)

    def __repr__(self) -> str:
        given = [
            f"{field.alias}={_shown(value)}"
            for field in fields_of(type(self))
            if field.init and (value := getattr(self, field.name)) != field.default
        ]
        return f"{type(self).__name__}({', '.join(given)})"


@attrs.frozen(repr=False, init=False, slots=False)
class FunctionModule(Module[In, Out], Generic[In, Out, P, R]):
    """A typed function as a module; still callable as the function it is."""

    function: Callable[P, R]
    blocking: bool = False  # type: ignore[misc]  # of the class for a class, of the function for a function

    def __init__(self, function: Callable[P, R], blocking: bool = False, localns: Any = None) -> None:
        name = getattr(function, "__qualname__", repr(function))
        form = form_of(function, f"The function {name}", localns or {}, method=False)
        reject_yield_in_scope(function, f"The function {name}")
        _check_blocking(function, f"The function {name}", blocking)
        self.__attrs_init__(function, blocking)
        object.__setattr__(self, "form", form)
        object.__setattr__(self, "in_type", form.takes)
        object.__setattr__(self, "out_type", form.gives)
        object.__setattr__(self, "__doc__", function.__doc__)

    @property
    def name(self) -> str:
        name = getattr(self.function, "__name__", "function")
        return snake_case(name) if name.isidentifier() else "function"

    async def run(self, inbox: Inbox[In], outbox: Outbox[Out], turn: Turn) -> None:
        assert self.form is not None
        rest = (turn,) if self.form.takes_turn else ()
        limiter = turn.threads if self.blocking else None
        await drive(self.function, self.form.kind, rest, inbox, outbox, limiter, turn.answered)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return str(getattr(self.function, "__qualname__", repr(self.function)))


@dataclass_transform(field_specifiers=(resource, attrs.field))
@overload
def module(cls: C, /) -> C: ...  # type: ignore[overload-overlap]  # a class is a callable too
@overload
def module(function: Callable[[A], AsyncIterator[B]], /) -> FunctionModule[A, B, [A], AsyncIterator[B]]: ...
@overload
def module(function: Callable[[A, Turn], AsyncIterator[B]], /) -> FunctionModule[A, B, [A, Turn], AsyncIterator[B]]: ...
@overload
def module(function: Callable[[A], Awaitable[B]], /) -> FunctionModule[A, B, [A], Awaitable[B]]: ...
@overload
def module(function: Callable[[A, Turn], Awaitable[B]], /) -> FunctionModule[A, B, [A, Turn], Awaitable[B]]: ...
@overload
def module(function: Callable[[A], Iterator[B]], /) -> FunctionModule[A, B, [A], Iterator[B]]: ...
@overload
def module(function: Callable[[A, Turn], Iterator[B]], /) -> FunctionModule[A, B, [A, Turn], Iterator[B]]: ...
@overload
def module(function: Callable[[A], B], /) -> FunctionModule[A, B, [A], B]: ...
@overload
def module(function: Callable[[A, Turn], B], /) -> FunctionModule[A, B, [A, Turn], B]: ...
@dataclass_transform(field_specifiers=(resource, attrs.field))
@overload
def module(*, blocking: bool = False, options: type | None = None, key: str | None = None) -> Callable[[C], C]: ...
def module(
    target: Any = None, /, *, blocking: bool = False, options: type | None = None, key: str | None = None
) -> Any:
    """Make a module of a class that derives from `Module[In, Out]`, or of an annotated function.

    `blocking=True`: its function is synchronous and may take long; it runs in a worker thread.
    `options`: an attrs class that a request may fill under `key` (by default the stage's name), read with
    `turn.options[Cls]`.
    Raises: DefinitionError for every misuse, saying what to write instead.
    """
    frame = sys._getframe(1)
    globalns, localns = frame.f_globals, frame.f_locals

    def make(target: Any) -> Any:
        if isinstance(target, type):
            return _make_class(target, blocking, options, key, globalns, localns)
        if options is not None:
            raise DefinitionError("options need a class: write class X(Module[In, Out]) under @module(options=...).")
        return FunctionModule(target, blocking, localns)

    return make if target is None else make(target)


def fields_of(cls: type) -> tuple[attrs.Attribute[Any], ...]:
    """The attrs fields of a decorated class."""
    return tuple(getattr(cls, "__attrs_attrs__", ()))


def _shown(value: object) -> str:
    """A configuration's value without the name, password or key that a URL may hold."""
    if not (isinstance(value, str) and "://" in value):
        return repr(value)
    scheme, _, rest = value.partition("://")
    place, mark, _ = rest.rpartition("@")[2].partition("?")
    return repr(f"{scheme}://{place}{mark}" + ("…" if mark else ""))


def _make_class(
    cls: type,
    blocking: bool,
    options: type | None,
    key: str | None,
    globalns: Mapping[str, Any],
    localns: Mapping[str, Any],
) -> type:
    name = cls.__name__
    if not issubclass(cls, Module):
        raise DefinitionError(f"{name} is no module: write class {name}(Module[In, Out]).")
    check_fields(cls, Module)
    check_options(name, options, key)
    # Under exec there may be no such module: then the names are those where the decorator stands.
    home = sys.modules.get(cls.__module__)
    globalns = {**globalns, **(vars(home) if home else {})}
    try:
        made = attrs.define(
            cls,
            slots=False,
            auto_attribs=True,
            on_setattr=attrs.setters.frozen,
            unsafe_hash=True,
            repr=False,
            field_transformer=tolerant,
        )
    except attrs.exceptions.UnannotatedAttributeError as error:
        raise DefinitionError(f"{name}: {error} Write `field: Type = resource()`.") from error
    made.in_type, made.out_type = base_types(cls, Module, globalns, localns)
    made.blocking = blocking or (cls.blocking and "process" not in vars(cls))
    if options is not None:
        made.options, made.options_key = options, key
    own = inspect.get_annotations(cls)
    made.field_types = dict(made.field_types) | {
        field.name: resolve(field.type, globalns, localns, f"{name}.{field.name}")
        for field in fields_of(made)
        if RESOURCE not in field.metadata and (field.name in own or field.name not in made.field_types)
    }
    _check_form(made, localns)
    return made


def _check_form(cls: type[Module[Any, Any]], localns: Mapping[str, Any]) -> None:
    name = cls.__name__
    if not makes_context(cls.lifespan):
        raise DefinitionError(f"{name}.lifespan is no context manager yet: write @asynccontextmanager above it.")
    _check_decode(cls)
    if not inspect.iscoroutinefunction(cls.probe):
        raise DefinitionError(f"{name}.probe is asked beside running turns: write async def probe(self) -> None.")
    owns_process = any("process" in vars(base) for base in cls.__mro__ if base not in Module.__mro__)
    owns_run = any("run" in vars(base) for base in cls.__mro__ if base not in Module.__mro__)
    if owns_process == owns_run:
        found = "both" if owns_run else "neither"
        raise DefinitionError(
            f"{name} defines {found} of process and run: write process(self, item, turn) for one item at a time, or "
            "run(self, inbox, outbox, turn) for the whole stream."
        )
    if owns_run:
        if not inspect.iscoroutinefunction(cls.run):
            raise DefinitionError(
                f"{name}.run must be `async def run(self, inbox, outbox, turn) -> None`; it gives items with "
                "`await outbox.send(item)`, not with yield."
            )
        if cls.blocking:
            raise DefinitionError(f"{name}: blocking=True goes with process; in run, use trio.to_thread.run_sync.")
        _check_run(cls, localns)
        return
    form = form_of(cls.process, f"{name}.process", localns, method=True)
    reject_yield_in_scope(cls.process, f"{name}.process")
    _check_blocking(cls.process, f"{name}.process", cls.blocking)
    _check_turn(f"{name}.process", form.turn)
    bound = _bound(cls, "process")
    form = attrs.evolve(form, takes=substitute(form.takes, bound), gives=substitute(form.gives, bound))
    if not assignable(cls.in_type, form.takes):
        raise DefinitionError(
            f"{name} is a Module[{show(cls.in_type)}, {show(cls.out_type)}], but its process takes "
            f"{show(form.takes)}: make the two agree."
        )
    if not assignable(form.gives, cls.out_type):
        raise DefinitionError(
            f"{name} is a Module[{show(cls.in_type)}, {show(cls.out_type)}], but its process gives "
            f"{show(form.gives)}: make the two agree."
        )
    cls.form = form


def _check_run(cls: type[Module[Any, Any]], localns: Mapping[str, Any]) -> None:
    where = f"{cls.__name__}.run"
    form, bound = run_form_of(cls.run, where, localns), _bound(cls, "run")
    _check_turn(where, form.turn)
    ends = (("inbox", Inbox, cls.in_type, form.inbox), ("outbox", Outbox, cls.out_type, form.outbox))
    for name, end, item, said in ends:
        given, taken = cast(Any, end)[item], substitute(said, bound)
        if not assignable(given, taken):
            raise DefinitionError(
                f"{cls.__name__} is a Module[{show(cls.in_type)}, {show(cls.out_type)}], so its run is given an "
                f"{show(given)}, but its {name} is {show(taken)}: make the two agree."
            )


def _check_turn(where: str, said: Any) -> None:
    if not assignable(Turn, said):
        raise DefinitionError(f"{where}: the last parameter is the turn: write turn: Turn, not {show(said)}.")


def _check_decode(cls: type[Module[Any, Any]]) -> None:
    decode = object.__new__(cls).decode  # bound: a static method of one parameter is one too
    try:
        inspect.signature(decode).bind("payload")
    except TypeError as error:
        raise DefinitionError(f"{cls.__name__}.decode takes (self, payload): change its parameters.") from error


def _bound(cls: type[Module[Any, Any]], method: str) -> Mapping[Any, Any]:
    """What this class puts for the type variables of the class that a method is inherited from."""
    owner = next(base for base in cls.__mro__ if method in vars(base))
    if owner is cls:
        return {}
    return dict(zip(getattr(owner, "__parameters__", ()), base_arguments(cls, owner) or (), strict=False))


def _check_blocking(function: Callable[..., Any], where: str, blocking: bool) -> None:
    if blocking and (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise DefinitionError(f"{where} is async, so it cannot be blocking: write def, or leave blocking=True out.")
