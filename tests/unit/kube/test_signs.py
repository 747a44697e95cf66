"""Exit code 0 is not "done": what the log of a stage that succeeded shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobrelay.verdicts.signs import signs, signs_in

TRACEBACK = """\
epoch 1
Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("bad batch")
ValueError: bad batch
done
"""


def found(log: str) -> list[str]:
    return signs(enumerate(log.splitlines(), 1))


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (TRACEBACK, ["a Python traceback (its log, line 2): ValueError: bad batch"]),
        (TRACEBACK * 3, ["a Python traceback (its log, line 2, 3 times): ValueError: bad batch"]),
        (
            "[rank1]: Traceback (most recent call last):\n[rank1]:  y\n[rank1]: x.OutOfMemoryError: CUDA\n",
            ["a Python traceback (its log, line 1): x.OutOfMemoryError: CUDA"],
        ),
        ("Traceback (most recent call last):\n  File x\n", ["a Python traceback (its log, line 1)"]),
        ("Killed\n", ["a process was killed (its log, line 1)"]),
        (
            "run.sh: line 3:  12 Killed        python train.py\n",
            ["a process was killed (its log, line 1): run.sh: line 3:  12 Killed        python train.py"],
        ),
        (
            "RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed.\n",
            [
                "a process was killed (its log, line 1): "
                "RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed."
            ],
        ),
        (
            "a\nCUDA out of memory. Tried to allocate\n",
            ["memory ran out (its log, line 2): CUDA out of memory. Tried to allocate"],
        ),
        (
            "Segmentation fault (core dumped)\n",
            ["a process crashed (its log, line 1): Segmentation fault (core dumped)"],
        ),
        (
            "cp: x: No space left on device\n",
            ["the disk is full (its log, line 1): cp: x: No space left on device"],
        ),
        ("publish: succeeded, but wrote nothing\n", ["succeeded, but wrote nothing"]),
        ("epoch 1  loss 0.1\nno Traceback here\nnobody was Killed\n", []),
    ],
    ids=[
        "traceback", "tracebacks", "of-a-rank", "cut", "killed", "killed-by-a-shell", "worker", "cuda",
        "crash", "disk", "nothing", "nothing-at-all",
    ],
)  # fmt: skip
def test_signs(log: str, expected: list[str]) -> None:
    assert found(log) == expected


def test_a_log_is_read_from_its_start_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobrelay.verdicts.signs._MOST_BYTES", 1000)
    path = tmp_path / "log"
    path.write_text("Killed\n" + "x\n" * 5000 + "MemoryError\n" + "x\n" * 5000 + "Bus error\n")
    assert signs_in(path, tmp_path) == [
        "a process was killed (its log, line 1)",
        "a process crashed (its log, near its end): Bus error",
    ]


def test_a_log_that_is_not_safe_to_read_shows_nothing(tmp_path: Path) -> None:
    assert signs_in(tmp_path / "none", tmp_path) == []
    (tmp_path / "log").symlink_to("/etc/passwd")
    assert signs_in(tmp_path / "log", tmp_path) == []
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 100 + b"\x1b[31mKilled\r\nKilled\n")
    assert signs_in(tmp_path / "binary", tmp_path)


def test_a_quote_has_no_controls() -> None:
    (note,) = found("x\x1b[31m: No space left on device\x07\u202e" + "y" * 1000)
    assert "\x1b" not in note
    assert "\u202e" not in note
    assert len(note) < 220
