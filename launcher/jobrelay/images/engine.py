"""docker, podman and buildah: one interface to whichever is installed.

Logins, proxies, certificates and storage are left to the engine: it runs as if you had started it.
"""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from jobrelay.errors import BadInput, JobRelayError
from jobrelay.hints import Command
from jobrelay.manifests import check_image

#: In the order of search.
ENGINES: Final = ("docker", "podman", "buildah")
#: Number of last output lines that the error of a failed command quotes.
_LAST_LINES: Final = 5
#: The last line of `docker push`: 0.1.0: digest: sha256:… size: 1794
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class ToolFailed(JobRelayError):
    """A command that the launcher ran has failed."""

    def __init__(self, command: Sequence[str], code: int, printed: str) -> None:
        lines = [line for line in printed.splitlines() if line.strip()][-_LAST_LINES:]
        quoted = "".join(f"\n    {line}" for line in lines)
        super().__init__(f"`{shlex.join(command)}` ended with exit code {code}{quoted and ':' + quoted}")


def run_tool(command: Sequence[str], *, stdin: IO[bytes] | None = None) -> str:
    """Run a command; return its stdout. Raises ToolFailed."""
    done = subprocess.run(
        command, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise ToolFailed(command, done.returncode, done.stderr or done.stdout)
    return done.stdout


def show_tool(command: Sequence[str], say: Callable[[str], None]) -> None:
    """Run a command and pass every line of its output to `say`. Raises ToolFailed."""
    last = deque[str](maxlen=_LAST_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            last.append(line)
            say(line.rstrip("\n"))
    if process.returncode:
        raise ToolFailed(command, process.returncode, "".join(last))


@dataclass(frozen=True)
class Listed:
    """An image as its engine lists it; the size is the engine's text."""

    engine: str
    name: str
    id: str
    size: str


@dataclass(frozen=True)
class Engine:
    """One of ENGINES. Every method raises ToolFailed."""

    name: str

    def build(
        self, image: str, dockerfile: Path, context: Path, options: Sequence[str], say: Callable[[str], None]
    ) -> None:
        """Build `image`; options: the engine's own, such as --build-arg NAME=VALUE."""
        layers = ["--layers"] if self.name == "buildah" else []
        command = [self.name, "build", *layers, *options, "-t", full_name(image), "-f", str(dockerfile)]
        show_tool([*command, str(context)], say)

    def has(self, image: str) -> bool:
        """Whether the engine has an image of that name; False if it does not answer."""
        command = ["image", "inspect"] if self.name != "buildah" else ["inspect", "--type", "image"]
        done = subprocess.run([self.name, *command, full_name(image)], capture_output=True)
        return done.returncode == 0

    def command(self, image: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The image's entrypoint and its command."""
        words = ["inspect", "--type", "image"] if self.name == "buildah" else ["image", "inspect"]
        found = json.loads(run_tool([self.name, *words, full_name(image)]))
        tree = found[0] if isinstance(found, list) else found
        config = tree.get("Config") or tree.get("OCIv1", {}).get("config") or {}
        return tuple(config.get("Entrypoint") or ()), tuple(config.get("Cmd") or ())

    def images(self) -> list[Listed]:
        """All named images of the engine."""
        name = "Name" if self.name == "buildah" else "Repository"
        form = f"{{{{.{name}}}}}:{{{{.Tag}}}}|{{{{.ID}}}}|{{{{.Size}}}}"
        rows = (line.split("|") for line in run_tool([self.name, "images", "--format", form]).splitlines())
        return [
            Listed(self.name, *(word.strip() for word in row)) for row in rows if not row[0].startswith("<")
        ]

    @contextmanager
    def archive(self, image: str) -> Iterator[IO[bytes]]:
        """Yield the image as a stream in the format of `docker save`. Read it to its end."""
        name = full_name(image)
        command = {
            "docker": ["docker", "save", name],
            "podman": ["podman", "save", "--format", "docker-archive", name],
            "buildah": ["buildah", "push", "-q", name, f"docker-archive:/dev/stdout:{name}"],
        }[self.name]
        with (
            tempfile.TemporaryFile() as errors,
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors
            ) as process,
        ):
            assert process.stdout
            try:
                yield process.stdout
                process.stdout.close()
                process.wait()
            except JobRelayError:  # the reader's; if the engine failed, that error is raised instead
                with suppress(subprocess.TimeoutExpired):
                    process.wait(1)
                if (process.returncode or 0) <= 0:
                    raise
            finally:
                process.kill()
            if process.returncode:
                errors.seek(0)
                raise ToolFailed(command, process.returncode, errors.read().decode(errors="replace"))

    def push(self, image: str, reference: str, say: Callable[[str], None]) -> str:
        """Push an image to REGISTRY/NAME[:TAG]; return its digest there, sha256:…"""
        if self.name == "docker":
            run_tool(["docker", "tag", full_name(image), reference])
            last = deque[str](maxlen=1)

            def hear(line: str) -> None:
                last.append(line)
                say(line)

            show_tool(["docker", "push", reference], hear)
            match = _DIGEST.search(last.pop() if last else "")
            if not match:
                raise JobRelayError(f"`docker push {reference}` printed no digest")
            return match[0]
        plain = ["--tls-verify=false"] if _is_loopback(reference) else []  # docker detects this itself
        target = reference if self.name == "podman" else f"docker://{reference}"
        with tempfile.NamedTemporaryFile("r") as digest:
            push = [self.name, "push", *plain, "--digestfile", digest.name, full_name(image), target]
            show_tool(push, say)
            return digest.read().strip()


def engines() -> list[Engine]:
    """The engines on the PATH, in order. Raises BadInput if there is none."""
    found = [Engine(name) for name in ENGINES if shutil.which(name)]
    if not found:
        raise BadInput("none of docker, podman and buildah is on the PATH", "install one of them")
    return found


def engine_that_works(wanted: str | None) -> Engine:
    """The engine named `wanted` (None: the first one that answers). Raises BadInput."""
    found = [engine for engine in engines() if wanted in (None, engine.name)]
    if not found:
        raise BadInput(f"{wanted} is not on the PATH", f"--engine {engines()[0].name}")
    problems = []
    for engine in found:
        try:
            run_tool([engine.name, "version"])
        except ToolFailed as error:
            problems.append(error.what)
        else:
            return engine
    raise BadInput("no engine works here:\n  " + "\n  ".join(problems), "start it, or install another one")


def engine_with(image: str, wanted: str | None = None) -> Engine:
    """The first engine that has the image. Raises BadInput if none has."""
    asked = [engine for engine in engines() if wanted in (None, engine.name)]
    for engine in asked:
        if engine.has(image):
            return engine
    names = ", ".join(engine.name for engine in asked) or wanted
    raise BadInput(
        f"image {full_name(image)} is not here (looked in {names})",
        Command("images", "list"),
    )


def known_images() -> list[Listed]:
    """The images of all engines; an engine that does not answer counts as empty. Raises BadInput."""
    found = []
    for engine in engines():
        with suppress(ToolFailed):
            found += engine.images()
    return found


def check_reference(reference: str) -> None:
    """Raise BadInput unless `reference` is REGISTRY/NAME[:TAG] with an explicit registry."""
    if full_name(reference) != reference or "@" in reference:
        raise BadInput(
            f"{reference} names no registry",
            "REGISTRY/NAME[:TAG], such as registry.example.org/me/jobrelay:0.1.0",
        )


def full_name(image: str) -> str:
    """The full name, as nodes expand it: jobrelay:0.1.0 → docker.io/library/jobrelay:0.1.0.

    Raises BadInput.
    """
    first, slash, _ = check_image(image).partition("/")
    if not slash:
        return f"docker.io/library/{image}"
    is_registry = "." in first or ":" in first or first == "localhost"
    return image if is_registry else f"docker.io/{image}"


def without_tag(reference: str) -> str:
    """registry:5000/name:tag → registry:5000/name"""
    folder, slash, last = reference.rpartition("/")
    return folder + slash + last.partition("@")[0].partition(":")[0]


def _is_loopback(reference: str) -> bool:
    host = reference.partition("/")[0]
    host = host.rpartition(":")[0] or host
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
