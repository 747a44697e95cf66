"""The text of a Dockerfile as instructions, and its words with quotes and variables."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_DIRECTIVE: Final = re.compile(r"#\s*([a-z]+)\s*=\s*(.+?)\s*$", re.IGNORECASE)
_HEREDOC: Final = re.compile(r"<<-?\s*([\"']?)([A-Za-z_]\w*)\1")
_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?:(:?[-+?])([^}]*)|[#%/][^}]*)?\})")


@dataclass(frozen=True)
class Instruction:
    """name: in capitals. rest: what follows, continuation lines joined. heredoc: it has a text of its own."""

    name: str
    rest: str
    line: int
    heredoc: bool = False


def escape_character(text: str) -> str:
    """Backslash, or what the directive `escape` at the head of the file says."""
    for line in text.splitlines():
        directive = _DIRECTIVE.match(line.strip())
        if directive is None:
            break
        if directive[1].lower() == "escape":
            return directive[2][:1]
    return "\\"


def instructions(text: str) -> Iterator[Instruction]:
    """Every instruction in order. Comments, empty lines and the bodies of heredocs are left out."""
    escape = escape_character(text)
    more = re.compile(re.escape(escape) + r"[ \t]*$")
    lines = enumerate(text.lstrip("\ufeff").splitlines(), 1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = line.strip()
        while more.search(whole):
            whole = more.sub("", whole)
            following = next(
                (each for _, each in lines if each.strip() and not each.lstrip().startswith("#")), None
            )
            if following is None:
                break
            whole += following.rstrip()
        name, _, rest = whole.strip().partition(" ") if " " in whole.split("\t")[0] else whole.partition("\t")
        name = name.upper()
        ends = [match[2] for match in _HEREDOC.finditer(rest)] if name in ("RUN", "COPY", "ADD") else []
        for end in ends:
            for _, body in lines:
                if body.strip() == end:
                    break
        yield Instruction(name, rest.strip(), number, bool(ends))


def exec_form(rest: str) -> tuple[str, ...] | None:
    """The list of `["python", "train.py"]`; None if it is the shell form, as Docker decides."""
    if not rest.startswith("["):
        return None
    try:
        words = json.loads(rest)
    except ValueError:
        return None
    return tuple(words) if all(isinstance(word, str) for word in words) else None


def flags(rest: str) -> tuple[dict[str, str], str]:
    """`--from=build --link . /app` as flags and the rest."""
    found = {}
    while match := re.match(r"--([a-z-]+)(?:=(\S+))?\s+", rest):
        found[match[1]] = match[2] or "true"
        rest = rest[match.end() :]
    return found, rest


def words(rest: str, escape: str = "\\") -> list[str]:
    """Words between white space; quotes stay, and keep what they enclose together."""
    found, current, quote, position = list[str](), "", "", 0
    while position < len(rest):
        character = rest[position]
        if character == escape and quote != "'" and position + 1 < len(rest):
            current += rest[position : position + 2]
            position += 2
            continue
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        if character.isspace() and not quote:
            if current:
                found.append(current)
            current = ""
        else:
            current += character
        position += 1
    return [*found, current] if current else found


def expand(word: str, variables: Mapping[str, str], escape: str = "\\") -> str:
    """A word without its quotes, with its variables replaced as the builder does; unknown ones are empty."""
    result, quote, position = "", "", 0
    while position < len(word):
        character = word[position]
        if character == quote:
            quote = ""
        elif not quote and character in "\"'":
            quote = character
        elif character == escape and quote != "'" and position + 1 < len(word):
            following = word[position + 1]
            kept = quote == '"' and following not in '"$' + escape
            result += (character if kept else "") + following
            position += 1
        elif character == "$" and quote != "'" and (match := _VARIABLE.match(word, position)):
            result += _value(match, variables)
            position = match.end() - 1
        else:
            result += character
        position += 1
    return result


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(match[1] or match[2])
    operator, other = match[3], match[4] or ""
    if not operator:
        return value or ""
    present = value is not None and (value != "" or not operator.startswith(":"))
    if operator.endswith("+"):
        return expand(other, variables) if present else ""
    return (value or "") if present or operator.endswith("?") else expand(other, variables)


def commands(text: str) -> list[list[str]]:
    """The simple commands of a shell line. Empty if it is not understood."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    lexer.commenters = ""
    found: list[list[str]] = [[]]
    try:
        for word in lexer:
            if word and set(word) <= set(";&|()"):
                found.append([])
            elif word in ("then", "do", "sudo") and not found[-1]:
                continue
            else:
                found[-1].append(word)
    except ValueError:
        return []
    return [command for command in found if command]
