"""What `doctor` advises can be done."""

from __future__ import annotations

import re
from typing import Any

import pytest

from jobrelay.executors.cluster import doctor
from tests.support import REPOSITORY
from tests.support import objects as o

#: What else one can make in a sentence.
ENGLISH = {"up", "this", "that", "it", "room", "sure", "a", "an", "the", "one"}


def test_every_target_of_make_that_is_advised_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    for path in (REPOSITORY / "launcher").rglob("*.py"):
        text = "".join(re.findall(r"\"[^\"\n]*\"", path.read_text()))  # what is said, not comments
        advised = set(re.findall(r"\bmake ([a-z.][a-z.-]*)\b", text)) - ENGLISH
        assert advised <= targets, path


class Api:
    def __init__(self, *names: str) -> None:
        self.names = names

    def get(self, path: str) -> Any:
        return {"items": [{"status": {"images": [{"names": list(self.names)}]}}]}


def image(name: str, *on_node: str) -> Any:
    return doctor._Checks(Api(*on_node), o.base(), "ns", name)._images()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        ("localhost/jobrelay:dev", "fail", "is on no node, and localhost/ is not a registry"),
        (
            "jobrelay:dev",
            "fail",
            "is on no node, and it would be looked for as docker.io/library/jobrelay:dev",
        ),
        ("localhost:5001/jobrelay:dev", "warn", "it will be pulled"),
        ("registry.example.org/me/jobrelay:dev", "warn", "it will be pulled"),
        ("me/jobrelay:dev", "warn", "it will be pulled"),
    ],
)
def test_an_image_that_is_on_no_node(name: str, state: str, said: str) -> None:
    found = image(name)
    assert found.state == state
    assert said in found.found


@pytest.mark.parametrize(
    ("name", "on_node"),
    [
        ("localhost/jobrelay:dev", "localhost/jobrelay:dev"),
        ("jobrelay:dev", "docker.io/library/jobrelay:dev"),
        ("jobrelay:dev", "localhost/jobrelay:dev"),
        ("me/jobrelay:dev", "docker.io/me/jobrelay:dev"),
    ],
)
def test_an_image_that_is_on_a_node(name: str, on_node: str) -> None:
    assert image(name, on_node).state == "ok"
