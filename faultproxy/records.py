"""The proxy's records: one per request, for assertions and measurements."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote


@dataclass
class Request:
    """One request. Times are time.monotonic()."""

    method: str
    path: str  # without the query, percent-decoded
    query: dict[str, str]
    kind: str  # watch | log | exec | plain
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: int = 0  # of the answer that the client got; 0: none
    bytes: int = 0  # of the answer's body, as the client got it
    fault: str = ""  # what a rule did, or was to do, with it
    struck: float | None = None  # when it did; None: the answer ended before

    @classmethod
    def parse(cls, method: str, target: str, *, upgrade: bool = False) -> Request:
        path, _, query = target.partition("?")
        pairs = dict(parse_qsl(query, keep_blank_values=True))
        return cls(method, unquote(path), pairs, kind_of(path, pairs, upgrade))

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query.items())
        return f"{self.method} {self.path}{'?' if query else ''}{query}"


def kind_of(path: str, query: dict[str, str], upgrade: bool) -> str:
    """watch, log (followed or not), exec (also attach and port-forward), or plain."""
    if upgrade or path.rsplit("/", 1)[-1] in ("exec", "attach", "portforward"):
        return "exec"
    if query.get("watch", "").lower() in ("1", "true") or "/watch/" in path:
        return "watch"
    if path.endswith("/log") and "/pods/" in path:
        return "log"
    return "plain"
