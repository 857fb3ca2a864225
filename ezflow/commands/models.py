"""`ezflow models`: the weights of the embedded models."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .arguments import Subparsers

__all__ = ["add"]


def add(commands: Subparsers) -> None:
    models = commands.add_parser("models", help="list, fetch and find the weights of the embedded models")
    actions = models.add_subparsers(required=True, metavar="ACTION")
    actions.add_parser("list", help="what there is, whose it is, and where it is cached").set_defaults(run=_list)
    pull = actions.add_parser("pull", help="fetch a model into the cache (resumable, verified)")
    pull.add_argument("name", nargs="?", help="a name from `ezflow models list` (default: the LocalLLM's model)")
    pull.set_defaults(run=_pull)


def _list(_: argparse.Namespace) -> int:
    from ..weights import find, models

    for weights in models():
        path = find(weights)
        place = str(path) if path else f"not here; ezflow models pull {weights.name}"
        print(f"{weights.name}  {weights.size / 1e6:.0f} MB  {weights.licence}  {place}")
    return 0


def _pull(options: argparse.Namespace) -> int:
    from ..weights import DEFAULT_MODEL, progress_bar, pull

    pulled = pull(options.name or DEFAULT_MODEL, progress_bar(sys.stderr))
    print(pulled.path)
    if pulled.fetched:
        print(f"fetched from {pulled.source}; it is the file whose SHA-256 is pinned here")
    return 0
