"""`python launcher …` and `python -m launcher …`."""

import os
import sys

if not __package__:
    # `python launcher` runs a folder: sys.path[0] is the folder itself, where our modules would
    # shadow libraries and the package `launcher` could not be found. Its parent is what is meant.
    from pathlib import Path

    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from launcher.cli import main

if __name__ == "__main__":
    arguments = sys.argv[1:]
    code = main(arguments, program=sys.orig_argv[: len(sys.orig_argv) - len(arguments)])
    if code in (130, 143):  # whoever interrupts does not wait for calls that nobody answers
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
