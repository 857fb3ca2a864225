"""@module: what a definition says, and every misuse refused at its line, saying what to write instead."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import attrs
import pytest
import trio

import ezflow
from ezflow import DefinitionError, Inbox, Module, NotOpenError, Outbox, Turn, module, resource

if TYPE_CHECKING:
    from somewhere_else import Client  # type: ignore[import-not-found]

T = TypeVar("T")
N = TypeVar("N", bound=int)

PROLOGUE = """
from __future__ import annotations
import attrs, trio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import *
import ezflow
from ezflow import DefinitionError, Inbox, Module, Outbox, Turn, module, resource
if TYPE_CHECKING:
    from somewhere_else import Client
"""
SOUND = """
    async def process(self, text: str, turn: Turn) -> str:
        return text
"""


def cls(*fields: str, base: str = "Module[str, str]", body: str = SOUND, how: str = "@module") -> str:
    return "\n".join([how, f"class X({base}):", *(f"    {field}" for field in fields), body])


def process(signature: str, *lines: str) -> str:
    return "\n".join([f"    {signature}", *(f"        {line}" for line in lines or ("return text",))])


ONE = "async def process(self, text: str, turn: Turn) -> str:"
RUN = "async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:"

MISUSES = {
    "takes another type than the base says": (
        cls(body=process("async def process(self, text: int, turn: Turn) -> str:")),
        "X is a Module[str, str], but its process takes int: make the two agree.",
    ),
    "takes less than the base says": (
        cls(base="Module[str | int, str]", body=process(ONE)),
        "X is a Module[str | int, str], but its process takes str: make the two agree.",
    ),
    "gives another type than the base says": (
        cls(body=process("async def process(self, text: str, turn: Turn) -> int:")),
        "X is a Module[str, str], but its process gives int: make the two agree.",
    ),
    "yields another type than the base says": (
        cls(body=process("async def process(self, text: str, turn: Turn) -> AsyncIterator[int]:", "yield 1")),
        "X is a Module[str, str], but its process gives int: make the two agree.",
    ),
    "field without annotation": (cls("mark = '!'"), "X.mark has no annotation: write mark: str = ..."),
    "resource without annotation": (
        cls("http = resource()"),
        "X.http has no annotation: write http: Client = resource()",
    ),
    "private resource without annotation": (
        cls("_http = resource()"),
        "X._http has no annotation: write _http: Client = resource()",
    ),
    "parameter without annotation": (
        cls(body=process("async def process(self, text, turn: Turn) -> str:")),
        "X.process: the parameter 'text' has no annotation: write text: In.",
    ),
    "return without annotation": (
        cls(body=process("async def process(self, text: str, turn: Turn):")),
        "X.process has no return annotation: write -> Out, or -> AsyncIterator[Out].",
    ),
    "no annotation at all": (
        cls(body=process("async def process(self, text, turn):")),
        "X.process has no annotations, so nothing can be checked",
    ),
    "yields but says it returns": (
        cls(body=process(ONE, "yield text")),
        "X.process yields: write -> AsyncIterator[Out] instead of",
    ),
    "yields plainly but says it returns": (
        cls(body=process("def process(self, text: str, turn: Turn) -> str:", "yield text")),
        "X.process yields: write -> Iterator[Out] instead of",
    ),
    "no turn": (
        cls(body=process("async def process(self, text: str) -> str:")),
        "X.process takes (self, item, turn), in this order: change its parameters.",
    ),
    "an unknown type in a parameter": (
        cls(body=process("async def process(self, text: Missing, turn: Turn) -> str:")),
        "X.process, parameter text: the annotation 'Missing' cannot be resolved "
        "(name 'Missing' is not defined): import or define that name at the top of the file",
    ),
    "an unknown type in the return": (
        cls(body=process("async def process(self, text: str, turn: Turn) -> AsyncIterator[Client]:", "yield 1")),
        "X.process, return: the annotation 'AsyncIterator[Client]' cannot be resolved",
    ),
    "an unknown type in a field": (
        cls("size: Missing = 1"),
        "X.size: the annotation 'Missing' cannot be resolved",
    ),
    "an unknown type in the base": (
        cls(base="Module['Missing', str]"),
        "X's base: the annotation ForwardRef('Missing') cannot be resolved",
    ),
    "something that is no type": (
        cls("size: 'a number' = 3"),
        "X.size: \"'a number'\" is not a type",
    ),
    "a list as default": (
        cls("m: list = []"),
        "X.m has a mutable default, which all users would share: write a tuple",
    ),
    "a dict as default": (cls("m: dict = {}"), "X.m has a mutable default"),
    "a set as default": (cls("m: set = {1}"), "X.m has a mutable default"),
    "attrs.Factory(list)": (cls("m: list = attrs.Factory(list)"), "X.m has a mutable default"),
    "field(factory=dict)": (cls("m: dict = attrs.field(factory=dict)"), "X.m has a mutable default"),
    "field(factory=deque)": (cls("m: deque = attrs.field(factory=deque)"), "X.m has a mutable default"),
    "field(default=[])": (cls("m: list = attrs.field(default=[])"), "X.m has a mutable default"),
    "field(factory=lambda: {})": (cls("m: Any = attrs.field(factory=lambda: {})"), "X.m has a mutable default"),
    "a run that takes another type than the base says": (
        cls(body=process("async def run(self, inbox: Inbox[int], outbox: Outbox[str], turn: Turn) -> None:", "...")),
        "X is a Module[str, str], so its run is given an Inbox[str], but its inbox is Inbox[int]: make the two agree.",
    ),
    "a run that takes less than the base says": (
        cls(base="Module[str | int, str]", body=process(RUN, "...")),
        "so its run is given an Inbox[str | int], but its inbox is Inbox[str]: make the two agree.",
    ),
    "a run that gives another type than the base says": (
        cls(body=process("async def run(self, inbox: Inbox[str], outbox: Outbox[int], turn: Turn) -> None:", "...")),
        "X is a Module[str, str], so its run is given an Outbox[str], but its outbox is Outbox[int]",
    ),
    "a run that gives more than the base says": (
        cls(body=process(RUN.replace("Outbox[str]", "Outbox[str | int]"), "...")),
        "so its run is given an Outbox[str], but its outbox is Outbox[str | int]: make the two agree.",
    ),
    "a run whose ends are changed over": (
        cls(body=process("async def run(self, outbox: Outbox[str], inbox: Inbox[str], turn: Turn) -> None:", "...")),
        "so its run is given an Inbox[str], but its inbox is Outbox[str]: make the two agree.",
    ),
    "a run without annotations": (
        cls(body=process("async def run(self, inbox, outbox, turn):", "...")),
        "X.run: the parameter 'inbox' has no annotation: write inbox: Inbox[In].",
    ),
    "a run without an annotation of its outbox": (
        cls(body=process("async def run(self, inbox: Inbox[str], outbox, turn: Turn) -> None:", "...")),
        "X.run: the parameter 'outbox' has no annotation: write outbox: Outbox[Out].",
    ),
    "a run of an unknown type": (
        cls(body=process("async def run(self, inbox: Inbox[Client], outbox: Outbox[str], turn: Turn) -> None:", "...")),
        "X.run, parameter inbox: the annotation 'Inbox[Client]' cannot be resolved",
    ),
    "a run without a turn": (
        cls(body=process("async def run(self, inbox: Inbox[str], outbox: Outbox[str]) -> None:", "...")),
        "X.run takes (self, inbox, outbox, turn), in this order: change its parameters.",
    ),
    "a run with a required keyword": (
        cls(body=process(RUN.replace("turn: Turn", "turn: Turn, *, more: int"), "...")),
        "X.run takes (self, inbox, outbox, turn), in this order: change its parameters.",
    ),
    "a run whose turn is something else": (
        cls(body=process(RUN.replace("turn: Turn", "turn: int"), "...")),
        "X.run: the last parameter is the turn: write turn: Turn, not int.",
    ),
    "a process whose turn is something else": (
        cls(body=process("async def process(self, text: str, history: list[str]) -> str:")),
        "X.process: the last parameter is the turn: write turn: Turn, not list[str].",
    ),
    "an __init__ of its own": (
        cls("def __init__(self): ..."),
        "X defines __init__, which @module makes: write its configuration as annotated fields",
    ),
    "a decode without a payload": (
        cls("def decode(self): ..."),
        "X.decode takes (self, payload): change its parameters.",
    ),
    "a decode of more than a payload": (
        cls("def decode(self, payload, kind): ..."),
        "X.decode takes (self, payload): change its parameters.",
    ),
    "process and run": (
        cls(body=SOUND + process("async def run(self, inbox, outbox, turn):", "...")),
        "X defines both of process and run: write process(self, item, turn) for one item at a time",
    ),
    "neither process nor run": (cls(body="    pass"), "X defines neither of process and run"),
    "a plain run": (
        cls(body=process("def run(self, inbox, outbox, turn):", "...")),
        "X.run must be `async def run(self, inbox, outbox, turn) -> None`",
    ),
    "a run that yields": (
        cls(body=process("async def run(self, inbox, outbox, turn):", "yield 1")),
        "`await outbox.send(item)`, not with yield.",
    ),
    "no base": (cls(base="object"), "X is no module: write class X(Module[In, Out])."),
    "a base without types": (
        cls(base="Module"),
        "X does not say what it takes and gives: write class X(Module[In,",
    ),
    "blocking and async": (
        cls(how="@module(blocking=True)"),
        "X.process is async, so it cannot be blocking: write def, or leave blocking=True out.",
    ),
    "blocking and yielding": (
        cls(
            how="@module(blocking=True)",
            body=process("async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:", "yield text"),
        ),
        "X.process is async, so it cannot be blocking",
    ),
    "blocking run": (
        cls(how="@module(blocking=True)", body=process("async def run(self, inbox, outbox, turn):", "...")),
        "X: blocking=True goes with process; in run, use trio.to_thread.run_sync.",
    ),
    "a lifespan that is no context manager": (
        cls(body=SOUND + process("async def lifespan(self) -> AsyncGenerator[None, None]:", "yield")),
        "X.lifespan is no context manager yet: write @asynccontextmanager above it.",
    ),
    "a lifespan that is a plain function": (
        cls(body=SOUND + process("def lifespan(self):", "return None")),
        "X.lifespan is no context manager yet: write @asynccontextmanager above it.",
    ),
    "a lifespan that is a plain generator": (
        cls(body=SOUND + process("def lifespan(self) -> Iterator[None]:", "yield")),
        "X.lifespan is no context manager yet: write @asynccontextmanager above it.",
    ),
    "a lifespan that is a context manager of another kind": (
        cls(body=SOUND + "    @contextmanager\n" + process("def lifespan(self) -> Iterator[None]:", "yield")),
        "X.lifespan is no context manager yet: write @asynccontextmanager above it.",
    ),
    "a probe that is a plain function": (
        cls(body=SOUND + process("def probe(self) -> None:", "return None")),
        "X.probe is asked beside running turns: write async def probe(self) -> None.",
    ),
    "options that are no attrs class": (
        cls(how="@module(options=dict)"),
        "X: options must be an attrs class, not <class 'dict'>.",
    ),
    "options without a default": (
        "@attrs.frozen\nclass O:\n    heat: float\n" + cls(how="@module(options=O)"),
        "X: O.heat has no default, which counts when a request says nothing: write heat: Type = ...",
    ),
    "a key without options": (
        cls(how="@module(key='LLM')"),
        "X: key='LLM' names its options: write @module(options=Cls, key='LLM').",
    ),
    "options of a function": (
        "@attrs.frozen\nclass O: ...\n@module(options=O)\ndef f(text: str) -> str: ...",
        "options need a class: write class X(Module[In, Out]) under @module(options=...).",
    ),
    "a function without annotations": (
        "@module\ndef f(text): ...",
        "The function f has no annotations, so nothing can be checked: write a function such as "
        "def f(text: str) -> str, and use that.",
    ),
    "a lambda": ("module(lambda text: text)", "def step(text: str) -> str, and use that."),
    "a function with a parameter too many": (
        "@module\ndef f(a: str, b: str, c: str) -> str: ...",
        "The function f takes (item) or (item, turn), in this order",
    ),
    "a function whose second parameter is no turn": (
        "@module\ndef f(a: str, b: str) -> str: ...",
        "The function f: the second parameter is the turn: write turn: Turn, not 'b'.",
    ),
    "a function with a required keyword": (
        "@module\ndef f(a: str, *, b: str) -> str: ...",
        "The function f: only the item and the turn are given: give the others a default.",
    ),
    "a blocking async function": (
        "@module(blocking=True)\nasync def f(text: str) -> str: ...",
        "The function f is async, so it cannot be blocking",
    ),
    "a class without its parentheses": (
        cls() + "\nX() >> X",
        "X is a class: write X(), with its parentheses.",
    ),
    "a class without its parentheses, in parallel": (
        cls() + "\nX | X()",
        "X is a class: write X(), with its parentheses.",
    ),
    "a class without its parentheses, first": (
        cls() + "\nX >> X()",
        "X is a class: write X(), with its parentheses.",
    ),
    "a lambda in a chain": (cls() + "\nX() >> (lambda text: text)", "<lambda> has no annotations"),
    "a bare method of str in a chain": (
        cls() + "\nX() >> str.upper",
        "def upper(text: str) -> str, and use that.",
    ),
    "a value in a chain": (
        cls() + "\nX() >> 'text'",
        "'text' (str) is no flow: a module or a function is needed.",
    ),
}
RESERVED = ["name", "run", "parts", "stages", "named", "shown", "open", "check", "collect", "options", "form"]


@pytest.mark.parametrize(("source", "message"), MISUSES.values(), ids=MISUSES)
def test_a_misuse_is_an_error_that_says_what_to_write(source, message):
    with pytest.raises(DefinitionError) as refused:
        exec(compile(PROLOGUE + source, "<no such file>", "exec"), {"__name__": "nowhere"})
    assert message in str(refused.value)
    assert isinstance(refused.value, TypeError)


@pytest.mark.parametrize("field", RESERVED)
def test_a_field_that_a_flow_uses_itself_is_refused(field):
    with pytest.raises(DefinitionError, match=f"X.{field}: every flow has a '{field}' of its own"):
        exec(PROLOGUE + cls(f"{field}: str = ''"), {"__name__": "nowhere"})


@pytest.mark.parametrize("method", ["open", "check", "collect", "named", "shown", "stages"])
def test_a_method_that_would_replace_one_of_every_flow_is_refused(method):
    with pytest.raises(DefinitionError, match=f"X.{method}: every flow has a '{method}' of its own"):
        exec(PROLOGUE + cls(f"def {method}(self): ..."), {"__name__": "nowhere"})


def test_misuses_are_errors_under_python_c_too():
    chosen = [MISUSES[name] for name in ("takes another type than the base says", "an unknown type in a field")]
    program = PROLOGUE + cls() + "\nprint(X().check())\n"
    for source, message in chosen:
        program += f"try:\n{textwrap.indent(source, '    ')}\n"
        program += f"except DefinitionError as error: assert {message!r} in str(error)\n"
        program += "else: raise SystemExit('nothing was refused')\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("✅ Pipeline verified\nx\n0 x   (in: str, out: str)")


# ---- a yield inside a scope: these need a source, so they are written out here

SCOPES = [
    "async with trio.open_nursery():",
    "with trio.CancelScope():",
    "with trio.move_on_after(1):",
    "with trio.move_on_at(1):",
    "with trio.fail_after(1):",
    "with trio.fail_at(1):",
    "with turn.cleanup():",
    "with open(text), trio.CancelScope() as scope:",
]


def from_file(tmp_path, source: str) -> None:
    path = tmp_path / "written.py"
    path.write_text(PROLOGUE + source)
    exec(compile(path.read_text(), str(path), "exec"), {"__name__": "written"})


@pytest.mark.parametrize("scope", SCOPES)
def test_a_yield_inside_a_nursery_or_cancel_scope_is_refused(tmp_path, scope):
    body = process("async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:", scope, "    yield text")
    with pytest.raises(DefinitionError) as refused:
        from_file(tmp_path, cls(body=body))
    assert "X.process yields inside" in str(refused.value)
    assert "Write run(self, inbox, outbox, turn) and `await outbox.send(item)` there" in str(refused.value)


def test_a_yield_inside_a_scope_that_has_a_name_is_refused(tmp_path):
    lines = ("mine = trio.CancelScope()", "with mine:", "    yield text")
    body = process("async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:", *lines)
    with pytest.raises(DefinitionError, match="yields inside mine, line 3 of the function"):
        from_file(tmp_path, cls(body=body))


def test_a_yield_deep_inside_a_scope_is_refused_in_functions_too(tmp_path):
    source = """
