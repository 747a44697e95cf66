"""A corpus of files of weights that nobody should load, and a program that tries to, and measures.

`python -m tests.jobs.hostile FOLDER` needs folders FOLDER/NAME/checkpoints with one checkpoint each, and
prints one JSON line for each: the error, seconds of processor time, and MiB of memory on top of what
torch itself takes.
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

from jobs.checkpoint import load_newest

#: Made by code of a file that was run.
TRACE: Final = "was-run"
MIB: Final = 1024 * 1024


class Call:
    """Unpickled, it is a call."""

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


def corpus(folder: Path) -> dict[str, Callable[[], bytes]]:
    """Contents, all of which get a sidecar that fits. What they would run leaves a trace in `folder`."""
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
        load_newest(folder, {})
    except BaseException as raised:
        error = f"{type(raised).__name__}: {raised}"
    return {"error": error, "seconds": time.process_time() - begun, "mib": _peak_mib() - before}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    try_all(Path(sys.argv[1]))
