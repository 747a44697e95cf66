"""What a single key of the configuration may hold: numbers, quantities, places on the volume."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, StringConstraints


def _number_from_text(value: Any) -> Any:
    """YAML 1.1 reads `1e-3` (no point) as text; people mean the number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _text_from_number(value: Any) -> Any:
    """`cpu: 2` is a number to YAML and a quantity to Kubernetes."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


Number = Annotated[float, BeforeValidator(_number_from_text), Field(allow_inf_nan=False)]
_CpuQuantity = Annotated[str, StringConstraints(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$")]
_MemoryQuantity = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(Ki|Mi|Gi|Ti|k|M|G|T)?$")]
Cpu = Annotated[_CpuQuantity, BeforeValidator(_text_from_number)]
Memory = Annotated[_MemoryQuantity, BeforeValidator(_text_from_number)]

_FOLDER: Final = r"data/[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?"


def folder_of_data(value: str) -> str:
    """`data/NAME`. Raises ValueError, as the next two do: pydantic makes a line of it."""
    if not re.fullmatch(_FOLDER, value):
        raise ValueError(f"data/NAME, for a folder that was put on the volume, not {value[:80]!r}")
    return value


def data_source(value: str) -> str:
    """`test` or `data/NAME`."""
    try:
        return value if value == "test" else folder_of_data(value)
    except ValueError as error:
        raise ValueError(f"test, or {error}") from None


def data_file(value: str) -> str:
    """`data/NAME/FILE`, which leads nowhere else."""
    folder, _, rest = value[5:].partition("/")
    parts = rest.split("/")
    plain = value.isprintable() and len(value) <= 300 and not {"", ".", ".."} & set(parts)
    if not plain or not re.fullmatch(_FOLDER, f"{value[:5]}{folder}"):
        raise ValueError(
            f"data/NAME/FILE, for a file in a folder that was put on the volume, not {value[:80]!r}"
        )
    return value
