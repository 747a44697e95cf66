"""What reaches a terminal, a pipe or a file: nothing that moves a cursor, nothing that is lost."""

from __future__ import annotations

import io
import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.console import Console, print_json, print_table, printable
from launcher.errors import BadInput
from launcher.hints import Command

HARMLESS = st.text(st.characters(exclude_categories=["Cc", "Cs"]))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(**options: bool) -> tuple[Console, io.StringIO]:
    stderr = io.StringIO()
    return Console(stderr=stderr, **options), stderr


@given(st.text(st.characters() | st.sampled_from("\x1b\x9b\x07[]m;0\r\n\t\\")))
def test_nothing_that_a_terminal_acts_upon_is_printed(text: str) -> None:
    assert not [c for c in printable(text) if (ord(c) < 0x20 and c not in "\t\n") or 0x7F <= ord(c) <= 0x9F]


@given(HARMLESS)
def test_text_is_printed_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hhome", "home"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1bPdevice\x1b\\control", "control"),
        ("\x9b31mred", "31mred"),
        ("bell\x07", "bell"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r", "100%"),
        ("a\tb", "a\tb"),
        ("lone \x1b", "lone "),
    ],
    ids=ascii,
)
def test_row_59_escapes_are_stripped(text: str, left: str) -> None:
    assert printable(text) == left


@pytest.mark.parametrize("unit", ["\x1b]", "\x1b[", "\x1bP", "\x1b]x", "\x1b[0 ", "\x1b", "\r"], ids=ascii)
def test_a_hostile_line_takes_no_time(unit: str) -> None:
    begun = time.process_time()
    printable(unit * (256 * 1024 // len(unit)))
    printable(unit + "0" * 256 * 1024)
    assert time.process_time() - begun < 1


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_a_log_is_shown_line_by_line_however_it_comes(log: bytes, cuts: list[int]) -> None:
    console, stderr = shown()
    show = console.log_of("eval")
    places = sorted({0, *(cut for cut in cuts if cut < len(log)), len(log)})
    for start, end in pairwise(places):
        show(log[start:end])

    whole = log.split(b"\n")[:-1]
    expected = "".join(f" eval │ {printable(line.decode('utf-8', 'replace'))}\n" for line in whole)
    assert stderr.getvalue() == expected


def test_a_torn_character_is_whole_again() -> None:
    console, stderr = shown()
    show = console.log_of("train")
    for byte in "█\n".encode():
        show(bytes([byte]))
    assert stderr.getvalue() == "train │ █\n"


def test_a_progress_bar_keeps_the_name_of_its_stage() -> None:
    console, stderr = shown()
    console.log_of("train")(b"10%\r50%\r100%\n")
    assert stderr.getvalue() == "train │ 100%\n"


def test_quiet_is_quiet_but_for_errors() -> None:
    console, stderr = shown(quiet=True)
    console.say("progress")
    console.waiting("train", "scheduling: no room")
    console.log_of("train")(b"line\n")
    assert stderr.getvalue() == ""
    console.error(BadInput("no\x1b[31m such run", Command("list")))
    assert stderr.getvalue() == "error: no such run\n  try: python launcher list\n"


def test_an_error_without_a_hint_has_one_line() -> None:
    console, stderr = shown()
    console.error(BadInput("what"))
    assert stderr.getvalue() == "error: what\n"


def test_off_a_terminal_a_reason_is_told_once_and_a_phase_not_at_all() -> None:
    console, stderr = shown()
    for text in ["starting", "starting: ErrImagePull", "starting: ErrImagePull", "starting: BackOff"]:
        console.waiting("train", text)
    assert stderr.getvalue() == "  train: starting: ErrImagePull\n  train: starting: BackOff\n"


def test_verbose_tells_phases_and_details() -> None:
    console, stderr = shown(verbose=True)
    console.waiting("train", "starting")
    console.detail("more")
    assert stderr.getvalue() == "  train: starting\nmore\n"


def test_after_it_ran_the_same_wait_is_told_again() -> None:
    console, stderr = shown()
    console.waiting("train", "queued: suspended")
    console.running()
    console.waiting("train", "queued: suspended")
    assert stderr.getvalue().count("queued: suspended") == 2


def test_on_a_terminal_a_wait_turns_and_markup_is_text() -> None:
    terminal = Terminal()
    console = Console(stderr=terminal)
    console.waiting("train", "scheduling: [bold]no room[/nonsense] \x1b[2J")
    console.running()
    console.say("on")
    assert "[bold]no room[/nonsense]" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()
    assert terminal.getvalue().endswith("on\n")


def test_a_reader_that_has_gone_is_no_error() -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    Console(stderr=Closed()).say("text")


def test_a_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("stage", "verdict"), [("train", "[red]x[/red] \x1b[31mfailed"), ("eval", "é" * 120)])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]x[/red] failed" in out
    assert "é" * 120 in out
    assert out.split("\n")[1].split() == ["stage", "verdict"]


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    tree = {"run": "a", "text": "█\x1b[31m\n", "none": None}
    print_json(tree)
    out = capsys.readouterr().out
    assert json.loads(out) == tree
    assert "\x1b" not in out
