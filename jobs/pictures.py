"""A test image as a picture that a person can judge: enlarged, with what the model took it for."""

from __future__ import annotations

import io
import re
import unicodedata
from typing import Final

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

_SCALE: Final = 8
_MARGIN: Final = 8
_FONT_SIZE: Final = 15
_LINE: Final = 20
_INK: Final = {True: (0x2E, 0xA0, 0x43), False: (0xCF, 0x22, 0x2E)}  # right: green, wrong: red


def draw(image: Tensor, predicted: str, probability: float, true: str | None) -> bytes:
    """PNG of a uint8 image (1, H, W), eight times as large, with its class below it.

    true: what it is; None if nobody knows.
    """
    _, height, width = image.shape
    pixels = Image.frombytes("L", (width, height), bytes(image.contiguous().numpy()))
    enlarged = pixels.resize((width * _SCALE, height * _SCALE), Image.Resampling.NEAREST)
    lines = [f"{predicted}  {probability:.1%}", "" if true is None else f"true: {true}"]
    font = ImageFont.load_default(size=_FONT_SIZE)
    text_width = max(int(font.getlength(line)) for line in lines) + 2 * _MARGIN
    picture = Image.new(
        "RGB", (max(enlarged.width, text_width), enlarged.height + 2 * _LINE + _MARGIN), "white"
    )
    picture.paste(enlarged, ((picture.width - enlarged.width) // 2, 0))
    pen = ImageDraw.Draw(picture)
    ink = "black" if true is None else _INK[predicted == true]
    pen.text((_MARGIN, enlarged.height + 3), lines[0], fill=ink, font=font)
    pen.text((_MARGIN, enlarged.height + 3 + _LINE), lines[1], fill="black", font=font)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def file_safe(name: str) -> str:
    """A class name as part of a file name: `T-shirt/top` becomes `t-shirt-top`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "class"
