"""Turn a YAML file and `--set key=value` into a RunConfig, or an error with one line for each bad key."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError as PydanticError

from jobrelay_runner.text.counting import counted
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.config.yamlio import YamlError, load_scalar, read_documents

#: Problems listed one by one; a file with more is probably the wrong file.
_MOST_LISTED = 20


class ConfigError(ValueError):
    """The configuration cannot be used. `problems` has one line per key."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


def load_config(path: Path | None, overrides: Iterable[str] = (), *, root: Path | None = None) -> RunConfig:
    """Load the configuration at `path` (None: all defaults) and apply `key=value` overrides.

    root: as in safe_read, for a file on the volume; None for one that the user named.
    Raises ConfigError with a line for each key that is unknown, mistyped or out of range, up to 20.
    """
    return resolve(read_tree(path, root=root) if path else {}, overrides)


def read_tree(path: Path, *, root: Path | None = None) -> dict[str, Any]:
    """Read the mapping in a YAML file without validation; `root` as in load_config. Raises ConfigError."""
    try:
        documents = read_documents(path, root=root, plain_numbers=True)
    except YamlError as error:
        raise ConfigError([str(error)]) from error
    if len(documents) > 1:
        raise ConfigError([f"{path}: holds {len(documents)} YAML documents, one is expected"])
    tree = documents[0] if documents else {}
    if not isinstance(tree, dict):
        raise ConfigError([f"{path}: a mapping of keys is expected, not {_kind(tree)}"])
    return tree


def resolve(tree: Mapping[str, Any], overrides: Iterable[str] = ()) -> RunConfig:
    """Build the RunConfig from a tree and `key=value` overrides. Raises ConfigError."""
    changed = copy.deepcopy(dict(tree))
    for override in overrides:
        _apply(changed, override)
    return validate(changed)


def validate(tree: Mapping[Any, Any]) -> RunConfig:
    """Build the RunConfig from a parsed tree; a section without keys is the default. Raises ConfigError."""
    given = {key: value for key, value in tree.items() if value is not None or key not in _SECTIONS}
    try:
        return RunConfig.model_validate(given)
    except PydanticError as error:
        problems = error.errors()
        lines = [_explain(dict(problem)) for problem in problems[:_MOST_LISTED]]
        more = len(problems) - len(lines)
        raise ConfigError(
            [*lines, *([f"and {counted(more, 'more key')} that cannot be used"] if more else [])]
        ) from error


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError([f"--set {override}: expected key=value, for example train.epochs=5"])
    *parents, leaf = key.strip().split(".")
    if not parents and leaf in _SECTIONS and not text.strip():
        raise ConfigError([f"--set {override}: {leaf} is a section; set its keys: {_examples(leaf)}"])
    for parent in parents:
        child = tree.setdefault(parent, {})
        if child is None:  # an empty section
            child = tree[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError([f"--set {override}: {parent} is a value, not a section"])
        tree = child
    try:
        tree[leaf] = load_scalar(text, f"--set {key}")
    except YamlError as error:
        raise ConfigError([str(error)]) from error


def _explain(problem: dict[str, Any]) -> str:
    """Describe one problem that pydantic found in one line: the key, what is wrong, what is allowed."""
    path = [
        str(part)
        for part in problem["loc"]
        if not str(part).startswith(("constrained-", "function-", "literal["))
    ]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {_meant(path)}"
    if problem["type"] == "value_error":  # keys that contradict each other: the message says which
        return f"{key}: {problem['ctx']['error']}" if key else str(problem["ctx"]["error"])
    message = str(problem["msg"])
    message = message[0].lower() + message[1:]
    if problem["input"] is None:
        return f"{key}: it has no value"
    if problem["type"] == "model_type":
        message = "a section with keys of its own is expected"
    return f"{key}: {message} (got {_shown(problem['input'])})"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write out integers of thousands of digits
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]}…"


def _meant(path: list[str]) -> str:
    """Suggest keys for an unknown one: similarly spelt here, or of the same name elsewhere."""
    known = _keys_at(path[:-1])
    if close := difflib.get_close_matches(path[-1], known, n=1):
        return f"did you mean {'.'.join([*path[:-1], close[0]])}?"
    if keys := keys_named(path[-1]):
        return f"did you mean {_either(keys)}?"
    return f"known here: {', '.join(known)}"


def keys_named(name: str) -> list[str]:
    """Return the full keys that end in `name`, or else in a similar spelling: epochs → train.epochs."""
    keys = [key for key in RunConfig.model_fields if key not in _SECTIONS]
    keys += [f"{section}.{key}" for section in _SECTIONS for key in _keys_at([section])]
    leaves = {key.rpartition(".")[2] for key in keys}
    close = [name] if name in leaves else difflib.get_close_matches(name, leaves, n=1, cutoff=0.8)
    return [key for key in keys if key.rpartition(".")[2] in close]


def _either(words: list[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def _examples(section: str) -> str:
    return ", ".join(f"{section}.{key}=…" for key in _keys_at([section])[-3:])


_SECTIONS: Final = tuple(
    name for name, field in RunConfig.model_fields.items() if hasattr(field.annotation, "model_fields")
)


def _keys_at(path: list[str]) -> list[str]:
    model: Any = RunConfig
    for part in path:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else type(value).__name__
