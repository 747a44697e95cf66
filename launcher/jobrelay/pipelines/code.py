"""A snapshot of a folder: the files that a pipeline's programs start from, as one archive."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.figures import mebibytes
from jobrelay_runner.command.specification import CODE_FILE
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.safe_read import why

#: Left out everywhere: what tools and JobRelay itself leave in a folder of code.
_NEVER: Final = (
    ".git/", "__pycache__/", "*.pyc", ".venv/", "venv/", "node_modules/", ".mypy_cache/", ".pytest_cache/",
    ".ruff_cache/", ".ipynb_checkpoints/", ".DS_Store", "jobrelay-data/", "/runs/", "/sweeps/",
)  # fmt: skip
_IGNORE_FILES: Final = (".gitignore", ".jobrelayignore")
#: The most that is read and compressed at every start.
_MOST_BYTES: Final = 100 * 2**20
_MOST_FILES: Final = 20_000
_LARGEST: Final = 5
#: A ConfigMap has at most 1 MiB, in base64.
MOST_CODE: Final = 700 * 1024


@dataclass(frozen=True)
class Snapshot:
    """Files in one archive. digest: SHA-256 (hex) of the archive. files: name to what decides a file."""

    archive: bytes
    digest: str
    files: Mapping[str, str]
    programs: Mapping[str, bytes]  # the content of Python files

    def uses(self, name: str) -> bool:
        """Whether another Python file imports this file, or names it."""
        path = PurePosixPath(name)
        stem, file = (re.escape(text).encode() for text in (path.stem, path.name))
        pattern = re.compile(rb"^\s*(?:from|import)\s[^\n]*\b%b\b|\b%b\b" % (stem, file), re.MULTILINE)
        return any(pattern.search(text) for other, text in self.programs.items() if other != name)

    def without(self, names: Collection[str]) -> str:
        """SHA-256 (hex) of the files but those of these names."""
        lines = [f"{digest} {name}\n" for name, digest in self.files.items() if name not in names]
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def config_files(self) -> dict[str, bytes]:
        """The archive for the run's ConfigMap, unless it is too large for that."""
        return {CODE_FILE: self.archive} if len(self.archive) <= MOST_CODE else {}

    def uploads(self) -> dict[str, bytes]:
        """The archive for the volume, as code/HASH/code.tar.gz, if it is too large for a ConfigMap."""
        return {} if self.config_files() else {f"code/{self.digest}/{CODE_FILE}": self.archive}


def snapshot(files: Mapping[str, Path]) -> Snapshot:
    """Return the archive of local files and folders, by their place in the workspace ("." is its root).

    The same content always gives the same archive. Raises BadInput for a folder that is too large, a file
    that cannot be read, and a link that leads out.
    """
    found: dict[str, Path] = {}
    for place, source in sorted(files.items()):
        if source.is_dir():
            found |= {_joined(place, name): path for name, path in _walk(source)}
        else:
            found[place] = source
    _check_size(found)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        kept = {name: _add(archive, name, path) for name, path in sorted(found.items())}
    packed = gzip.compress(buffer.getvalue(), compresslevel=6, mtime=0)
    programs = {name: _read(path) for name, path in found.items() if name.endswith(".py")}
    return Snapshot(packed, hashlib.sha256(packed).hexdigest(), kept, programs)


def _joined(place: str, name: str) -> str:
    return name if place == "." else f"{place}/{name}"


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files and links below a folder that no ignore file leaves out, by relative name."""
    import pathspec  # only runs of your own code need it

    specs: dict[Path, pathspec.GitIgnoreSpec] = {}

    def ignored(path: Path, suffix: str) -> bool:
        return any(
            spec.match_file(path.relative_to(folder).as_posix() + suffix)
            for folder, spec in specs.items()
            if path.is_relative_to(folder)
        )

    for here, folders, names in os.walk(root, onerror=_unreadable):
        folder = Path(here)
        lines = list(_NEVER) if folder == root else []
        for name in _IGNORE_FILES:
            if name in names:
                lines += _read(folder / name).decode("utf-8", "replace").splitlines()
        if lines:
            specs[folder] = pathspec.GitIgnoreSpec.from_lines(lines)
        links = [name for name in folders if (folder / name).is_symlink()]
        folders[:] = sorted(n for n in folders if n not in links and not ignored(folder / n, "/"))
        for name in sorted([*names, *links]):
            path = folder / name
            if not ignored(path, ""):
                yield path.relative_to(root).as_posix(), path


def _unreadable(error: OSError) -> None:
    raise BadInput(f"{error.filename} cannot be read: {error.strerror}", "leave it out with .jobrelayignore")


def _check_size(found: Mapping[str, Path]) -> None:
    sizes = {name: path.lstat().st_size for name, path in found.items()}
    total = sum(sizes.values())
    if total <= _MOST_BYTES and len(sizes) <= _MOST_FILES:
        return
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_LARGEST]
    lines = "".join(f"\n    {mebibytes(sizes[name]):>9}  {name}" for name in largest)
    raise BadInput(
        f"the code has {counted(len(sizes), 'file')} and {mebibytes(total)}; its largest files:{lines}",
        "name large folders under `data:`, or leave them out with .jobrelayignore",
    )


def _add(archive: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file; return what decides it: its content, and whether it is executable."""
    member = tarfile.TarInfo(name)
    if path.is_symlink():
        target = str(path.readlink())
        if Path(os.path.normpath(Path("/x", name).parent / target)).parts[:2] != ("/", "x"):
            raise BadInput(
                f"{path} is a link that leads out of the code: {target}", "copy the file, or leave it out"
            )
        member.type, member.linkname = tarfile.SYMTYPE, target
        archive.addfile(member)
        return f"link {target}"
    if not path.is_file():
        return ""  # a socket, a pipe
    content = _read(path)
    member.size = len(content)
    member.mode = 0o755 if os.access(path, os.X_OK) else 0o644
    archive.addfile(member, io.BytesIO(content))
    return f"{member.mode:o} {hashlib.sha256(content).hexdigest()}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {why(error)}", "leave it out with .jobrelayignore") from error