@module
async def f(text: str) -> AsyncIterator[str]:
    if text:
        async with trio.open_nursery() as nursery:
            for letter in text:
                yield letter
"""
    with pytest.raises(DefinitionError, match="The function f yields inside open_nursery"):
        from_file(tmp_path, source)


def test_a_scope_without_a_yield_or_a_yield_of_another_function_is_no_misuse(tmp_path):
    source = """
@module
class X(Module[str, str]):
    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        async with trio.open_nursery():
            yield

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        with trio.move_on_after(1):
            @asynccontextmanager
            async def inner():
                yield
            async with inner():
                pass
        yield text
"""
    from_file(tmp_path, source)


def test_where_no_source_can_be_read_the_yield_is_let_through():
    body = process("async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:", SCOPES[0], "    yield text")
    exec(compile(PROLOGUE + cls(body=body), "<no such file>", "exec"), {"__name__": "nowhere"})


# ---- what a definition says


@module
class Shout(Module[str, str]):
    """Gives each text back in capitals, with a mark at its end."""

    mark: str = "!"
    LOUDEST: ClassVar[str] = "!!!"

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text.upper() + self.mark


@module
class Fetching(Module[str, str]):
    url: str = "http://here"
    http: Client = resource()

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        self.http = f"client of {self.url}"
        yield

    async def process(self, text: str, turn: Turn) -> str:
        return f"{text} by {self.http}"


async def test_the_types_and_forms_of_a_class(autojump_clock):
    assert (Shout.in_type, Shout.out_type) == (str, str)
    assert await Shout(mark="?").collect(["hey"]) == ["HEY?"]


async def test_a_parameter_may_be_wider_and_a_return_narrower_than_the_base(autojump_clock):
    @module
    class Wide(Module[bool, int | str]):
        async def process(self, item: int | None, turn: Turn) -> int:
            return 1

    assert (Wide.in_type, Wide.out_type) == (bool, int | str)


def test_a_run_may_take_more_and_give_less_than_the_base_says():
    @module
    class Wide(Module[bool, int | str]):
        async def run(self, inbox: Inbox[int | None], outbox: Outbox[int], turn: Turn) -> None: ...

    @module
    class Loose(Module[str, str]):
        async def run(self, inbox: AsyncIterator[str], outbox: Any, turn: object) -> None: ...

    assert (Wide.in_type, Wide.out_type) == (bool, int | str)
    assert Loose().check().ok


def test_a_run_that_is_inherited_has_the_types_of_its_subclass():
    @module
    class Numbers(Listing[int]): ...

    assert (Numbers.in_type, Numbers.out_type) == (int, list[int])


def test_a_turn_that_only_type_checkers_import_is_one():
    source = PROLOGUE.replace("Turn, ", "").replace("import Client", "import Client, Turn")
    exec(source + cls(), {"__name__": "nowhere"})
    for said in ("turn: Turn", "turn: 'Turn'", "turn: missing.Turn", "turn"):
        exec(source + cls(body=process(RUN.replace("turn: Turn", said), "...")), {"__name__": "nowhere"})


def test_a_lifespan_may_be_a_function_that_gives_a_context_manager():
    @module
    class Held(Module[str, str]):
        def lifespan(self) -> AbstractAsyncContextManager[None]:
            return trio.open_nursery()  # type: ignore[return-value]

        async def process(self, text: str, turn: Turn) -> str:
            return text

    assert Held().check().ok


def test_a_decode_may_be_static():
    @module
    class Decoded(Module[str, str]):
        @staticmethod
        def decode(payload: Any) -> str:  # type: ignore[override]
            return str(payload)

        async def process(self, text: str, turn: Turn) -> str:
            return text

    assert Decoded().decode(3) == "3"


async def test_every_way_to_give_works(autojump_clock):
    @module
    class Plain(Module[str, str]):
        def process(self, text: str, turn: Turn) -> str:
            return text + "1"

    @module
    class Iterates(Module[str, str]):
        def process(self, text: str, turn: Turn) -> Iterator[str]:
            yield text + "2"

    @module
    class Runs(Module[str, str]):
        async def run(self, inbox: Inbox[str], outbox: Outbox[str], turn: Turn) -> None:
            async for text in inbox:
                await outbox.send(text + "3")

    @module
    async def awaited(text: str) -> str:
        return text + "4"

    @module
    async def streamed(text: str) -> AsyncIterator[str]:
        yield text + "5"

    @module
    def listed(text: str) -> Iterator[str]:
        yield text + "6"

    flow = Plain() >> Iterates() >> Runs() >> awaited >> streamed >> listed
    assert await flow.collect(["0"]) == ["0123456"]


async def test_blocking_modules_run_in_a_worker_thread():
    @module(blocking=True)
    class InThread(Module[str, bool]):
        def process(self, text: str, turn: Turn) -> Iterator[bool]:
            yield trio.lowlevel.in_trio_run()

    @module(blocking=True)
    def also(text: bool) -> bool:
        return text or trio.lowlevel.in_trio_run()

    assert await (InThread() >> also).collect(["a"]) == [False]


async def test_a_function_may_take_the_turn(autojump_clock):
    @module
    def who(text: str, turn: Turn) -> str:
        return f"{turn.user}: {text}"

    assert await who.collect(["hi"]) == ["script: hi"]


async def test_a_function_module_stays_callable(autojump_clock):
    @module
    def without_stars(text: str, mark: str = "*") -> str:
        """Takes the stars out."""
        return text.replace(mark, "")

    assert without_stars("*a*") == "a"
    assert without_stars("-a-", mark="-") == "a"
    assert without_stars.__doc__ == "Takes the stars out."
    assert await (Shout() >> without_stars).collect(["*a*"]) == ["A!"]


async def test_types_of_the_function_around_are_found(autojump_clock):
    @attrs.frozen
    class Word:
        text: str

    @module
    class Spell(Module["Word", str]):
        first: Word = Word("so")

        async def process(self, word: Word, turn: Turn) -> AsyncIterator[str]:
            yield self.first.text + word.text

    @module
    def word_of(text: str) -> Word:
        return Word(text)

    flow = word_of >> Spell()
    assert Spell.in_type is Word
    assert flow.check().ok
    assert await flow.collect(["a"]) == ["soa"]


# ---- generic modules and subclasses


@module
class Same(Module[T, T]):
    """Gives on what it takes."""

    async def process(self, item: T, turn: Turn) -> T:
        return item


@module
class SameNumber(Same[int]):
    """The same, of numbers."""


class Doubling(Module[N, N], Generic[N]):
    async def process(self, item: N, turn: Turn) -> N:
        return item + item


class Listing(Module[T, list[T]]):
    async def run(self, inbox: Inbox[T], outbox: Outbox[list[T]], turn: Turn) -> None:
        await outbox.send([item async for item in inbox])


@module
class DoublingFlags(Doubling[bool]):
    """Its types are those that it puts for the variables of its base."""


@module
class Louder(Shout):
    mark: str = "!!"
    times: int = 2

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        for _ in range(self.times):
            yield text + self.mark


async def test_a_subclass_of_a_generic_module_binds_its_types(autojump_clock):
    assert (Same.in_type, Same.out_type) == (T, T)
    assert (SameNumber.in_type, SameNumber.out_type) == (int, int)
    assert (DoublingFlags.in_type, DoublingFlags.out_type) == (bool, bool)
    assert await SameNumber().collect([1, 2]) == [1, 2]


async def test_a_subclass_of_a_module_inherits_its_fields_and_types(autojump_clock):
    assert (Louder.in_type, Louder.out_type) == (str, str)
    assert dict(Louder.field_types) == {"mark": str, "times": int}
    assert await Louder(times=1).collect(["a"]) == ["a!!"]


def test_a_field_that_a_subclass_declares_again_has_its_new_type():
    @module
    class Narrow(Shout):
        mark: int = 3

    assert Narrow.field_types["mark"] is int


def test_a_subclass_keeps_the_options_and_the_thread_of_its_base():
    @attrs.frozen
    class Heat:
        degrees: float = 0.5

    @module(options=Heat, key="LLM", blocking=True)
    class Warm(Module[str, str]):
        def process(self, text: str, turn: Turn) -> str:
            return text

    @module
    class Warmer(Warm):
        more: int = 1

    assert (Warmer.options, Warmer.options_key, Warmer.blocking) == (Heat, "LLM", True)


# ---- configuration and resources


def test_configuration_is_frozen_compared_and_hashed():
    shout = Shout(mark="?")
    with pytest.raises(attrs.exceptions.FrozenAttributeError):
        shout.mark = "!"
    assert shout == Shout("?") != Shout()
    assert hash(shout) == hash(Shout("?"))
    assert repr(shout) == "Shout(mark='?')"
    assert repr(Shout()) == "Shout()"
    assert Shout.LOUDEST == "!!!"


def test_a_private_field_is_shown_under_the_name_it_is_given_by():
    @module
    class Hidden(Module[str, str]):
        _key: int = 0

        async def process(self, text: str, turn: Turn) -> str:
            return text

    assert repr(Hidden(key=3)) == "Hidden(key=3)"


def test_a_resource_read_before_its_module_is_open_is_a_clear_error():
    with pytest.raises(NotOpenError, match=r"Fetching\.http exists only while the module is open: run it in a flow"):
        _ = Fetching().http
    assert not hasattr(Fetching(), "http")
    with pytest.raises(AttributeError, match="'Fetching' object has no attribute 'https'"):
        _ = Fetching().https


def test_a_resource_is_no_part_of_the_configuration():
    one, other = Fetching(), Fetching()
    one.http = "a client"
    assert one == other
    assert hash(one) == hash(other)
    assert repr(one) == "Fetching()"
    with pytest.raises(TypeError):
        Fetching(http="a client")


async def test_an_open_module_has_its_resource_and_the_original_does_not(autojump_clock):
    original = Fetching("x")
    assert await original.collect(["a"]) == ["a by client of x"]
    assert not hasattr(original, "http")


def test_a_missing_package_says_which_to_install():
    with pytest.raises(ezflow.MissingDependency, match=r'pip install "ezflow-trio\[speech\]", or pip install -e'):
        with Fetching().needs("hibari-tts", extra="speech"):
            raise ModuleNotFoundError("no hibari")


def test_a_dependency_that_is_there_but_does_not_load_is_not_called_missing():
    with pytest.raises(ezflow.MissingDependency, match=r"is installed, but cannot be loaded: libgomp\.so\.1: no such"):
        with Fetching().needs("xllamacpp", extra="embedded"):
            raise ImportError("libgomp.so.1: no such file")


def test_optional_values_may_have_any_default_that_is_a_value():
    @module
    class Fine(Module[str, str]):
        a: tuple[int, ...] = ()
        b: frozenset[str] = frozenset()
        c: Any = None
        d: tuple[str, ...] = attrs.field(factory=tuple)
        e: tuple[str, ...] = attrs.field(factory=lambda: ("a",))
        f: tuple[str, ...] = attrs.field(default=attrs.Factory(lambda fine: fine.a, takes_self=True))

        async def process(self, text: str, turn: Turn) -> str:
            return text

    assert Fine().check().ok


def test_a_modules_repr_hides_what_a_url_holds_beside_its_place():
    @module
    class Far(Module[str, str]):
        url: str
        mark: str = "!"

        async def process(self, text: str, turn: Turn) -> str:
            return text

    assert repr(Far("http://joe:secret@host:1/v1?key=sk-1", "?")) == "Far(url='http://host:1/v1?…', mark='?')"
    assert repr(Far("ws://host/x")) == "Far(url='ws://host/x')"
    assert repr(Far("joe@host")) == "Far(url='joe@host')"
