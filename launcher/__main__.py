"""`python launcher ...`.

Any `python` may run this file: even one that is too old for the rest, or lacks the libraries, can parse it,
and then reports that or hands over to the Python in the checkout's .venv.
"""

import os
import sys

_OLDEST = (3, 11)
_FOLDER = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120
_CHECKOUT = os.path.dirname(_FOLDER)  # noqa: PTH120
_VENV = os.path.join(_CHECKOUT, ".venv")  # noqa: PTH118
#: Nothing works without _NEEDED; some commands fail without _WANTED (pyproject.toml).
_NEEDED = ("click", "pydantic", "yaml", "rich")
_WANTED = ("jinja2", "pathspec", "urllib3", "websocket")


def _complaint():
    # type: () -> str
    """What this Python lacks, as words for an error message; empty if nothing."""
    if sys.version_info < _OLDEST:
        return "is Python " + ".".join(map(str, sys.version_info[:3])) + ", and JobRelay needs 3.11 or newer"
    missing = _missing(_NEEDED)
    return "lacks " + ", ".join(missing) if missing else ""


def _missing(names):
    # type: (tuple[str, ...]) -> list[str]
    import importlib.util

    return [name for name in names if importlib.util.find_spec(name) is None]


def _hand_over():
    # type: () -> None
    """Replace this process with the Python in .venv, if there is one and it is not this one."""
    python = os.path.join(_VENV, "bin", "python")  # noqa: PTH118
    if os.path.exists(python) and os.path.realpath(sys.prefix) != os.path.realpath(_VENV):  # noqa: PTH110
        try:
            os.execv(python, [python] + sys.argv)  # noqa: S606, RUF005
        except OSError as error:
            sys.stderr.write("error: " + python + ": " + str(error) + "\n")


def _start():
    # type: () -> int
    # sys.path[0] is this folder, which holds the package jobrelay; the packages it imports are in jobs/.
    sys.path.insert(1, os.path.join(_CHECKOUT, "jobs"))  # noqa: PTH118
    complaint = _complaint()
    if complaint or _missing(_WANTED):
        _hand_over()
    if complaint:
        hint = "make -C '" + _CHECKOUT + "' install, then the same command again"
        if sys.version_info < _OLDEST:
            hint = (
                "make -C '"
                + _CHECKOUT
                + "' install PYTHON=python3.12 (or newer), then the same command again"
            )
        sys.stderr.write("error: " + sys.executable + " " + complaint + "\n  try: " + hint + "\n")
        return 2
    from jobrelay.__main__ import run

    return run()


if __name__ == "__main__":
    sys.exit(_start())
