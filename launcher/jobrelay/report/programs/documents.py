"""The JSON files that stages wrote: small ones as tables, large ones folded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobrelay.report.programs.written import Written, chosen
from jobrelay.terminal import printable
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.safe_read import why

_MOST_FILES: Final = 24
_MOST_BYTES: Final = 1024 * 1024
#: More rows than this, or a deeper tree, are shown as text.
_MOST_PAIRS: Final = 40
_MOST_ROWS: Final = 40
_MOST_COLUMNS: Final = 10
_DEEPEST: Final = 3
_LONGEST_VALUE: Final = 200
_LONGEST_KEY: Final = 80
_MOST_ITEMS: Final = 8
#: One with more digits is rounded to six.
_LONGEST_FLOAT: Final = 10
_MOST_TEXT: Final = 12 * 1024


@dataclass(frozen=True)
class Document:
    """A JSON file, in one of three forms: pairs, a table (the first row is its header), or text.

    is_cut: the text is only its start. problem: why there is nothing of it.
    """

    stage: str
    name: str
    bytes: int
    pairs: tuple[tuple[str, str], ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    text: str = ""
    is_cut: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Documents:
    files: tuple[Document, ...]
    left_out: tuple[str, ...]


def documents(folder: Path, written: Sequence[Written]) -> Documents:
    """The JSON files among those that stages wrote."""
    files = chosen(written, (".json",))
    shown = tuple(_document(folder, file) for file in files[:_MOST_FILES])
    left_out = (
        (f"{counted(len(files) - _MOST_FILES, 'more file')} of JSON",) if len(files) > _MOST_FILES else ()
    )
    return Documents(shown, left_out)


def _document(folder: Path, file: Written) -> Document:
    try:
        content = file.read(_MOST_BYTES, folder)
        tree = json.loads(content)
        text = json.dumps(tree, indent=2, ensure_ascii=False)
    except FileNotFoundError:
        return Document(file.stage, file.name, file.size, problem="is not here")
    except OSError as error:
        return Document(file.stage, file.name, file.size, problem=why(error))
    except (ValueError, RecursionError):
        return Document(file.stage, file.name, file.size, problem="is not JSON")
    if pairs := _pairs(tree):
        return Document(file.stage, file.name, len(content), pairs=pairs)
    if table := _table(tree):
        return Document(file.stage, file.name, len(content), table=table)
    return Document(
        file.stage, file.name, len(content), text=text[:_MOST_TEXT], is_cut=len(text) > _MOST_TEXT
    )


def _pairs(tree: Any) -> tuple[tuple[str, str], ...]:
    """Keys and values of an object; none if there are too many, or a list that is not a line."""
    if not isinstance(tree, dict):
        return ()
    found: list[tuple[str, str]] = []
    for key, value in _leaves(tree, "", 1):
        if value is None or len(found) == _MOST_PAIRS:
            return ()
        found.append((printable(key)[:_LONGEST_KEY], value))
    return tuple(found)


def _leaves(tree: Mapping[str, Any], prefix: str, depth: int) -> Iterator[tuple[str, str | None]]:
    """Names and values in words; None for a value that has no place in a line."""
    for key, value in tree.items():
        if isinstance(value, dict) and value and depth < _DEEPEST:
            yield from _leaves(value, f"{prefix}{key}.", depth + 1)
        else:
            yield f"{prefix}{key}", _in_words(value)


def _table(tree: Any) -> tuple[tuple[str, ...], ...]:
    """A list of objects with the same plain values, as rows below their header."""
    if not isinstance(tree, list) or not 1 <= len(tree) <= _MOST_ROWS:
        return ()
    header = list(tree[0]) if isinstance(tree[0], dict) else []
    if not 1 <= len(header) <= _MOST_COLUMNS:
        return ()
    rows = [tuple(printable(key)[:_LONGEST_KEY] for key in header)]
    for each in tree:
        if not isinstance(each, dict) or list(each) != header:
            return ()
        cells = [_in_words(each[key]) for key in header]
        if None in cells:
            return ()
        rows.append(tuple(cell for cell in cells if cell is not None))
    return tuple(rows)


def _in_words(value: Any) -> str | None:
    """A value in a line: a number with its digits, a short list; None for more."""
    if isinstance(value, str):
        text = printable(value.replace("\n", " "))
        return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"
    if isinstance(value, list):
        if len(value) > _MOST_ITEMS or any(isinstance(item, dict | list) for item in value):
            return None
        return ", ".join(str(_in_words(item)) for item in value) or "[]"
    if isinstance(value, dict):
        return None if value else "{}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, float) and len(repr(value)) > _LONGEST_FLOAT:
        return f"{value:.6g}"
    return str(value)
