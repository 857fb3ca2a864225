"""Flows as values: composing, slicing, names, equality, repr."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ezflow import (
    DefinitionError,
    EntryError,
    Flow,
    Latest,
    Module,
    Turn,
    batch,
    fallback,
    module,
    ordered,
    race,
    retry,
    route,
    timeout,
)


@module
class VAD(Module[str, str]):
    async def process(self, item: str, turn: Turn) -> str:
        return item


@module
class ASR(Module[str, str]):
    async def process(self, item: str, turn: Turn) -> str:
        return item


@module
class ChatLLM(Module[str, str]):
    model: str = "small"
    heat: float = 0.5

    async def process(self, item: str, turn: Turn) -> str:
        return item


@module
class TTS(Module[str, str]):
    voice: str

    async def process(self, item: str, turn: Turn) -> str:
        return item


@module
def tidy(text: str) -> str:
    return text.strip()


def first_letter(text: str) -> str:
    return text[:1]


vad, asr, llm, tts = VAD(), ASR(), ChatLLM(), TTS("ann")


def names(flow: Flow[str, str]) -> list[str]:
    return [stage.name for stage in flow.stages]


# ---- composing


def test_a_series_is_associative_and_so_is_a_parallel():
    assert (vad >> asr) >> llm == vad >> (asr >> llm) == vad >> asr >> llm
    assert (vad | asr) | llm == vad | (asr | llm)


def test_flows_are_equal_when_their_parts_are():
    assert vad >> ChatLLM("big") == VAD() >> ChatLLM("big")
    assert vad >> llm != vad >> ChatLLM("big")
    assert vad >> asr != asr >> vad
    assert vad >> asr != vad | asr
    assert Latest(llm) != ordered(llm, 1) != ordered(llm, 2)
    assert llm.named("a") != llm
    assert llm.shown() != llm
    assert len({vad >> llm, VAD() >> ChatLLM(), vad | llm, llm.shown(), Latest(llm)}) == 4


def test_a_flow_is_immutable():
    with pytest.raises(AttributeError):
        (vad >> asr).flows = ()
    with pytest.raises(AttributeError):
        Latest(asr).flow = vad


def test_functions_join_a_chain_on_either_side():
    assert names(vad >> first_letter >> tidy) == ["vad", "first_letter", "tidy"]
    assert names(first_letter >> vad) == ["first_letter", "vad"]
    assert names(vad | first_letter) == ["vad", "first_letter"]
    assert names(first_letter | vad) == ["first_letter", "vad"]
    assert names(first_letter | (vad | tidy)) == ["first_letter", "vad", "tidy"]
    assert vad >> first_letter == vad >> first_letter


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: vad >> ASR,
        lambda: ASR >> vad,
        lambda: vad | ASR,
        lambda: ASR | vad,
        lambda: (lambda text: text) | vad,
        lambda: vad >> (lambda text: text),
        lambda: vad >> print,
        lambda: vad >> None,
        lambda: Latest(ASR),
        lambda: ordered(ASR, 2),
        lambda: timeout(None, 2),
    ],
)
def test_what_is_no_flow_is_refused_where_it_is_written(wrong):
    with pytest.raises(DefinitionError):
        wrong()


# ---- names


def test_stages_are_named_after_their_class_or_function():
    stages = (vad >> Latest(asr >> llm >> tidy)).stages
    assert [(stage.index, stage.name, stage.module) for stage in stages] == [
        (0, "vad", vad),
        (1, "asr", asr),
        (2, "chat_llm", llm),
        (3, "tidy", tidy),
    ]


def test_a_name_that_occurs_again_gets_a_number():
    assert names(asr >> asr >> (vad | asr)) == ["asr", "asr_2", "vad", "asr_3"]
    assert names(asr >> vad.named("asr_2") >> asr) == ["asr", "asr_2", "asr_3"]
    assert names(asr >> vad.named("asr")) == ["asr_2", "asr"]


def test_the_outermost_name_counts():
    assert names(asr.named("inner").shown().named("outer")) == ["outer"]
    assert names(Latest(asr).named("outer")) == ["outer"]


@pytest.mark.parametrize("name", ["", "two words", "1st", "a-b"])
def test_a_name_is_an_identifier(name):
    with pytest.raises(DefinitionError, match="cannot name a stage"):
        asr.named(name)


def test_only_one_stage_can_be_named():
    with pytest.raises(DefinitionError, match="Only one stage can be named 'x', and this flow has 2"):
        (vad >> asr).named("x")


def test_shown_marks_the_stages_that_give_what_the_flow_gives():
    def marks(flow):
        return [stage.is_shown for stage in flow.stages]

    assert marks((vad >> asr).shown() >> llm) == [False, True, False]
    assert marks((vad | asr).shown()) == [True, True]
    assert marks(vad >> Latest(asr >> (llm | tts)).shown()) == [False, False, True, True]


# ---- slicing


def test_an_entry_keeps_its_combinator():
    live = vad >> Latest(asr >> llm)
    assert live[2:] == Latest(llm)
    assert live[1:] == Latest(asr >> llm)
    assert live[:2] == vad >> Latest(asr)
    assert live["chat_llm":] == Latest(llm)
    assert live[:"asr"] == vad
    assert live["asr":"chat_llm"] == Latest(asr)
    assert live[0] == live["vad"] == vad
    assert live[-1] == Latest(llm)
    assert (vad >> ordered(timeout(asr >> llm, 5), 2))[2:] == ordered(timeout(llm, 5), 2)


def test_a_name_in_a_slice_may_be_one_with_a_number():
    assert (asr >> asr >> vad)["asr_2":] == asr >> vad


@pytest.mark.parametrize(
    "combine",
    [
        lambda a, b: a | b,
        lambda a, b: fallback(a, b),
        lambda a, b: race(a, b),
        lambda a, b: route(first_letter, {"a": a, "b": b}),
    ],
)
def test_an_entry_inside_a_branch_runs_that_branch_then_what_follows(combine):
    flow = vad >> combine(asr >> llm, tidy) >> tts
    assert flow[1:] == combine(asr >> llm, tidy) >> tts
    assert flow[2:] in (llm >> tts, route(first_letter, {"a": llm}) >> tts)
    assert flow[3:] in (tidy >> tts, route(first_letter, {"b": tidy}) >> tts)
    assert flow[4:] == tts
    assert names(flow[:3]) == ["vad", "asr", "chat_llm"]
    assert names(flow[:4]) == ["vad", "asr", "chat_llm", "tidy"]


def test_what_is_shown_stays_shown():
    assert (vad >> (asr >> llm).shown())[2:] == llm.shown()
    assert (vad >> (asr >> llm).shown())[:2] == vad >> asr
    assert (asr | llm).shown()[:1] == asr.shown()
    assert Latest(asr >> llm).shown()[1:] == Latest(llm).shown()


@pytest.mark.parametrize("key", [4, -5, "nobody", slice(4, None), slice("nobody", None), slice(2, 2), slice(3, 1)])
def test_a_stage_that_is_not_there_is_an_error_that_names_those_that_are(key):
    with pytest.raises(EntryError) as refused:
        (vad >> asr >> llm >> tts)[key]
    assert str(refused.value).endswith(" does not exist: this flow has 4 stages, 0 vad, 1 asr, 2 chat_llm, 3 tts.")
    assert refused.value.names == ("vad", "asr", "chat_llm", "tts")
    assert isinstance(refused.value, LookupError)


@pytest.mark.parametrize("key", [slice(0, 2, 1), 1.5, None, True, slice(True, None), slice(0.5, None)])
def test_what_is_no_entry_is_refused(key):
    with pytest.raises(DefinitionError):
        (vad >> asr)[key]


def test_an_entry_error_reads_as_the_design_says():
    with pytest.raises(EntryError) as refused:
        (vad >> asr)[7:]
    assert str(refused.value) == "Entry 7 does not exist: this flow has 2 stages, 0 vad, 1 asr."


# ---- laws, of many shapes

LEAVES = st.sampled_from([vad, asr, llm, ChatLLM("big", heat=0.25), tts, tidy, batch(3, 0.5)])
# What stands in a series without being one; a cut beside it splits nothing.
PIECES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda one, word: one.named(word), LEAVES, st.sampled_from(["x", "y"])),
        inner.map(Flow.shown),
        inner.map(Latest),
        st.builds(ordered, inner, st.integers(1, 4)),
        st.builds(timeout, inner, st.floats(0.5, 9.5)),
        st.builds(retry, inner, st.integers(1, 3), st.floats(0, 2)),
        st.builds(fallback, inner, inner),
        st.builds(race, inner, inner, inner),
        st.builds(lambda one, other: one | other, inner, inner),
        st.builds(lambda a, b: route(first_letter, {"a": a, 1: b}), inner, inner),
        st.builds(lambda a, b: route(first_letter, {"a": a}, otherwise=b), inner, inner),
        st.builds(lambda one, other: Latest(one >> other), inner, inner),
    ),
    max_leaves=6,
)
SERIES = st.lists(PIECES, min_size=1, max_size=5)


def joined(pieces):
    flow = pieces[0]
    for piece in pieces[1:]:
        flow = flow >> piece
    return flow


@settings(max_examples=150, deadline=None)
@given(SERIES)
def test_a_flow_cut_between_two_pieces_and_joined_again_is_the_same(pieces):
    flow = joined(pieces)
    assert flow[:] == flow[0:] == flow
    at = 0
    for piece in pieces[:-1]:
        at += len(piece.stages)
        assert flow[:at] >> flow[at:] == flow


@settings(max_examples=150, deadline=None)
@given(SERIES)
def test_the_first_stages_are_the_same_stages_wherever_the_cut_is(pieces):
    flow = joined(pieces)
    stages = [(stage.module, stage.is_shown) for stage in flow.stages]
    for at in range(1, len(stages)):
        assert [(stage.module, stage.is_shown) for stage in flow[:at].stages] == stages[:at]
        rest = [(stage.module, stage.is_shown) for stage in flow[at:].stages]
        assert rest[0] == stages[at]
        remaining = iter(stages[at:])
        assert all(stage in remaining for stage in rest)  # in order, other branches left out


@settings(max_examples=200, deadline=None)
@given(SERIES)
def test_a_repr_pasted_back_is_the_same_flow(pieces):
    flow = joined(pieces)
    again = eval(repr(flow))
    assert again == flow
    assert hash(again) == hash(flow)
    assert repr(again) == repr(flow)


def test_a_repr_reads_as_it_was_written():
    flow = vad >> Latest(asr >> ChatLLM("big").shown() >> (tidy | tts)) >> batch(2, 0.5)
    assert repr(flow) == (
        "VAD() >> Latest(ASR() >> ChatLLM(model='big').shown() >> (tidy | TTS(voice='ann'))) >> batch(2, 0.5)"
    )
