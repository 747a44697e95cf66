"""A corpus of hostile weight files, and a program that loads them and measures the cost.

`python -m tests.support.hostile FOLDER` loads one checkpoint from each FOLDER/NAME/checkpoints and prints one
JSON line for each: the error, CPU time in seconds, and memory in MiB on top of torch's own.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import pickle
import resource
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any, Final

import torch

from jobrelay_train.models.serialization.checkpoint import load_newest

#: Made by code of a file that was run.
TRACE: Final = "was-run"
MIB: Final = 1024 * 1024
#: Pickles: an empty dict, and a dict with 4 GiB of zeros, made by a name that torch.load allows.
HARMLESS: Final = b"\x80\x02}."
ALLOCATES: Final = b"\x80\x02}X\x01\0\0\0ac__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x01\x85Rs."


class Call:
    """An object that makes a call when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def saved(state: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


def archive(program: bytes, **members: bytes) -> bytes:
    """A file as torch.save makes it, with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("archive/data.pkl", program)
        file.writestr("archive/byteorder", "little")
        file.writestr("archive/version", "3\n")
        for name, content in members.items():
            file.writestr(f"archive/data/{name}", content)
    return buffer.getvalue()


def compressed(content: bytes) -> bytes:
    """The same members, deflated."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as plain,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
    ):
        for member in plain.infolist():
            file.writestr(member.filename, plain.read(member))
    return buffer.getvalue()


def overlapping(content: bytes) -> bytes:
    """Every member a hundred times, in the same place."""
    buffer = io.BytesIO(content)
    with zipfile.ZipFile(buffer, "a") as file:
        for number in range(100):
            for member in list(file.filelist)[:5]:
                again = copy(member)
                again.filename = f"{member.filename}{number}"
                file.filelist.append(again)
        file._didModify = True  # type: ignore[attr-defined]
    return buffer.getvalue()


def doubling(levels: int) -> bytes:
    """The pickle of a dict with one key: a tuple of the tuple before it, twice, and so on."""
    program = b"\x80\x02}K\x01q\x00"
    for level in range(levels):
        program += b"h" + bytes([level]) + b"\x86q" + bytes([level + 1])
    return program + b"K\x00s."


