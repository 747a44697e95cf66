"""Entry point of `python -m jobrelay ...`, of the installed `jobrelay ...` and of `python launcher ...`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from jobrelay.cli.main import main
from jobrelay.terminal import print_in_any_encoding


def run() -> int:
    """Run the command line of this process; return its exit code."""
    print_in_any_encoding()
    arguments = sys.argv[1:]
    code = main(arguments, program=_program(sys.orig_argv[: len(sys.orig_argv) - len(arguments)]))
    if code in (130, 143):  # after an interrupt, do not wait for threads whose API calls get no answer
        sys.stderr.flush()
        os._exit(code)
    return code


def _program(words: Sequence[str]) -> Sequence[str]:
    """The words that started this process; for the script `jobrelay`, without the Python before it."""
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
