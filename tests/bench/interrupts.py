"""`python -m tests.bench.interrupts`: from an interrupt to the server's seeing its client leave, for each preset.

Client and stand-in share a process and a clock, so the figure is what ezflow and the loopback take. Prints a table.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).parents[1] / "stdlib_modules"))

from test_presets import LOADED, of

TIMES = 100


async def measure(name: str) -> list[float]:
    """Milliseconds, for each of TIMES interrupts."""
    case, found = LOADED[name], []
    async with case.standin(**case.slow).serving() as server:
        module = case.module(server.url)
        async with module.open() as service, service.session("ann") as session:
            for number in range(1, TIMES + 1):
                async with session.turn(case.samples[0], options=case.options):
                    await server.until(lambda number=number: len(server.requests) >= number)
                    began = trio.current_time()
                    await session.interrupt()
                await server.until(lambda number=number: len(server.left) >= number)
                found.append(1000 * (server.left[-1] - began))
    return found


async def main() -> None:
    print("| preset | median, ms | 99 of 100, ms |\n|---|---|---|")
    for name in sorted(LOADED, key=of):
        found = sorted(await measure(name))
        title = LOADED[name].title or of(name)
        print(f"| `{title}` | {statistics.median(found):.2f} | {found[int(0.99 * TIMES) - 1]:.2f} |", flush=True)


if __name__ == "__main__":
    trio.run(main)