def two_pickles(first: str, program: bytes, second: str, hostile: bytes) -> bytes:
    """An archive with two pickles, of which one reader takes this one, another reader that one."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in ((first, program), (second, hostile)):
            file.writestr(f"archive/{name}", content)
        file.writestr("archive/version", "3\n")
    return buffer.getvalue()


def storage(name: str = "Float", count: int = 4) -> bytes:
    """The part of a pickle that refers to the storage `0`."""
    return (
        b"(X\x07\0\0\0storagectorch\n" + name.encode() + b"Storage\nX\x01\0\0\x000X\x03\0\0\0cpu"
        b"\x8a\x05" + struct.pack("<Q", count)[:5] + b"tQ"
    )


def tensor(values: bytes, count: int) -> bytes:
    """The part of a pickle that is a tensor of that many elements over a storage."""
    number = b"\x8a\x05" + struct.pack("<Q", count)[:5]
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + values + b"K\0" + number + b"\x85K\x01\x85\x89}tR"


def views(count: int) -> bytes:
    """A file with one storage that `count` tensors view."""
    values = bytes(4 * 50_000)
    program = b"\x80\x02}X\x01\0\0\0a](" + storage(count=50_000) + b"q\0"
    one = b"ctorch._utils\n_rebuild_tensor_v2\n(h\0K\0\x8a\x03\x50\xc3\0\x85K\x01\x85\x89}tR"
    return archive(program + one * count + b"es.", **{"0": values})


def safetensors(tensors: dict[str, torch.Tensor], **claims: Any) -> bytes:
    """A file of the format; claims: what the header says of one more tensor, `x`."""
    names = {torch.float32: "F32", torch.bfloat16: "BF16", torch.bool: "BOOL"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    values = b""
    for name, value in tensors.items():
        content = bytes(value.view(torch.uint8).flatten().numpy())
        header[name] = {
            "dtype": names[value.dtype], "shape": list(value.shape),
            "data_offsets": [len(values), len(values) + len(content)],
        }  # fmt: skip
        values += content
    if claims:
        header["x"] = {"dtype": "F32", **claims}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + values


def corpus(folder: Path) -> dict[str, Callable[[], bytes]]:
    """File contents by name, all of which get a matching sidecar. If their code runs, it leaves TRACE in
    `folder`."""
    trace = str(folder / TRACE)
    run = f"open({trace!r}, 'w').close()"
    good = {"model": {"weight": torch.zeros(10)}}
    return {
        "a call of os.mkdir": lambda: saved({"model": Call(os.mkdir, trace)}),
        "a call of eval": lambda: saved({"model": Call(builtins.eval, run)}),
        "a call in the old format": lambda: saved(
            {"model": Call(builtins.exec, run)}, _use_new_zipfile_serialization=False
        ),
        "a call in a bare pickle": lambda: pickle.dumps(Call(builtins.exec, run)),
        "a call among good weights": lambda: saved({**good, "sums": OrderedDict(a=[Call(os.mkdir, trace)])}),
        "an import": lambda: saved({"model": Call(__import__, "antigravity")}),
        "a bytearray of 4 GiB": lambda: archive(
            b"\x80\x02c__builtin__\nbytearray\n\x8a\x05" + struct.pack("<Q", 4 << 30)[:5] + b"\x85R."
        ),
        "a tensor type of 4 GiB": lambda: archive(
            b"\x80\x02ctorch\nTensor\n\x8a\x05" + struct.pack("<Q", 1 << 30)[:5] + b"\x85R."
        ),
        "300 MiB of zeros, compressed": lambda: compressed(saved({"model": {"w": torch.zeros(75 * MIB)}})),
        "members on top of each other": lambda: overlapping(saved({"model": torch.zeros(10_000)})),
        "ten billion elements of one value": lambda: saved({"model": {"w": torch.zeros(1).expand(10**10)}}),
        "another pickle in capitals": lambda: two_pickles("data.pkl", HARMLESS, "DATA.PKL", ALLOCATES),
        "another pickle in capitals, first": lambda: two_pickles("DATA.PKL", ALLOCATES, "data.pkl", HARMLESS),
        "two pickles of one name": lambda: two_pickles("data.pkl", HARMLESS, "dbta.pkl", ALLOCATES).replace(
            b"dbta", b"data"
        ),
        "a storage of 4 GiB": lambda: archive(
            b"\x80\x02}X\x01\0\0\0a" + tensor(storage(count=1 << 30), 4) + b"s.", **{"0": bytes(16)}
        ),
        "more elements than values": lambda: archive(
            b"\x80\x02}X\x01\0\0\0a" + tensor(storage(), 1 << 30) + b"s.", **{"0": bytes(16)}
        ),
        "values that a tensor is told to take": lambda: archive(
            b"\x80\x02}X\x01\0\0\0a" + tensor(storage(), 4) + b"}X\x01\0\0\0bK\1sbs.", **{"0": bytes(16)}
        ),
        "six thousand tensors of the same values": lambda: views(6000),
        "a place of a thousand million in the memo": lambda: archive(
            b"\x80\x02}r\xff\xff\xff\x3f0j\0\0\0\0."
        ),
        "a storage of 4 GiB in the old format": lambda: saved(
            {"a": torch.zeros(4)}, _use_new_zipfile_serialization=False
        ).replace(b"cpuq\x06K\x04", b"cpuq\x06J\0\0\0\x40"),
        "safetensors of 4 GiB": lambda: safetensors({}, shape=[1 << 30], data_offsets=[0, 1 << 32]),
        "safetensors that overlap": lambda: safetensors({}, shape=[1 << 30], data_offsets=[0, 16]),
        "safetensors of a negative size": lambda: safetensors({}, shape=[-1 << 30, -4], data_offsets=[0, 16]),
        "safetensors with a deep header": lambda: struct.pack("<Q", 1_000_000) + b'{"a":' * 200_000,
        "a tuple that takes minutes to hash": lambda: archive(doubling(60)),
        "a pickle of a million marks": lambda: archive(b"\x80\x02" + b"(" * 1_040_000 + b"."),
        "a pickle of a million dicts": lambda: archive(b"\x80\x02" + b"}" * 1_040_000 + b"."),
        "a pickle of 50 MB": lambda: archive(b"\x80\x02" + b"N0" * 25_000_000 + b"}."),
        "a pickle that stops early": lambda: archive(pickle.dumps(good["model"], 2)[:20]),
        "storage that is not there": lambda: saved(good).replace(b"archive/data/0", b"archive/dote/0"),
        "no pickle": lambda: archive(b"").replace(b"data.pkl", b"data.pkz"),
        "a program of TorchScript": lambda: archive(
            b"\x80\x02c__torch__\nModel\n)\x81}b.", **{"../constants.pkl": b"\x80\x02)."}
        ),
        "no dict": lambda: saved([1, 2, 3]),
        "nothing": lambda: b"",
        "text": lambda: b"not a checkpoint\n" * 1000,
    }


def try_all(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        told, told_end = os.pipe()
        if os.fork() == 0:  # so that every one is measured alone, and torch is loaded once
            os.write(told_end, json.dumps(_try(path / "checkpoints")).encode())
            os._exit(0)
        os.close(told_end)
        os.wait()
        with os.fdopen(told, "rb") as answer:
            print(json.dumps({"name": path.name, **json.loads(answer.read() or b'{"error": "died"}')}))


def _try(folder: Path) -> dict[str, Any]:
    sys.stdout = io.StringIO()
    before, begun = _peak_mib(), time.process_time()
    error = "none"
    try:
        load_newest(folder, {}, limit=64 * MIB)
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"error": error, "seconds": time.process_time() - begun, "mib": _peak_mib() - before}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    try_all(Path(sys.argv[1]))
