"""Hints: what to type next, as commands that work when pasted.

Errors, verdicts and findings carry one. The code that raises an error does not know how the user started the
launcher, so a hint holds only words; when it is printed, `jobrelay.cli.typed` adds the program and the
options that select the place (`--local`, `--context`, `-n` …).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A command of the launcher: Command("fetch", run)."""

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)

    def __str__(self) -> str:
        return shlex.join(("python", "launcher", *self.words))


@dataclass(frozen=True)
class SameAgain:
    """The user's command for the same run, with more options: SameAgain("--set", "train.memory=4Gi").

    run: its id, once the launcher has chosen it (`of_run`).
    """

    extra: tuple[str, ...]
    run: str | None = None

    def __init__(self, *extra: str, run: str | None = None) -> None:
        object.__setattr__(self, "extra", extra)
        object.__setattr__(self, "run", run)

    def __str__(self) -> str:
        extra = (*(("--run", self.run) if self.run and self.extra else ()), *self.extra)
        return f"the same command with {shlex.join(extra)}" if extra else "the same command again"


#: A str is prose, for cases where no command helps.
Hint = str | Command | SameAgain


def of_run(hint: Hint, run: str) -> Hint:
    """Tie a SameAgain hint to this run, so that the command does not start another."""
    if isinstance(hint, SameAgain) and hint.run is None:
        return SameAgain(*hint.extra, run=run)
    return hint


def as_json(hint: Hint) -> Any:
    """A hint as JSON for an annotation; `from_json` reads it."""
    if isinstance(hint, Command):
        return {"command": list(hint.words)}
    if isinstance(hint, SameAgain):
        return {"again": list(hint.extra), "run": hint.run}
    return hint


def from_json(tree: Any) -> Hint:
    """Read what `as_json` wrote. Raises ValueError for anything else."""
    match tree:
        case str():
            return tree
        case {"command": [*words]} if all(isinstance(word, str) for word in words):
            return Command(*words)
        case {"again": [*extra], "run": str() | None as run} if all(isinstance(word, str) for word in extra):
            return SameAgain(*extra, run=run)
    raise ValueError("not a hint")
