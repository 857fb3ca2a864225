"""How far the tests go that choose at random or try everything, and how far they went: said at the end of the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

DONE = pytest.StashKey[dict[str, "Counter[str]"]]()


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    """Is this the long mode: `pytest tests/faults --long`?"""
    return bool(request.config.getoption("--long"))


@pytest.fixture
def effort(is_long: bool) -> Callable[..., settings]:
    """Hypothesis' settings, by how many examples the short and the long mode shall try."""

    def of(short: int, long: int, **more: Any) -> settings:
        # The real clock decides nothing here, and what is found shall be found again.
        return settings(
            max_examples=long if is_long else short,
            deadline=None,
            derandomize=not is_long,
            database=None,
            suppress_health_check=list(HealthCheck),
            **more,
        )

    return of


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`count(examples=1, steps=30)`: adds to what the end of the run says of this test; of `worst_…`, the most."""
    done = request.config.stash.setdefault(DONE, {})

    def add(**numbers: int) -> None:
        counted = done.setdefault(request.node.name, Counter())
        for what, number in numbers.items():
            counted[what] = max(counted[what], number) if what.startswith("worst_") else counted[what] + number

    return add


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes (pytest-xdist) tells its own to the one that tells all."""
    if (told := getattr(session.config, "workeroutput", None)) is not None:
        told["tried"] = {test: dict(numbers) for test, numbers in session.config.stash.get(DONE, {}).items()}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    done = node.config.stash.setdefault(DONE, {})
    tried = getattr(node, "workeroutput", {}).get("tried", {})
    done.update({test: Counter(numbers) for test, numbers in tried.items()})


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    done = config.stash.get(DONE, {})
    if done:
        terminalreporter.section("what was tried")
    for test, numbers in done.items():
        told = ", ".join(f"{number} {what}" for what, number in numbers.items())
        terminalreporter.write_line(f"{test}: {told}")
