"""What an image will be, read from its Dockerfile without building it.

It tells the launcher the entrypoint and the working directory, and `--local` which files a container would
find. What commands of RUN do is not known, except for folders that `mkdir` makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from jobrelay.errors import BadInput
from jobrelay.pipelines.compose.dockerfile import bases, ignored
from jobrelay.pipelines.compose.dockerfile.copies import Copy, from_context, from_stage, into, resolved
from jobrelay.pipelines.compose.dockerfile.lines import (
    Instruction,
    commands,
    escape_character,
    exec_form,
    expand,
    flags,
    instructions,
    words,
)
from jobrelay.pipelines.compose.text.yamlfile import read_text
from jobrelay.pipelines.definition import Build

_SHELL: Final[tuple[str, ...]] = ("/bin/sh", "-c")


@dataclass(frozen=True)
class ImageConfig:
    """An image as its Dockerfile makes it.

    base: the image that it starts from. through: images of other builds between the two. workdir, user,
    entrypoint: None if the Dockerfile leaves them to the base; an entrypoint () is one that it takes away.
    command: None or () alike. copies: files and folders of this machine and where they lie in the image,
    later ones over earlier ones. folders: others that are made. unplaced: what is copied into the image, and
    cannot be known without building it.
    """

    base: str
    through: tuple[str, ...] = ()
    workdir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    copies: tuple[Copy, ...] = ()
    folders: tuple[str, ...] = ()
    unplaced: tuple[str, ...] = ()

    @property
    def working_directory(self) -> str:
        """Where the program starts, as far as it can be known."""
        return self.workdir or bases.workdir(self.base)


def read(build: Build, *, files: bool = True, images: Mapping[str, Build] | None = None) -> ImageConfig:
    """The image that a build makes.

    files: also find out what COPY and ADD put where. images: names of images that other builds make; FROM may
    name one.

    Raises BadInput if the Dockerfile cannot be read, or has no such target.
    """
    text = read_text(build.dockerfile)
    parser = _Parser(build, escape_character(text), files, images or {})
    for instruction in instructions(text):
        parser.take(instruction)
    return parser.result()


class _Parser:
    """The stages of a Dockerfile, one instruction after the other."""

    def __init__(self, build: Build, escape: str, files: bool, images: Mapping[str, Build]) -> None:
        self._build = build
        self._images = images
        self._escape = escape
        self._files = files
        self._ignored = ignored.read(build.context, build.dockerfile) if files else ignored.Ignored(())
        self._global: dict[str, str] = {}
        self._stages: dict[str, ImageConfig] = {}  # by name, and by number
        self._names: list[str] = []
        self._env: dict[str, str] = {}  # of the stage that is read: variables and arguments
        self._shell = _SHELL
        self._command_set = False

    def result(self) -> ImageConfig:
        if not self._stages:
            raise BadInput(f"{self._build.dockerfile}: it has no FROM")
        if (target := self._build.target) is None:
            return self._image
        if (found := self._stages.get(target.lower())) is None:
            raise BadInput(
                f"{self._build.dockerfile}: there is no target {target}",
                f"its targets are {', '.join(self._names) or 'not named'}",
            )
        return found

    def take(self, instruction: Instruction) -> None:
        name, rest = instruction.name, instruction.rest
        if name == "FROM":
            self._from(instruction)
        elif name == "ARG":
            self._arg(rest)
        elif not self._stages:
            raise BadInput(
                f"{self._build.dockerfile}, line {instruction.line}: {name[:20]} stands before FROM"
            )
        elif name == "ENV":
            pairs = self._pairs(rest)
            self._env.update(pairs)
            self._set(env={**self._image.env, **pairs})
        elif name == "WORKDIR":
            place = resolved(self._expand(rest), self._image.working_directory)
            self._set(workdir=place, folders=_with(self._image.folders, place))
        elif name == "USER":
            self._set(user=self._expand(rest))
        elif name == "SHELL":
            self._shell = exec_form(rest) or self._shell
        elif name == "ENTRYPOINT":
            # A command of the base belongs to the base's entrypoint, one of this stage to the new one.
            command = self._image.command if self._command_set else None
            self._set(entrypoint=self._argv(rest), command=command)
        elif name == "CMD":
            self._command_set = True
            self._set(command=self._argv(rest))
        elif name == "VOLUME":
            places = exec_form(rest) or words(rest, self._escape)
            self._set(folders=_with(self._image.folders, *(resolved(self._expand(p), "/") for p in places)))
        elif name == "RUN":
            self._run(instruction)
        elif name in ("COPY", "ADD") and self._files:
            self._copy(instruction)

    @property
    def _image(self) -> ImageConfig:
        return self._stages[str(self._last)]

    def _set(self, **changes: object) -> None:
        image = replace(self._image, **changes)  # type: ignore[arg-type]
        self._stages[str(self._last)] = image
        if self._name:
            self._stages[self._name] = image

    def _expand(self, word: str) -> str:
        return expand(word, self._env, self._escape)

    def _from(self, instruction: Instruction) -> None:
        _, rest = flags(instruction.rest)
        parts = words(rest, self._escape)
        if len(parts) not in (1, 3):
            raise BadInput(
                f"{self._build.dockerfile}, line {instruction.line}: FROM {rest}: not FROM IMAGE [AS NAME]"
            )
        base = expand(parts[0], self._global, self._escape)
        image = self._stages.get(base.lower()) or self._other_build(base) or ImageConfig(base)
        self._name = parts[2].lower() if len(parts) == 3 else ""
        if self._name:
            self._names.append(parts[2])
        self._last = sum(key.isdigit() for key in self._stages)
        self._stages[str(self._last)] = image
        self._set()
        self._env = dict(image.env)
        self._shell = _SHELL
        self._command_set = False

    def _other_build(self, image: str) -> ImageConfig | None:
        if (build := self._images.get(image)) is None or build == self._build:
            return None
        others = {name: other for name, other in self._images.items() if name != image}
        found = read(build, files=self._files, images=others)
        return replace(found, through=(*found.through, image))

    def _arg(self, rest: str) -> None:
        for word in words(rest, self._escape):
            name, mark, default = word.partition("=")
            known = self._env if self._stages else self._global
            value = self._build.arguments.get(name)
            if value is None and mark:
                value = expand(default, known, self._escape)
            if value is None and self._stages:
                value = self._global.get(name)
            if value is not None and name not in (self._image.env if self._stages else {}):
                known[name] = value

    def _pairs(self, rest: str) -> dict[str, str]:
        parts = words(rest, self._escape)
        if not parts:
            return {}
        if "=" not in parts[0]:  # the old form: ENV NAME all that follows
            name, _, value = rest.partition(" ")
            return {name: self._expand(value.strip())}
        return {name: self._expand(value) for name, _, value in (part.partition("=") for part in parts)}

    def _argv(self, rest: str) -> tuple[str, ...]:
        words_of_list = exec_form(rest)
        return (*self._shell, rest) if words_of_list is None else words_of_list

    def _run(self, instruction: Instruction) -> None:
        _, rest = flags(instruction.rest)
        argv = exec_form(rest)
        folders, place = self._image.folders, self._image.working_directory
        for command in [list(argv)] if argv is not None else commands(rest):
            arguments = [expand(word, self._env) for word in command[1:] if not word.startswith("-")]
            if command[0] == "cd" and arguments:
                place = resolved(arguments[0], place)
            elif command[0] == "mkdir":
                names = [word for word in arguments if word and not set(word) & set("{}*$`")]
                folders = _with(folders, *(resolved(name, place) for name in names))
        self._set(folders=folders)

    def _copy(self, instruction: Instruction) -> None:
        options, rest = flags(instruction.rest)
        parts = [self._expand(word) for word in exec_form(rest) or words(rest, self._escape)]
        if len(parts) < 2:
            where = f"{self._build.dockerfile}, line {instruction.line}"
            raise BadInput(f"{where}: {instruction.name} needs a source and a target")
        image, sources = self._image, parts[:-1]
        known = {*image.folders, *(target for path, target in image.copies if path.is_dir())}
        place, folder = into(sources, parts[-1], image.working_directory, known)
        unplaced = [f"{instruction.name} {instruction.rest}"]
        copies: list[Copy] = []
        if other := options.get("from"):
            stage = self._stages.get(other.lower())
            copies = from_stage(stage.copies, sources, place, folder) if stage else []
            unplaced = [] if copies else unplaced
        elif not instruction.heredoc and "parents" not in options:
            copies, missing = from_context(
                self._build.context, self._ignored, sources, place, folder, unpacked=instruction.name == "ADD"
            )
            unplaced = [f"{instruction.name} {source}" for source in missing]
        if folder:
            self._set(folders=_with(image.folders, place))
        self._set(copies=(*image.copies, *copies), unplaced=(*image.unplaced, *unplaced))


def _with(folders: tuple[str, ...], *more: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*folders, *more)))
