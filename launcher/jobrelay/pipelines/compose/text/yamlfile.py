"""The YAML of compose files: anchors, merge keys and scalars as Docker reads them (go-yaml, YAML 1.2)."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import yaml

from jobrelay.errors import BadInput
from jobrelay_runner.volume.safe_read import TooLarge, read_named
from jobrelay_train.config.yamlio import MAX_BYTES, MAX_DEPTH

#: Nodes after every alias has been expanded. The largest real files have a few thousand.
_MAX_NODES: Final = 100_000

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Replaced:
    """`!override` and `!reset`: when files are merged, the value takes the place of the other one.

    value: None for `!reset`, which removes the key.
    """

    value: Any


class _Loader(_Base):  # type: ignore[misc]
    """SafeLoader with the scalars of go-yaml: `no`, `on` and 22:22 are text, 1e-3 is a number."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012


_SCALARS: Final = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(?:0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)", list("-+0123456789")),
    "float": (r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
    "merge": (r"<<", ["<"]),
}
for _kind, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), _first)


def _integer(loader: Any, node: Any) -> int | str:
    text = loader.construct_scalar(node).replace("_", "")
    sign, digits = (text[0], text[1:]) if text[:1] in "+-" else ("", text)
    if re.fullmatch(r"0[0-7]+", digits):
        digits = "0o" + digits[1:]
    try:
        return int(sign + digits, 0)
    except ValueError:  # 089, or thousands of digits
        return str(text)


def _float(loader: Any, node: Any) -> float:
    return float(loader.construct_scalar(node))


def _replaced(loader: Any, node: Any) -> Replaced:
    if node.tag == "!reset":
        return Replaced(None)
    plain: Any
    if isinstance(node, yaml.MappingNode):
        plain = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        plain = loader.construct_sequence(node, deep=True)
    else:
        plain = loader.construct_scalar(node)
    return Replaced(plain)


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)
_Loader.add_constructor("!reset", _replaced)
_Loader.add_constructor("!override", _replaced)


def read_text(path: Path) -> str:
    """The text of a file that the user named. Raises BadInput."""
    try:
        return read_named(path, MAX_BYTES).decode("utf-8-sig")
    except TooLarge as error:
        raise BadInput(f"{path}: larger than {MAX_BYTES} bytes") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise BadInput(f"{path}: {reason}") from error


def load(path: Path) -> dict[str, Any]:
    """The mapping that a compose file holds. Keys are text. Raises BadInput, naming file and line."""
    text = read_text(path)
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise BadInput(f"{path}: the file is empty")
        if not isinstance(node, yaml.MappingNode):
            raise BadInput(f"{path}: a compose file is a mapping that has the key services")
        _check(node, str(path), {}, set(), 0)
        return dict(_with_text_keys(loader.construct_document(node)))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = str(error.problem or error)
        if error.problem_mark and "\t" in (text.splitlines()[error.problem_mark.line :] or [""])[0]:
            problem += " (a tab? YAML is indented with spaces)"
        raise BadInput(f"{path}{line}: {problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: {str(error) or 'nested too deeply'}") from error
    finally:
        loader.dispose()


def _check(node: Any, source: str, sizes: dict[int, int], above: set[int], depth: int) -> int:
    """The number of nodes below, aliases expanded. Raises BadInput for what Docker rejects or never ends."""
    where = f"{source}, line {node.start_mark.line + 1}"
    if id(node) in above:
        raise BadInput(f"{where}: an anchor contains itself")
    if id(node) in sizes:
        return sizes[id(node)]
    if depth > MAX_DEPTH:
        raise BadInput(f"{where}: nested too deeply")
    above = above | {id(node)}
    children: list[Any] = []
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, child in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            if name in seen:
                hint = "write <<: [*a, *b]" if name == "<<" else ""
                raise BadInput(
                    f"{source}, line {key.start_mark.line + 1}: the key {name!r} appears twice", hint
                )
            seen.add(name)
            children.append(child)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    size = 1 + sum(_check(child, source, sizes, above, depth + 1) for child in children)
    if size > _MAX_NODES:
        raise BadInput(f"{where}: more than {_MAX_NODES} values once its aliases are expanded")
    sizes[id(node)] = size
    return size


def _with_text_keys(value: Any) -> Any:
    """A copy: what is aliased appears once in memory, and merging changes one place only."""
    if isinstance(value, dict):
        return {as_text(key): _with_text_keys(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_with_text_keys(child) for child in value]
    return Replaced(_with_text_keys(value.value)) if isinstance(value, Replaced) else value


def as_text(value: Any) -> str:
    """A scalar as Docker writes it into an environment variable or an argument (Go's %v)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value):
        return "+Inf" if value > 0 else "-Inf"
    number = Decimal(repr(value)).normalize()
    exponent = number.adjusted()
    if value and not -4 <= exponent < 6:
        mantissa = f"{number.scaleb(-exponent):f}"
        return f"{mantissa}e{'-' if exponent < 0 else '+'}{abs(exponent):02d}"
    return f"{number:f}"
