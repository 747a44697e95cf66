"""`${VAR}` in compose files and .env files, by Docker's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.text.yamlfile import Replaced

_NAME: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_OPERATOR: Final = re.compile(r":?[-?+]")
_MAX_DEPTH: Final = 50


@dataclass
class Variables:
    """What `${VAR}` stands for. unset: names that were asked for and have neither value nor default."""

    values: Mapping[str, str]
    unset: dict[str, None] = field(default_factory=dict)

    def expand(self, text: str, where: str) -> str:
        """Replace every variable of a text. where: named in errors ("FILE: services.train.image").

        Raises BadInput if the text is not a valid template, or a variable of `${VAR:?message}` has no value.
        """
        if "$" not in text:
            return text
        result, end = self._expand(text, 0, where, 0)
        return result if end == len(text) else _invalid(text, where)

    def expand_tree(self, tree: Any, where: str) -> Any:
        """Replace the variables of every text in a tree. Keys are left as they are, as Docker does."""
        if isinstance(tree, str):
            return self.expand(tree, where)
        if isinstance(tree, dict):
            return {key: self.expand_tree(value, f"{where}.{key}") for key, value in tree.items()}
        if isinstance(tree, list):
            return [self.expand_tree(value, f"{where}[{index}]") for index, value in enumerate(tree)]
        return Replaced(self.expand_tree(tree.value, where)) if isinstance(tree, Replaced) else tree

    def _expand(self, text: str, start: int, where: str, depth: int) -> tuple[str, int]:
        """Text up to its end, or to the brace that closes the default it stands in; and where that is."""
        if depth > _MAX_DEPTH:
            _invalid(text, where)
        parts: list[str] = []
        position = start
        while position < len(text):
            character = text[position]
            if character == "}" and depth:
                break
            if character != "$":
                parts.append(character)
                position += 1
            elif text.startswith("$$", position):
                parts.append("$")
                position += 2
            elif text.startswith("${", position):
                value, position = self._braced(text, position + 2, where, depth)
                parts.append(value)
            else:
                name = _NAME.match(text, position + 1) or _invalid(text, where)
                parts.append(self._plain(name[0]))
                position = name.end()
        return "".join(parts), position

    def _braced(self, text: str, start: int, where: str, depth: int) -> tuple[str, int]:
        name = _NAME.match(text, start) or _invalid(text, where)
        position = name.end()
        if text.startswith("}", position):
            return self._plain(name[0]), position + 1
        operator = (_OPERATOR.match(text, position) or _invalid(text, where))[0]
        # Expanded by variables of its own: in a default that is not used, nothing counts as unset.
        other = Variables(self.values)
        given = self.values.get(name[0])
        present = given is not None and (not operator.startswith(":") or given != "")
        required = operator[-1] == "?"
        used = present == (operator[-1] == "+")
        lenient = other if used else _Lenient(self.values)
        word, position = lenient._expand(text, position + len(operator), where, depth + 1)
        if not text.startswith("}", position):
            _invalid(text, where)
        if required and not present:
            raise BadInput(
                f"{where}: the variable {name[0]} is not set" + (f": {word}" if word else ""),
                f"set it: {name[0]}=… in front of the command, or in the file .env beside the compose file",
            )
        if used:
            self.unset.update(other.unset)
            return ("" if required else word), position + 1
        return ("" if operator[-1] == "+" else given or ""), position + 1

    def _plain(self, name: str) -> str:
        if name not in self.values:
            self.unset[name] = None
        return self.values.get(name, "")


class _Lenient(Variables):
    """For the side that is not used: a missing required variable in it is not an error."""

    def _braced(self, text: str, start: int, where: str, depth: int) -> tuple[str, int]:
        name = _NAME.match(text, start) or _invalid(text, where)
        operator = _OPERATOR.match(text, name.end())
        _, position = self._expand(text, operator.end() if operator else name.end(), where, depth + 1)
        return ("", position + 1) if text.startswith("}", position) else _invalid(text, where)


def _invalid(text: str, where: str) -> Any:
    raise BadInput(
        f"{where}: {text!r} is not a valid template", "a dollar sign that stands for itself is written $$"
    )
