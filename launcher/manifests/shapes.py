"""Trees that people wrote: whether they are what Kubernetes takes, told with the path to what is not."""

from __future__ import annotations

import json
from typing import Any, Final

from launcher.errors import BadInput

#: Characters of a wrong value that a message shows.
_MOST: Final = 60


def json_only(tree: Any, path: str) -> Any:
    """`tree` without empty keys, which mean nothing to Kubernetes. Raises BadInput for what JSON has not."""
    if isinstance(tree, dict):
        for key in tree:
            if not isinstance(key, str):
                raise BadInput(f"{path.rstrip('.')}: the key {key!r} is not text", "quote it")
        return {key: json_only(value, f"{path}{key}.") for key, value in tree.items() if value is not None}
    if isinstance(tree, list):
        return [json_only(value, f"{path}{index}.") for index, value in enumerate(tree)]
    number = isinstance(tree, int | float) and abs(tree) < 2**63  # neither NaN nor infinite
    if tree is None or number or isinstance(tree, str):
        return tree
    raise BadInput(
        f"{path.rstrip('.')}: {_written(tree)} is not a value that Kubernetes takes",
        "quote it, if it is text",
    )


def _written(tree: Any) -> str:
    """As JSON writes it, which is how YAML has it too; cut where it is long."""
    text = json.dumps(tree, ensure_ascii=False, default=str)
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def check_shape(tree: Any, shape: Any, where: str, path: str = "") -> None:
    """Raise BadInput where `tree` is another kind of thing than `shape`.

    shape: a type; {} a mapping, whose keys are looked into if they are there; [x] a list of x.
    """
    kind: Any = shape if isinstance(shape, type) else type(shape)
    if not isinstance(tree, kind):
        wanted = {dict: "a mapping", list: "a list", str: "text", int: "a whole number"}[kind]
        raise BadInput(f"{where}: {path.rstrip('.')} is {_written(tree)}, and should be {wanted}")
    if kind is dict:
        for key in shape.keys() & tree.keys():
            check_shape(tree[key], shape[key], where, f"{path}{key}.")
    elif kind is list:
        for index, value in enumerate(tree):
            check_shape(value, shape[0], where, f"{path}{index}.")
