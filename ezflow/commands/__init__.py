"""The commands of `ezflow`, one a file: `add` tells the parser of it, `_run` does it and gives the exit code."""
