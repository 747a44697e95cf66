"""The time, as records write it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """UTC to the second: 2026-11-21T06:26:50Z."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
