"""The pages as a site: `sphinx-build -n -W --keep-going docs docs/_build`. Nothing is fetched while it is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ezflow

project = "ezflow"
author = "the ezflow authors"
copyright = author  # noqa: A001  (Sphinx calls it so)
release = version = ezflow.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]

# Docstrings are plain prose in which `this` is code.
default_role = "code"
highlight_language = "text"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

# A heading of levels 1 to 3 can be linked to as on a Git host: `page.md#its-words`.
myst_heading_anchors = 3

html_theme = "furo"
html_title = "ezflow"
html_show_copyright = html_show_sphinx = False
html_copy_source = False

nitpicky = True
nitpick_ignore_regex = [
    # Types of other libraries: their pages are elsewhere, and an inventory of them would have to be fetched.
    ("py:(class|obj|exc)", r"(collections|contextlib|ipaddress|opentelemetry|os|pathlib|ssl|trio)\..*"),
    # Type variables, and what a signature names that is imported for type checkers alone.
    ("py:(class|obj)", r"((ezflow|stdlib_modules)\.([a-z_]+\.)*)?(In|Out|[A-Z]|T_co|T_contra)"),
    ("py:class", r"AbstractAsyncContextManager|WebSocket"),
]

# What a docstring of ours says after its prose, a line each: a paragraph each on the page.
PARTS = re.compile(r"^(Takes|Gives|Raises|Source|Rules|Example|Bounds)(,[^:]*| \([^)]*\))?:", re.MULTILINE)


def part_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Put `Takes: …` and its like into paragraphs of their own, and let a letter follow on code, as in `Event`s."""
    text = re.sub(r"(?<=[.:)]) (Takes|Gives|Raises|Source): ", r"\n\1: ", "\n".join(lines))
    text = re.sub(r"`([^`]+)`(\w)?", lambda code: f"`{code[1]}`" + (f"\\ {code[2]}" if code[2] else ""), text)
    lines[:] = PARTS.sub(r"\n**\1**\2:", text).split("\n")


def name_classes(app: Any, what: str, name: str, obj: Any, options: Any, signature: Any, returns: Any) -> Any:
    """Write a default that is a class as its name, and one that is made anew as `...`."""
    given = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", signature or "").replace("= NOTHING", "= ...")
    return given or signature, returns


def link_outside(app: Any, page: str, source: list[str]) -> None:
    """Make a link to a Markdown file that is no page of the site, such as a client's README, one to a copy of it."""
    here = Path(app.srcdir, page).parent

    def copied(link: re.Match[str]) -> str:
        is_page = (here / link[2]).resolve().is_relative_to(app.srcdir)
        return link[0] if is_page else f"{{download}}`{link[1]} <{link[2]}>`"

    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)#]+\.md)\)", copied, source[0])


def setup(app: Any) -> None:
    app.connect("source-read", link_outside)
    app.connect("autodoc-process-signature", name_classes)
    app.connect("autodoc-process-docstring", part_docstring)
