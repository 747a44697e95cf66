"""Completes hints with the user's own command line, so that printed commands can be pasted."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import Any, Final

import click
from click.core import ParameterSource

from jobrelay.errors import JobRelayError
from jobrelay.hints import Command, Hint, SameAgain

#: Options that select the place and the run: a hint repeats them if its command accepts them.
#: Values from the environment still apply then and are not repeated.
_CARRIED: Final = frozenset({
    "--local", "--volume", "--context", "--namespace", "--kustomize", "--image", "--api-timeout",
    "--run", "--config", "--set", "--timeout",
})  # fmt: skip
#: Commands that carry out one run: hints add --run only to these.
_OF_A_RUN: Final = ("run-all", "run")


class Subcommand(click.Command):
    """A command that completes the hints of its errors, so that they can be pasted."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except JobRelayError as error:
            error.hint = completed(ctx, error.hint)
            raise


class Group(click.Group):
    command_class = Subcommand


def completed(context: click.Context, hint: Hint) -> str:
    """The hint as text, in the words of the command line that `context` was parsed from.

    `context.find_root().obj` holds the program as the user started it. Prose stays unchanged; SameAgain
    becomes prose if the command does not accept the options to add.
    """
    if isinstance(hint, Command):
        end = hint.words.index("--") if "--" in hint.words else len(hint.words)
        carried = _carried(context, hint.words)
        words: Sequence[str] | None = [*hint.words[:end], *carried, *hint.words[end:]]
    elif isinstance(hint, SameAgain):
        words = _again(context, hint)
    else:
        return hint
    if words is None:
        return f"run {hint}"
    return shlex.join([*context.find_root().obj, *words])


def _carried(context: click.Context, words: Sequence[str]) -> list[str]:
    """The typed _CARRIED options that the command of these words also accepts."""
    taken = {name for option in _options(_command(context, words)) for name in option.opts}
    there = {word.partition("=")[0] for word in words}
    kept = [
        option
        for option in _options(context.command)
        if _CARRIED & set(option.opts) and set(option.opts) <= taken and not there & set(option.opts)
    ]
    return _written(context, kept)


def _command(context: click.Context, words: Sequence[str]) -> click.Command:
    command = context.find_root().command
    for word in words:
        if not isinstance(command, click.Group):
            break
        command = command.commands[word]
    return command


def _again(context: click.Context, hint: SameAgain) -> list[str] | None:
    """The command line with the new options replacing old ones; None if it does not accept them."""
    of_a_run = context.command.name in _OF_A_RUN
    options = _options(context.command)
    takes = {name: option for option in options for name in option.opts}
    extra = list(hint.extra)
    if hint.run and of_a_run and "--new" not in extra:
        extra += ["--run", hint.run]
    replaced, overridden = set(), set()
    left = iter(extra)
    for name in left:
        if name not in takes:
            return None
        value = "" if takes[name].is_flag else next(left)
        if name == "--set":
            overridden.add(value.partition("=")[0] + "=")
        else:
            replaced |= {"--run", "--new"} if name in ("--run", "--new") else {name}
    kept = [option for option in options if not replaced & set(option.opts)]
    words = [*_written(context, kept, without=overridden), *extra]
    path = context.command_path.removeprefix(context.find_root().command_path).split()
    arguments = _arguments(context)
    if any(argument.startswith("-") for argument in arguments):
        return [*path, *words, "--", *arguments]
    return [*path, *arguments, *words]


def _options(command: click.Command) -> list[click.Option]:
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def _arguments(context: click.Context) -> list[str]:
    given = [
        context.params[p.name] for p in context.command.params if isinstance(p, click.Argument) and p.name
    ]
    return [
        str(word) for value in given for word in (value if isinstance(value, tuple) else (value,)) if word
    ]


def _written(
    context: click.Context, options: Iterable[click.Option], without: Iterable[str] = ()
) -> list[str]:
    """The typed ones of `options`, as words; without: prefixes of values to leave out."""
    words: list[str] = []
    for option in options:
        name = option.opts[0]
        if not option.name or context.get_parameter_source(option.name) is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[option.name]
        if option.is_flag:
            words += [name] if value else option.secondary_opts[:1]
            continue
        for each in value if option.multiple else (value,):
            if not str(each).startswith(tuple(without)):
                long = max(option.opts, key=len)
                words += [f"{long}={each}"] if str(each).startswith("-") else [name, str(each)]
    return words
