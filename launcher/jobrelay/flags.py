"""The parsed flags, one typed object per kind of command; cli.options documents each flag."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True)
class ConfigFlags:
    """What a run does."""

    run_id: str | None
    config_file: Path | None
    overrides: tuple[str, ...]
    timeout: int | None
    data: tuple[str, ...]
    code: Path | None
    registry: str | None
    no_build: bool


@dataclass(frozen=True)
class RunFlags(ConfigFlags):
    """What a run does, and how it is carried out. Times are in seconds."""

    new: bool
    replace: bool
    queue_timeout: int
    schedule_timeout: int
    start_timeout: int
    early: Literal["auto", "on", "off"]
    no_fetch: bool
    ttl: int | None
    cancel_on_interrupt: bool
    detach: bool
    dry_run: bool
    output: str


@dataclass(frozen=True)
class SweepFlags(ConfigFlags):
    """Which trials a sweep has, and how many run at a time."""

    axes: tuple[str, ...]
    one_at_a_time: bool
    count: int | None
    seeds: int
    max_parallel: int
    pack: int | None
    stop_when: str | None
    choose_on: str | None
    minimize: bool | None
    name: str | None
    dry_run: bool
    output: str


def gathered(kind: type[ConfigFlags]) -> Callable[[Command], Command]:
    """Decorator: pass the keyword arguments that are fields of `kind` as one argument, `flags`."""
    names = [field.name for field in fields(kind)]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_flags(**arguments: Any) -> Any:
            flags = kind(**{name: arguments.pop(name) for name in names})
            return command(flags=flags, **arguments)

        return with_flags  # type: ignore[return-value]

    return decorate
