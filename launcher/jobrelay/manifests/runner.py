"""runner.pyz: the runner as one file, which travels in a ConfigMap into any image with Python 3.8."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from typing import Final

from jobrelay.kube.labels import LABEL_MANAGED_BY, LABEL_NAME, LABEL_PART_OF, RUNNER_FILE
from jobrelay.kube.objects import Object
from jobrelay.resources import PROGRAMS

#: A zip file has times, and no earlier one.
_WHEN: Final = (1980, 1, 1, 0, 0, 0)
#: An older Python cannot compile the runner: it executes the command and leaves it at that.
_MAIN: Final = b"""\
import os
import sys

if sys.version_info < (3, 8):
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else ["false"]
    os.execvp(words[0], words)

from jobrelay_runner.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


@functools.cache
def runner_archive() -> bytes:
    """Return the runner as a zip file that Python executes; the same code always gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        files = sorted((PROGRAMS / "jobrelay_runner").rglob("*.py"))
        for path in files:
            _add(archive, path.relative_to(PROGRAMS).as_posix(), path.read_bytes())
        _add(archive, "__main__.py", _MAIN)
    return buffer.getvalue()


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(name, _WHEN), content, zipfile.ZIP_DEFLATED)


def runner_config_map(namespace: str) -> Object:
    """Return the ConfigMap of this version's runner; its name changes with its content."""
    content = runner_archive()
    labels = {LABEL_NAME: "jobrelay", LABEL_PART_OF: "jobrelay", LABEL_MANAGED_BY: "jobrelay"}
    name = f"jobrelay-runner-{hashlib.sha256(content).hexdigest()[:8]}"
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "binaryData": {RUNNER_FILE: base64.b64encode(content).decode()},
        "immutable": True,
    }
