"""Hints: what to type next, as commands that work when pasted.

An error, a verdict and a finding carry one. Where it arises nobody knows how the user started the
launcher, so a hint is kept as words; `jobrelay.cli.typed` completes it, where it is printed, with the program
and the options that say where (`--local`, `--context`, `-n` …).
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
    """What the user typed, for the same run, with more options: SameAgain("--set", "train.memory=4Gi").

    run: which one, once that is decided (`of_run`).
    """

    extra: tuple[str, ...]
    run: str | None = None

    def __init__(self, *extra: str, run: str | None = None) -> None:
        object.__setattr__(self, "extra", extra)
        object.__setattr__(self, "run", run)

    def __str__(self) -> str:
        extra = (*(("--run", self.run) if self.run and self.extra else ()), *self.extra)
        return f"the same command with {shlex.join(extra)}" if extra else "the same command again"


#: Prose is allowed where no command helps.
Hint = str | Command | SameAgain


def of_run(hint: Hint, run: str) -> Hint:
    """The same command again shall concern this run, and start no other one."""
    if isinstance(hint, SameAgain) and hint.run is None:
        return SameAgain(*hint.extra, run=run)
    return hint


def as_json(hint: Hint) -> Any:
    """For an annotation; `from_json` reads it."""
    if isinstance(hint, Command):
        return {"command": list(hint.words)}
    if isinstance(hint, SameAgain):
        return {"again": list(hint.extra), "run": hint.run}
    return hint


def from_json(tree: Any) -> Hint:
    """Raises ValueError for what `as_json` has not made."""
    match tree:
        case str():
            return tree
        case {"command": [*words]} if all(isinstance(word, str) for word in words):
            return Command(*words)
        case {"again": [*extra], "run": str() | None as run} if all(isinstance(word, str) for word in extra):
            return SameAgain(*extra, run=run)
    raise ValueError("not a hint")
