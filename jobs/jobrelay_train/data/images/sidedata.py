"""Strip everything except the pixels from an image file: names, places, profiles, thumbnails, comments.

Only the pixels decide whether a file is an image. Pillow rejects a whole image because of a malformed EXIF
block or text that unpacks to megabytes, so it never gets to see them. The one thing that matters to people,
how the camera was held, is read here, if its block is readable; otherwise the image stays as it is stored.

Nothing here raises, whatever a file contains, and nothing takes more memory than a second copy of the file.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

#: Size limit of an EXIF block that is stored as compressed text.
_PROFILE_BYTES: Final = 256 * 1024
_TAGS: Final = 1000
_ORIENTATION: Final = 0x0112
#: How a TIFF file, or an EXIF block, starts, and the order of its bytes.
_ORDERS: Final[dict[bytes, Literal["little", "big"]]] = {b"II*\0": "little", b"MM\0*": "big"}
_XMP_ORIENTATION: Final = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_JFIF: Final = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"
_EXIF_START: Final = b"Exif\0\0"
#: The tags of a TIFF file that describe how its pixels are stored.
_TIFF_TAGS: Final = frozenset(
    (
        *range(254, 260), 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, *range(322, 326),
        332, 338, 339, 347, *range(512, 522), *range(529, 533),
    )
)  # fmt: skip
#: Flags of WebP's VP8X for ICC profile, EXIF and XMP.
_WEBP_SIDE_FLAGS: Final = 0x20 | 0x08 | 0x04


@dataclass(frozen=True)
class Stripped:
    """A file with only what its pixels need, in `content`; orientation: 1 to 8, as in EXIF.

    buffered_bytes: memory that a decoder needs in addition to the image, for a JPEG in several passes over
    the whole image.
    """

    content: bytes
    orientation: int = 1
    buffered_bytes: int = 0


def stripped(content: bytes, image_format: str) -> Stripped:
    """Return a file's content without side data (PNG, JPEG, WEBP, TIFF, AVIF; others are unchanged)."""
    strip = _STRIPS.get(image_format)
    return strip(content) if strip else Stripped(content)


