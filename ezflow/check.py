"""The startup check: every stage with its types, and every fault at once.

Each edge is decided by typeguard, through the assignability hook of `ports`; so is each module's configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

import attrs
import typeguard

from .combine.around import Around, Choice
from .combine.batch import Batch
from .combine.budget import Budget
from .combine.route import Route
from .critical import Path, paths
from .drawing import WITHIN, boxes, draw
from .errors import ItemTypeError
from .flow import Flow, Parallel, Series
from .modules import FunctionModule, Module, fields_of
from .ports import Port, assignable, check_edge, show, solve, substitute
from .redaction import HIDDEN, SECRET_NAME, Redactor
from .stage import Stage, bind, stages_of

__all__ = ["Edge", "Fault", "Report", "check", "guards", "out_guards"]

REDACTOR = Redactor()


@attrs.frozen
class Fault:
    """One thing that is wrong: the message says what was given, what is needed, and what to write."""

    message: str
    giver: str | None = None
    taker: str | None = None
    gives: Any = None
    takes: Any = None


@attrs.frozen
class Edge:
    """A join: what one stage gives to another."""

    giver: Stage
    taker: Stage
    type: Any


@attrs.frozen
class Report:
    """What the startup check found; its text is what a start prints."""

    flow: Flow[Any, Any]
    stages: tuple[Stage, ...]
    edges: tuple[Edge, ...]
    faults: tuple[Fault, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """For each limit of each budget: what must be done within it."""
        return tuple(paths(self.flow))

    @property
    def ok(self) -> bool:
        return not self.faults

    @property
    def drawing(self) -> str:
        """The flow in one line: `vad -> latest(asr -> llm)`."""
        return draw(self.flow)

    def __str__(self) -> str:
        count = f"{len(self.faults)} fault{'' if len(self.faults) == 1 else 's'}"
        lines = ["✅ Pipeline verified" if self.ok else f"❌ Pipeline has {count}", self.drawing]
        width = max((len(stage.name) for stage in self.stages), default=0)
        for stage in self.stages:
            types = f"(in: {show(stage.in_type)}, out: {show(stage.out_type)})"
            lines.append(f"{stage.index} {stage.name:<{width}}   {types}")
        for path in self.paths:
            lines += _shown_path(path)
        lines += [f"✗ {fault.message}" for fault in self.faults]
        return "\n".join(lines)

    def mermaid(self) -> str:
        """The flow as a Mermaid drawing: stages as boxes, joins as arrows with their types, budgets as frames."""
        lines = ["flowchart LR", *boxes(self.flow)]
        for edge in self.edges:
            label = show(edge.type).replace("|", "or").replace('"', "'")
            lines.append(f'    s{edge.giver.index} -->|"{label}"| s{edge.taker.index}')
        return "\n".join(lines)


def check(flow: Flow[Any, Any]) -> Report:
    """Check a flow: every join's types, every module's configuration, names. Never raises for a fault."""
    bound = bind(flow)
    stages = stages_of(bound)
    faults: list[Fault] = []
    edges: list[Edge] = []
    faults += _name_faults(stages)
    for stage in stages:
        faults += _configuration_faults(stage)
    faults += _combinator_faults(bound)
    _walk(bound, [], edges, faults)
    _starve(bound, None, faults)
    return Report(bound, stages, tuple(edges), tuple(faults))


def _shown_path(path: Path) -> Iterator[str]:
    """`first reply within 1.2 s: moonshine -> ollama`, and the limits that the modules on it have of their own."""
    yield f"{WITHIN[path.limit]} {path.seconds:g} s: {draw(path.flow)}"
    for stage, limits in path.own_limits.items():
        marked = [f"{name}={value:g}{' (longer)' * (value > path.seconds)}" for name, value in limits.items()]
        yield f"    {stage}: {', '.join(marked)}"


def guards(report: Report, debug: bool) -> dict[int, Callable[[object], None]]:
    """What must be checked item by item, by stage index.

    In production the stages that something typed `Any` gives to; in debug mode every stage, by typeguard.
    """
    undecided = {
        edge.taker.index
        for edge in report.edges
        if Any in _members(edge.type) and edge.taker.in_type not in (Any, object)
    }
    return {
        stage.index: guard(stage, by_typeguard=debug) for stage in report.stages if debug or stage.index in undecided
    }


def out_guards(report: Report) -> dict[int, Callable[[object], None]]:
    """The checks of what comes out of the flow, by the index of its last stages: for debug mode.

    What any other stage gives, the guard of the stage that it goes to sees. A type variable stands for anything that
    it allows: what it is here, an item that enters later on may change.
    """
    lasts = {stage.index: stage for stage, _ in _walk(report.flow, [], [], [])}
    return {index: _by_typeguard(stage, stage.out_type, "gives") for index, stage in lasts.items()}


def guard(stage: Stage, *, by_typeguard: bool) -> Callable[[object], None]:
    """A check that an item is of the type that a stage takes. It raises ItemTypeError."""
    classes = tuple(type(None) if member is None else member for member in _members(stage.in_type))

    def by_class(item: object) -> None:
        if not isinstance(item, classes):
            raise ItemTypeError(stage.name, show(stage.in_type), item)

    plain = all(map(_is_plain, classes))
    return by_class if plain and not by_typeguard else _by_typeguard(stage, stage.in_type, "takes")


def _by_typeguard(stage: Stage, needed: Any, does: Literal["takes", "gives"]) -> Callable[[object], None]:
    def by_check(item: object) -> None:
        try:
            _check_value(item, needed)
        except typeguard.TypeCheckError as error:
            raise ItemTypeError(stage.name, show(needed), item, does) from error

    return by_check


def _check_value(value: object, needed: Any) -> None:
    typeguard.check_type(value, needed, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)


def _is_plain(member: Any) -> bool:
    """Does isinstance say all that there is to say? An int, for one, passes for a float."""
    if not isinstance(member, type) or get_origin(member) is not None or member in (Any, float, complex):
        return False
    return not getattr(member, "_is_protocol", False) and not is_typeddict(member)


def _members(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) in (Union, UnionType):
        for part in get_args(annotation):
            yield from _members(part)
    else:
        yield annotation


def _name_faults(stages: Sequence[Stage]) -> Iterator[Fault]:
    names = [stage.name for stage in stages]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield Fault(f"{names.count(name)} stages are named {name!r}: give each .named() a name of its own.")


def _configuration_faults(stage: Stage) -> Iterator[Fault]:
    module = stage.module
    cls = type(module)
    if isinstance(module, FunctionModule):
        return
    if "__attrs_attrs__" not in vars(cls):
        yield Fault(f"{cls.__name__} is a plain class: write @module above class {cls.__name__}.")
        return
    for field, needed, wrong in _misfits(module, module.field_types):
        message = f"{cls.__name__}.{field} {wrong}: write {cls.__name__}({field}=...)."
        yield Fault(message, taker=stage.name, takes=needed)
    try:
        hash(module)
    except TypeError as error:
        yield Fault(
            f"{cls.__name__} cannot be compared with others ({error}): use tuples and frozen classes in its fields.",
            taker=stage.name,
        )


def _combinator_faults(flow: Flow[Any, Any]) -> Iterator[Fault]:
    if isinstance(flow, Around | Choice | Route):
        name = type(flow).__name__.lower()
        types, own = get_type_hints(type(flow)), {field.name for field in attrs.fields(type(flow))} - {"flow", "flows"}
        for field, needed, wrong in _misfits(flow, {field: types[field] for field in types if field in own}):
            call = f"flow.budget({field}=...)" if isinstance(flow, Budget) else f"{name}(..., {field}=...)"
            yield Fault(f"{name}: its {field} {wrong}: write {call}.", takes=needed)
        if not flow.parts:
            yield Fault(f'{name} has no branch, so no item can pass: give it one, e.g. {name}(by, {{"key": flow}}).')
    for part in flow.parts:
        yield from _combinator_faults(part)


def _misfits(owner: object, needed: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """The fields whose values are of another type, each with its type and what is wrong."""
    for field, annotation in needed.items():
        value = getattr(owner, field)
        try:
            _check_value(value, annotation)
        except typeguard.TypeCheckError:
            shown = HIDDEN if SECRET_NAME.search(field) else REDACTOR.text(repr(value))
            yield field, annotation, f"is {shown} ({type(value).__name__}), but {show(annotation)} is needed"


def _walk(
    flow: Flow[Any, Any], arriving: Sequence[tuple[Stage, Any]], edges: list[Edge], faults: list[Fault]
) -> list[tuple[Stage, Any]]:
    """Follow the types through a flow; returns which stages give what at its end."""
    if isinstance(flow, Stage):
        gives: list[tuple[Stage, Any]] = [] if arriving else [(flow, flow.out_type)]
        for giver, given in arriving:
            edges.append(Edge(giver, flow, given))
            try:
                check_edge(Port(given, giver.name), flow.in_type)
            except typeguard.TypeCheckError:
                faults.append(_edge_fault(giver, given, flow))
                out = flow.out_type
            else:
                out = substitute(flow.out_type, solve(flow.in_type, given))
            if (flow, out) not in gives:
                gives.append((flow, out))
        return gives
    if isinstance(flow, Series):
        for part in flow.parts:
            arriving = _walk(part, arriving, edges, faults)
        return list(arriving)
    return [pair for part in flow.parts for pair in _walk(part, arriving, edges, faults)]


def _edge_fault(giver: Stage, given: Any, taker: Stage) -> Fault:
    first, last = _label(giver), _label(taker)
    wanted = show(next(iter(_members(taker.in_type))))
    article = "an" if wanted[0] in "AEIOUaeiou" else "a"
    own = f"Your{wanted[0].upper() + wanted[1:]}Maker()" if wanted.isidentifier() else "YourOwnMaker()"
    between = _between(given, taker.in_type, {type(stage.module).__module__ for stage in (giver, taker)}) or own
    return Fault(
        f"{first} gives {show(given)}, but {last} takes {show(taker.in_type)}: put {article} {wanted}-giving module "
        f"between them, e.g. {_call(giver)} >> {between} >> {_call(taker)}.",
        giver.name,
        taker.name,
        given,
        taker.in_type,
    )


def _between(given: Any, taken: Any, near: set[str]) -> str | None:
    """A module class of this process that would fit between: the user's own, those of the same file first."""
    # A class of type variables fits everywhere and is no answer: others are derived from it.
    made = {cls for cls in _subclasses(Module) if "__attrs_attrs__" in vars(cls)}
    known = {cls for cls in made if not getattr(cls, "__parameters__", ())}
    for cls in sorted(known, key=lambda cls: (cls.__module__ not in near, cls.__name__)):
        if cls.__module__.startswith("ezflow.") or Any in (cls.in_type, cls.out_type):
            continue
        if assignable(given, cls.in_type) and assignable(substitute(cls.out_type, solve(cls.in_type, given)), taken):
            needed = any(field.init and field.default is attrs.NOTHING for field in fields_of(cls))
            return f"{cls.__name__}(...)" if needed else f"{cls.__name__}()"
    return None


