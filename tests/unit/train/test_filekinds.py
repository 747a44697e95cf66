"""What a file is called, by its first bytes."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobrelay_train.data.filekinds import HEAD_BYTES, kind_of


def _zip(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "content")
    return buffer.getvalue()


def _saved(save: Callable[[io.BytesIO], object]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def _tar(buffer: io.BytesIO) -> None:
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))


def _safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(4)


def _ftyp(*brands: bytes) -> bytes:
    body = b"ftyp" + brands[0] + bytes(4) + b"".join(brands[1:])
    return struct.pack(">I", 4 + len(body)) + body + bytes(40)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", "empty"),
        (_ftyp(b"heic", b"mif1", b"heic"), "a HEIC photograph"),
        (_ftyp(b"mif1", b"mif1", b"heic"), "a HEIC photograph"),
        (_ftyp(b"avif", b"avif", b"mif1"), "an AVIF image"),
        (_ftyp(b"mif1", b"mif1", b"avif"), "an AVIF image"),
        (_ftyp(b"isom", b"mp42"), "a video (MP4)"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg">', "a drawing (SVG)"),
        (b"<svg viewBox='0 0 1 1'/>", "a drawing (SVG)"),
        (b"\xef\xbb\xbf\n<!DOCTYPE HTML>\n<title>Log in</title>", "a web page (HTML)"),
        (b"<html><body>404", "a web page (HTML)"),
        (b"<?xml version='1.0'?><feed/>", "an XML document"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
            "a Git LFS pointer, not the file itself (`git lfs pull` fetches that)",
        ),
        (_zip("a.txt"), "a zip archive"),
        (_saved(lambda file: numpy.savez(file, a=numpy.zeros(1))), "NumPy arrays (.npz)"),
        (_saved(lambda file: numpy.save(file, numpy.zeros(1))), "a NumPy array (.npy)"),
        (_saved(lambda file: torch.save({"w": torch.zeros(1)}, file)), "weights that PyTorch wrote"),
        (
            _saved(lambda file: torch.save({"w": 1}, file, _use_new_zipfile_serialization=False)),
            "weights in the format of PyTorch before 1.6",
        ),
        (_safetensors(), "weights in the format of safetensors"),
        (pickle.dumps({"a": 1}), "a Python pickle"),
        (pickle.dumps({"a": 1}, 2), "a Python pickle"),
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file, as Keras writes weights"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", "a PDF document"),
        (_saved(_tar), "a tar archive"),
        (b"\x1f\x8b\x08" + bytes(10), "a gzip archive"),
        (b"BMW is a car, and this a text", "text"),
        ("größe,farbe\n".encode(), "text"),
        ("größe,farbe\n".encode("utf-16"), "text"),
        (bytes(1000), "nothing but zeros"),
        (b"\1\2\3\4" * 100, "of an unknown kind"),
    ],
)
def test_a_file_is_named_for_what_it_is(head: bytes, kind: str) -> None:
    assert kind_of(head[:HEAD_BYTES]) == kind


@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\3\4", b"RIFF", b"\0\0\0\x20ftyp", b"<svg", b"BM"]))
def test_any_bytes_have_a_name(content: bytes, start: bytes) -> None:
    assert kind_of(start + content)


def test_a_character_that_is_cut_is_still_text() -> None:
    assert kind_of(("ä" * HEAD_BYTES).encode()[: HEAD_BYTES - 1]) == "text"
