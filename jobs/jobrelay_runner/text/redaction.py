"""Credentials are taken out of a text before it reaches a terminal, a log or a report.

By value, where the value is known (`keep_secret`), and by shape: whatever raised an error, its text may
quote the header, the URL or the file that it stumbled over.
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any, Callable, Final, Union
from urllib.parse import quote, quote_plus

MASK: Final = "***"

#: A shorter value is left to the shapes: to take "ann" out of every text would make nonsense of it.
_SHORTEST: Final = 8
#: Below this length a value counts only where it stands as a word of its own.
_LONG: Final = 12

_Substitution = Union[str, Callable[["re.Match[str]"], str]]
#: In this order: a header's value is masked as a whole before its parts are looked at.
_SHAPES: Final[tuple[tuple[re.Pattern[str], _Substitution], ...]] = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        f"{MASK} (a private key)",
    ),
    # Authorization: Bearer abc; with a scheme, or so long that it is no word of a sentence
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
    """From now on, these values are in no text that `redacted` has returned, however they were quoted."""
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
    """`text` without credentials."""
    if _by_value is not None:
        text = _by_value.sub(MASK, text)
    for shape, substitution in _SHAPES:
        text = shape.sub(substitution, text)
    return text


def redacted_tree(tree: Any) -> Any:
    """A JSON document, with each of its texts redacted."""
    if isinstance(tree, str):
        return redacted(tree)
    if isinstance(tree, dict):
        return {key: redacted_tree(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [redacted_tree(value) for value in tree]
    return tree


def _spellings(value: str) -> set[str]:
    """The value as exceptions, JSON and URLs write it."""
    return {value, repr(value)[1:-1], json.dumps(value)[1:-1], quote(value, safe=""), quote_plus(value)}


def _pattern(value: str) -> str:
    found = re.escape(value)
    return found if len(value) >= _LONG else rf"(?<!\w){found}(?!\w)"
