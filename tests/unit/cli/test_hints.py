"""Every hint there is: a command that the launcher takes, in the words of whoever typed the one before."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from jobrelay.cli import main as cli
from jobrelay.cli.typed import completed
from jobrelay.errors import BadInput, Exit
from jobrelay.hints import Command, Hint, SameAgain, as_json, from_json, of_run
from jobrelay.verdicts import JobView, Verdict, judge
from tests.support import REPOSITORY
from tests.support import objects as o
from tests.unit.kube.test_verdicts import ENDED

PROGRAM = (".venv/bin/python", "../the launcher")
#: What stands for a word that is only known when the launcher runs.
STAND_INS = ("a", "train", "1", "train.epochs=1")
TYPED = (
    "--local", "--volume", "my volume", "--context", "lab", "-n", "team", "-k", "over lay",
    "--image", "r.io/j:2", "--api-timeout", "9",
)  # fmt: skip
ASKED = (
    "--config",
    "my config.yaml",
    "--set",
    "train.epochs=9",
    "--set",
    "train.memory=1Gi",
    "--timeout",
    "60",
)


def parsed(words: Sequence[str], parent: click.Context | None = None) -> click.Context:
    """The context of the subcommand that these words call. Raises click.UsageError."""
    context = parent or click.Context(
        cli.cli, info_name=shlex.join(PROGRAM), obj=PROGRAM, **cli.cli.context_settings
    )
    group = context.command
    assert isinstance(group, click.Group)
    name, command, rest = group.resolve_command(context, list(words))
    assert command is not None
    if isinstance(command, click.Group):
        return parsed(rest, click.Context(command, info_name=name, parent=context))
    return command.make_context(name, rest, parent=context)


def sources() -> Iterator[tuple[Path, ast.AST]]:
    for folder in ("launcher", "jobs"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                yield path, node


def commands() -> Iterator[tuple[str, str, list[str | None]]]:
    """Where, Command or SameAgain, and its words; None: one that is not known here."""
    for path, node in sources():
        name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
        if isinstance(node, ast.Call) and name in ("Command", "SameAgain") and path.name != "hints.py":
            words = [a.value if isinstance(a, ast.Constant) else None for a in node.args]
            yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", name, words


def is_taken(words: Sequence[str | None], before: Sequence[str] = ()) -> bool:
    """Whether the launcher takes such a command, for some value of what is not known here."""
    unknown = words.count(None)
    for values in itertools.product(STAND_INS, repeat=unknown):
        left = iter(values)
        try:
            parsed([*before, *(next(left) if word is None else word for word in words)])
            return True
        except click.UsageError:
            continue
    return False


def test_every_command_in_a_hint_is_one_that_the_launcher_takes() -> None:
    found = [(where, words) for where, kind, words in commands() if kind == "Command"]
    assert len(found) >= 10
    assert [where for where, words in found if not is_taken(words)] == []


def test_every_option_that_the_same_command_is_given_is_one_of_it() -> None:
    found = [(where, words) for where, kind, words in commands() if kind == "SameAgain"]
    assert len(found) >= 3
    of_put = [
        (where, words) for where, words in found if where.startswith("launcher/jobrelay/data/datasets.py")
    ]
    assert [where for where, words in of_put if not is_taken(words, ["put", ".", "a"])] == []
    of_a_run = [each for each in found if each not in of_put]
    assert [where for where, words in of_a_run if not is_taken(words, ["run-all"])] == []


def test_a_command_with_an_unknown_option_would_not_pass() -> None:
    assert not is_taken(["fetch", None, "--everything"])
    assert not is_taken(["fetched", None])


def test_no_text_has_a_command_in_it_that_nothing_completes() -> None:
    assert [where for where, text in texts() if "python launcher" in text] == []


def texts() -> Iterator[tuple[str, str]]:
    """Every text in the sources that is not documentation."""
    for folder in ("launcher", "jobs"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            nodes = list(ast.walk(ast.parse(path.read_text())))
            alone = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
            for node in nodes:
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
                    yield f"{path.relative_to(REPOSITORY)}:{node.lineno}", node.value


def test_every_option_that_is_spoken_of_is_an_option() -> None:
    known = {"--help", "--version", *_all_options(cli.cli)}
    others = {
        "--file", "--tag", "--iidfile", "--digestfile", "--format", "--layers", "--build-arg", "--name",
        "--network", "--all", "--output", "--from-literal",
    }  # fmt: skip
    found = set()
    for where, text in texts():
        if " " in text and not where.startswith("launcher/jobrelay/images/engine.py"):
            found |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert found - known - others == set()


def _all_options(command: click.Command) -> set[str]:
    own = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
    below = command.commands.values() if isinstance(command, click.Group) else ()
    return own.union(*map(_all_options, below))


# --- completed -----------------------------------------------------------------------------------


def words_of(context: click.Context, hint: Hint) -> list[str]:
    """The words behind the program, as a shell reads them."""
    words = shlex.split(completed(context, hint))
    assert tuple(words[: len(PROGRAM)]) == PROGRAM
    return words[len(PROGRAM) :]


#: Every command that a hint names, with words for what is only known then.
NAMED = [
    Command("list"), Command("list", "--recorded"), Command("run-all"), Command("doctor"),
    Command("status", "a"), Command("logs", "a", "train"), Command("fetch", "a"), Command("delete", "a"),
    Command("put", "DIR", "mnist"), Command("report", "runs/a/"), Command("render", "--run", "b"),
]  # fmt: skip


@pytest.mark.parametrize("hint", NAMED, ids=str)
def test_a_hint_has_the_options_that_say_where(hint: Command) -> None:
    then = parsed(words_of(parsed(["verify", "a", *TYPED]), hint))

    assert then.params["local"] is True
    assert str(then.params["volume"]) == "my volume"
    assert (then.params["context"], then.params["namespace"]) == ("lab", "team")
    assert str(then.params["kustomization"]) == "over lay"
    assert (then.params["image"], then.params["api_timeout"]) == ("r.io/j:2", 9)


def test_a_hint_has_the_configuration_where_it_is_taken() -> None:
    context = parsed(["run-all", "--run", "a", *ASKED, "-q", "--no-fetch", "-o", "json"])
    words = words_of(context, Command("render", "--run", "b"))
    then = parsed(words)
    assert (then.params["run_id"], then.params["timeout"]) == ("b", 60)
    assert then.params["overrides"] == ("train.epochs=9", "train.memory=1Gi")
    assert "-q" not in words
    assert words_of(context, Command("fetch", "a")) == ["fetch", "a"]


def test_a_hint_repeats_nothing_that_was_not_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert words_of(parsed(["run-all"]), Command("fetch", "a")) == ["fetch", "a"]


def test_the_same_command_concerns_the_same_run() -> None:
    context = parsed(["run-all", "--new", *TYPED, *ASKED, "--early", "off"])
    hint = of_run(SameAgain("--set", "train.memory=4Gi"), "a run")
    then = parsed(words_of(context, hint)).params

    assert (then["run_id"], then["new"], then["early"]) == ("a run", False, "off")
    assert then["overrides"] == ("train.epochs=9", "train.memory=4Gi")
    assert (str(then["config_file"]), then["timeout"], then["namespace"]) == ("my config.yaml", 60, "team")


def test_the_same_command_again_is_the_same() -> None:
    context = parsed(["run", "eval", "--run", "a", "--set=seed=-1", "-q"])
    assert words_of(context, SameAgain()) == ["run", "eval", "--run", "a", "--set", "seed=-1", "-q"]
    assert words_of(context, SameAgain(run="b")) == ["run", "eval", "--set", "seed=-1", "-q", "--run", "b"]
    assert words_of(parsed(["images", "compare", "a:1", "b:1"]), SameAgain(run="x-a1")) == [
        "images", "compare", "a:1", "b:1",
    ]  # fmt: skip


def test_values_that_a_shell_would_read_as_something_else_are_quoted() -> None:
    context = parsed(["run-all", "--local", "--volume", "a'b $HOME", "--config=-x.yaml"])
    then = parsed(words_of(context, SameAgain())).params
    assert (str(then["volume"]), str(then["config_file"])) == ("a'b $HOME", "-x.yaml")
    assert words_of(parsed(["images", "build", "slim", "--", "--build-arg", "A=b c"]), SameAgain()) == [
        "images", "build", "--", "slim", "--build-arg", "A=b c",
    ]  # fmt: skip


def test_a_command_that_cannot_be_given_more_is_not_made_up() -> None:
    assert completed(parsed(["status", "a"]), SameAgain("--set", "train.memory=4Gi")) == (
        "run the same command with --set train.memory=4Gi"
    )


def test_prose_stays_prose() -> None:
    assert completed(parsed(["status", "a"]), "choose another --run") == "choose another --run"


# --- in verdicts ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [pytest.param(case, id=case.row) for case in ENDED])
def test_the_hint_of_a_verdict_is_a_command_that_can_be_pasted(case: object) -> None:
    verdict = judge(case.seen)  # type: ignore[attr-defined]
    assert isinstance(verdict, Verdict)
    assert Verdict.from_annotation(verdict.to_annotation()) == verdict
    if not isinstance(verdict.hint, str):
        words_of_it = words_of(parsed(["run-all", *TYPED]), of_run(verdict.hint, "mnist-a"))
        assert parsed(words_of_it).params["local"] is True


def test_what_only_the_stage_may_use_is_asked_for_the_same_run() -> None:
    condition = o.condition("Failed", reason="BackoffLimitExceeded")
    job = o.job("train", condition)
    verdict = judge(JobView(job, [o.failed(job, o.terminated(137, "OOMKilled"))]))
    assert isinstance(verdict, Verdict)
    words = words_of(parsed(["run-all", "--set", "train.epochs=20"]), of_run(verdict.hint, "a"))
    assert words == ["run-all", "--set", "train.epochs=20", "--set", "train.memory=4Gi", "--run", "a"]


@pytest.mark.parametrize(
    "hint", ["prose", "", Command("fetch", "a"), SameAgain(), SameAgain("--set", "a=1", run="b")], ids=str
)
def test_a_hint_survives_json(hint: Hint) -> None:
    assert from_json(json.loads(json.dumps(as_json(hint)))) == hint


@pytest.mark.parametrize(
    "tree", [None, 1, [], {}, {"command": "x"}, {"command": [1]}, {"again": [], "run": 1}]
)
def test_what_is_no_hint_is_refused(tree: object) -> None:
    with pytest.raises(ValueError, match="not a hint"):
        from_json(tree)


# --- as they are printed -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "started"),
    [
        (".", [sys.executable, "launcher"]),
        (".", [sys.executable, "-m", "jobrelay"]),
        ("tests/unit", [sys.executable, "-X", "dev", "../../launcher"]),
    ],
    ids=["folder", "module", "elsewhere"],
)
def test_a_hint_starts_the_launcher_as_the_user_did(tmp_path: Path, folder: str, started: list[str]) -> None:
    there = REPOSITORY / folder
    volume = str(tmp_path / "the volume")
    first = subprocess.run(
        [*started, "fetch", "nothing", "--local", "--volume", volume],
        cwd=there, capture_output=True, text=True, check=False,
    )  # fmt: skip
    hint = first.stderr.partition("try: ")[2].strip()
    assert shlex.split(hint) == [*started, "list", "--local", "--volume", volume]
    pasted = subprocess.run(hint, shell=True, cwd=there, capture_output=True, text=True, check=False)
    assert (pasted.returncode, pasted.stderr) == (Exit.SUCCEEDED, "")


def test_an_embedding_program_keeps_its_own_arguments_to_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["theirs", "--password", "secret"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "theirs", "--password", "secret"])
    monkeypatch.chdir(tmp_path)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jobrelay.executors.local.LocalExecutor.watch", interrupt)
    assert cli.main(["run-all", "--local", "--run", "a"]) == Exit.INTERRUPTED
    err = capsys.readouterr().err
    assert "secret" not in err
    hint = err.partition("try: ")[2].strip()
    assert shlex.split(hint)[2:] == ["run-all", "--local", "--run", "a"]
    assert shlex.split(hint)[:2] == [sys.executable, str(REPOSITORY / "launcher")]


def test_an_error_has_the_hint_as_it_can_be_pasted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BadInput("no", Command("fetch", "a"))

    monkeypatch.setattr("jobrelay.runs.status.status", refuse)
    assert cli.main(["status", "--local", "--volume", "v"], program=("p", "l")) == Exit.BAD_INPUT
    assert capsys.readouterr().err == "error: no\n  try: p l fetch a --local --volume v\n"
