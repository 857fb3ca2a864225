"""The playground as its user sees it: everything is found by the role and name that a screen reader tells."""

from __future__ import annotations

import re
from typing import Any

from hearing import decoded, encoded
from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect
from speech import Samples

WITHIN_MS = 60_000  # for what a model does, on a machine that has much else to do

expect.set_options(timeout=WITHIN_MS)

__all__ = ["Playground"]


class Playground:
    """A tab with the playground of a server. What the browser complains of is gathered in `complaints`."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.page: Page = context.new_page()
        self.page.set_default_timeout(WITHIN_MS)
        self.complaints: list[str] = []
        self._expected: list[re.Pattern[str]] = []
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))

        page = self.page
        self.status = page.get_by_role("banner").get_by_role("status")
        self.flows = page.get_by_role("combobox", name="Flow", exact=True)
        self.theme = page.get_by_role("button", name="Theme")
        self.flow = page.get_by_role("region", name="Flow", exact=True)
        self.stages = self.flow.get_by_role("button")
        self.log = page.get_by_role("log")
        self.turns = self.log.locator("article[data-turn]")
        self.ask_form = page.get_by_role("form", name="Ask")
        self.message = self.ask_form.get_by_role("textbox", name="Message")
        self.send = self.ask_form.get_by_role("button", name="Send")
        self.hold = self.ask_form.get_by_role("button", name="Hold to talk")
        self.hands_free = self.ask_form.get_by_role("switch", name="Hands-free")
        self.stop = self.ask_form.get_by_role("button", name="Stop")
        self.timeline = page.get_by_role("region", name="Timeline", exact=True)
        self.events = page.get_by_role("region", name="Events", exact=True)
        self.listed = self.events.get_by_role("listbox", name="Events received").get_by_role("option")
        self.options = page.get_by_role("region", name="Options", exact=True)
        self.token_dialog = page.get_by_role("dialog", name="Token needed")
        self.token = self.token_dialog.get_by_label("Token", exact=True)

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def expect_complaints(self, pattern: str) -> None:
        """What the browser itself says of what this test does to it, such as a server that is not there."""
        self._expected.append(re.compile(pattern))

    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(known.search(said) for known in self._expected)]

    def open(self) -> Playground:
        self.page.goto(self.url)
        return self

    def ready(self) -> Playground:
        expect(self.status).to_have_text(re.compile(r"^\s*Connected"))
        return self

    def choose_flow(self, name: str, first_stage: str) -> None:
        self.flows.select_option(name)
        expect(self.stages.first).to_have_accessible_name(re.compile(rf"^{first_stage}"))

    def stage(self, name: str) -> Locator:
        return self.flow.get_by_role("button", name=re.compile(rf"^{name}\b"))

    def ask(self, text: str) -> Locator:
        """Type it and press Enter; the article that shows its turn."""
        before = self.turns.count()
        self.message.fill(text)
        self.message.press("Enter")
        expect(self.turns).to_have_count(before + 1)
        return self.turns.nth(before)

    def part(self, turn: Locator, name: str) -> Locator:
        return turn.locator(f"[data-part={name}]")

    def expect_state(self, turn: Locator, state: str | re.Pattern[str]) -> None:
        expect(turn).to_have_attribute("data-state", state)

    def rest(self) -> None:
        """Wait until nothing is answered and nothing is played."""
        expect(self.stop).to_be_disabled()

    def answer(self, turn: Locator) -> str:
        """The text of a turn that is over."""
        self.expect_state(turn, "done")
        return self.part(turn, "answer").inner_text()

    def figure(self, name: str) -> float:
        """One of the figures of the latest turn, in seconds."""
        shown = self.timeline.locator(f"[data-figure={name}]")
        expect(shown).to_have_text(re.compile(r"^\d+\.\d+ s$"))
        return float(shown.inner_text().removesuffix(" s"))

    def unfold(self, region: Locator, name: str) -> None:
        """Open a panel, which on a phone is folded at first."""
        fold = region.get_by_role("button", name=name, exact=True)
        if fold.get_attribute("aria-expanded") == "false":
            fold.click()

    def observed(self, question: str, *arguments: Any) -> Any:
        """What `in_page.js` has seen."""
        return self.page.evaluate("([q, args]) => observed[q](...args)", [question, arguments])

    def until(self, question: str, answer: bool | int = True, *arguments: Any) -> None:
        """Wait until `in_page.js` has seen this."""
        wanted = [question, arguments, answer, WITHIN_MS]
        self.page.evaluate("([q, args, a, ms]) => observed.until(q, args, a, ms)", wanted)

    def played(self, since: float = 0) -> Samples:
        """All that was heard up to now, when something was heard since then and has ended."""
        self.until("hasPlayedSince", True, since)
        self.until("isPlaying", False)
        return decoded(self.observed("played"))

    def say(self, samples: Samples) -> None:
        """Into the microphone that is open."""
        self.observed("say", encoded(samples))

    def speak(self, by: str) -> None:
        """Hold the button, with the pointer or a key, until the microphone has heard all that its file says."""
        if by == "pointer":
            self.hold.hover()
            self.page.mouse.down()
        else:
            self.hold.focus()
            self.page.keyboard.down(by)
        self.until("hasSpoken")
        self.page.mouse.up() if by == "pointer" else self.page.keyboard.up(by)
