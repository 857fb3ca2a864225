"""The table of docs/configuration.md, made from the settings themselves: `python -m tests.docs.settings` writes it."""

from __future__ import annotations

from pathlib import Path

from ezflow.server.flags import FLAGS, default_of, kind_of

__all__ = ["PAGE", "section", "table"]

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN, END = "<!-- made by tests/docs/settings.py -->\n", "<!-- end -->\n"


def table() -> str:
    """A row for each setting: its name, its flag, what it is where nobody gives it, what it is for."""
    rows = ["| setting | flag | default | what |", "|---|---|---|---|"]
    for flag in FLAGS.values():
        value = f" {flag.value}" if flag.value else ""
        more = (
            f", `--no-{flag.flag[2:]}`"
            if kind_of(flag.name) is bool
            else ", several times" * (kind_of(flag.name) is list)
        )
        rows.append(f"| `{flag.name}` | `{flag.flag}{value}`{more} | {_default(flag.name)} | {flag.about} |")
    return "\n".join(rows) + "\n"


def section() -> str:
    """What the page says between its marks."""
    return PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def _default(name: str) -> str:
    default = default_of(name)
    if name == "threads":  # of this machine
        return "cores + 4"
    if isinstance(default, bool):
        return "on" if default else "off"
    if name.endswith(("_bytes", "_body", "_message")):
        return f"{default // 1024**2} MiB"
    if default in (None, []):
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    PAGE.write_text(before + BEGIN + table() + END + rest.partition(END)[2], encoding="utf-8")
