"""`.dockerignore`: which files of a context the builder does not see."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobrelay.pipelines.compose.text.yamlfile import read_text


@dataclass(frozen=True)
class Ignored:
    """Patterns in order; the last one that matches a path, or a folder above it, decides."""

    patterns: tuple[tuple[bool, re.Pattern[str]], ...]

    def __call__(self, path: str) -> bool:
        """Whether a path of the context, relative and with slashes, is left out."""
        parts = path.split("/")
        ways = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        out = False
        for again, pattern in self.patterns:
            if out == again and any(pattern.fullmatch(way) for way in ways):
                out = not again
        return out

    def kept(self, context: Path, path: str) -> Iterator[str]:
        """The paths below `path` (or itself) that make up what is kept: a folder stands for all in it."""
        yield from self._kept(context, path)[1]

    def _kept(self, context: Path, path: str) -> tuple[bool, list[str]]:
        """Whether all is kept, and what is."""
        out = path != "." and self(path)
        folder = context / path
        if out and not any(again for again, _ in self.patterns):
            return False, []
        if not self.patterns or not folder.is_dir() or folder.is_symlink():
            return not out, [] if out else [path]
        whole, found = not out, list[str]()
        for child in sorted(folder.iterdir()):
            all_of_it, kept = self._kept(context, posixpath.normpath(f"{path}/{child.name}"))
            whole &= all_of_it
            found += kept
        return (True, [path]) if whole else (False, found)


def read(context: Path, dockerfile: Path) -> Ignored:
    """The patterns of `NAME.dockerignore` beside the Dockerfile, else of `.dockerignore` in the context."""
    own = dockerfile.with_name(dockerfile.name + ".dockerignore")
    path = own if own.is_file() else context / ".dockerignore"
    return parse(read_text(path)) if path.is_file() else Ignored(())


def parse(text: str) -> Ignored:
    """Raises nothing: a pattern that is none matches itself."""
    found = []
    for line in text.splitlines():
        pattern = line.strip()
        if not pattern or line.startswith("#"):
            continue
        again = pattern.startswith("!")
        pattern = posixpath.normpath(pattern.removeprefix("!").strip()).lstrip("/")
        if pattern and pattern != ".":
            found.append((again, re.compile(_regex(pattern), re.DOTALL)))
    return Ignored(tuple(found))


def _regex(pattern: str) -> str:
    """`*` and `?` do not cross a slash, `**` does."""
    result, position = "", 0
    while position < len(pattern):
        rest = pattern[position:]
        character = pattern[position]
        if rest.startswith("**/"):
            result, position = result + "(?:.*/)?", position + 3
        elif rest.startswith("**"):
            result, position = result + ".*", position + 2
        elif character == "*":
            result, position = result + "[^/]*", position + 1
        elif character == "?":
            result, position = result + "[^/]", position + 1
        elif character == "[" and (kind := re.match(r"\[\^?[^\]\[\\]+\]", rest)):
            result, position = result + kind[0], position + kind.end()
        elif character == "\\" and len(rest) > 1:
            result, position = result + re.escape(rest[1]), position + 2
        else:
            result, position = result + re.escape(character), position + 1
    return result


def glob(pattern: str) -> re.Pattern[str]:
    """The paths that a source of COPY with `*`, `?` or `[…]` names; `*` also matches .hidden names."""
    return re.compile(_regex(pattern.replace("**", "*")), re.DOTALL)
