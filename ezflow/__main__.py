"""`python -m ezflow`: the same command line as `ezflow`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
