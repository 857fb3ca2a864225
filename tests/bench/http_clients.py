"""`python -m tests.bench.http_clients`: what it costs to read a model server's stream, client beside client.

A server process answers each POST with a chunked NDJSON stream, 60 lines of 150 bytes, one each 10 ms or as fast as it
can. The clients run one after another in this process, in turn, several rounds. Ratios are what counts. Where a core is
full, pieces arrive several at once and cost less each: there the lateness of the lines tells more than the CPU time.
`--short` is a run of seconds that fails on lost lines alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import attrs
import trio
import trustme

LINES = 60
BODY = b"x" * 600  # a prompt
CANCELLED = 40


async def serve() -> None:
    """Until standard input ends. `/LINES-MS` streams; `/LINES-MS-NAME` also notes when its client left: `/left`."""
    left: dict[str, float] = {}

    async def connection(stream: trio.abc.Stream) -> None:
        async with stream:
            while target := await _request(stream):
                if target == "left":
                    said = json.dumps(left).encode()
                    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
                    continue
                lines, ms, *name = target.split("-")
                if not name:
                    await _stream(stream, int(lines), int(ms))
                    continue
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_stream, stream, int(lines), int(ms))
                    with suppress(trio.BrokenResourceError):
                        await stream.receive_some()
                    left[name[0]] = time.monotonic()
                    nursery.cancel_scope.cancel()

    async def guarded(stream: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, ExceptionGroup):  # a client has left in the middle
            await connection(stream)

    authority = trustme.CA()
    secured = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(secured)
    async with trio.open_nursery() as nursery:
        (plain,) = await nursery.start(partial(trio.serve_tcp, guarded, 0, host="127.0.0.1"))
        (secure,) = await nursery.start(
            partial(trio.serve_ssl_over_tcp, guarded, 0, secured, host="127.0.0.1", https_compatible=True)
        )
        ports = plain.socket.getsockname()[1], secure.transport_listener.socket.getsockname()[1]
        print(json.dumps([*ports, authority.cert_pem.bytes().decode()]), flush=True)
        await trio.to_thread.run_sync(sys.stdin.read)
        nursery.cancel_scope.cancel()


async def _request(stream: trio.abc.Stream) -> str:
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := await stream.receive_some()):
            return ""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields.get(b"content-length", 0))
    while len(body) < length:
        body += await stream.receive_some()
    return head.split(b" ", 2)[1].decode().strip("/")


async def _stream(stream: trio.abc.Stream, lines: int, ms: int) -> None:
    kind = b"Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked"
    await stream.send_all(b"HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2026 00:00:00 GMT\r\n%b\r\n\r\n" % kind)
    begun = trio.current_time()
    for number in range(lines):
        if ms:
            await trio.sleep_until(begun + number * ms / 1000)
        line = (
            b'{"model":"qwen3","created_at":"2026-01-01T00:00:00.000000Z","message":{"role":"assistant",'
            b'"content":" word%02d"},"done":false,"t":%017.6f}\n' % (number, time.monotonic())
        )
        await stream.send_all(b"%x\r\n%b\r\n" % (len(line), line))
    await stream.send_all(b"0\r\n\r\n")


@contextmanager
def server() -> Iterator[tuple[int, int, ssl.SSLContext]]:
    """Its port, its port for TLS, and who trusts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    try:
        port, tls_port, trusted = json.loads(process.stdout.readline())
        yield port, tls_port, ssl.create_default_context(cadata=trusted)
    finally:
        process.stdin.close()
        process.wait()


@attrs.define
class Seen:
    """What one client did: CPU seconds a turn, and seconds from the request to the first line, from line to line."""

    cpu: list[float] = attrs.field(factory=list)
    first: list[float] = attrs.field(factory=list)
    late: list[float] = attrs.field(factory=list)


