"""The time, as records write it."""

from __future__ import annotations

from datetime import datetime, timezone


def now(timespec: str = "seconds") -> str:
    """UTC, to the second if nothing else is asked for: 2026-11-21T06:26:50Z."""
    return datetime.now(timezone.utc).isoformat(timespec=timespec).replace("+00:00", "Z")
