"""Why a call to the API can fail, and whether a retry may help."""

from __future__ import annotations

import json
import ssl
from collections.abc import Mapping

import urllib3

from jobrelay.errors import Exit, JobRelayError
from jobrelay.hints import Command
from jobrelay.kube.objects import Object


class NoLogin(OSError):
    """No credentials are available for a request in the middle of a run."""


STREAM_ENDED = (urllib3.exceptions.HTTPError, OSError)


class ApiError(JobRelayError):
    """The server answered with an error status."""

    exit_code = Exit.BAD_INPUT

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = {}
        if not isinstance(answer, dict):  # the answer of a proxy in front of the API server
            answer = {}
        details = answer.get("details")
        self.status = status
        self.reason = str(answer.get("reason") or status)
        self.message = str(answer.get("message") or body[:500].decode("utf-8", "replace"))
        self.details: Object = details if isinstance(details, dict) else {}
        self.retry_after = _seconds(headers.get("Retry-After"))
        super().__init__(f"{self.status} {self.reason}: {self.message}", Command("doctor"))


def _seconds(text: str | None) -> float | None:
    return min(float(text), 60.0) if text and text.isdigit() else None


def worth_another_try(error: BaseException) -> bool:
    if isinstance(error, ApiError):
        # parallel creates conflict on a quota's counter; nothing was created
        quota = error.status == 409 and error.details.get("kind") == "resourcequotas"
        return quota or error.status == 429 or error.status >= 500
    return isinstance(error, STREAM_ENDED) and not tls_refusal(error)


def tls_refusal(error: BaseException) -> ssl.SSLError | None:
    """The TLS error of a handshake that no retry can fix, such as a wrong certificate; else None."""
    root = root_of(error)
    if isinstance(root, ssl.SSLError) and not isinstance(root, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return root
    return None


def root_of(error: BaseException) -> BaseException:
    """The root cause: urllib3 wraps errors, each kind in its own way."""
    inner = [getattr(error, "reason", None), getattr(error, "original_error", None), *error.args[:2]]
    found = next((each for each in inner if isinstance(each, BaseException)), None)
    return root_of(found) if found else error
