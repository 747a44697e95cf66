"""YAML from people: one document or many, without the parts of YAML that surprise or harm."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from jobs.contract.safe_read import TooLarge, read_bytes, read_named

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 100


class YamlError(ValueError):
    """The text is not usable YAML. The message names the source and the line."""


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Base):  # type: ignore[misc]
    """SafeLoader that does not let a key stand twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _refuse_bombs(text: str, source: str) -> None:
    """Aliases can expand without bound, and deep nesting takes for ever: both before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise YamlError(f"{source}: nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise YamlError(f"{source}{line}: aliases (*name) are not accepted")


def load_documents(text: str, source: str) -> list[Any]:
    """Every document of `text`; empty ones are left out. Raises YamlError, naming `source`."""
    if len(text.encode("utf-8", "surrogateescape")) > MAX_BYTES:
        raise YamlError(f"{source}: larger than {MAX_BYTES} bytes")
    try:
        _refuse_bombs(text, source)
        documents = list(yaml.load_all(text, Loader=_PlainLoader))
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise YamlError(f"{source}{where}: {error.problem or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date such as 2026-02-31; RecursionError: thousands of nested brackets
        raise YamlError(f"{source}: {str(error) or 'nested too deeply'}") from error
    return [document for document in documents if document is not None]


def read_documents(path: Path, *, root: Path | None = None) -> list[Any]:
    """Every document of a file. Raises YamlError where it cannot be read as UTF-8 YAML.

    root: of a file on the volume, as in safe_read; None for one that the user has named.
    """
    try:
        content = read_bytes(path, MAX_BYTES, root=root) if root else read_named(path, MAX_BYTES)
        text = content.decode("utf-8")
    except TooLarge as error:
        raise YamlError(f"{path}: larger than {MAX_BYTES} bytes") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise YamlError(f"{path}: {reason}") from error
    return load_documents(text, str(path))


def load_scalar(text: str, source: str) -> Any:
    """The value of `key=TEXT` as YAML reads it: 5 is a number, true a boolean, [1, 2] a list."""
    documents = load_documents(text, source)
    return documents[0] if documents else None
