"""docker, podman and buildah: one interface to whichever is there.

Logins, proxies, certificates and storage are the engine's own affair: it is started as it would be by hand.
"""

from __future__ import annotations

import ipaddress
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

#: In the order in which they are looked for.
ENGINES: Final = ("docker", "podman", "buildah")
#: Of what a command that failed has printed.
_LAST_LINES: Final = 5
#: At the end of what `docker push` says: 0.1.0: digest: sha256:… size: 1794
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class ToolFailed(JobRelayError):
    """A command that was started here has failed."""

    def __init__(self, command: Sequence[str], code: int, printed: str) -> None:
        lines = [line for line in printed.splitlines() if line.strip()][-_LAST_LINES:]
        told = "".join(f"\n    {line}" for line in lines)
        super().__init__(f"`{shlex.join(command)}` ended with exit code {code}{told and ':' + told}")


def run_tool(command: Sequence[str], *, stdin: IO[bytes] | None = None) -> str:
    """What it prints to stdout. Raises ToolFailed."""
    done = subprocess.run(
        command, stdin=stdin or subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
    )
    if done.returncode:
        raise ToolFailed(command, done.returncode, done.stderr or done.stdout)
    return done.stdout


def show_tool(command: Sequence[str], say: Callable[[str], None]) -> None:
    """Run it, and say every line that it prints. Raises ToolFailed."""
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
    """An image as its engine lists it; the size is in the engine's own words."""

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
        """Whether it has an image of that name; no, too, if it does not answer."""
        command = ["image", "inspect"] if self.name != "buildah" else ["inspect", "--type", "image"]
        done = subprocess.run([self.name, *command, full_name(image)], capture_output=True)
        return done.returncode == 0

    def images(self) -> list[Listed]:
        """All that it has and that have a name."""
        name = "Name" if self.name == "buildah" else "Repository"
        form = f"{{{{.{name}}}}}:{{{{.Tag}}}}|{{{{.ID}}}}|{{{{.Size}}}}"
        rows = (line.split("|") for line in run_tool([self.name, "images", "--format", form]).splitlines())
        return [
            Listed(self.name, *(word.strip() for word in row)) for row in rows if not row[0].startswith("<")
        ]

    @contextmanager
    def archive(self, image: str) -> Iterator[IO[bytes]]:
        """The image as a stream, in the format of `docker save`; to be read to its end."""
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
            except JobRelayError:  # of who reads; if the stream was cut short, it is not his fault
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
        """Push it to REGISTRY/NAME[:TAG]; returns its digest there, sha256:…"""
        if self.name == "docker":
            run_tool(["docker", "tag", full_name(image), reference])
            last = deque[str](maxlen=1)

            def hear(line: str) -> None:
                last.append(line)
                say(line)

            show_tool(["docker", "push", reference], hear)
            told = _DIGEST.search(last.pop() if last else "")
            if not told:
                raise JobRelayError(f"`docker push {reference}` printed no digest")
            return told[0]
        plain = ["--tls-verify=false"] if _is_loopback(reference) else []  # docker knows it by itself
        target = reference if self.name == "podman" else f"docker://{reference}"
        with tempfile.NamedTemporaryFile("r") as digest:
            push = [self.name, "push", *plain, "--digestfile", digest.name, full_name(image), target]
            show_tool(push, say)
            return digest.read().strip()


def engines() -> list[Engine]:
    """Those on the PATH, in order. Raises BadInput if there is none."""
    found = [Engine(name) for name in ENGINES if shutil.which(name)]
    if not found:
        raise BadInput("none of docker, podman and buildah is on the PATH", "install one of them")
    return found


def engine_that_works(wanted: str | None) -> Engine:
    """The engine of that name, or the first one that answers. Raises BadInput."""
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
    """What the engines here have; one that does not answer has nothing. Raises BadInput."""
    found = []
    for engine in engines():
        with suppress(ToolFailed):
            found += engine.images()
    return found


def check_reference(reference: str) -> None:
    """Raise BadInput unless it is REGISTRY/NAME[:TAG], with the registry named."""
    if full_name(reference) != reference or "@" in reference:
        raise BadInput(
            f"{reference} names no registry",
            "REGISTRY/NAME[:TAG], such as registry.example.org/me/jobrelay:0.1.0",
        )


def full_name(image: str) -> str:
    """The name as nodes complete it: jobrelay:0.1.0 → docker.io/library/jobrelay:0.1.0. Raises BadInput."""
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
