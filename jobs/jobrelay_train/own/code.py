"""The code with the user's own functions: an archive that the launcher sends, or Python's path."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from jobrelay_train.config.schema import RunConfig
from jobrelay_train.config.values import ON_THE_PATH, is_own

_INSTALLED: Final = ("site-packages", "dist-packages")


def with_code(config: RunConfig) -> RunConfig:
    """Return the configuration with the digest of the code, if its functions are found on Python's path.

    The digest is that of the top-level packages or modules that the functions are in. Nothing is imported.
    """
    if not config.own_functions or (config.code and not is_own(config.code)):
        return config
    digest = hashlib.sha256()
    for name in sorted({name.partition(":")[0].partition(".")[0] for name in config.own_functions.values()}):
        for path, shown in _sources(name):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"{shown} {content}\n".encode(errors="surrogateescape"))
    return config.model_copy(update={"code": f"{ON_THE_PATH}{digest.hexdigest()}"})


def _sources(top: str) -> list[tuple[Path, str]]:
    """Return the Python files of a top-level package or module, and their names, which have no folder."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return []  # the stage reports it
    if spec.submodule_search_locations is not None:
        roots = [Path(folder) for folder in spec.submodule_search_locations]
        return [
            (path, f"{top}/{path.relative_to(root).as_posix()}")
            for root in roots
            for path in sorted(root.rglob("*.py"))
        ]
    return [(Path(spec.origin), top)] if spec.origin and spec.has_location else []


@contextmanager
def importable(config: RunConfig, config_file: Path | None, root: Path) -> Iterator[None]:
    """Unpack the code's archive into a folder of its own, on Python's path, for the time of the block.

    config_file: the archive is beside it, or on the volume, whose root is `root`. Raises BadInput, OSError.
    """
    if config.code is None or is_own(config.code) or not config.own_functions:
        yield
        return
    from jobrelay_runner.command.code import extract, read_archive  # imports tarfile

    archive = read_archive(config.code, config_file or root / "config.yaml", root)
    with tempfile.TemporaryDirectory(prefix="code-", ignore_cleanup_errors=True) as folder:
        extract(archive, config.code, Path(folder))
        sys.path.insert(_place(), folder)
        try:
            yield
        finally:
            sys.path.remove(folder)


def _place() -> int:
    """Return where the folder goes: a file named like an installed library wins, but no standard module."""
    return next((i for i, entry in enumerate(sys.path) if Path(entry).name in _INSTALLED), len(sys.path))
