"""examples/custom_event.py: its event reaches a reader, and a client over HTTP."""

from __future__ import annotations

from programs import example, run, serving, turn

from ezflow.testing import check_module

SAID = "I am so happy! But the cake is gone. What a pity. It is late."


def test_each_sentence_is_printed_with_its_mood(tmp_path):
    assert run("custom_event", SAID, cwd=tmp_path).stdout.splitlines() == [
        "(glad) I am so happy!",
        "(sad) But the cake is gone.",
        "(sad) What a pity.",
        "(calm) It is late.",
    ]


def test_clients_get_an_event_of_its_own_type_before_the_sentence():
    with serving("custom_event") as url:
        events = turn(url, user="ann", input=SAID)
    told = [(event["type"], event.get("text") or event["data"]) for event in events[1:-1]]
    assert told[:4] == [
        ("mood", {"face": "glad", "because": ["happy"]}),
        ("text", "I am so happy!"),
        ("mood", {"face": "sad", "because": ["gone"]}),
        ("text", "But the cake is gone."),
    ]
    assert {event["stage"] for event in events[1:-1]} == {"moods"}


def test_the_module_keeps_the_rules_of_modules():
    check_module(example("custom_event").Moods(), ["What a pity.", "Nice."])
