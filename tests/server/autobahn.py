"""`python -m tests.server.autobahn REPORT_DIR`: the Autobahn test suite against the layer that /ws stands on.

The guarded server echoes messages in this process. The fuzzing client is another: kosoku, which runs Autobahn's
cases on Python 3, or with `--wstest PATH` the suite as it was published, which needs Python 2.7. Either leaves
Autobahn's report in the folder. Exits with 1 if a case failed or, which the suite tolerates, if the server ended
a connection without a close frame.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio
from quart import websocket
from quart_trio import QuartTrio

from ezflow.server.guard import GuardedConfig, serve

GROUPS = {
    1: "framing",
    2: "pings and pongs",
    3: "reserved bits",
    4: "opcodes",
    5: "fragments",
    6: "UTF-8",
    7: "closing",
    9: "limits and throughput",
    10: "automatic fragments",
}
LEFT_OUT = {12: "permessage-deflate", 13: "permessage-deflate with parameters"}
EXCLUDED = [f"{group}.*" for group in LEFT_OUT]
VERDICTS = ("OK", "NON-STRICT", "INFORMATIONAL", "FAILED")
CLOSE_OPCODE = "8"
KOSOKU = Path(sys.executable).with_name("kosoku")
# Cases 9.1.6 and 9.2.6 send 16 MiB in one message.
LARGEST_MESSAGE_BYTES = 16 * 2**20

app = QuartTrio(__name__)


@app.websocket("/")
async def echo() -> None:
    while True:
        message: str | bytes | None = await websocket.receive()
        await websocket.send(b"" if message is None else message)  # Quart's word for empty bytes is None


@attrs.frozen
class Case:
    """One case of a report: the suite's verdict, and whether the server said why it closed."""

    id: str
    verdict: str
    close_frame: bool
    account: str

    @property
    def group(self) -> int:
        return int(self.id.partition(".")[0])

    @property
    def order(self) -> list[int]:
        return [int(part) for part in self.id.split(".")]

    @classmethod
    def read(cls, file: Path) -> Case:
        """The case of one file of a report."""
        found: dict[str, Any] = json.loads(file.read_text())
        verdict, closing = found["behavior"], found["behaviorClose"]
        if verdict not in VERDICTS or closing not in ("OK", "INFORMATIONAL"):
            verdict = "FAILED"  # Autobahn has more words for it: UNCLEAN, WRONG CODE, UNIMPLEMENTED, …
        received, due = len(found["received"]), len(found["expected"].get("OK", ()))
        parts = [f"{received} of {due} events, then close code {found['remoteCloseCode']}."]
        parts += [found["result"]] if verdict != "NON-STRICT" else []
        parts += [f"{found['resultClose']}."] if verdict == "FAILED" else []
        parts += ["Expected:", re.sub(r"<[^>]*>", "", found["expectation"])]
        return cls(found["id"], verdict, CLOSE_OPCODE in found["rxFrameStats"], " ".join(" ".join(parts).split()))


def client_command(url: str, report: Path, wstest: str | None) -> list[str]:
    """What runs the suite against a server and writes its report."""
    if wstest is None:
        excluded = [part for cases in EXCLUDED for part in ("--exclude", cases)]
        return [str(KOSOKU), url, "--outdir", str(report), *excluded]
    spec = {"outdir": str(report), "servers": [{"url": url}], "cases": ["*"], "exclude-cases": EXCLUDED}
    file = report / "spec.json"
    file.write_text(json.dumps({**spec, "exclude-agent-cases": {}}))
    return [wstest, "--mode", "fuzzingclient", "--spec", str(file)]


async def fuzz(report: Path, wstest: str | None) -> None:
    """Serve, and have the suite's client write its report on it."""
    config = GuardedConfig("127.0.0.1:0")
    config.websocket_max_message_size = LARGEST_MESSAGE_BYTES
    config.websocket_ping_interval = None  # the suite takes a ping for an answer to what it sent
    async with trio.open_nursery() as nursery:
        url = (await nursery.start(partial(serve, app, config, shutdown_trigger=trio.sleep_forever)))[0]
        command = client_command(url.replace("http", "ws", 1), report, wstest)
        with (report / "client.log").open("wb") as log:
            await trio.run_process(command, check=False, stdout=log, stderr=log)
        nursery.cancel_scope.cancel()


def cases_of(report: Path) -> list[Case]:
    """The report's cases, in the suite's order; raises FileNotFoundError if the client has left no report."""
    (cases,) = json.loads((report / "index.json").read_text()).values()
    return sorted((Case.read(report / case["reportfile"]) for case in cases.values()), key=lambda case: case.order)


def table(cases: list[Case]) -> list[str]:
    """A Markdown table of the verdicts in each group."""
    counts: defaultdict[int, Counter[str]] = defaultdict(Counter)
    for case in cases:
        counts[case.group].update(["cases", case.verdict, *(() if case.close_frame else ("no close frame",))])
    columns = ("cases", *VERDICTS, "no close frame")
    lines = [f"| group | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for group, title in sorted((GROUPS | LEFT_OUT).items()):
        cells = [str(counts[group][column]) for column in columns] if group in GROUPS else ["left out"]
        lines.append(f"| {group} {title} | {' | '.join(cells)}{' |' * (len(columns) - len(cells))} |")
    total = sum(counts.values(), Counter())
    return [*lines, f"| all | {' | '.join(str(total[column]) for column in columns)} |"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.server.autobahn", description=__doc__)
    parser.add_argument("report", type=Path, help="the folder for the report; its index.html shows every frame")
    parser.add_argument("--wstest", metavar="PATH", help="the program of the package autobahntestsuite")
    options = parser.parse_args()
    if options.wstest is None and not KOSOKU.exists():
        parser.error("kosoku is not installed beside this Python: `nox -s autobahn` installs it")
    report = options.report.resolve()
    report.mkdir(parents=True, exist_ok=True)
    (report / "index.json").unlink(missing_ok=True)
    trio.run(fuzz, report, options.wstest)
    cases = cases_of(report)
    print(*table(cases), sep="\n")
    print("Groups 12 and 13 are left out: the guard does not offer permessage-deflate, on purpose.\n")
    bad = [case for case in cases if case.verdict == "FAILED" or not case.close_frame]
    for case in cases:
        if case.verdict != "OK" or case in bad:
            print(f"{case.id} {case.verdict}: {case.account}")
    return 1 if bad or not cases else 0


if __name__ == "__main__":
    sys.exit(main())