async def turns(variant: Callable[..., object], port: int, streams: int, times: int, ms: int, seen: Seen) -> None:
    """So many streams at once, each so many times; connections are made beforehand."""
    async with variant(port, streams) as turn:  # type: ignore[attr-defined]

        async def one(times: int, ms: int, wait_s: float, seen: Seen) -> None:
            await trio.sleep(wait_s)
            for _ in range(times):
                begun = time.monotonic()
                count = 0

                def line(text: str, begun: float = begun) -> None:
                    nonlocal count
                    now = time.monotonic()
                    if text:
                        seen.late.append(now - float(text[-18:-1]))
                        count += 1
                        if count == 1:
                            seen.first.append(now - begun)

                await turn(f"/{LINES}-{ms}", BODY, line)
                if count != LINES:
                    sys.exit(f"{variant}: {LINES} lines were sent, {count} came")

        async with trio.open_nursery() as nursery:
            for _ in range(streams):
                nursery.start_soon(one, 1, 0, 0.0, Seen())
        begun = _cpu()
        async with trio.open_nursery() as nursery:
            for number in range(streams):
                nursery.start_soon(one, times, ms, number * 0.0037 if ms else 0.0, seen)
        seen.cpu.append((_cpu() - begun) / (streams * times))


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def cancels(variant: Callable[..., object], port: int, times: int, name: str) -> list[float]:
    """Seconds from a cancellation in the middle of a stream until the server sees its client gone."""
    told: dict[str, float] = {}
    async with variant(port, 4) as turn:  # type: ignore[attr-defined]
        for number in range(times):
            key = f"{name}{number}"
            with trio.CancelScope() as scope:

                def line(text: str, key: str = key, scope: trio.CancelScope = scope) -> None:
                    if key not in told and '" word03"' in text:
                        told[key] = time.monotonic()
                        scope.cancel()

                await turn(f"/{LINES}-1-{key}", BODY, line)
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(b"GET /left HTTP/1.1\r\n\r\n")
    data = b""
    while not data.endswith(b"}"):
        data += await stream.receive_some()
    stream.socket.close()
    left = json.loads(data.partition(b"\r\n\r\n")[2])
    return [left[key] - when for key, when in told.items()]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.http_clients", description=__doc__)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.serve:
        return trio.run(serve)

    from .http_variants import SECURE, VARIANTS

    rounds = 1 if options.short else options.rounds
    plans = [(20, 1, 10)] if options.short else [(1, 2, 10), (20, 2, 10), (100, 2, 10), (20, 10, 0)]
    with server() as (port, tls_port, trusted):
        secure = {name: partial(variant, tls=trusted) for name, variant in SECURE.items()}
        kinds = [(VARIANTS, port, "", plan) for plan in plans]
        kinds += [(secure, tls_port, " over TLS", plans[min(1, len(plans) - 1)])]
        for variants, at, how, (streams, times, ms) in kinds:
            seen = {name: Seen() for name in variants}
            for _ in range(rounds):
                for name, variant in variants.items():
                    trio.run(turns, variant, at, streams, times, ms, seen[name])
            pace = f"a line each {ms} ms" if ms else "as fast as possible"
            report(f"{streams} streams at once{how}, {pace} (medians of {rounds})", seen)
        print("\ncancelled in the middle: until the server sees it, ms")
        for number, (name, variant) in enumerate(VARIANTS.items()):
            waits = trio.run(cancels, variant, port, 4 if options.short else CANCELLED, f"v{number}c")
            print(f"  {name:<40} p50 {part(waits, 0.5):6.2f}  p99 {part(waits, 0.99):6.2f}")
    return None


def report(title: str, seen: dict[str, Seen]) -> None:
    print(f"\n{title}")
    print(f"  {'':<40}{'CPU ms/turn':>12}{'x bound':>9}{'x httpx2':>9}   first line p50/p99 ms    line late p50/p99 ms")
    cpu = {name: statistics.median(each.cpu) for name, each in seen.items()}
    bound, *_, httpx2 = cpu.values()
    for name, each in seen.items():
        first = f"{part(each.first, 0.5):.2f} / {part(each.first, 0.99):.2f}"
        late = f"{part(each.late, 0.5):.2f} / {part(each.late, 0.99):.2f}"
        ratios = f"{cpu[name] / bound:>9.2f}{cpu[name] / httpx2:>9.2f}"
        print(f"  {name:<40}{cpu[name] * 1e3:>12.2f}{ratios}{first:>24}{late:>24}")


def part(seconds: list[float], share: float) -> float:
    """A percentile, in milliseconds."""
    return sorted(seconds)[min(int(len(seconds) * share), len(seconds) - 1)] * 1e3


if __name__ == "__main__":
    main()
