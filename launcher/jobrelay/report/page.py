"""The HTML of a page: a file that makes no network requests and runs only its own script."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from jobrelay.figures import duration, mebibytes
from jobrelay.report.phases import PHASES
from jobrelay_runner.text.redaction import redacted

_TEMPLATES: Final = Path(__file__).parent / "templates"
#: Characters with invisible effects in an editor or a browser: controls except tab and line feed, direction
#: marks, joiners and hidden letters, and surrogates, which UTF-8 cannot encode.
_UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def render(name: str, **parts: Any) -> str:
    """Render a template with `parts`. All text in them is escaped."""
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = template(name).render(made=made, **parts)
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", page)


def template(name: str) -> Template:
    """One of templates/, compiled on first use, which takes 0.1 s."""
    return _environment().get_template(name)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_without_credentials,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "sort.js"))
    environment.globals |= {
        "style": Markup(style),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "phases": list(PHASES),
    }
    environment.filters |= {"duration": duration, "size": _size, "figure": _figure}
    return environment


def _without_credentials(value: Any) -> Any:
    """Redact a value before a template shows it; our own style and script have their own type."""
    return redacted(value) if type(value) is str else value


def _hash(text: str) -> str:
    """The hash by which Content-Security-Policy allows an inline element."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _figure(value: float) -> str:
    """0.9312, 12,345, 1.5e-05: a measured number of any size."""
    if value == int(value) and abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.1f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _size(count: int) -> str:
    """421 B, 12.3 kB, 812 MiB"""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else mebibytes(count)
