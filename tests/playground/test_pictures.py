"""Pictures of the playground with a finished turn and its timeline, for the README and for whoever reads a CI run."""

from __future__ import annotations

import pytest
from hearing import write_wav
from speech import silence, spoken

pytestmark = pytest.mark.model

DESKTOP = {"viewport": {"width": 1280, "height": 860}, "device_scale_factor": 2}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def test_pictures_are_taken_in_light_in_dark_and_on_a_phone(visit, voice_url, microphone, album):
    write_wav(microphone, silence(1), spoken("What is the capital of France?"), silence(2))
    tab = visit(voice_url, color_scheme="light", **DESKTOP).ready()
    tab.answer(tab.ask("How many legs does a spider have?"))
    tab.rest()
    tab.speak("pointer")
    tab.answer(tab.turns.nth(1))
    tab.rest()
    light = tab.page.screenshot(path=album / "desktop-light.png")
    tab.page.emulate_media(color_scheme="dark")
    dark = tab.page.screenshot(path=album / "desktop-dark.png")
    assert light != dark
    phone = visit(voice_url, color_scheme="light", **PHONE).ready()
    phone.answer(phone.ask("How many legs does a spider have?"))
    phone.rest()
    phone.page.screenshot(path=album / "phone.png", full_page=True)
