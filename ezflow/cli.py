"""The command line: `ezflow serve | check | graph | talk | top | modules | new | models`.

Exit codes: 0 done (`serve`: after a signal); 1 the flow has faults, something failed, or did not leave after a signal;
2 the command line is wrong. A second signal ends `serve` as the system does: a shell shows 130 for SIGINT, 143 for
SIGTERM.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .errors import EzflowError, FlowError, SettingsError
from .logs import FORMATS, LEVELS
from .target import TargetError, load

__all__ = ["main"]

# What threads may take to end, when nothing else of a server is left.
THREADS_S = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; ends the process with its exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        code: int = options.run(options)
    except (TargetError, SettingsError) as error:
        _complain(error)
        code = 2
    except FlowError as error:
        print(error.report, file=sys.stderr)
        code = 1
    except (EzflowError, OSError) as error:
        _complain(error)
        code = 1
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _complain(error: Exception) -> None:
    from .talk.screen import plain  # an error may hold what a server said, and that must not steer a terminal

    print(f"ezflow: {plain(str(error))}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ezflow", description="Typed voice and chat pipelines.")
    parser.add_argument("--version", action="version", version=f"ezflow {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve a file's flows over HTTP")
    _add_target(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=3421, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument(
        "--insecure", action="store_true", help="allow a host that other machines reach, without a token"
    )
    serve.add_argument(
        "--tokens", metavar="FILE", help="who may use it: a line `TOKEN [USER ...]` each (also: EZFLOW_TOKENS)"
    )
    serve.add_argument(
        "--trust", action="append", default=[], metavar="NETWORK", help="whose EZPipe clients need no token: 10.0.0.0/8"
    )
    serve.add_argument(
        "--store", metavar="URL", help="where conversations last: sqlite:///history.db (default: nowhere)"
    )
    serve.add_argument("--grace", type=float, default=5.0, metavar="S", help="seconds for running turns at the end")
    serve.add_argument(
        "--metrics", action="store_true", help="figures for Prometheus at /metrics, and more to see in `ezflow top`"
    )
    serve.add_argument(
        "--no-playground", dest="playground", action="store_false", help="without the page at / to try the flows on"
    )
    serve.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name that clients may call this server by"
    )
    serve.add_argument(
        "--allow-origin", action="append", default=[], metavar="URL", help="a web page's origin that may use it"
    )
    serve.add_argument(
        "--log-format", choices=FORMATS, default="console", help="how log lines look (default: %(default)s)"
    )
    serve.add_argument("--log-level", choices=LEVELS, default="warning", help="from where on (default: %(default)s)")
    serve.add_argument(
        "--traces",
        metavar="URL",
        help="send traces to this OTLP/HTTP collector, as http://127.0.0.1:4318; or off "
        "(default: OTEL_EXPORTER_OTLP_ENDPOINT)",
    )
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", help="check a file's flows and print the report")
    _add_target(check)
    check.set_defaults(run=_check)

    graph = commands.add_parser("graph", help="draw a file's flows, as text or for Mermaid")
    _add_target(graph)
    graph.add_argument("--format", choices=["text", "mermaid"], default="text")
    graph.set_defaults(run=_graph)

    talk = commands.add_parser("talk", help="talk to a server: type questions, pipe them, or give a WAV")
    talk.add_argument("url", metavar="URL", help="where it is, with a flow's name if need be: http://HOST:3421/voice")
    talk.add_argument("wav", nargs="?", type=Path, metavar="FILE.wav", help="a spoken question (default: type or pipe)")
    talk.add_argument("--user", help="whose turns they are (default: a name for this conversation)")
    talk.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds the token for the server (also: EZFLOW_TOKEN)"
    )
    talk.add_argument("--entry", type=_entry, help="the stage that is asked, by name or index (default: one that fits)")
    talk.add_argument("--options", type=_object, default={}, metavar="JSON", help="""'{"LLM": {"temperature": 0.2}}'""")
    talk.add_argument("--save", type=Path, metavar="FILE.wav", help="keep the answer's sound (of more: -2, -3)")
    talk.add_argument("--no-timeline", dest="timeline", action="store_false", help="only what is said")
    talk.set_defaults(run=_talk)

    top = commands.add_parser("top", help="see what a server is doing: sessions, turns, stages, and what they wait for")
    top.add_argument("url", metavar="URL", help="where it is: http://HOST:3421")
    top.add_argument(
        "--token-file", type=Path, metavar="FILE", help="holds a token that stands for all users (also: EZFLOW_TOKEN)"
    )
    top.add_argument("--once", action="store_true", help="one picture, of all sessions")
    top.set_defaults(run=_top)

    modules = commands.add_parser("modules", help="list the modules that are installed, or those of a folder")
    modules.add_argument("folder", nargs="*", type=Path, help="a folder or a file (default: all installed packages)")
    modules.set_defaults(run=_modules)

    new = commands.add_parser("new", help="begin something of your own")
    kinds = new.add_subparsers(required=True, metavar="KIND")
    made = kinds.add_parser("module", help="write a module and its test, which pass as they are")
    made.add_argument("name", help="its class, like Shouter")
    made.add_argument("--http", action="store_true", help="one that speaks to a server over HTTP")
    made.add_argument("--in", dest="folder", type=Path, default=Path(), metavar="FOLDER", help="where (default: here)")
    made.set_defaults(run=_new_module)

    models = commands.add_parser("models", help="list, fetch and find the weights of the embedded models")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is, whose it is, and where it is cached").set_defaults(run=_models)
    pull = actions.add_parser("pull", help="fetch a model into the cache (resumable, verified)")
    pull.add_argument("name", nargs="?", help="a name from `ezflow models list` (default: the LocalLLM's model)")
    pull.set_defaults(run=_pull)
    return parser


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="FILE[:NAME]", help="a Python file with `flow` or `flows`, or a name in it")


def _serve(options: argparse.Namespace) -> int:
    from .rendering import rendered
    from .server import serve
    from .server.ending import end_of_threads
    from .server.secrets import secrets_of
    from .server.tokens import read_file

    given: dict[str, Any] = {}
    if options.tokens is not None:
        given["tokens"] = read_file(options.tokens)
    with rendered(options.log_format, options.log_level, secrets=secrets_of({}, given.get("tokens", ()))):
        try:
            serve(
                load(options.target),
                **given,
                host=options.host,
                port=options.port,
                insecure=options.insecure,
                hosts=tuple(options.allow_host),
                origins=tuple(options.allow_origin),
                trusted=tuple(options.trust),
                store=options.store,
                grace_s=options.grace,
                metrics=options.metrics,
                playground=options.playground,
                # It renders them itself, since it knows the secrets of the flows.
                log_format=options.log_format,
                log_level=options.log_level,
                traces=options.traces,
            )
        finally:
            end_of_threads(THREADS_S)
    return 0


def _check(options: argparse.Namespace) -> int:
    reports = {name: flow.check() for name, flow in load(options.target).items()}
    for name, report in reports.items():
        if name:
            print(f"{name}:")
        print(report)
    return 0 if all(report.ok for report in reports.values()) else 1


def _graph(options: argparse.Namespace) -> int:
    for name, flow in load(options.target).items():
        report = flow.check()
        if name:
            print(f"%% {name}" if options.format == "mermaid" else f"{name}:")
        print(report.mermaid() if options.format == "mermaid" else report.drawing)
    return 0


def _talk(options: argparse.Namespace) -> int:
    import trio

    from .client import Client
    from .talk import Talk
    from .talk.token import token_of

    client = Client(options.url, user=options.user, token=token_of(options.token_file))
    talk = Talk(client, options.entry, options.options, options.wav, options.save, options.timeline)
    return trio.run(talk.run)


def _top(options: argparse.Namespace) -> int:
    from .client.address import Address
    from .talk.token import token_of
    from .top import Top

    top = Top(Address.of(options.url), token_of(options.token_file))
    return top.once() if options.once else top.run()


def _entry(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _object(text: str) -> dict[str, Any]:
    """A JSON object. Raises: argparse.ArgumentTypeError."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("a JSON object is needed, by the stages' keys")
    return value


