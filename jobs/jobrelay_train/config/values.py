"""The values that a single key may have: numbers, quantities, paths on the volume."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

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
