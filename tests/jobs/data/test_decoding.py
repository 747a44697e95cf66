"""What becomes of an image file whose pixels are whole: side data, size, format and depth are no obstacle."""

from __future__ import annotations

import io
import re
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from PIL import Image, PngImagePlugin, features

from jobrelay_train.data.images import decoding
from jobrelay_train.data.images.decoding import Unreadable, Unusable, read_image
from tests.support.volume import REPOSITORY, Place, png_of

GREY = (1, 28, 28)
COLOUR = (3, 64, 64)
ORIENTATION = 0x0112


def _corners() -> Image.Image:
    """40 x 40: red, green / blue, yellow."""
    image = Image.new("RGB", (40, 40), "red")
    image.paste("lime", (20, 0, 40, 20))
    image.paste("blue", (0, 20, 20, 40))
    image.paste("yellow", (20, 20, 40, 40))
    return image


def _content(image_format: str, image: Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (image or _corners()).save(buffer, format=image_format, **options)
    return buffer.getvalue()


def _corners_of(folder: Path, name: str) -> str:
    """The colours of the four corners, from the top left on."""
    pixels = read_image(folder, name, COLOUR).int()
    names = {(1, 0, 0): "r", (0, 1, 0): "g", (0, 0, 1): "b", (1, 1, 0): "y"}
    places = ((12, 12), (12, 52), (52, 12), (52, 52))
    return "".join(names.get(tuple((pixels[:, y, x] > 127).int().tolist()), "?") for y, x in places)


def _chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    right = zlib.crc32(name + body)
    return len(body).to_bytes(4, "big") + name + body + (right if crc is None else crc).to_bytes(4, "big")


def _with_chunk(chunk: bytes) -> bytes:
    """The PNG with one more chunk, behind its header."""
    png = _content("PNG")
    return png[:33] + chunk + png[33:]


def _with_segment(marker: int, body: bytes, jpeg: bytes | None = None) -> bytes:
    """The JPEG with one more segment in front."""
    jpeg = jpeg or _content("JPEG", quality=95)
    return jpeg[:2] + bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


def _tiff(value: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block that says how the camera was held."""
    mark = b"II" if order == "<" else b"MM"
    padded = struct.pack(f"{order}H", value) + b"\0\0" if kind == 3 else struct.pack(f"{order}I", value)
    entry = struct.pack(f"{order}HHI", ORIENTATION, kind, 1) + padded
    return mark + struct.pack(f"{order}HIH", 42, 8, 1) + entry + bytes(4)


def _image_magick(value: int) -> bytes:
    digits = (b"Exif\0\0" + _tiff(value)).hex().encode()
    return b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n      32\n" + digits + b"\n")


def _tiff_with_a_wrong_tag() -> bytes:
    """Its description lies far behind its end."""
    content = bytearray(_content("TIFF", tiffinfo={270: "longer than four bytes"}))
    entry = content.index(struct.pack("<HH", 270, 2))
    content[entry + 8 : entry + 12] = struct.pack("<I", 1 << 30)
    return bytes(content)


def _webp_with(name: bytes, body: bytes, flag: int) -> bytes:
    """A WebP of the extended format with one more chunk behind the pixels."""
    pixels = _content("WEBP", lossless=True)[12:]
    header = b"VP8X" + struct.pack("<I", 10) + bytes([flag, 0, 0, 0]) + b"\x27\0\0\x27\0\0"
    chunk = name + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(header + pixels + chunk)) + b"WEBP" + header + pixels + chunk


def _animated(image_format: str) -> bytes:
    return _content(image_format, save_all=True, append_images=[Image.new("RGB", (40, 40), "white")])


SIDE_DATA: dict[str, Callable[[], bytes]] = {
    "EXIF that is none": lambda: _with_segment(0xE1, b"Exif\0\0ZZ*\0\x08\0\0\0"),
    "EXIF that is cut": lambda: _with_segment(0xE1, b"Exif\0\0" + _tiff(1)[:13]),
    "EXIF that points behind itself": lambda: _with_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f"),
    "an orientation of 0": lambda: _with_segment(0xE1, b"Exif\0\0" + _tiff(0)),
    "an orientation of 77": lambda: _with_segment(0xE1, b"Exif\0\0" + _tiff(77)),
    "a JFIF header of a byte": lambda: _with_segment(0xE0, b"JFIF\0\1", _content("JPEG", quality=95)),
    "an index of pictures that is none": lambda: _with_segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "an ICC profile without its parts": lambda: _with_segment(0xE2, b"ICC_PROFILE\0\1"),
    "a Photoshop block that is cut": lambda: _with_segment(0xED, b"Photoshop 3.0\x008BIM\4"),
    "a colour transform that is cut": lambda: _with_segment(0xEE, b"Adobe\0"),
    "bytes between segments": lambda: _content("JPEG", quality=95).replace(
        b"\xff\xdb", b"\0\0\xff\xff\xdb", 1
    ),
    "a text of 3 MB": lambda: _with_chunk(_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000)))),
    "an international text of 3 MB": lambda: _with_chunk(
        _chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000)))
    ),
    "a text compressed by nobody knows what": lambda: _with_chunk(_chunk(b"zTXt", b"Comment\0\7abc")),
    "a text with a wrong checksum": lambda: _with_chunk(_chunk(b"tEXt", b"Comment\0abc", crc=1)),
    "a profile compressed by nobody knows what": lambda: _with_chunk(_chunk(b"iCCP", b"x\0\7abc")),
    "a profile of 3 MB": lambda: _with_chunk(_chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(3_000_000)))),
    "chunks that are too short": lambda: _with_chunk(
        _chunk(b"gAMA", b"") + _chunk(b"cHRM", b"\0") + _chunk(b"sRGB", b"") + _chunk(b"pHYs", b"\0")
    ),
    "EXIF in a PNG that is none": lambda: _with_chunk(_chunk(b"eXIf", b"ZZ*\0")),
    "an animation that is none": lambda: _with_chunk(_chunk(b"acTL", bytes(8))),
    "transparency with a wrong checksum": lambda: _with_chunk(_chunk(b"tRNS", bytes(6), crc=1)),
    "EXIF in a WebP that is none": lambda: _webp_with(b"EXIF", b"ZZ*\0", 0x08),
    "a profile in a WebP that is none": lambda: _webp_with(b"ICCP", b"", 0x20),
    "a description that lies elsewhere": _tiff_with_a_wrong_tag,
    "an EXIF directory that lies elsewhere": lambda: _content("TIFF", tiffinfo={34665: 1 << 30}),
    "XMP in a WebP that is none": lambda: _webp_with(b"XMP ", b"\xff\xff", 0x04),
}


@pytest.mark.parametrize("what", SIDE_DATA)
def test_pixels_that_are_whole_are_read_whatever_stands_beside_them(tmp_path: Path, what: str) -> None:
    (tmp_path / "a").write_bytes(SIDE_DATA[what]())

    assert _corners_of(tmp_path, "a") == "rgby"


TURNED = {1: "rgby", 2: "gryb", 3: "ybgr", 4: "byrg", 5: "rbgy", 6: "bryg", 7: "ygbr", 8: "gyrb"}
WAYS: dict[str, Callable[[int], bytes]] = {
    "JPEG": lambda value: _with_segment(0xE1, b"Exif\0\0" + _tiff(value)),
    "JPEG, big-endian": lambda value: _with_segment(0xE1, b"Exif\0\0" + _tiff(value, ">")),
    "JPEG, as a long": lambda value: _with_segment(0xE1, b"Exif\0\0" + _tiff(value, ">", 4)),
    "JPEG, in XMP": lambda value: _with_segment(
        0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="%d"/>' % value
    ),
    "PNG": lambda value: _with_chunk(_chunk(b"eXIf", _tiff(value))),
    "PNG, as ImageMagick writes it": lambda value: _with_chunk(_chunk(b"zTXt", _image_magick(value))),
    "WebP": lambda value: _webp_with(b"EXIF", _tiff(value), 0x08),
    "TIFF": lambda value: _content("TIFF", tiffinfo={ORIENTATION: value}),
    "TIFF, compressed": lambda value: _content("TIFF", tiffinfo={ORIENTATION: value}, compression="tiff_lzw"),
}
if features.check("avif"):
    WAYS["AVIF"] = lambda value: _content("AVIF", exif=b"Exif\0\0" + _tiff(value))


@pytest.mark.parametrize("way", WAYS)
def test_a_readable_orientation_is_applied(tmp_path: Path, way: str) -> None:
    for value, corners in TURNED.items():
        (tmp_path / "a").write_bytes(WAYS[way](value))
        assert (value, _corners_of(tmp_path, "a")) == (value, corners)


def test_damaged_pixels_are_still_damaged(tmp_path: Path) -> None:
    photograph = Image.effect_noise((400, 300), 90).convert("RGB")
    for image_format in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        content = _content(image_format, photograph)
        (tmp_path / "a").write_bytes(content[: len(content) // 2])
        with pytest.raises(Unusable, match="it is damaged: "):
            read_image(tmp_path, "a", COLOUR)
    png = bytearray(_content("PNG", photograph))
    png[len(png) // 2] ^= 1  # a bit of the pixels
    (tmp_path / "a").write_bytes(png)
    with pytest.raises(Unusable, match="it is damaged: "):
        read_image(tmp_path, "a", COLOUR)


def test_a_stage_says_nothing_of_side_data(trained: Place) -> None:
    photos = trained.root / "data" / "photos"
    photos.mkdir()
    (photos / "a.tif").write_bytes(_tiff_with_a_wrong_tag())
    (photos / "b.png").write_bytes(_with_chunk(_chunk(b"acTL", bytes(8))))
    (photos / "c.jpg").write_bytes(_with_segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"))

    ended = trained.do("infer", "--set", "infer.source=data/photos", "--set", "infer.samples=all")

    assert (ended.code, ended.err) == (0, "")
    assert "classifying 3 images" in ended.out
    assert "Warning" not in ended.out


# --- formats ---


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bmp", lambda: _content("BMP")),
        ("gif", lambda: _content("GIF")),
        ("gif of two frames", lambda: _animated("GIF")),
        ("png of two frames", lambda: _animated("PNG")),
        ("webp of two frames", lambda: _animated("WEBP")),
        ("tif of two pages", lambda: _animated("TIFF")),
        ("tif by JPEG", lambda: _content("TIFF", compression="jpeg")),
        pytest.param(
            "avif", lambda: _content("AVIF"),
            marks=pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF"),
        ),
    ],
)  # fmt: skip
def test_the_first_image_of_every_common_format_is_read(
    tmp_path: Path, name: str, content: Callable[[], bytes]
) -> None:
    (tmp_path / "a.jpg").write_bytes(content())  # whatever it is called

    assert _corners_of(tmp_path, "a.jpg") == "rgby"


@pytest.mark.parametrize("mode", ["I", "F", "I;16B"])
def test_depth_is_scaled_and_not_cut(tmp_path: Path, mode: str) -> None:
    values = numpy.linspace(0, 1, 64, dtype=numpy.float32)[None, :].repeat(64, axis=0)
    deep = values if mode == "F" else (values * 65535).astype(numpy.int32 if mode == "I" else ">u2")
    Image.fromarray(deep).save(tmp_path / "a.tif")

    found = read_image(tmp_path, "a.tif", COLOUR)

    assert abs(int(found[0, 32, 16]) - 64) < 3
    assert abs(int(found[0, 32, 48]) - 194) < 3


def test_avif_is_named_where_pillow_does_not_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x1cftypavif" + bytes(20))

    with pytest.raises(Unusable, match="it is an AVIF image, which this build of Pillow does not read"):
        read_image(tmp_path, "a.avif", COLOUR)


# --- polarity ---


def test_a_dark_thing_on_white_is_inverted_also_at_the_very_size(tmp_path: Path) -> None:
    pixels = numpy.full((28, 28), 255, numpy.uint8)
    pixels[8:20, 12:16] = 30
    expected = torch.from_numpy(255 - pixels).unsqueeze(0)
    for mode in ("L", "RGB", "1", "P"):
        image = Image.fromarray(pixels if mode != "1" else (pixels > 127).astype(numpy.uint8) * 255)
        image.convert(mode).save(tmp_path / "a.png")

        found = read_image(tmp_path, "a.png", GREY)

        assert torch.equal(found > 127, expected > 127), mode
        if mode != "1":
            assert torch.equal(found, expected), mode


# --- size ---


PEAK = """
import resource, sys
from pathlib import Path
from jobrelay_train.data.images.decoding import read_image
read_image(Path(sys.argv[1]), "small.jpg", (3, 64, 64))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(read_image(Path(sys.argv[1]), "large.jpg", (3, 64, 64)).float().mean(dim=(1, 2)).round().int().tolist())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in kB on Linux alone")
@pytest.mark.parametrize("size", [(8064, 6048), (12000, 9000)], ids=["48 MP", "108 MP"])
def test_a_photograph_of_a_telephone_takes_little_memory(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (200, 30, 30)).save(tmp_path / "large.jpg", quality=60)
    Image.new("RGB", (90, 90), (200, 30, 30)).save(tmp_path / "small.jpg")

    ended = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True
    )

    assert ended.returncode == 0, ended.stderr
    colour, kilobytes = ended.stdout.splitlines()
    assert all(abs(int(a) - b) < 4 for a, b in zip(re.findall(r"\d+", colour), (200, 30, 30), strict=True))
    assert int(kilobytes) < 64 * 1024  # all of its pixels would take 190 and 410 MiB


@pytest.mark.parametrize("image_format", ["PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG"])
def test_what_takes_too_much_memory_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image_format: str
) -> None:
    options = {"progressive": True} if image_format == "JPEG" else {}
    (tmp_path / "a").write_bytes(_content(image_format, _corners().resize((1000, 800)), **options))
    monkeypatch.setattr(decoding, "_MOST_BYTES", 1_000_000)
    monkeypatch.setattr(Image.Image, "load", None)

    with pytest.raises(
        Unusable, match=r"it has 1000 x 800 pixels, which take \d+ MiB to decode; 0 MiB is the most"
    ):
        read_image(tmp_path, "a", COLOUR)


def test_memory_that_this_machine_lacks_is_no_fault_of_the_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(png_of(5000, 5000))
    monkeypatch.setattr(decoding, "memory_bytes", lambda: 100 * 2**20)

    with pytest.raises(
        Unreadable,
        match=r"which take 96 MiB to decode; 50 MiB may be used for that here: give the stage more",
    ):
        read_image(tmp_path, "a", COLOUR)


def test_text_of_many_chunks_is_not_read(tmp_path: Path) -> None:
    info = PngImagePlugin.PngInfo()
    for number in range(200):
        info.add_text(f"Comment {number}", "x" * 1_000_000, zip=True)
    (tmp_path / "a").write_bytes(_content("PNG", pnginfo=info))

    assert _corners_of(tmp_path, "a") == "rgby"
