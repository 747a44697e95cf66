"""Identify a file by its first bytes, whatever its name.

The message about an unusable file says what the file is: a photograph from an iPhone, the pointer that Git
LFS leaves in place of a file, a login page. The names are phrases that follow "it is".
"""

from __future__ import annotations

from typing import Final

#: The bytes that `kind_of` examines: tar has its name at 257, a web page may start with comments.
HEAD_BYTES: Final = 4096

#: The images that Pillow reads here, by its own names.
IMAGES: Final = {
    "a PNG image": "PNG",
    "a JPEG image": "JPEG",
    "a WebP image": "WEBP",
    "a GIF image": "GIF",
    "a BMP image": "BMP",
    "a TIFF image": "TIFF",
    "an AVIF image": "AVIF",
}
ZIP: Final = "a zip archive"
GZIP: Final = "a gzip archive"
PYTORCH: Final = "weights that PyTorch wrote"
OLD_PYTORCH: Final = "weights in the format of PyTorch before 1.6"
SAFETENSORS: Final = "weights in the format of safetensors"
LFS_POINTER: Final = "a Git LFS pointer, not the file itself (`git lfs pull` fetches that)"
TEXT: Final = "text"
UNKNOWN: Final = "of an unknown kind"

_STARTS: Final = (
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF87a", "a GIF image"),
    (b"GIF89a", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"II+\0", "a TIFF image"),
    (b"MM\0+", "a TIFF image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (b"\0\0\1\0", "an icon (ICO)"),
    (b"8BPS", "a Photoshop document"),
    (b"v/1\x01", "an OpenEXR image"),
    (b"FUJIFILMCCD-RAW", "a raw photograph"),
    (b"%PDF-", "a PDF document"),
    (b"%!PS", "a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript document"),
    (b"version https://git-lfs.github.com/spec/", LFS_POINTER),
    (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", OLD_PYTORCH),
    (b"\x80\x02}", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes weights"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"GGUF", "weights in the format of GGUF"),
    (b"PK\5\6", "an empty zip archive"),
    (b"\x1f\x8b", GZIP),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\0\0\x08\x01", "an IDX file"),
    (b"\0\0\x08\x03", "an IDX file"),
    (b"PAR1", "a Parquet table"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (b"\0\5\x16\7", "what macOS keeps about a file (AppleDouble), not the file itself"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
)
#: Meaning of the brands in the first box of ISO media files.
_BRANDS: Final = (
    ((b"avif", b"avis"), "an AVIF image"),
    ((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "a HEIC photograph"),
    ((b"crx ",), "a raw photograph"),
    ((b"qt  ",), "a QuickTime video"),
)
_RIFF: Final = {b"WEBP": "a WebP image", b"AVI ": "a video (AVI)", b"WAVE": "a sound (WAV)"}


def kind_of(head: bytes) -> str:
    """Identify a file by its first HEAD_BYTES, `head`; returns a phrase that follows "it is"."""
    if not head:
        return "empty"
    for start, name in _STARTS:
        if head.startswith(start):
            return name
    return _inside(head) or _written(head) or UNKNOWN


def _inside(head: bytes) -> str | None:
    """Identify a container by the type further inside it, or by its contents."""
    if head.startswith(b"RIFF"):
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head.startswith(b"PK\3\4"):
        return _zipped(head)
    if head.startswith(b"BM") and head[6:10] == bytes(4):  # reserved, and zero; not a text on BMW
        return "a BMP image"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[128:132] == b"DICM":
        return "a DICOM image"
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < 2**32:
        return SAFETENSORS
    if not head.strip(b"\0"):
        return "nothing but zeros"
    return None


def _iso_media(head: bytes) -> str:
    size = int.from_bytes(head[:4], "big")
    brands = [head[place : place + 4] for place in (8, *range(16, min(size, len(head)), 4))]
    for known, name in _BRANDS:
        if any(brand in known for brand in brands):
            return name
    return "a video (MP4)"


def _zipped(head: bytes) -> str:
    """Identify a zip file by the name of its first member."""
    length = int.from_bytes(head[26:28], "little")
    first = head[30 : 30 + length]
    if first.endswith(b"/data.pkl"):
        return PYTORCH
    if first.endswith(b".npy"):
        return "NumPy arrays (.npz)"
    return ZIP


def _written(head: bytes) -> str | None:
    """Identify text: web pages, drawings, tables."""
    for encoding in ("utf-16", "utf-8"):
        if encoding == "utf-16" and head[:2] not in (b"\xff\xfe", b"\xfe\xff"):
            continue
        text = head.decode(encoding, errors="ignore")
        if encoding == "utf-8" and len(text.encode()) < len(head) - 3:  # a character may be cut at the end
            return None
        if any(character < " " and character not in "\t\n\r\f" for character in text):
            return None
        lower = text.lstrip("\ufeff \t\r\n").lower()
        if lower.startswith(("<!doctype html", "<html")):
            return "a web page (HTML)"
        if lower.startswith(("<?xml", "<svg", "<!--", "<!doctype svg")) and "<svg" in lower:
            return "a drawing (SVG)"
        if lower.startswith("<?xml"):
            return "an XML document"
        if "<html" in lower and lower.startswith("<"):
            return "a web page (HTML)"
        return TEXT
    return None
