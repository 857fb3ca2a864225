"""`ezflow serve`: flows over HTTP."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..logs import FORMATS, LEVELS
from ..target import file_of, load
from .arguments import add_target

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    serve = commands.add_parser("serve", help="serve a file's flows over HTTP")
    add_target(serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=3421, help="port, 0 for a free one (default: %(default)s)")
    serve.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that serve, each with flows of its own (POSIX)"
    )
    serve.add_argument(
        "--worker-port",
        type=int,
        metavar="PORT",
        help="a port for each worker too, from this one on, so that a proxy can choose by the user",
    )
    serve.add_argument(
        "--reload", action="store_true", help="while you develop: start anew when the file, or what it imports, changes"
    )
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
    serve.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..rendering import rendered
    from ..server import serve_as
    from ..server.config import Settings
    from ..server.inherited import Inherited
    from ..server.secrets import secrets_of
    from ..server.tokens import read_file

    inherited = Inherited.take()
    given: dict[str, Any] = {}
    if options.tokens is not None:
        given["tokens"] = read_file(options.tokens)
    tokens = given.get("tokens", ())
    with rendered(options.log_format, options.log_level, secrets=secrets_of({}, tokens)):
        settings = Settings(
            **given,
            host=options.host,
            port=options.port,
            workers=options.workers,
            worker_port=options.worker_port,
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
        if inherited is not None:
            with inherited.at_work():
                serve_as(load(options.target), settings, tokens, inherited)
        elif options.reload or settings.workers > 1 or settings.worker_port is not None:
            from ..server.workers import supervise

            return supervise(settings, file_of(options.target) if options.reload else None)
        else:
            serve_as(load(options.target), settings, tokens)
    return 0
