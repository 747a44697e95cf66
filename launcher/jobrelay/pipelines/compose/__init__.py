"""A docker-compose file as a pipeline: services that end become stages, one after the other."""

import re
from pathlib import Path

from jobrelay.pipelines.compose.images import with_commands
from jobrelay.pipelines.compose.local import as_local
from jobrelay.pipelines.compose.reader import read
from jobrelay.pipelines.compose.text.yamlfile import read_text

__all__ = ["as_local", "is_compose", "read", "with_commands"]


def is_compose(file: Path) -> bool:
    """Whether a file is a compose file: it has `services:`, where a jobrelay.yaml has `stages:`."""
    return re.search(r"^(services|include):", read_text(file), re.MULTILINE) is not None
