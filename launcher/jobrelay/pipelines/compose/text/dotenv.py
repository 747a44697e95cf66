"""Files of variables: `.env` beside the compose file, and `env_file` of a service."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.text.interpolation import Variables
from jobrelay.pipelines.compose.text.yamlfile import read_text

_KEY: Final = re.compile(r"(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.\-\[\]]*)[ \t]*([=:]?)[ \t]*")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$$", "a": "\a", "b": "\b"}


def read(path: Path, known: Mapping[str, str], *, raw: bool = False) -> dict[str, str]:
    """The variables of a file, in order. Raises BadInput, naming file and line.

    known: what `${VAR}` may stand for, beside the variables further up; it comes first. A name without `=` is
    taken from there, and left out if it is not there. raw: values as they stand (`format: raw`).
    """
    text = read_text(path)
    return _raw(text) if raw else _parse(text, str(path), known)


def _raw(text: str) -> dict[str, str]:
    lines = (line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    return {key.strip(): value for key, mark, value in (line.partition("=") for line in lines) if mark}


def _parse(text: str, source: str, known: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        line = f"{source}, line {text.count(chr(10), 0, position) + 1}"
        end = text.find("\n", position)
        end = len(text) if end < 0 else end
        if text[position] == "#":
            position = end
            continue
        key = _KEY.match(text, position, end)
        if key is None or (not key[2] and text[key.end() : end].strip()):
            raise BadInput(f"{line}: {text[position:end][:60]!r} is not NAME=VALUE")
        if not key[2]:
            if key[1] in known:
                found[key[1]] = known[key[1]]
            position = end
            continue
        variables = Variables({**found, **known})
        if text[key.end() : key.end() + 1] in ("'", '"'):
            quoted, position = _quoted(text, key.end(), line)
            single = text[key.end()] == "'"
            found[key[1]] = quoted if single else variables.expand(quoted, f"{line}, {key[1]}")
        else:
            bare = re.split(r"[ \t]#", text[key.end() : end])[0].strip()
            found[key[1]] = variables.expand("" if bare.startswith("#") else bare, f"{line}, {key[1]}")
            position = end
    return found


def _quoted(text: str, start: int, line: str) -> tuple[str, int]:
    """The value between quotes, which may span lines, and the end of its last line."""
    quote, position, parts = text[start], start + 1, list[str]()
    while position < len(text) and text[position] != quote:
        if text[position] == "\\" and text[position + 1 : position + 2] and quote == '"':
            following = text[position + 1]
            parts.append(_ESCAPES.get(following, "\\" + following))
            position += 2
        else:
            parts.append(text[position])
            position += 1
    if position >= len(text):
        raise BadInput(f"{line}: the quote is never closed")
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    rest = text[position + 1 : end].strip()
    if rest and not rest.startswith("#"):
        raise BadInput(f"{line}: {rest[:40]!r} follows the closing quote")
    return "".join(parts), end
