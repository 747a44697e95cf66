"""Dataclasses that are written as JSON, and read back with every type checked.

Only the standard library is used, because records are read and written in users' own images.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import Any, Dict, Mapping, Tuple, Type, TypeVar, Union, get_args, get_origin, get_type_hints

P = TypeVar("P", bound="Typed")


class Typed:
    """Base of such dataclasses. Unknown fields, which a newer version may write, are ignored."""

    def to_dict(self) -> Dict[str, Any]:
        """Return a JSON tree."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def to_json(self, indent: Union[int, None] = None) -> str:
        """Return JSON text, on one line unless `indent` is given. Raises ValueError for NaN and infinity."""
        separators = (",", ":") if indent is None else None
        text = json.dumps(
            self.to_dict(), indent=indent, separators=separators, ensure_ascii=False, allow_nan=False
        )
        # A name's bytes that are not UTF-8 (surrogates) can be written to JSON, as \udc80, but not to a file.
        return text.encode("utf-8", "backslashreplace").decode()

    @classmethod
    def from_dict(cls: Type[P], tree: Any) -> P:
        """Return the object in a JSON tree. Raises ValueError for the first error: `log.file: …`."""
        return _read(cls, tree, ())  # type: ignore[no-any-return]

    @classmethod
    def from_json(cls: Type[P], text: Union[str, bytes]) -> P:
        """Return the object in JSON text. Raises ValueError, also for text that is not JSON."""
        try:
            return cls.from_dict(json.loads(text))
        except RecursionError:
            raise ValueError("JSON that is nested too deeply") from None


def wrong(where: Tuple[str, ...], what: str) -> ValueError:
    """Return an error that names the place in the tree."""
    path = ".".join(part[:200] for part in where)
    return ValueError(f"{path}: {what}" if path else what)


_PLAIN = {str: "text", int: "a whole number", bool: "true or false"}


def _read(hint: Any, value: Any, where: Tuple[str, ...]) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Union:  # X or None
        return None if value is None else _read(arguments[0], value, where)
    if origin is dict:
        return {key: _read(arguments[1], each, (*where, key)) for key, each in _items(value, where)}
    if origin is list:
        if not isinstance(value, list):
            raise wrong(where, "a list is expected")
        return [_read(arguments[0], each, (*where, str(number))) for number, each in enumerate(value)]
    if dataclasses.is_dataclass(hint):
        return _read_fields(hint, dict(_items(value, where)), where)
    if hint is float:
        # not isfinite: it fails for an int that is too large for a float
        if type(value) not in (int, float) or not (abs(value) < 1e300):
            raise wrong(where, "a finite number is expected")
        return float(value)
    if origin is not None:  # Literal
        if not any(type(value) is type(each) and value == each for each in arguments):
            raise wrong(where, f"{' or '.join(json.dumps(each) for each in arguments)} is expected")
    elif type(value) is not hint:
        raise wrong(where, f"{_PLAIN[hint]} is expected")
    return value


def _items(value: Any, where: Tuple[str, ...]) -> Any:
    if not isinstance(value, Mapping):
        raise wrong(where, "an object is expected")
    return value.items()


@functools.lru_cache(maxsize=None)
def _hints(kind: Any) -> Dict[str, Any]:
    return get_type_hints(kind)  # it evaluates text; a record has a digest for each of its files


def _read_fields(kind: Any, tree: Dict[str, Any], where: Tuple[str, ...]) -> Any:
    hints = _hints(kind)
    given = {}
    for field in dataclasses.fields(kind):
        if field.name in tree:
            given[field.name] = _read(hints[field.name], tree[field.name], (*where, field.name))
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise wrong((*where, field.name), "it is missing")
    try:
        return kind(**given)
    except ValueError as error:
        raise wrong(where, str(error)) from error
