"""The stages of a run, in their order."""

from __future__ import annotations

from typing import Final, Literal

Stage = Literal["train", "eval", "infer"]
STAGES: Final[tuple[Stage, ...]] = ("train", "eval", "infer")
