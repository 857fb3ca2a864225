"""The page at /docs in a browser: nothing is blocked or fetched from elsewhere, and it can be read on a phone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from served import TOKEN

SCREENS: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 860}},
    "phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
THEMES = ["light", "dark"]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`opened(url, **of_the_context)`: a page, of which at the end nothing was blocked, or asked of another server."""
    pages: list[tuple[Page, str]] = []
    said: list[str] = []
    asked: list[str] = []

    def open_page(url: str, path: str = "/docs", **context: Any) -> Page:
        page = browser.new_context(**context).new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        pages.append((page, url))
        page.goto(f"{url}{path}")
        return page

    yield open_page
    for page, _ in pages:
        page.context.close()
    assert [line for line in said if "401" not in line] == []
    assert [url for url in asked if not url.startswith((*(own for _, own in pages), "blob:"))] == []


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("screen", SCREENS)
def test_it_can_be_read_on_any_screen(opened, flows_url, album: Path, screen, theme):
    page = opened(flows_url, color_scheme=theme, **SCREENS[screen])
    expect(page.get_by_role("heading", level=1)).to_contain_text("ezflow")
    page.screenshot(path=album / f"docs-{screen}-{theme}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


@pytest.mark.parametrize(("screen", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_nothing_serious(opened, flows_url, axe, screen, theme):
    page = opened(flows_url, "/health/live", color_scheme=theme, **SCREENS[screen])
    # Its policy runs no script, and so none of axe's: the page is judged without its policy.
    page.route("**/docs", lambda route: route.fulfill(response=(got := route.fetch()), headers=without_policy(got)))
    page.goto(f"{flows_url}/docs")
    page.evaluate(axe)
    # One flow of many: the others look like it.
    found = page.evaluate("axe.run({include: [['header'], ['nav'], ['main > section:first-of-type']]})")["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] in ("serious", "critical")] == []


def without_policy(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "content-security-policy"}


def test_its_contents_lead_to_the_operations_and_a_phone_finds_them_at_the_end(opened, flows_url):
    page = opened(flows_url, **SCREENS["phone"])
    page.get_by_role("link", name="Contents").click()
    page.get_by_role("navigation").get_by_role("link", name="POST /interrupt").first.click()
    expect(page.locator("article:target")).to_be_in_viewport()
    expect(page.locator("article:target h4")).to_contain_text("End a user's turn")


def test_it_asks_for_a_token_and_takes_the_playgrounds(opened, guarded_url, tmp_path):
    page = opened(guarded_url, **SCREENS["desktop"])
    expect(page.get_by_role("heading", level=1)).to_have_text("A token is needed")
    page.get_by_label("Token").fill("a-wrong-token-of-the-tests")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_have_text("This token is none of the server's.")
    page.get_by_label("Token").fill(TOKEN)
    page.get_by_role("button").click()
    expect(page.locator("article h4").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="openapi.json", exact=True).click()
    download.value.save_as(tmp_path / "openapi.json")
    assert '"openapi":"3.1.0"' in (tmp_path / "openapi.json").read_text()
    page.reload()  # the tab knows it now, as it knows the playground's
    expect(page.locator("article h4").first).to_be_visible()


def test_the_playground_leads_to_it(opened, flows_url):
    page = opened(flows_url, "/")
    page.get_by_role("button", name="Help").click()
    page.get_by_role("link", name="What it takes and answers").click()
    expect(page.locator("article h4").first).to_be_visible()
