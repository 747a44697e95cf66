"""Read users' YAML, one document or many, without the features of YAML that surprise or do harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml

from jobrelay_runner.volume.safe_read import TooLarge, read_bytes, read_named

MAX_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 100


class YamlError(ValueError):
    """The text is not usable YAML. The message names the source and the line."""


_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _PlainLoader(_Base):  # type: ignore[misc]
    """SafeLoader that rejects duplicate keys."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in getattr(node, "value", ()):
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"the key {key.value!r} appears twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


class _ConfigLoader(_PlainLoader):
    """Also rejects numbers that people and YAML 1.1 read differently. Manifests may have them: mode 0400."""

    def construct_yaml_int(self, node: Any) -> Any:
        return _as_written(node, super().construct_yaml_int)

    def construct_yaml_float(self, node: Any) -> Any:
        return _as_written(node, super().construct_yaml_float)


for _kind in ("int", "float"):
    _ConfigLoader.add_constructor(
        f"tag:yaml.org,2002:{_kind}", getattr(_ConfigLoader, f"construct_yaml_{_kind}")
    )


def _as_written(node: Any, construct: Callable[[Any], float]) -> float:
    """Return the value unless the text is ambiguous: YAML 1.1 reads 010 as 8 and 1:30 as 90."""
    text = node.value
    if ":" in text or re.fullmatch(r"[-+]?0[0-9_]+", text):
        read = f"{construct(node):g}" if len(text) < 20 else "another number"  # of any size, in no time
        problem = f"{text[:40]} would be read as {read}: write a plain number, or text in quotes"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
    return construct(node)


def _refuse_bombs(text: str, source: str) -> None:
    """Reject aliases, which expand without bound, and deep nesting, which takes forever, before building."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise YamlError(f"{source}: nested too deeply")
        if isinstance(event, yaml.AliasEvent):
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise YamlError(f"{source}{line}: aliases (*name) are not accepted")


def load_documents(text: str, source: str, *, plain_numbers: bool = False) -> list[Any]:
    """Return every document of `text` that is not empty. Raises YamlError, naming `source`.

    plain_numbers: reject 010 and 1:30, which YAML 1.1 reads as 8 and 90.
    """
    if len(text.encode("utf-8", "surrogateescape")) > MAX_BYTES:
        raise YamlError(f"{source}: larger than {MAX_BYTES} bytes")
    try:
        _refuse_bombs(text, source)
        documents = list(yaml.load_all(text, Loader=_ConfigLoader if plain_numbers else _PlainLoader))
    except YamlError:
        raise
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem or error)
        lines = text.splitlines()
        line = (
            lines[error.problem_mark.line] if error.problem_mark and lines[error.problem_mark.line :] else ""
        )
        if "\t" in line[: len(line) - len(line.lstrip())]:
            problem = "it starts with a tab; YAML is indented with spaces"
        raise YamlError(f"{source}{where}: {problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date such as 2026-02-31; RecursionError: thousands of nested brackets
        raise YamlError(f"{source}: {str(error) or 'nested too deeply'}") from error
    return [document for document in documents if document is not None]


def read_documents(path: Path, *, root: Path | None = None, plain_numbers: bool = False) -> list[Any]:
    """Return every document of a file. Raises YamlError if it cannot be read as UTF-8 YAML.

    root: as in safe_read, for a file on the volume; None for one that the user named.
    """
    try:
        content = read_bytes(path, MAX_BYTES, root=root) if root else read_named(path, MAX_BYTES)
        text = content.decode("utf-8")
    except TooLarge as error:
        raise YamlError(f"{path}: larger than {MAX_BYTES} bytes") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise YamlError(f"{path}: {reason}") from error
    return load_documents(text, str(path), plain_numbers=plain_numbers)


def load_scalar(text: str, source: str) -> Any:
    """Return the value of `key=TEXT` as YAML reads it: 5 is a number, true a boolean, [1, 2] a list.

    Raises YamlError, also for text that YAML would read as a comment.
    """
    if re.search(r"(^|\s)#", text) and not text.lstrip().startswith(("'", '"')):
        raise YamlError(
            f"{source}: what follows ' #' is a comment to YAML; put the value into quotes: '\"…\"'"
        )
    documents = load_documents(text, source, plain_numbers=True)
    return documents[0] if documents else None
