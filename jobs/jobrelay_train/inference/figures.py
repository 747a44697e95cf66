"""A test image as a picture that a person can judge: enlarged, with the predicted class."""

from __future__ import annotations

import io
import itertools
import math
import re
import unicodedata
from pathlib import PurePosixPath
from typing import Final

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

#: Images are enlarged to at least this size: one of 28 x 28 becomes eight times as large.
_PIXELS: Final = 224
_MARGIN: Final = 8
_FONT_SIZE: Final = 15
_LINE: Final = 20
#: Unicode's bidirectional controls, which make a name look like another one.
_TURNING: Final = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INK: Final = {True: (0x2E, 0xA0, 0x43), False: (0xCF, 0x22, 0x2E)}  # right: green, wrong: red


def draw(image: Tensor, predicted: str, probability: float | None, true: str | None) -> bytes:
    """Draw a uint8 image, grey (1, H, W) or RGB (3, H, W), as an enlarged PNG with its class below.

    probability: of the class; None if `predicted` is not a class. true: the true class; None if unknown.
    """
    channels, height, width = image.shape
    colours = image.permute(1, 2, 0).contiguous()  # (H, W, C)
    pixels = Image.frombytes("L" if channels == 1 else "RGB", (width, height), colours.numpy().tobytes())
    scale = math.ceil(_PIXELS / max(width, height))
    enlarged = pixels.resize((width * scale, height * scale), Image.Resampling.NEAREST)
    lines = [
        predicted if probability is None else f"{predicted}  {probability:.1%}",
        "" if true is None else f"true: {true}",
    ]
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


def as_pixels(image: Tensor) -> Tensor:
    """Return an image (C, H, W) as uint8; of other numbers, the smallest becomes black, the largest white."""
    if image.dtype == torch.uint8:
        return image
    low, high = image.min(), image.max()
    return ((image - low) / (high - low).clamp(min=1e-12) * 255).nan_to_num().round().to(torch.uint8)


def file_safe(name: str) -> str:
    """Turn a class name into part of a file name: `T-shirt/top` becomes `t-shirt-top`."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "class"


def picture_name(original: str, predicted: str, taken: set[str]) -> str:
    """Name a picture: `topwear/Größe 1.jpg`, a dress, gives `Größe 1_dress.png` or `Größe 1-2_dress.png`.

    original: a file's name, relative to its folder. taken: names already used; the new one is added. Names
    that differ only in case are the same file on some machines.
    """
    stem = _shortened(_TURNING.sub("-", PurePosixPath(original).stem))
    class_name = _shortened(_TURNING.sub("-", re.sub(r"[/\\\x00-\x1f\x7f]", "-", predicted)))
    for number in itertools.count(1):
        name = f"{stem}{'' if number == 1 else f'-{number}'}_{class_name}.png"
        key = unicodedata.normalize("NFC", name).casefold()
        if key not in taken:
            taken.add(key)
            break
    return name


def _shortened(text: str) -> str:
    """Keep as many whole characters as fit into 100 bytes; a file's name may have 255."""
    return text.encode()[:100].decode(errors="ignore")
