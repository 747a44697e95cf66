"""Remove credentials from text before it reaches a terminal, a log or a report.

Known values are removed by value (`keep_secret`), all others by shape: the text of any error may quote the
header, the URL or the file that caused it.
"""

from __future__ import annotations

import functools
import json
import re
import threading
from typing import Any, Callable, Final, Union

MASK: Final = "***"

#: Shorter values are left to the shapes: removing "ann" from every text would make it unreadable.
_SHORTEST: Final = 8
#: A value shorter than this is removed only as a whole word.
_LONG: Final = 12

_Substitution = Union[str, Callable[["re.Match[str]"], str]]


@functools.lru_cache(maxsize=None)
def _shapes() -> tuple[tuple[re.Pattern[str], _Substitution], ...]:
    """Return the patterns in the order in which they apply: a header's value is masked as a whole first.

    Compiled when they are needed: most stages end without an error.
    """
    return (
        (
            re.compile(
                r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
            ),
            f"{MASK} (a private key)",
        ),
        # Authorization: Bearer abc; with a scheme, or too long to be a word of a sentence
        (
            re.compile(
                r"(?i)\b((?:proxy-)?authorization\b[\"']?\s*[:=,]\s*(?:b?[\"'])?)"
                r"(?:((?:bearer|basic|negotiate|digest|token)\s+)[^\s\"',;]+|[^\s\"',;]{20,})"
            ),
            lambda found: f"{found[1]}{found[2] or ''}{MASK}",
        ),
        # Bearer abc1, Basic YWJj…: not the words "bearer token" and "basic authentication"
        (
            re.compile(r"(?i)\b(bearer|basic)(\s+)(?=[^\s\"',;]*[\d._~+/=])[A-Za-z0-9._~+/=-]{12,}"),
            rf"\1\2{MASK}",
        ),
        # https://user:password@host, https://token@host; not the digest of docker-pullable://name@sha256:…
        (
            re.compile(r"(?i)\b((?:https?|wss?|ftps?|socks[45]?[ah]?)://)[^\s/?#\"'<>]*@"),
            rf"\1{MASK}@",
        ),
        (
            re.compile(r"(?i)\b([a-z][a-z0-9+.-]*://)[^\s/?#\"'<>@:]*:[^\s/?#\"'<>@]*@(?!sha\d+:)"),
            rf"\1{MASK}@",
        ),
        # a JSON Web Token
        (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), MASK),
        # ?token=abc, "password": "abc", client-key-data: abc
        (
            re.compile(
                r"(?i)\b((?:\w+[_-])?(?:token|password|passwd|secret|client-key-data|secret[_-]access[_-]key))"
                r"(=|[\"']\s*:\s*[\"'])([^\s\"'&,;<>]{4,})"
            ),
            rf"\1\2{MASK}",
        ),
        (
            re.compile(r"(?i)\b(token|password|client-key-data|(?:id|access|refresh)[_-]token)(:\s+)\S{20,}"),
            rf"\1\2{MASK}",
        ),
    )


_lock = threading.Lock()
_values: set[str] = set()
_by_value: re.Pattern[str] | None = None


def keep_secret(*values: str | None) -> None:
    """Make `redacted` remove these values from now on, however they are quoted."""
    global _by_value
    with _lock:
        for value in filter(None, values):
            stripped = value.strip()
            if len(stripped) >= _SHORTEST:
                _values.update(_spellings(stripped))
        if _values:
            longest_first = sorted(_values, key=len, reverse=True)
            _by_value = re.compile("|".join(_pattern(value) for value in longest_first))


def redacted(text: str) -> str:
    """Return `text` without credentials."""
    if _by_value is not None:
        text = _by_value.sub(MASK, text)
    for shape, substitution in _shapes():
        text = shape.sub(substitution, text)
    return text


def redacted_tree(tree: Any) -> Any:
    """Return a JSON document with each of its strings redacted."""
    if isinstance(tree, str):
        return redacted(tree)
    if isinstance(tree, dict):
        return {key: redacted_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [redacted_tree(value) for value in tree]
    return tree


def _spellings(value: str) -> set[str]:
    """Return the value as exceptions, JSON and URLs write it."""
    from urllib.parse import quote, quote_plus  # a stage seldom needs it

    return {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe=""), quote_plus(value)}


def _pattern(value: str) -> str:
    found = re.escape(value)
    return found if len(value) >= _LONG else rf"(?<!\w){found}(?!\w)"
