"""What `render` prints is what was meant, whoever reads it: YAML 1.1, YAML 1.2 and Go's libraries differ."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from jobrelay.manifests import to_yaml

#: What each reads a plain scalar as anything but text for.
YAML_1_1 = [  # yaml.org/type
    r"y|Y|yes|Yes|YES|n|N|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
    r"[-+]?0b[0-1_]+|[-+]?0[0-7_]+|[-+]?(0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(:[0-5]?[0-9])+",
    r"[-+]?([0-9][0-9_]*)?\.[0-9.]*([eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+\.[0-9_]*",
    r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    r"~|null|Null|NULL|",
    r"<<|=",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?"
    r"([ \t]*(Z|[-+][0-9]{1,2}(:[0-9]{2})?))?",
]
YAML_1_2 = [  # the core schema
    r"null|Null|NULL|~||true|True|TRUE|false|False|FALSE",
    r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+",
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
]
GO = [  # yaml.v2 and v3, resolve.go: underscores are dropped before a number is tried in every base
    r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)",
    r"[-+]?(\.[0-9_]+|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9_]+)?",
]
NO_TEXT = [re.compile(pattern) for pattern in (*YAML_1_1, *YAML_1_2, *GO)]

PRINTABLE = st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"])
LOOKS_LIKE = st.from_regex(re.compile("|".join(pattern.pattern for pattern in NO_TEXT)), fullmatch=True)
TEXTS = LOOKS_LIKE | st.text(PRINTABLE, max_size=12) | st.text("0123456789eExXoOb._+-:aAfFyYnN", max_size=6)


def plain_scalars(text: str) -> list[str]:
    """Those scalars whose type is for the reader to guess."""
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    scalars = [event for event in events if isinstance(event, yaml.ScalarEvent)]
    return [event.value for event in scalars if event.implicit[0] and event.style is None]


def printed(value: Any) -> str:
    return to_yaml([{"kind": "ConfigMap", "data": value}])


@pytest.mark.parametrize(
    "text",
    ["1e-3", "12e34", "08", "010", "y", "n", "Y", "NO", "0o7", "0x1F", "0b1", "1_000", "1:30", "22:22", "~",
     "null", "", ".inf", "-.INF", ".nan", "=", "<<", "1.", ".5", "+1", "-0", "2026-11-21",
     "2026-11-21T14:22:33Z", "on", "Off", "1__2", "0_", "6.02e23", "0.", "1e3", "00", "-1_0.5e-1"],
)  # fmt: skip
def test_a_name_that_looks_like_another_type_is_quoted(text: str) -> None:
    assert text not in plain_scalars(printed({"key": text, text or "k": "value"}))


@pytest.mark.parametrize(
    "text", ["mnist-a", "jobrelay:0.1.0", "1Gi", "500m", "none", "north", "yes-man", "a=b"]
)
def test_other_text_is_printed_as_it_is(text: str) -> None:
    assert text in plain_scalars(printed({"key": text}))


@settings(max_examples=300)
@given(st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=3))
def test_no_text_can_be_taken_for_another_type(tree: dict[str, str]) -> None:
    text = printed(tree)
    assert yaml.safe_load(text)["data"] == tree
    for scalar in plain_scalars(text):
        assert not any(pattern.fullmatch(scalar) for pattern in NO_TEXT), scalar


@given(st.booleans() | st.none() | st.integers(-(2**40), 2**40))
def test_what_is_no_text_stays_so(value: Any) -> None:
    assert yaml.safe_load(printed({"key": value}))["data"] == {"key": value}
