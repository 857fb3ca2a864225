"""What a module's class or function says about itself, read when it is defined.

Every misuse is a DefinitionError here, at the line of the definition, and says what to write instead.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from types import FunctionType, MappingProxyType
from typing import Any, Literal, TypeVar

import attrs

from .errors import DefinitionError

__all__ = [
    "Form",
    "RunForm",
    "base_arguments",
    "base_types",
    "form_of",
    "makes_context",
    "reject_yield_in_scope",
    "resolve",
    "run_form_of",
]

Kind = Literal["value", "awaitable", "async iterator", "iterator"]

ASYNC_ITERATORS = (AsyncIterator, AsyncGenerator, AsyncIterable)
ITERATORS = (Iterator, Generator)
AWAITABLES = (Awaitable, Coroutine)
# Calls that open a nursery or a cancel scope, by the last part of their name.
SCOPES = frozenset(
    {"open_nursery", "CancelScope", "move_on_after", "move_on_at", "fail_after", "fail_at", "TaskGroup", "cleanup"}
)


@attrs.frozen
class Form:
    """How a `process` method or a function gives its output, and the types it declares."""

    kind: Kind
    takes: Any
    gives: Any
    takes_turn: bool
    turn: Any = Any


@attrs.frozen
class RunForm:
    """What a `run` method says of its three ends; of the turn it may say nothing (Any)."""

    inbox: Any
    outbox: Any
    turn: Any


def resolve(annotation: Any, globalns: Mapping[str, Any], localns: Mapping[str, Any], where: str) -> Any:
    """An annotation as a type, strings and forward references looked up.

    Raises: DefinitionError if a name in it is not known there.
    """
    probe = FunctionType((lambda: None).__code__, dict(globalns))
    probe.__annotations__ = {"it": annotation}
    try:
        return typing.get_type_hints(probe, dict(globalns), dict(localns), include_extras=True)["it"]
    except (NameError, AttributeError) as error:
        raise DefinitionError(
            f"{where}: the annotation {annotation!r} cannot be resolved ({error}): import or define that name at "
            "the top of the file, above this definition (not only under TYPE_CHECKING)."
        ) from error
    except (TypeError, SyntaxError) as error:
        raise DefinitionError(f"{where}: {annotation!r} is not a type ({error}).") from error


def base_types(cls: type, generic: type, globalns: Mapping[str, Any], localns: Mapping[str, Any]) -> tuple[Any, Any]:
    """The In and Out of a class, from its `Module[In, Out]` base, through generic classes in between.

    Raises: DefinitionError if no base says them, or a name in them is not known.
    """
    found = base_arguments(cls, generic)
    if found is None or len(found) != 2:
        raise DefinitionError(
            f"{cls.__name__} does not say what it takes and gives: write class {cls.__name__}(Module[In, Out]), "
            "e.g. Module[str, Audio]."
        )
    takes, gives = (resolve(it, globalns, localns, f"{cls.__name__}'s base") for it in found)
    return takes, gives


def base_arguments(cls: type, generic: type, bound: Mapping[Any, Any] = MappingProxyType({})) -> tuple[Any, ...] | None:
    """What the parameters of a generic base stand for in this class; None where no base says it."""
    for base in cls.__dict__.get("__orig_bases__", cls.__bases__):
        origin = typing.get_origin(base) or base
        if not (isinstance(origin, type) and issubclass(origin, generic)):
            continue
        arguments = tuple(_bind(argument, bound) for argument in typing.get_args(base))
        if origin is generic:
            return arguments or None
        parameters = getattr(origin, "__parameters__", ())
        found = base_arguments(origin, generic, dict(zip(parameters, arguments, strict=False)))
        if found is not None:
            return found
    return None


def _bind(argument: Any, bound: Mapping[Any, Any]) -> Any:
    if isinstance(argument, TypeVar):
        return bound.get(argument, argument)
    parameters = getattr(argument, "__parameters__", ())
    if parameters:
        return argument[tuple(bound.get(parameter, parameter) for parameter in parameters)]
    return argument


def form_of(function: Callable[..., Any], where: str, localns: Mapping[str, Any], method: bool) -> Form:
    """How a `process` method or a function module takes and gives its items.

    Raises: DefinitionError for a missing annotation, wrong parameters, or an unresolved reference.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    annotations = getattr(function, "__annotations__", {})
    if method:
        parameters = parameters[1:]
    positional, required = _positional(parameters), _required(parameters)
    name = getattr(function, "__name__", repr(function))
    if not annotations:
        raise DefinitionError(
            f"{where} has no annotations, so nothing can be checked: write a function such as "
            f"def {name if name.isidentifier() else 'step'}(text: str) -> str, and use that."
        )
    if not positional or len(positional) > 2 or len(required) > 2 or (method and len(positional) != 2):
        needed = "(self, item, turn)" if method else "(item) or (item, turn)"
        raise DefinitionError(f"{where} takes {needed}, in this order: change its parameters.")
    if any(parameter not in positional for parameter in required):
        raise DefinitionError(f"{where}: only the item and the turn are given: give the others a default.")
    takes_turn = len(positional) == 2 and (method or positional[1] in required)
    if takes_turn and not method and "Turn" not in str(annotations.get(second := positional[1].name, "")):
        raise DefinitionError(f"{where}: the second parameter is the turn: write turn: Turn, not {second!r}.")
    item = positional[0]
    if item.name not in annotations:
        raise DefinitionError(f"{where}: the parameter {item.name!r} has no annotation: write {item.name}: In.")
    if "return" not in annotations:
        raise DefinitionError(f"{where} has no return annotation: write -> Out, or -> AsyncIterator[Out].")
    globalns = getattr(inspect.unwrap(function), "__globals__", {})
    takes = resolve(annotations[item.name], globalns, localns, f"{where}, parameter {item.name}")
    returns = resolve(annotations["return"], globalns, localns, f"{where}, return")
    kind, gives = _output(function, returns, where)
    turn = _turn_type(positional[1], globalns, localns, where) if method else Any
    return Form(kind, takes, gives, takes_turn, turn)