def _modules(options: argparse.Namespace) -> int:
    from .catalog import Broken, catalog, folder, installed

    for path in options.folder:
        if not path.exists():
            raise TargetError(f"{path} is no folder and no file.")
    files = [file for path in options.folder for file in folder(path)] if options.folder else installed()
    place, code = "", 0
    for entry in catalog(files):
        if isinstance(entry, Broken):
            print(f"{entry.place}\n  cannot be imported: {entry.problem}")
            code = 1
            continue
        if entry.place != place:
            place = entry.place
            print(place)
        print(f"  {entry.line}\n      {entry.about}")
    return code


def _new_module(options: argparse.Namespace) -> int:
    from .scaffold import write

    code, test = write(options.name, options.folder, http=options.http)
    print(f"{code}\n{test}\nRun its test: python -m pytest {test}")
    return 0


def _models(_: argparse.Namespace) -> int:
    from .weights import find, models

    for weights in models():
        path = find(weights)
        place = str(path) if path else f"not here; ezflow models pull {weights.name}"
        print(f"{weights.name}  {weights.size / 1e6:.0f} MB  {weights.licence}  {place}")
    return 0


def _pull(options: argparse.Namespace) -> int:
    from .weights import DEFAULT_MODEL, progress_bar, pull

    pulled = pull(options.name or DEFAULT_MODEL, progress_bar(sys.stderr))
    print(pulled.path)
    if pulled.fetched:
        print(f"fetched from {pulled.source}; it is the file whose SHA-256 is pinned here")
    return 0
