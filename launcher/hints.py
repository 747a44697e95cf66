"""Hints: what to type next, as commands that work when pasted.

An error, a verdict and a finding carry one. Where it arises nobody knows how the user started the
launcher, so a hint is kept as words; whoever prints it completes it with the program and the options
that say where (`--local`, `--context`, `-n` …).
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass


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
    """What the user typed, for the same run, with more options: SameAgain("--set", "train.memory=4Gi")."""

    extra: tuple[str, ...]

    def __init__(self, *extra: str) -> None:
        object.__setattr__(self, "extra", extra)

    def __str__(self) -> str:
        return f"the same command with {shlex.join(self.extra)}" if self.extra else "the same command again"


#: Prose is allowed where no command helps.
Hint = str | Command | SameAgain
