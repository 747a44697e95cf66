"""The values that a single key may have: numbers, quantities, paths on the volume."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticKnownError

from jobrelay_train.config.quantity import quantity


def _number_from_text(value: Any) -> Any:
    """Return the number: YAML 1.1 reads `1e-3` (no point) as text."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _text_from_number(value: Any) -> Any:
    """Return a number as text: `cpu: 2` is a number in YAML and a quantity in Kubernetes."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Number = Annotated[float, BeforeValidator(_number_from_text), Field(allow_inf_nan=False)]


#: No stage starts with less memory, so a smaller value must be in the wrong unit.
_LEAST_MEMORY: Final = 2**20


def _cpu(value: str) -> str:
    if quantity(value) < 0:
        raise ValueError(f"{value} is negative; one CPU is 1 or 1000m")
    return value


def _memory(value: str) -> str:
    if quantity(value) < _LEAST_MEMORY:
        raise ValueError(f"{value} is less than 1 MiB, and no stage can run in that; two GiB are 2Gi")
    return value


Cpu = Annotated[str, BeforeValidator(_text_from_number), AfterValidator(_cpu)]
Memory = Annotated[str, BeforeValidator(_text_from_number), AfterValidator(_memory)]


def address(value: str) -> str:
    """Validate the address of a web server. Raises ValueError."""
    if not re.fullmatch(r"https?://\S+", value):
        raise ValueError(f"an address that starts with http:// or https:// is expected, not {value[:80]!r}")
    return value


def sha256(value: str) -> str:
    """Validate a digest as sha256sum prints it. Raises ValueError."""
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"64 hexadecimal digits are expected, in lower case, not {value[:80]!r}")
    return value


_FOLDER: Final = r"data/[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?"


def folder_of_data(value: str) -> str:
    """Validate `data/NAME`, or `data/NAME/` as a shell completes it. Raises ValueError, for pydantic."""
    value = value.removesuffix("/")
    if not re.fullmatch(_FOLDER, value):
        raise ValueError(
            f"data/NAME is expected, for a folder that was put on the volume, not {value[:80]!r}"
        )
    return value


def data_source(value: str) -> str:
    """Validate `test` or `data/NAME`. Raises ValueError."""
    try:
        return value if value == "test" else folder_of_data(value)
    except ValueError as error:
        raise ValueError(f"test, or {error}") from None


def data_file(value: str) -> str:
    """Validate `data/NAME/FILE`, which must not lead out of its folder. Raises ValueError."""
    folder, _, rest = value[5:].partition("/")
    parts = rest.split("/")
    plain = value.isprintable() and len(value) <= 300 and not {"", ".", ".."} & set(parts)
    if not plain or not re.fullmatch(_FOLDER, f"{value[:5]}{folder}"):
        raise ValueError(
            "data/NAME/FILE is expected, for a file in a folder that was put on the volume, "
            f"not {value[:80]!r}"
        )
    return value


_DOTTED: Final = r"[^\W\d]\w*(\.[^\W\d]\w*)*"
#: Before the digest of code that is on Python's path, and in no archive.
ON_THE_PATH: Final = "path:"


def is_own(name: str) -> bool:
    """Whether a name stands for a function of the user's own."""
    return ":" in name


def own_function(value: str) -> str:
    """Validate `package.module:function`. Raises ValueError."""
    if len(value) > 300 or not re.fullmatch(f"{_DOTTED}:{_DOTTED}", value):
        raise ValueError(
            f"package.module:function is expected, for a function in your own code, not {value[:80]!r}"
        )
    return value


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """Return a validator that accepts these names and functions of the user's own."""

    def validated(value: str) -> str:
        if is_own(value):
            return own_function(value)
        if value not in names:
            known = ", ".join(map(repr, names))
            raise PydanticKnownError("literal_error", {"expected": f"{known} or package.module:function"})
        return value

    return validated


def code_digest(value: str) -> str:
    """Validate the digest of an archive, or of code on Python's path. Raises ValueError."""
    return ON_THE_PATH + sha256(value.removeprefix(ON_THE_PATH)) if is_own(value) else sha256(value)