def run_form_of(function: Callable[..., Any], where: str, localns: Mapping[str, Any]) -> RunForm:
    """What a `run` method says of its inbox, outbox and turn.

    Raises: DefinitionError for a missing annotation, wrong parameters, or an unresolved reference.
    """
    parameters = list(inspect.signature(function).parameters.values())[1:]
    positional = _positional(parameters)
    if len(positional) != 3 or any(parameter not in positional for parameter in _required(parameters)):
        raise DefinitionError(f"{where} takes (self, inbox, outbox, turn), in this order: change its parameters.")
    globalns = getattr(inspect.unwrap(function), "__globals__", {})

    def end(parameter: inspect.Parameter, needed: str) -> Any:
        if parameter.annotation is parameter.empty:
            raise DefinitionError(
                f"{where}: the parameter {parameter.name!r} has no annotation: write {parameter.name}: {needed}."
            )
        return resolve(parameter.annotation, globalns, localns, f"{where}, parameter {parameter.name}")

    inbox, outbox, turn = positional
    return RunForm(end(inbox, "Inbox[In]"), end(outbox, "Outbox[Out]"), _turn_type(turn, globalns, localns, where))


def _positional(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]


def _required(parameters: list[inspect.Parameter]) -> list[inspect.Parameter]:
    return [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _turn_type(
    parameter: inspect.Parameter, globalns: Mapping[str, Any], localns: Mapping[str, Any], where: str
) -> Any:
    """What a parameter says of the turn: Any for nothing, and for a `Turn` that only type checkers import."""
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    try:
        return resolve(annotation, globalns, localns, f"{where}, parameter {parameter.name}")
    except DefinitionError:
        if isinstance(annotation, str) and annotation.strip("'\"").split(".")[-1] == "Turn":
            return Any
        raise


def makes_context(lifespan: Callable[..., Any]) -> bool:
    """Whether calling a `lifespan` gives an async context manager, as far as its definition says."""
    if inspect.isasyncgenfunction(lifespan) or inspect.iscoroutinefunction(lifespan):
        return False
    decorated = hasattr(lifespan, "__wrapped__") and inspect.isasyncgenfunction(inspect.unwrap(lifespan))
    return decorated or "AsyncContextManager" in str(getattr(lifespan, "__annotations__", {}).get("return", ""))


def _output(function: Callable[..., Any], returns: Any, where: str) -> tuple[Kind, Any]:
    origin, arguments = typing.get_origin(returns) or returns, typing.get_args(returns)
    if inspect.isasyncgenfunction(function) and origin not in ASYNC_ITERATORS:
        raise DefinitionError(f"{where} yields: write -> AsyncIterator[Out] instead of {returns!r}.")
    if inspect.isgeneratorfunction(function) and origin not in (*ITERATORS, Iterable):
        raise DefinitionError(f"{where} yields: write -> Iterator[Out] instead of {returns!r}.")
    first = arguments[0] if arguments else Any
    if inspect.iscoroutinefunction(function):
        return "awaitable", returns
    if origin in ASYNC_ITERATORS:
        return "async iterator", first
    if origin in ITERATORS or inspect.isgeneratorfunction(function):
        return "iterator", first
    if origin in AWAITABLES:
        return "awaitable", arguments[-1] if arguments else Any
    return "value", returns


def reject_yield_in_scope(function: Callable[..., Any], where: str) -> None:
    """Refuse a `yield` inside a nursery or cancel scope, where the source can be read.

    Such a scope would be entered in one task and, after a break or a cancellation, left in another or never:
    "Nursery stack corrupted", or the consumer is cancelled in the stage's place.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return  # python -c, a notebook, exec: the one check that needs a source is left out
    nodes = list(_own_nodes(tree.body[0]))
    assigned = (node for node in nodes if isinstance(node, ast.Assign) and _called(node.value) in SCOPES)
    scopes = SCOPES | {_called(target) for node in assigned for target in node.targets}
    for node in nodes:
        if isinstance(node, ast.With | ast.AsyncWith):
            scope = next((name for item in node.items if (name := _called(item.context_expr)) in scopes), None)
            if scope and any(isinstance(inner, ast.Yield | ast.YieldFrom) for inner in _own_nodes(node)):
                raise DefinitionError(
                    f"{where} yields inside {scope}, line {node.lineno} of the function: a scope must be left where "
                    "it was entered, which a generator cannot promise. Write run(self, inbox, outbox, turn) and "
                    "`await outbox.send(item)` there instead of `yield item`."
                )


def _own_nodes(root: ast.AST) -> typing.Iterator[ast.AST]:
    """The nodes below, those of functions defined inside left out."""
    for child in ast.iter_child_nodes(root):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from _own_nodes(child)


def _called(expression: ast.expr) -> str:
    if isinstance(expression, ast.Call):
        expression = expression.func
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")
