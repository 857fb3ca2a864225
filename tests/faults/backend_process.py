"""The stand-in of a preset's case as a process of its own, which can be killed, frozen, and started again."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from wires import Wires, go_on

sys.path.insert(0, str(Path(__file__).parents[1] / "stdlib_modules" / "cases"))

from case import load

__all__ = ["BackendProcess", "backend"]

WITHIN_S = 60.0


class BackendProcess:
    """A running stand-in: where it is, and its process."""

    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._said = b""
        self.url = ""

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2].partition("/")[0])

    async def line(self) -> str:
        """The next line that it says."""
        assert self._process.stdout is not None
        with trio.fail_after(WITHIN_S):
            while b"\n" not in self._said:
                more = await self._process.stdout.receive_some()
                assert more, "the stand-in has ended"
                self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line.decode()

    async def hold(self, many: int, at: int) -> None:
        """Have so many answers stop half way through their piece `at`."""
        await self._tell(f"hold {many} {at}")
        assert await self.line() == "holds"

    async def all_held(self) -> None:
        """Wait until they have."""
        assert await self.line() == "held"

    async def go_on(self) -> None:
        """Let them go on."""
        await self._tell("go on")

    async def _tell(self, what: str) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(f"{what}\n".encode())

    async def freeze(self) -> None:
        """SIGSTOP: what it holds stays open, and it says nothing."""
        self._process.send_signal(signal.SIGSTOP)

    async def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone; again, it does nothing."""
        self._process.kill()
        await self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            await pipe.aclose()


@asynccontextmanager
async def backend(name: str, port: int = 0, *, again: bool = False) -> AsyncGenerator[BackendProcess, None]:
    """Start the stand-in of that case, or start it again: what its server keeps on a disk is there."""
    command = [sys.executable, __file__, name, str(port), *(["again"] if again else [])]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    running = BackendProcess(process)
    try:
        running.url = await running.line()
        yield running
    finally:
        with trio.CancelScope(shield=True):
            await running.kill()


async def main(name: str, port: int, again: bool) -> None:
    case = load(name)
    standin = case.standin(**case.again if again else {})
    wires = Wires(standin)
    async with standin.serving(port), trio.open_nursery() as nursery:
        print(standin.url, flush=True)
        # Whoever started it may end before it does: then this ends too, without waiting for a line.
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            match line.split():
                case ["hold", many, at]:
                    wires.hold(int(many), int(at))
                    print("holds", flush=True)
                    nursery.start_soon(_tell_of, wires, int(many))
                case ["go", "on"]:
                    wires.go_on(go_on)
        nursery.cancel_scope.cancel()


async def _tell_of(wires: Wires, many: int) -> None:
    await wires.until_held(many)
    print("held", flush=True)


if __name__ == "__main__":
    trio.run(main, sys.argv[1], int(sys.argv[2]), sys.argv[3:] == ["again"])
