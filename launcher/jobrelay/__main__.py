"""`python -m jobrelay ...`, `jobrelay ...` once it is installed, and what `python launcher ...` runs."""

import os
import sys

from jobrelay.cli.main import main
from jobrelay.terminal import print_in_any_encoding


def run() -> int:
    """Do what this process was started for; returns its exit code."""
    print_in_any_encoding()
    arguments = sys.argv[1:]
    code = main(arguments, program=sys.orig_argv[: len(sys.orig_argv) - len(arguments)])
    if code in (130, 143):  # a user who interrupts does not wait for calls that nobody answers
        sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    sys.exit(run())
