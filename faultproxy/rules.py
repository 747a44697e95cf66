"""Rules that map requests to faults. Plain data, the same in Python and in YAML."""

from __future__ import annotations

import fnmatch
import random
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal, get_args

import yaml

from .records import Request

Fault = Literal[
    "stall", "reset", "close", "lose-request", "lose-reply", "status", "gone", "garble", "delay", "refuse"
]
Kind = Literal["any", "watch", "log", "exec", "plain"]
Each = Literal["request", "chunk"]
How = Literal["insert", "halve"]
#: A number, or the two ends of a range of which one is drawn for every request.
Amount = float | tuple[float, float]

#: reason and message of the answers that the proxy makes up, as the API server words them
STATUSES: Final = {
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "forbidden: the fault proxy says so"),
    404: ("NotFound", "the server could not find the requested resource"),
    409: ("Conflict", "the object has been modified; please apply your changes to the latest version"),
    410: ("Expired", "too old resource version: 1 (2)"),
    429: ("TooManyRequests", "too many requests, please try again later"),
    500: ("InternalError", "an error on the server has prevented the request from succeeding"),
    502: ("", "bad gateway"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


class BadRule(ValueError):
    """An invalid rule."""


@dataclass(frozen=True)
class Rule:
    """A fault, and the requests that meet it. README.md describes every field."""

    do: Fault
    # --- which requests ---
    on: Kind = "any"
    method: str = "*"
    path: str = "*"
    query: Mapping[str, str] = field(default_factory=dict)
    first: int = 1
    last: int | None = None
    times: int | None = None
    probability: float = 1.0
    seed: int = 0
    # --- the fault's own ---
    after: Amount | None = None
    after_seconds: Amount | None = None
    status: int = 500
    retry_after: int | None = None
    seconds: Amount = 1.0
    each: Each = "request"
    how: How = "insert"

    def __post_init__(self) -> None:
        for name, allowed in (("do", Fault), ("on", Kind), ("each", Each), ("how", How)):
            if getattr(self, name) not in get_args(allowed):
                raise BadRule(f"{name}: {getattr(self, name)!r} is none of {', '.join(get_args(allowed))}")
        if self.do == "status" and self.status not in STATUSES:
            raise BadRule(f"status: {self.status} is none of {', '.join(map(str, STATUSES))}")
        if not 0 <= self.probability <= 1:
            raise BadRule(f"probability: {self.probability} is not from 0 to 1")
        for name in ("after", "after_seconds", "seconds"):
            low, high = _ends(getattr(self, name) or 0, name)
            if not 0 <= low <= high:
                raise BadRule(f"{name}: {getattr(self, name)} is no amount, and no range of two")

    def fits(self, request: Request) -> bool:
        return (
            self.on in ("any", request.kind)
            and fnmatch.fnmatchcase(request.method, self.method)
            and fnmatch.fnmatchcase(request.path, self.path)
            and all(
                fnmatch.fnmatchcase(request.query.get(name, ""), str(wanted))
                for name, wanted in self.query.items()
            )
        )


@dataclass(frozen=True)
class Strike:
    """The fault for one request: a rule with values drawn from its ranges."""

    rule: Rule
    after: int
    after_seconds: float | None
    seconds: float


class Rulebook:
    """Rules in order, with a count of matches for each. Thread-safe."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []
        for rule in rules:
            self.add(rule)

    def add(self, rule: Rule, *, before: bool = False) -> None:
        """Add a rule, after all others or before them."""
        with self._lock:
            self._entries.insert(0 if before else len(self._entries), _Entry(rule, random.Random(rule.seed)))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def choose(self, request: Request) -> Strike | None:
        """The first rule that strikes. A rule counts only the requests that reach it."""
        with self._lock:
            return next((strike for entry in self._entries if (strike := entry.choose(request))), None)


@dataclass
class _Entry:
    rule: Rule
    chance: random.Random
    fitted: int = 0
    struck: int = 0

    def choose(self, request: Request) -> Strike | None:
        rule = self.rule
        if not rule.fits(request):
            return None
        self.fitted += 1
        if self.fitted < rule.first or (rule.last is not None and self.fitted > rule.last):
            return None
        if rule.times is not None and self.struck >= rule.times:
            return None
        if rule.probability < 1 and self.chance.random() >= rule.probability:
            return None
        self.struck += 1
        at = None if rule.after_seconds is None else self._drawn(rule.after_seconds)
        # a rule that only tells a time strikes at that time, not at a byte
        never = 2**62 if at is not None else 0
        after = never if rule.after is None else int(self._drawn(rule.after))
        return Strike(rule, after, at, self._drawn(rule.seconds))

    def _drawn(self, amount: Amount) -> float:
        low, high = _ends(amount)
        return low if low == high else self.chance.uniform(low, high)


def _ends(amount: Any, name: str = "") -> tuple[float, float]:
    if isinstance(amount, (int, float)):
        return amount, amount
    if isinstance(amount, (list, tuple)) and len(amount) == 2:
        return float(amount[0]), float(amount[1])
    raise BadRule(f"{name}: {amount!r} is no amount, and no range of two")


def read_rules(path: Path) -> list[Rule]:
    """The rules of a YAML file: a list, or a mapping with the list under `rules`. Raises BadRule."""
    tree = yaml.safe_load(path.read_text())
    entries = tree.get("rules") if isinstance(tree, dict) else tree
    if not isinstance(entries, list):
        raise BadRule(f"{path}: no list of rules")
    return [_rule(number, entry) for number, entry in enumerate(entries, 1)]


def _rule(number: int, entry: Any) -> Rule:
    known = {f.name for f in fields(Rule)}
    if not isinstance(entry, dict) or "do" not in entry:
        raise BadRule(f"rule {number}: {entry!r} has no `do`")
    named = {("on" if key is True else str(key).replace("-", "_")): value for key, value in entry.items()}
    if unknown := named.keys() - known:  # YAML 1.1 reads the bare word `on` as true: meant as `on`
        raise BadRule(f"rule {number}: no such field: {', '.join(sorted(unknown))}")
    try:
        return Rule(**named)
    except BadRule as error:
        raise BadRule(f"rule {number}: {error}") from None
