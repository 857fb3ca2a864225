"""The startup check: its report, every fault at once with what to write, and the guards left for run time."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Generic, Literal, NewType, Optional, Protocol, TypeVar, runtime_checkable

import attrs
import pytest
import trio

from ezflow import (
    Audio,
    FlowError,
    Inbox,
    ItemTypeError,
    Latest,
    Module,
    Outbox,
    Turn,
    Utterance,
    batch,
    fallback,
    module,
    ordered,
    retry,
    route,
    timeout,
)
from ezflow.check import out_guards

T = TypeVar("T")
Text = TypeVar("Text", bound=str)
UserId = NewType("UserId", int)


@module
class Moonshine(Module[Audio | Utterance, str]):
    async def process(self, sound: Audio | Utterance, turn: Turn) -> str:
        return ""


@module
class LocalLLM(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text


@module
class Sentences(Module[str, str]):
    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text


@module
class Hibari(Module[str, Audio]):
    async def process(self, text: str, turn: Turn) -> Audio:
        return Audio(b"", 16_000)


@module
class SileroVAD(Module[Audio, Utterance]):
    async def process(self, sound: Audio, turn: Turn) -> Utterance:
        return Utterance()


@module
class Same(Module[T, T]):
    async def process(self, item: T, turn: Turn) -> T:
        return item


def stage(takes: Any, gives: Any, name: str = "Made") -> Module[Any, Any]:
    """A module of these types."""

    @module
    class Made(Module[takes, gives]):
        async def run(self, inbox: Inbox[takes], outbox: Outbox[gives], turn: Turn) -> None:  # type: ignore[valid-type]
            async for item in inbox:
                await outbox.send(item)

    Made.__name__ = name
    return Made()


def messages(flow: Any) -> list[str]:
    return [fault.message for fault in flow.check().faults]


# ---- the report


def test_the_report_names_every_stage_with_its_types():
    flow = Moonshine() >> LocalLLM().shown() >> Sentences() >> Hibari()
    assert str(flow.check()) == (
        "✅ Pipeline verified\n"
        "moonshine -> local_llm -> sentences -> hibari\n"
        "0 moonshine   (in: Audio | Utterance, out: str)\n"
        "1 local_llm   (in: str, out: str)\n"
        "2 sentences   (in: str, out: str)\n"
        "3 hibari      (in: str, out: Audio)"
    )
    assert flow.check().ok
    assert flow.check().faults == ()


def test_the_report_draws_combinators():
    def language(text: str) -> str:
        return "en"

    inner = Moonshine() >> (LocalLLM() | Sentences()) >> fallback(Hibari(), Hibari())
    flow = SileroVAD() >> Latest(inner) >> ordered(Moonshine(), 2) >> route(language, {"en": Hibari()})
    assert str(flow.check()).splitlines()[1] == (
        "silero_vad -> latest(moonshine -> (local_llm | sentences) -> fallback(hibari, hibari_2)) -> "
        "ordered(moonshine_2) -> route(hibari_3)"
    )


def test_the_sentence_for_a_bad_edge():
    assert messages(Sentences() >> Moonshine()) == [
        "Sentences gives str, but Moonshine takes Audio | Utterance: "
        "put an Audio-giving module between them, e.g. Sentences() >> Hibari() >> Moonshine()."
    ]


def test_a_bad_edge_keeps_its_facts():
    (fault,) = (LocalLLM() >> Sentences() >> Moonshine()).check().faults
    assert (fault.giver, fault.taker) == ("sentences", "moonshine")
    assert (fault.gives, fault.takes) == (str, Audio | Utterance)


def test_a_fix_that_is_suggested_is_one():
    flow = eval(messages(Sentences() >> Moonshine())[0].partition("e.g. ")[2].rstrip("."))
    assert flow.check().ok


def test_where_no_module_fits_the_sentence_says_what_to_make():
    (message,) = messages(stage(str, dict) >> stage(UserId, str))
    assert message == (
        "Made gives dict, but Made takes UserId: put an UserId-giving module between them, "
        "e.g. Made() >> YourUserIdMaker() >> Made()."
    )


def test_all_faults_are_reported_at_once_and_open_raises_them():
    @module
    class Sized(Module[str, str]):
        size: int = 1

        async def process(self, text: str, turn: Turn) -> str:
            return text

    flow = (
        Sized(size="big")  # type: ignore[arg-type]
        >> Moonshine()
        >> Hibari().named("twice")
        >> LocalLLM().named("twice")
        >> Latest(batch(4, 1) >> Same())
    )
    report = flow.check()
    assert [fault.message.split(":")[0] for fault in report.faults] == [
        "2 stages are named 'twice'",
        "Sized.size is 'big' (str), but int is needed",
        "Sized gives str, but Moonshine takes Audio | Utterance",
        "Hibari gives Audio, but LocalLLM takes str",
        "batch waits for 4 items, but Latest gives each item a run of its own, so the second never comes",
    ]
    lines = str(report).splitlines()
    assert lines[0] == "❌ Pipeline has 5 faults"
    assert [line for line in lines if line.startswith("✗ ")] == [f"✗ {fault.message}" for fault in report.faults]

    async def open_it() -> None:
        async with flow.open():
            pass

    with pytest.raises(FlowError) as refused:
        trio.run(open_it)
    assert str(refused.value) == str(report)
    assert refused.value.report == report


def test_one_fault_is_one_fault():
    assert str((Hibari() >> LocalLLM()).check()).startswith("❌ Pipeline has 1 fault\n")


@module
class Remote(Module[str, str]):
    connect_s: float = 5.0
    read_s: float = 0.5
    total_s: float | None = None

    async def process(self, text: str, turn: Turn) -> AsyncIterator[str]:
        yield text


def test_the_report_prints_the_critical_path_of_a_budget_and_marks_limits_that_are_longer():
    answer = (Moonshine() >> Remote().shown() >> Sentences() >> Hibari()).budget(first_reply_s=1.2, total_s=8)
    assert str((SileroVAD() >> Latest(answer)).check()).splitlines()[7:] == [
        "first reply within 1.2 s: moonshine -> remote",
        "    remote: connect_s=5 (longer), read_s=0.5",
        "done within 8 s: moonshine -> remote -> sentences -> hibari",
        "    remote: connect_s=5, read_s=0.5",
    ]


def test_the_critical_path_is_data_too():
    report = (Moonshine() >> Remote(total_s=3) >> Hibari()).budget(first_reply_s=1.2).check()
    (path,) = report.paths
    assert (path.limit, path.seconds) == ("first_reply_s", 1.2)
    assert [stage.name for stage in path.stages] == ["moonshine", "remote", "hibari"]
    assert path.own_limits == {"remote": {"connect_s": 5, "read_s": 0.5, "total_s": 3}}
    assert (Moonshine() >> Remote()).check().paths == ()


@pytest.mark.parametrize(
    ("flow", "path"),
    [
        ((LocalLLM() | Remote().shown()) >> Sentences(), "(local_llm | remote)"),
        (
            fallback(LocalLLM().shown(), Remote()) >> Sentences() >> Hibari(),
            "fallback(local_llm, remote) -> sentences -> hibari",
        ),
        (fallback(LocalLLM(), Remote()).shown() >> Sentences(), "fallback(local_llm, remote)"),
        (retry(LocalLLM() >> Sentences().shown() >> Remote(), 2) >> Hibari(), "retry(local_llm -> sentences)"),
        (Remote().budget(total_s=1).shown() >> Hibari(), "budget(remote)"),
    ],
)
def test_a_critical_path_ends_where_the_client_is_told_something_whichever_way_an_item_takes(flow, path):
    line = str(flow.budget(first_reply_s=2).check()).splitlines()
    assert f"first reply within 2 s: {path}" in line


def test_mermaid_frames_a_budget():
    flow = (Moonshine() >> LocalLLM().budget(first_reply_s=1).budget(total_s=9)).budget(first_reply_s=1.2, total_s=8)
    assert flow.check().mermaid().splitlines()[:10] == [
        "flowchart LR",
        '    subgraph b0_1 ["first reply within 1.2 s, done within 8 s"]',
        '        s0["0 moonshine"]',
        '        subgraph b1_2 ["done within 9 s"]',
        '            subgraph b1_3 ["first reply within 1 s"]',
        '                s1["1 local_llm"]',
        "            end",
        "        end",
        "    end",
        '    s0 -->|"str"| s1',
    ]


def test_mermaid_draws_stages_and_joins_with_their_types():
    flow = Moonshine() >> LocalLLM().shown() >> (Hibari() | Sentences())
    assert flow.check().mermaid() == (
        "flowchart LR\n"
        '    s0["0 moonshine"]\n'
        '    s1(["1 local_llm"])\n'
        '    s2["2 hibari"]\n'
        '    s3["3 sentences"]\n'
        '    s0 -->|"str"| s1\n'
        '    s1 -->|"str"| s2\n'
        '    s1 -->|"str"| s3'
    )
    assert '-->|"Audio or Utterance"|' in (stage(str, Audio | Utterance) >> Moonshine()).check().mermaid()


# ---- edges


class Animal: ...


class Dog(Animal): ...


class Box(Generic[T]): ...


class Speaks(Protocol):
    def speak(self, words: str) -> None: ...


class Parrot:
    def speak(self, words: str) -> None: ...


Mode = Literal["fast", "slow"]

GOOD = [
    (str, str),
    (str, str | int),
    (Dog, Animal),
    (bool, int),
    (int, float),
    (Dog | None, Animal | None),
    (Dog, Optional[Animal]),  # noqa: UP045
    (list[int], Sequence[int]),
    (tuple[Dog, ...], Sequence[Animal]),
    (Parrot, Speaks),
    (Literal["fast"], Mode),
    (Mode, str),
    (UserId, int),
    (Annotated[str, "words"], str),
    (str, Annotated[str, "words"]),
    (str, T),
    (str, Text),
    (Box[int], Box[int]),
    (Box[int], Box[Any]),
    (Any, str),
    (str, Any),
    (str, object),
]
BAD = [
    (str, int),
    (str | int, str),
    (Animal, Dog),
    (Dog | None, Animal),
    (list[str], Sequence[int]),
    (Animal, Speaks),
    (str, Mode),
    (Literal["other"], Mode),
    (int, UserId),
    (int, Text),
    (Box[int], Box[str]),
    (object, str),
    (None, str),
]


@pytest.mark.parametrize(("given", "taken"), GOOD, ids=repr)
def test_a_join_that_fits(given, taken):
    assert messages(stage(Any, given) >> stage(taken, Any)) == []


@pytest.mark.parametrize(("given", "taken"), BAD, ids=repr)
def test_a_join_that_does_not_fit(given, taken):
    (message,) = messages(stage(Any, given) >> stage(taken, Any))
    assert message.startswith("Made gives ")


def test_a_type_variable_carries_the_type_on():
    assert messages(LocalLLM() >> Same() >> Same() >> Sentences()) == []
    (message,) = messages(LocalLLM() >> Same() >> Same() >> Moonshine())
    assert message.startswith("Same gives str, but Moonshine takes Audio | Utterance")


def test_a_batch_gives_tuples_of_what_it_takes():
    assert messages(LocalLLM() >> batch(2, 1) >> stage(tuple[str, ...], str)) == []
    assert messages(LocalLLM() >> batch(2, 1) >> stage(Sequence[str], str)) == []
    (message,) = messages(LocalLLM() >> batch(2, 1) >> stage(tuple[int, ...], str))
    assert message.startswith("Batch gives tuple[str, ...], but Made takes tuple[int, ...]")
    assert "e.g. batch(2, 1) >> " in message


def test_each_branch_is_an_edge_of_its_own():
    assert len(messages((Hibari() | LocalLLM()) >> Sentences())) == 1
    assert len(messages(Hibari() >> (Sentences() | LocalLLM() | Moonshine()))) == 2
    assert messages(fallback(LocalLLM(), Sentences()) >> Hibari()) == []
    assert len(messages(fallback(LocalLLM(), Hibari()) >> Hibari())) == 1


def test_functions_are_named_as_they_are():
    def loud(text: str) -> str:
        return text.upper()

    (message,) = messages(Hibari() >> loud)
    assert "loud takes str: put a str-giving module between them, e.g. Hibari() >> Moonshine() >> " in message


# ---- configuration


@attrs.frozen
class Voice:
    name: str


@runtime_checkable
class Named(Protocol):
    name: str


@module
class Configured(Module[str, str]):
    count: int = 0
    ratio: float = 0.5
    words: tuple[str, ...] = ()
    mode: Mode = "fast"
    voice: Voice | None = None
    table: Any = None
    pairs: tuple[tuple[str, int], ...] = ()
    weights: frozenset[int] = frozenset()
    by: Callable[[str], str] | None = None
    owner: Named = Voice("x")

    async def process(self, text: str, turn: Turn) -> str:
        return text


@pytest.mark.parametrize(
    "values",
    [
        {"count": 1, "ratio": 1, "words": ("a", "b"), "mode": "slow", "voice": Voice("ann")},
        {"pairs": (("a", 1), ("b", 2)), "weights": frozenset({1, 2}), "by": str.upper, "table": (1, "x")},
    ],
)
def test_a_configuration_that_fits(values):
    assert messages(Configured(**values)) == []


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("count", "3", "Configured.count is '3' (str), but int is needed: write Configured(count=...)."),
        (
            "ratio",
            "high",
            "Configured.ratio is 'high' (str), but float is needed: write Configured(ratio=...).",
        ),
        ("words", ("a",) * 50 + (3,), "but tuple[str, ...] is needed"),
        ("mode", "medium", "but Literal['fast', 'slow'] is needed"),
        ("voice", "ann", "but Voice | None is needed"),
        ("pairs", (("a", 1), ("b", "2")), "but tuple[tuple[str, int], ...] is needed"),
        ("weights", frozenset({1, "2"}), "but frozenset[int] is needed"),
        ("by", 3, "is needed"),
        ("owner", 3, "but Named is needed"),
    ],
)
def test_a_configuration_value_of_another_type_is_a_fault(field, value, said):
    (message,) = messages(LocalLLM() >> Configured(**{field: value}))
    assert said in message


@pytest.mark.parametrize("value", [[], {}, ([],)])
def test_a_configuration_that_cannot_be_hashed_is_a_fault(value):
    (message,) = messages(Configured(table=value))
    assert message.startswith("Configured cannot be compared with others (unhashable type")
    assert message.endswith("use tuples and frozen classes in its fields.")


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (
            lambda: ordered(Same(), 2.5),
            "ordered: its limit is 2.5 (float), but int is needed: write ordered(..., limit=",
        ),
        (lambda: timeout(Same(), "3"), "timeout: its seconds is '3' (str), but float is needed: write timeout(..., se"),
        (
            lambda: retry(Same(), 2.5),
            "retry: its attempts is 2.5 (float), but int is needed: write retry(..., attempts=",
        ),
        (lambda: route(len, {}), "route has no branch, so no item can pass: give it one, e.g. route(by, {"),
        (lambda: batch(2.5, 1), "Batch.size is 2.5 (float), but int is needed: write Batch(size=...)."),
        (lambda: batch(1, "1"), "Batch.within_s is '1' (str), but float is needed: write Batch(within_s=...)."),
    ],
)
def test_a_combinator_s_value_of_another_type_is_a_fault(flow, said):
    for whole in (flow(), LocalLLM() >> Latest(LocalLLM() | flow())):
        (message,) = messages(whole)
        assert message.startswith(said)


def test_a_combinator_s_value_that_cannot_be_a_number_is_a_fault_and_no_error_before():
    flow = ordered(timeout(Same(), None), "2") >> batch("2", None) >> route("key", {"a": Same()})
    assert [message.partition(" is ")[0] for message in messages(flow)] == [
        "Batch.size",
        "Batch.within_s",
        "ordered: its limit",
        "timeout: its seconds",
        "route: its by",
    ]
    assert [fault.message.partition(" is ")[0] for fault in Latest(batch("2", 1)).check().faults] == ["Batch.size"]


def test_combinators_whose_values_fit_have_no_fault():
    flow = ordered(timeout(retry(Same(), 3), 3), 2) >> route(len, {1: Same(), "b": Same()}, otherwise=Same())
    assert messages(flow) == []


def test_the_report_of_an_empty_flow_can_be_printed():
    assert str(route(len, {}).check()).startswith("❌ Pipeline has 1 fault\nroute()\n✗ route has no branch")


def test_a_class_without_the_decorator_is_a_fault():
    class Plain(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            return text

    class Sub(LocalLLM): ...

    assert messages(LocalLLM() >> Plain())[0] == "Plain is a plain class: write @module above class Plain."
    assert messages(Sub()) == ["Sub is a plain class: write @module above class Sub."]


def test_a_name_given_twice_is_a_fault():
    flow = LocalLLM().named("llm") >> Sentences().named("llm")
    assert messages(flow) == ["2 stages are named 'llm': give each .named() a name of its own."]


# ---- batches that starve


@pytest.mark.parametrize(
    ("flow", "around"),
    [
        (Latest(batch(2, 1)), "Latest"),
        (ordered(Same() >> batch(2, 1) >> Same(), 3), "ordered"),
        (fallback(batch(2, 1), batch(1, 1)), "fallback"),
        (Latest(ordered(Same() >> Same(), 2) >> batch(2, 1)), "Latest"),
    ],
)
def test_a_batch_whose_second_item_cannot_come_is_a_fault(flow, around):
    assert messages(flow) == [
        f"batch waits for 2 items, but {around} gives each item a run of its own, so the second never comes: "
        f"put the batch before it, e.g. batch(...) >> {around}(...)."
    ]


@pytest.mark.parametrize(
    "flow",
    [
        batch(2, 1) >> Latest(Same()),
        Latest(Sentences() >> batch(2, 1)),  # of one text come several sentences
        Latest((LocalLLM() | Sentences()) >> batch(2, 1)),
        Latest(batch(1, 1)),
        Same() | (batch(2, 1) >> Same()),
    ],
)
def test_a_batch_that_can_fill_is_none(flow):
    assert messages(flow) == []


# ---- what is left for run time


async def test_an_edge_of_any_is_guarded_item_by_item(autojump_clock):
    flow = stage(Any, Any) >> LocalLLM()
    assert flow.check().ok
    assert await flow.collect(["a"]) == ["a"]
    said = r"local_llm takes str, but was given 3 \(int\)\."
    with pytest.RaisesGroup(pytest.RaisesExc(ItemTypeError, match=said)):
        await flow.collect([3])


@pytest.mark.parametrize(
    ("taken", "fits", "misfits"),
    [
        (float, [1, 1.5, True], ["1"]),
        (str | None, ["a", None], [1]),
        (list[int], [[1], []], [["a"], (1,)]),
        (Mode, ["fast"], ["medium", 1]),
        (Speaks, [Parrot()], [Animal()]),
        (Annotated[str, "words"], ["a"], [1]),
        (UserId, [1], ["a"]),
        (tuple[str, ...], [("a",), ()], [("a", 1)]),
        (Animal, [Dog()], [None]),
    ],
    ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)),
)
async def test_what_any_gives_is_checked_against_every_kind_of_type(autojump_clock, taken, fits, misfits):
    flow = stage(Any, Any) >> stage(taken, Any)
    assert await flow.collect(fits) == fits
    for item in misfits:
        with pytest.RaisesGroup(ItemTypeError):
            await flow.collect([item])


async def test_an_item_of_the_wrong_type_is_refused_at_the_entry(autojump_clock):
    async with LocalLLM().open() as service, service.session("ann") as session:
        with pytest.raises(ItemTypeError, match=r"local_llm takes str, but was given 3 \(int\)"):
            session.turn(3)


async def test_in_debug_mode_every_item_is_checked(autojump_clock):
    @module
    class Liar(Module[str, str]):
        async def process(self, text: str, turn: Turn) -> str:
            return 3  # type: ignore[return-value]

    flow = Liar() >> stage(str, str)
    assert await flow.collect(["a"]) == [3]
    with pytest.RaisesGroup(ItemTypeError):
        await flow.collect(["a"], debug=True)


def test_in_debug_mode_what_the_last_stages_give_is_checked():
    def length(text: str) -> int:
        return len(text)

    flow = LocalLLM() >> Latest(Sentences() | length)
    checks = out_guards(flow.check())
    assert list(checks) == [1, 2]
    checks[1]("a")
    checks[2](1)
    with pytest.raises(ItemTypeError, match=r"^sentences gives str, but gave 3 \(int\)\.$") as refused:
        checks[1](3)
    assert (refused.value.stage, refused.value.gives, refused.value.takes) == ("sentences", "str", None)
    with pytest.raises(ItemTypeError, match=r"length gives int, but gave 'a' \(str\)"):
        checks[2]("a")


def test_a_last_stage_may_give_whatever_its_type_variable_allows():
    @module
    class SameText(Module[Text, tuple[Text, ...]]):
        async def process(self, item: Text, turn: Turn) -> tuple[Text, ...]:
            return (item,)

    (check,) = out_guards((LocalLLM() >> SameText()).check()).values()
    check(("a", "b"))
    with pytest.raises(ItemTypeError, match=r"same_text gives tuple\[Text, \.\.\.\], but gave \('a', 3\)"):
        check(("a", 3))


@module
class Bounded(Module[str, str]):
    """Has a bound that a value of a wrong type cannot be compared with."""

    seconds: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))
    count: int = attrs.field(default=1, validator=attrs.validators.ge(1))

    async def process(self, text: str, turn: Turn) -> str:
        return text


def test_a_bounded_field_of_a_wrong_type_is_a_fault_among_the_others():
    faults = Bounded(seconds="x", count="y").check().faults  # type: ignore[arg-type]
    assert [fault.message.partition(",")[0] for fault in faults] == [
        "Bounded.seconds is 'x' (str)",
        "Bounded.count is 'y' (str)",
    ]
    with pytest.raises(ValueError, match="seconds"):
        Bounded(seconds=0.0)
