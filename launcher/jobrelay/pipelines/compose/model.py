"""A compose project after reading and merging, in one form for every way of writing it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobrelay.errors import BadInput
from jobrelay.hints import Hint


@dataclass(frozen=True)
class Base:
    """Where relative paths start, and what `~` is."""

    folder: Path
    home: str

    def absolute(self, text: str) -> str:
        """A path as text, without `..` and without a slash at the end."""
        path = self.home + text[1:] if text == "~" or text.startswith("~/") else text
        return os.path.normpath(self.folder / path)

    def at(self, folder: Path) -> Base:
        return Base(folder, self.home)


@dataclass
class Notes:
    """What people should know, in order. Ignored keys are collected: one line for each kind."""

    lines: dict[str, None] = field(default_factory=dict)
    ignored: dict[str, dict[str, None]] = field(default_factory=dict)

    def add(self, line: str) -> None:
        self.lines[line] = None

    def ignore(self, what: str, service: str) -> None:
        self.ignored.setdefault(what, {})[service] = None

    def all(self) -> tuple[str, ...]:
        ignored = (f"{what}: ignored ({', '.join(services)})" for what, services in self.ignored.items())
        return (*self.lines, *ignored)


@dataclass(frozen=True)
class Service:
    """A service in canonical form (`canonical.service`). file: the compose file, for errors."""

    name: str
    config: Mapping[str, Any]
    file: Path

    def refuse(self, key: str, problem: str, hint: Hint = "") -> BadInput:
        return BadInput(f"{self.file}: service {self.name}: {key}: {problem}", hint)

    def get(self, key: str) -> Any:
        return self.config.get(key)

    def table(self, key: str) -> dict[str, Any]:
        """The mapping under a key, empty if there is none. Raises BadInput if it is something else."""
        value = self.config.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.refuse(key, "must be a mapping")
        return dict(value or {})

    def items(self, key: str) -> list[Any]:
        """The list under a key, empty if there is none. Raises BadInput if it is something else."""
        value = self.config.get(key)
        if value is not None and not isinstance(value, list):
            raise self.refuse(key, "must be a list")
        return list(value or [])


@dataclass(frozen=True)
class Project:
    """file: the compose file as the user named it. folder: relative paths start here. services: the active
    ones, in the order of the file. inactive: those whose profile is not chosen; none if the user names
    services. values: variables of the environment and of .env."""

    file: Path
    folder: Path
    name: str
    services: Mapping[str, Service]
    inactive: Mapping[str, Service]
    volumes: Mapping[str, Any]
    secrets: Mapping[str, Any]
    configs: Mapping[str, Any]
    values: Mapping[str, str]
    notes: Notes
