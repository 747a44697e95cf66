"""What reaches a terminal, a pipe or a file: nothing that moves a cursor, nothing that is lost."""

from __future__ import annotations

import io
import json
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrelay.console import Console, print_json, print_table
from jobrelay.errors import BadInput
from jobrelay.hints import Command
from jobrelay.terminal import log_output, print_in_any_encoding, printable

BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HARMLESS = st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters=BIDIRECTIONAL))


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


# --- text that turns ---


@pytest.mark.parametrize("character", BIDIRECTIONAL, ids=ascii)
def test_what_turns_the_direction_of_text_is_made_visible(
    character: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`gpj.exe` behind U+202E reads `exe.jpg`."""
    number = f"\\u{ord(character):04x}"
    assert printable(f"a{character}gpj.exe") == f"a{number}gpj.exe"
    console, stderr = shown()
    console.error(BadInput(f"no {character}such run"))
    console.log_of("train")(f"line {character}x\n".encode())
    print_table(("name",), [(f"a{character}b",)])
    print_json({"name": f"a{character}b\x9b"})
    printed = stderr.getvalue() + capsys.readouterr().out
    assert character not in printed
    assert printed.count(number) == 4
    assert "\x9b" not in printed


# --- terminals and encodings ---


class Narrow(Terminal):
    encoding = "utf-8"


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Narrow:
    terminal = Narrow()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "dumb")
    return terminal


ROW = (
    "20261121-214556-mdzf",
    "succeeded",
    "out of memory (limit 2.0 GiB, peak 2.0Gi)",
    "",
    "2026-11-21 14:22:33",
)


@pytest.mark.parametrize("columns", [20, 40, 60, 80])
def test_a_table_on_a_narrow_terminal_keeps_its_words_whole(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = on_a_terminal(monkeypatch, columns)
    print_table(("run", "state", "reason", "peak memory", "created"), [ROW, ROW])
    lines = terminal.getvalue().splitlines()
    assert max(len(line.rstrip()) for line in lines) <= columns
    words = terminal.getvalue().split()
    assert words.count("succeeded") == 2
    assert words.count("memory") == 2  # of the reason; what is empty is left out
    assert all(any(word in line for line in lines) for word in (*ROW[2].split(), "2026-11-21", "14:22:33"))


def test_a_mark_stands_before_the_value_that_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch, 30)
    print_table(("", "check", "found"), [("✗", "volume", "x" * 20)])
    assert "check  ✗ volume" in terminal.getvalue()
    assert "found  " + "x" * 20 in terminal.getvalue()


def test_a_table_that_fits_stays_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch, 80)
    print_table(("stage", "verdict"), [("train", "succeeded")])
    assert terminal.getvalue().split("\n")[1].split() == ["stage", "verdict"]


def test_a_log_on_a_terminal_is_printable_and_in_a_pipe_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch, 80)
    with log_output() as out:
        assert out.write(b"\x1b[2Jone\ntw") == 10
        out.flush()
        assert out.write(b"o \xe2\x80\xae") == 5
    assert terminal.getvalue() == "one\ntwo \\u202e\n"

    pipe = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr("sys.stdout", pipe)
    with log_output() as out:
        out.write(b"\x1b[2Jone")
    assert pipe.buffer.getvalue() == b"\x1b[2Jone"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("ascii", b"+ train -> \\xe9 | ... \\xff"),
        ("latin-1", b"+ train -> \xe9 | ... \\xff"),
        ("utf-8", "✓ train → é │ … \\xff".encode()),
    ],
)
def test_every_encoding_takes_every_character(
    monkeypatch: pytest.MonkeyPatch, encoding: str, printed: bytes
) -> None:
    """The last is a byte of a file name that is no text."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    print_in_any_encoding()
    for stream in streams:
        stream.write("✓ train → é │ … \udcff")
        stream.flush()
        assert stream.buffer.getvalue() == printed  # type: ignore[attr-defined]


def test_json_is_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    print_json({"a": "é✓"})
    stream.flush()
    assert json.loads(stream.buffer.getvalue()) == {"a": "é✓"}  # type: ignore[attr-defined]
