"""Parameters in a stage's command and environment: {epochs} stands for the value of params.epochs."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any

from jobrelay.errors import BadInput

#: {{name}} stands for {name} itself.
_NAME = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")
#: A word of its own, or OPTION={name}: meant as a parameter. Other braces belong to shells, awk, JSON.
_MEANT = re.compile(r"(?:^|(?<=[\s=]))\{([A-Za-z_]\w*)\}(?=\s|$)")


def fill(text: str, params: Mapping[str, Any], where: str) -> str:
    """Return `text` with the values of the parameters that it names. Raises BadInput for an unknown one."""
    for match in _MEANT.finditer(text):
        if match[1] not in params:
            near = difflib.get_close_matches(match[1], params, 1)
            meant = (
                f"{{{near[0]}}}?" if near else f"add it to params, or write {{{{{match[1]}}}}} for the braces"
            )
            raise BadInput(
                f"{where}: there is no parameter {match[1]}", f"did you mean {meant}" if near else meant
            )

    def value(match: re.Match[str]) -> str:
        if match[1]:
            return f"{{{match[1]}}}"
        return shown(params[match[2]]) if match[2] in params else match[0]

    return _NAME.sub(value, text)


def shown(value: Any) -> str:
    """Return a parameter's value as a command line has it: 0.1, true, text as it is."""
    return value if isinstance(value, str) else json.dumps(value)
