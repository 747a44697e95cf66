"""Figures as people read them, and quantities as Kubernetes writes them."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.figures import accuracy, duration, mebibytes, memory
from jobrelay.kube.quantities import parse_quantity
from jobrelay_runner.text.counting import counted
from jobrelay_runner.volume.record import parse_closing
from tests.support import REPOSITORY
from tests.support import objects as o


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.9, "59.9 s"),
        (59.97, "1m00s"),
        (60, "1m00s"),
        (102, "1m42s"),
        (3599.7, "1h00m"),
        (7380, "2h03m"),
        (90000, "25h00m"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.floats(0, 10**6))
def test_a_duration_is_what_it_says(seconds: float) -> None:
    found = re.fullmatch(r"(\d+\.\d) s|(\d+)m(\d\d)s|(\d+)h(\d\d)m", duration(seconds))
    assert found
    short, minutes, rest, hours, tail = found.groups()
    if short:
        assert abs(float(short) - seconds) <= 0.051
        assert float(short) < 60
    elif minutes:
        assert abs(int(minutes) * 60 + int(rest) - seconds) <= 0.51
        assert max(int(minutes), int(rest)) < 60
    else:
        assert 0 <= seconds - int(hours) * 3600 - int(tail) * 60 + 0.51 < 61
        assert int(tail) < 60


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 KiB"),
        (851443712, "812 MiB"),
        (2**30 - 1, "1.0 GiB"),
        (2**30, "1.0 GiB"),
        (1610612736, "1.5 GiB"),
    ],
)
def test_mebibytes(size: float, text: str) -> None:
    assert mebibytes(size) == text


@pytest.mark.parametrize(
    ("metrics", "text"),
    [
        ({"test_acc": 0.98765, "accuracy": 0.5}, "test acc 0.9877"),
        ({"accuracy": 0.5}, "acc 0.5000"),
        ({"correct": 4, "samples": 5}, "4 of 5 right"),
        ({"samples": 1, "skipped": 2, "nothing_found": 3}, "1 image, nothing found in 3, 2 skipped"),
        ({"samples": 0, "skipped": 0, "nothing_found": 1}, "0 images, nothing found in 1"),
        ({"loss": 1.0, "f1": 0.123456, "auc": 1.0}, "loss 1, f1 0.1235"),
        ({}, ""),
    ],
    ids=["eval", "train", "infer", "files", "nothing", "another", "none"],
)
def test_the_figure_of_a_stage(metrics: dict[str, float], text: str) -> None:
    assert accuracy(parse_closing(o.closing(metrics=metrics))) == text


def test_memory() -> None:
    said = parse_closing(o.closing(peak_bytes=812 * 2**20))
    assert memory(said, "2Gi") == "812 MiB of 2.0 GiB"
    assert memory(said, "") == "812 MiB"
    assert (memory(None, "2Gi"), accuracy(None)) == ("", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("500m", 0.5),
        ("2", 2),
        (2, 2),
        ("0", 0),
        ("2Gi", 2**31),
        ("1536Mi", 1536 * 2**20),
        ("128974848", 128974848),
        ("129e6", 129e6),
        ("1E3", 1e3),
        ("129M", 129e6),
        ("128974848000m", 128974848),
        ("1k", 1000),
        ("1Ei", 2**60),
        ("2E", 2e18),
        ("100n", 1e-7),
        ("-1", -1),
        (".5", 0.5),
    ],
    ids=str,
)
def test_a_quantity(text: str | float, number: float) -> None:
    assert parse_quantity(text) == pytest.approx(number)


@given(st.text(max_size=12) | st.from_regex(r"[0-9.eE+-]{1,9}[kKMGTPEinum]{0,2}", fullmatch=True))
def test_what_is_no_quantity_is_refused(text: str) -> None:
    try:
        number = parse_quantity(text)
    except ValueError:
        return
    assert isinstance(number, float)
    assert not math.isnan(number)


@pytest.mark.parametrize("text", ["", "1.2.3", ".", "Gi", "1 Gi", "1GB", "0x10", "NaN", "one", "1e", "+"])
def test_these_are_no_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        parse_quantity(text)


@pytest.mark.parametrize(
    ("number", "thing", "text"),
    [
        (0, "file", "0 files"),
        (1, "file", "1 file"),
        (1234, "class", "1,234 classes"),
        (2, "batch", "2 batches"),
        (5, "epoch", "5 epochs"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, thing: str, text: str) -> None:
    assert counted(number, thing) == text


def test_no_memory_is_no_peak() -> None:
    said = parse_closing(o.closing(peak_bytes=0))
    assert memory(said, "2Gi") == ""


#: A number before a plural in a text: `{len(files)} files`, which is wrong for one.
_PLURAL = re.compile(r"\{[^{}]*\} (files|epochs|steps|trials|threads|Pods|attempts)\b")
#: Where there are always several, or the number is a limit.
_SEVERAL = (
    "limit",
    "Limits",
    "MOST",
    "MAX_TRIALS",
    "most",
    "of {",
    "nodes} Pods",
    "len(manifests)",
    "pods_of(job)",
)


def test_every_count_in_a_message_agrees_with_its_noun() -> None:
    found = []
    for folder in ("launcher", "jobs"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                if _PLURAL.search(line) and not any(word in line for word in _SEVERAL):
                    found.append(f"{path.relative_to(REPOSITORY)}:{number}: {line.strip()}")
    assert found == []