def _subclasses(cls: type[Module[Any, Any]]) -> Iterator[type[Module[Any, Any]]]:
    for sub in cls.__subclasses__():
        yield sub
        yield from _subclasses(sub)


def _label(stage: Stage) -> str:
    return repr(stage.module) if isinstance(stage.module, FunctionModule) else type(stage.module).__name__


def _call(stage: Stage) -> str:
    written = REDACTOR.text(repr(stage.module))
    return written if len(written) <= 60 else f"{_label(stage)}(...)"


def _starve(flow: Flow[Any, Any], around: str | None, faults: list[Fault]) -> str | None:
    """Find batches that wait for a second item which cannot come, since each item has a run of its own.

    It is the one join that could wait for ever: all others take items as they come (see docs/concepts.md).
    `around` is the combinator from which at most one item arrives here, None if any number may; returns the
    same of what is given on.
    """
    if isinstance(flow, Stage):
        size = flow.module.size if isinstance(flow.module, Batch) else 1
        if around and isinstance(size, int) and size > 1:
            faults.append(_starving(flow, size, around))
        one_for_one = flow.module.form is not None and flow.module.form.kind in ("value", "awaitable")
        return around if one_for_one else None
    if isinstance(flow, Series):
        for part in flow.parts:
            around = _starve(part, around, faults)
        return around
    inner = around
    if isinstance(flow, Around | Choice):
        inner = "Latest" if type(flow).__name__ == "Latest" else type(flow).__name__.lower()
    given = [_starve(part, inner, faults) for part in flow.parts]
    return around if all(given) and not isinstance(flow, Parallel) else None


def _starving(stage: Stage, size: int, around: str) -> Fault:
    return Fault(
        f"{stage.name} waits for {size} items, but {around} gives each item a run of its own, so the "
        f"second never comes: put the batch before it, e.g. batch(...) >> {around}(...).",
        taker=stage.name,
    )
