from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.text import dotenv
from jobrelay.pipelines.compose.text.interpolation import Variables

VALUES = {"A": "a", "EMPTY": "", "B_2": "b"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A/${A}", "a/a"),
        ("${NO:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NO-d}", "d"),
        ("${A:-d}", "a"),
        ("${A:+x}${NO:+x}${EMPTY:+x}${EMPTY+y}", "xy"),
        ("${NO:-${EMPTY:-${A}}}", "a"),
        ("${A:-${NO:?never asked}}", "a"),
        ("${NO:-http://x:80/p}", "http://x:80/p"),
        ("$${A} $$5", "${A} $5"),
        ("${NO:-}x", "x"),
        ("${A:?needed}", "a"),
        ("{}} $A}", "{}} a}"),
    ],
)
def test_expand(text: str, expected: str) -> None:
    assert Variables(VALUES).expand(text, "here") == expected


@pytest.mark.parametrize("text", ["$", "${", "${}", "${A", "$1", "${A:-x", "${A!x}", "${A-${B}", "a $ b"])
def test_what_is_no_template_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput, match=r"here: .* is not a valid template"):
        Variables(VALUES).expand(text, "here")


@pytest.mark.parametrize("text", ["${KEY:?give a key}", "${KEY?give a key}", "${A:+${KEY:?give a key}}"])
def test_a_required_variable_is_named(text: str) -> None:
    with pytest.raises(BadInput, match="here: the variable KEY is not set: give a key"):
        Variables(VALUES).expand(text, "here")


def test_variables_without_a_value_are_remembered() -> None:
    variables = Variables(VALUES)
    assert variables.expand("$NO ${A:-$UNUSED} ${OTHER:-x}", "here") == " a x"
    assert list(variables.unset) == ["NO"]


@given(st.text())
def test_any_text_with_doubled_dollars_is_itself(text: str) -> None:
    assert Variables(VALUES).expand(text.replace("$", "$$"), "here") == text


@given(st.text(alphabet="${}:-?+AB_a1 "))
def test_any_text_is_expanded_or_refused(text: str) -> None:
    try:
        assert isinstance(Variables(VALUES).expand(text, "here"), str)
    except BadInput as error:
        assert "here" in error.what  # noqa: PT017


@given(st.text(alphabet=st.characters(exclude_characters="$}", codec="utf-8")))
def test_a_default_is_taken_as_it_stands(default: str) -> None:
    assert Variables({}).expand("${NO-" + default + "}", "here") == default


ENV = """\
# a comment
PLAIN=one two # not this
export EXPORTED = x
QUOTED="a # b\\n$PLAIN"
SINGLE='$PLAIN \\n'
EMPTY=
HASH=a#b
OUTER
NOT_THERE
LATER=${PLAIN:-no}/${OUTER}
YAML: y
LINES="one
two"
URL=http://host:80/?a=b
"""


def test_dotenv(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text(ENV)
    assert dotenv.read(path, {"OUTER": "outer"}) == {
        "PLAIN": "one two", "EXPORTED": "x", "QUOTED": "a # b\none two", "SINGLE": "$PLAIN \\n", "EMPTY": "",
        "HASH": "a#b", "OUTER": "outer", "LATER": "one two/outer", "YAML": "y", "LINES": "one\ntwo",
        "URL": "http://host:80/?a=b",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["two words", "A='x", "A='x' y", "=x"])
def test_a_bad_line_of_dotenv_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"FIRST=1\n{text}\n")
    with pytest.raises(BadInput, match=r"\.env, line 2"):
        dotenv.read(path, {})
