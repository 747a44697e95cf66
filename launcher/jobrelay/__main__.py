"""`python -m jobrelay ...`, `jobrelay ...` once it is installed, and what `python launcher ...` runs."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jobrelay.cli.main import main
from jobrelay.terminal import print_in_any_encoding


def run() -> int:
    """Do what this process was started for; returns its exit code."""
    print_in_any_encoding()
    arguments = sys.argv[1:]
    code = main(arguments, program=_program(sys.orig_argv[: len(sys.orig_argv) - len(arguments)]))
    if code in (130, 143):  # a user who interrupts does not wait for calls that nobody answers
        sys.stderr.flush()
        os._exit(code)
    return code


def _program(words: Sequence[str]) -> Sequence[str]:
    """How the user started this process; of the script `jobrelay`, without its Python."""
    script = Path(words[-1])
    if script.name != "jobrelay" or not script.is_file():
        return words
    import shutil

    found = shutil.which("jobrelay")
    return ["jobrelay"] if found and script.samefile(found) else [str(script)]


def start() -> NoReturn:
    """The command `jobrelay`."""
    sys.exit(run())


if __name__ == "__main__":
    start()
