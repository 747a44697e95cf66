"""What a stage runs: entrypoint and command of the service and of its image."""

from __future__ import annotations

import shlex

from jobrelay.pipelines.compose.dockerfile import bases
from jobrelay.pipelines.compose.dockerfile.image import ImageConfig
from jobrelay.pipelines.compose.model import Service
from jobrelay.pipelines.compose.text.yamlfile import as_text


def of_service(service: Service, image: ImageConfig | None) -> tuple[tuple[str, ...] | None, bool]:
    """The words to run, and whether they are arguments of the image's own entrypoint, unknown here.

    None: the image's own entrypoint and command. image: read from the Dockerfile, if there is one.
    Raises BadInput.
    """
    entrypoint, command = _words(service, "entrypoint"), _words(service, "command")
    if entrypoint:
        return (*entrypoint, *(command or ())), False
    if entrypoint is not None:  # [] or "": without the image's entrypoint
        words = command or (image.command if image else None)
        if not words:
            raise service.refuse("entrypoint", "it is empty, and there is no command", "write the command")
        return words, False
    if not command:
        return None, False
    if image is not None and image.entrypoint is not None:
        return (*image.entrypoint, *command), False
    base = image.base if image is not None else as_text(service.get("image"))
    return command, not bases.has_plain_entrypoint(base)


def _words(service: Service, key: str) -> tuple[str, ...] | None:
    """Text is split as a shell splits words, but no shell runs it."""
    value = service.get(key)
    if value is None:
        return None
    if isinstance(value, list):
        return tuple(as_text(word) for word in value)
    if isinstance(value, dict):
        raise service.refuse(key, "must be text or a list")
    try:
        return tuple(shlex.split(as_text(value)))
    except ValueError as error:
        raise service.refuse(key, f"{as_text(value)!r}: {error}") from error