def webp_size(content: bytes) -> tuple[int, int]:
    """Read a WebP image's width and height from its header; Pillow would allocate its canvas on opening."""
    kind = content[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(content[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    size = int.from_bytes(content[26:28], "little"), int.from_bytes(content[28:30], "little")
    return size[0] & 0x3FFF, size[1] & 0x3FFF


def orientation_of(exif: bytes) -> int | None:
    """Return the orientation in an EXIF block; None if it has none or is malformed."""
    exif = exif.removeprefix(_EXIF_START)
    order = _ORDERS.get(exif[:4])
    if order is None:
        return None
    start = int.from_bytes(exif[4:8], order)
    count = int.from_bytes(exif[start : start + 2], order)
    for place in range(start + 2, start + 2 + 12 * min(count, _TAGS), 12):
        entry = exif[place : place + 12]
        if len(entry) == 12 and int.from_bytes(entry[:2], order) == _ORIENTATION:
            is_long = int.from_bytes(entry[2:4], order) == 4
            value = int.from_bytes(entry[8 : 12 if is_long else 10], order)
            return value if 1 <= value <= 8 else None
    return None


def _orientation(exif: bytes, xmp: bytes) -> int:
    found = orientation_of(exif)
    if found is None and (written := _XMP_ORIENTATION.search(xmp)):
        found = int(written[1])
    return found or 1


def _png(content: bytes) -> Stripped:
    """Keep critical chunks, and transparency if it is intact; the image is usable without it."""
    view = memoryview(content)
    kept = bytearray(content[:8])
    exif = xmp = b""
    place = 8
    while place + 12 <= len(content):
        length, name = int.from_bytes(view[place : place + 4], "big"), bytes(view[place + 4 : place + 8])
        body, end = view[place + 8 : place + 8 + length], place + 12 + length
        if not name[0] & 0x20 or (name == b"tRNS" and _crc_is_right(view[place + 4 : end])):
            kept += view[place:end]
        elif name == b"eXIf":
            exif = exif or bytes(body)
        elif name == b"iTXt" and bytes(body[:22]) == b"XML:com.adobe.xmp\0\0\0\0\0":
            xmp = bytes(body)
        elif name == b"zTXt" and bytes(body[:23]) == b"Raw profile type exif\0\0":
            exif = exif or _raw_profile(body[23:])
        place = end
        if name == b"IEND":
            break
    else:
        kept += view[place:]
    return Stripped(bytes(kept), _orientation(exif, xmp))


def _crc_is_right(chunk: memoryview) -> bool:
    return zlib.crc32(chunk[:-4]) == int.from_bytes(chunk[-4:], "big")


def _raw_profile(packed: memoryview) -> bytes:
    """Return an EXIF block as ImageMagick stores it in PNG: its name, its length and hexadecimal digits."""
    try:
        text = zlib.decompressobj().decompress(packed, _PROFILE_BYTES)
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return b""


def _jpeg(content: bytes) -> Stripped:
    """Keep all segments except comments and application data; of the latter, what determines the colours."""
    kept = bytearray(b"\xff\xd8")
    exif = xmp = frame = b""
    buffered = 0
    place = 2
    while (place := content.find(b"\xff", place)) >= 0:
        while content[place : place + 1] == b"\xff":  # any number of them may precede a marker
            place += 1
        if place >= len(content):
            break
        marker = content[place]
        place += 1
        length = int.from_bytes(content[place : place + 2], "big")
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8 or length < 2:  # no length, or an invalid one
            continue
        if marker == 0xD9:  # the end, before any pixels
            break
        body = content[place + 2 : place + length]
        segment = content[place - 1 : place + length]
        if marker == 0xDA:
            kept += b"\xff" + memoryview(content)[place - 1 :]
            buffered = _coefficient_bytes(frame, scan=body)
            break
        place += length
        if marker == 0xE0 and body.startswith(b"JFIF\0"):
            kept += _JFIF
        elif marker == 0xE1:
            if body.startswith(_EXIF_START):
                exif = exif or body
            else:
                xmp = xmp or body
        elif (
            not (0xE0 <= marker <= 0xEF or marker == 0xFE)
            or (marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12)  # of four colours: which
        ):  # fmt: skip
            kept += b"\xff" + segment
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                frame = segment
    return Stripped(bytes(kept), _orientation(exif, xmp), buffered)


def _coefficient_bytes(frame: bytes, scan: bytes) -> int:
    """Return the bytes that libjpeg buffers of the whole image (jdcoefct.c): 0 if the first scan has it all.

    frame: SOF, from its marker on; scan: the contents of SOS. Each component has as many coefficients as
    samples, of 2 bytes each.
    """
    if len(frame) < 9:
        return 0
    marker, components = frame[0], frame[8]
    if marker not in (0xC2, 0xC6, 0xCA, 0xCE) and scan[:1] == bytes([components]):
        return 0
    height, width = int.from_bytes(frame[4:6], "big"), int.from_bytes(frame[6:8], "big")
    sampling = [(value >> 4, value & 15) for value in frame[10 : 9 + 3 * components : 3]]
    most = max((h for h, _ in sampling), default=1) * max((v for _, v in sampling), default=1)
    return 2 * width * height * sum(h * v for h, v in sampling) // max(most, 1)


def _webp(content: bytes) -> Stripped:
    view = memoryview(content)
    kept = bytearray()
    exif = xmp = b""
    declared = 4
    place = 12
    while place + 8 <= len(content):
        name, length = bytes(view[place : place + 4]), int.from_bytes(view[place + 4 : place + 8], "little")
        end = place + 8 + length + length % 2
        if name == b"EXIF":
            exif = bytes(view[place + 8 : place + 8 + length])
        elif name == b"XMP ":
            xmp = bytes(view[place + 8 : place + 8 + length])
        elif name != b"ICCP":
            start = len(kept)
            kept += view[place:end]
            declared += end - place
            if name == b"VP8X" and length > 0:
                kept[start + 8] &= ~_WEBP_SIDE_FLAGS
        place = end
    head = b"RIFF" + (declared & 0xFFFFFFFF).to_bytes(4, "little") + b"WEBP"
    return Stripped(head + bytes(kept), _orientation(exif, xmp))


def _tiff(content: bytes) -> Stripped:
    """Keep only the directory of the first image, and in it only how the pixels are stored.

    A file in the large format (BigTIFF) is unchanged.
    """
    order = _ORDERS.get(content[:4])
    start = int.from_bytes(content[4:8], order or "little")
    if order is None or start + 2 > len(content):
        return Stripped(content)
    first, end = start + 2, start + 2 + 12 * int.from_bytes(content[start : start + 2], order)
    entries = [content[place : place + 12] for place in range(first, min(end, len(content) - 11), 12)]
    kept = [entry for entry in entries if int.from_bytes(entry[:2], order) in _TIFF_TAGS]
    directory = len(kept).to_bytes(2, order) + b"".join(kept) + bytes(4)  # and no further image
    changed = bytearray(content)
    changed[start : start + len(directory)] = directory
    return Stripped(bytes(changed), orientation_of(content) or 1)


def _avif(content: bytes) -> Stripped:
    """Rename EXIF so that decoders skip it; AVIF has its own boxes for the orientation."""
    place = 0
    while place + 8 <= len(content):
        size, name = int.from_bytes(content[place : place + 4], "big"), content[place + 4 : place + 8]
        if name == b"meta" and size >= 8:
            box = content[place : place + size].replace(b"Exif", b"free")
            return Stripped(content[:place] + box + content[place + size :])
        if size < 8:
            break
        place += size
    return Stripped(content)


_STRIPS: Final[dict[str, Callable[[bytes], Stripped]]] = {
    "PNG": _png,
    "JPEG": _jpeg,
    "WEBP": _webp,
    "TIFF": _tiff,
    "AVIF": _avif,
}
