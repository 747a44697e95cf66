"""The expected format of a run's files, and their readers, which have limits."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jobrelay.terminal import printable
from jobrelay_runner.stages import Stage
from jobrelay_runner.volume.record import Cost, RecordError
from jobrelay_runner.volume.safe_read import open_regular, read_bytes

#: Twice the size of eval_results.json with 256 classes.
_MOST_BYTES: Final = 4 * 2**20
_MOST_EPOCHS: Final = 10_000
#: `infer` draws at most a hundred.
_MOST_PICTURES: Final = 1000
_LONGEST_LINE: Final = 64 * 1024
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class Unusable(ValueError):
    """A file exists but has unexpected content; the message names it."""


Text = Annotated[str, AfterValidator(lambda text: text[:4000])]
Name = Annotated[str, AfterValidator(lambda text: text[:120])]
#: The range exceeds every measurement, and can still be drawn.
Figure = Annotated[float, Field(ge=-1e12, le=1e12)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Ended(_Part):
    """How a stage ended or, without an exit code, its current phase."""

    exit_code: int | None = None
    outcome: Name
    reason: Text = ""
    message: Text = ""
    pod: Name | None = None
    hint: Text = ""


class Resources(_Part):
    """Resources of a container, without the fields that the page does not show."""

    requests: dict[Name, Name | int | float] = {}
    limits: dict[Name, Name | int | float] = {}


class StageOutcome(_Part):
    stage: Stage
    how: Name = ""
    seconds: float | None = None
    log_complete: bool | None = None
    log_from: Name | None = None
    skipped: bool = False  # its work was already complete; its Pod only checked that
    verdict: Ended
    notes: tuple[Text, ...] = ()
    metrics: dict[Name, float] = {}
    timeline: dict[Name, Name] = {}
    cost: Annotated[Cost | None, BeforeValidator(lambda cost: cost or None)] = None
    resources: Resources = Resources()
    suggestion: dict[Literal["cpu", "memory"], Name | None] = {}


class RunOutcome(_Part):
    """report.json (jobrelay.runs.outcome): the fields that the page needs."""

    run: Name
    place: Text
    exit_code: int | None = None
    incomplete: Text | None = None
    stages: tuple[StageOutcome, ...] = ()


class Epoch(_Part):
    """A line of history.jsonl."""

    epoch: Annotated[int, Field(ge=0, le=10**9)]
    loss: Figure
    accuracy: Figure
    val_accuracy: Figure | None = None
    seconds: Figure
    images_per_second: Figure
    learning_rate: Figure


class ClassFigures(_Part):
    name: Name
    precision: Figure
    recall: Figure
    f1: Figure
    support: int


class EvalResults(_Part):
    test_loss: Figure
    test_acc: Figure
    samples: int
    correct: int
    dataset: Name
    model: Name
    per_class: tuple[ClassFigures, ...]
    class_names: tuple[Name, ...]
    confusion_matrix: tuple[tuple[Annotated[int, Field(ge=0)], ...], ...]


class Prediction(_Part):
    """A line of predictions.json with a drawn image. `file` is the picture."""

    index: int | None = None
    image: Name | None = None
    file: str
    predicted_name: Name
    probability: Probability
    true_name: Name | None = None
    correct: bool | None = None


class NothingFound(_Part):
    """A line of predictions.json for an image on which nothing was found, drawn as `picture`."""

    image: Name
    picture: str


class Skipped(_Part):
    file: Name
    reason: Name


class Latency(_Part):
    requests: int
    p50_ms: float
    p99_ms: float


class Inference(_Part):
    source: Name
    images: int
    correct: int | None = None
    nothing_found: tuple[Name, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    images_per_second: float | None  # None, like the next two, if there was nothing to classify
    batch_size: int | None
    latency: Latency | None
    device: Name

    @property
    def is_timed(self) -> bool:
        return None not in (self.images_per_second, self.batch_size, self.latency)


_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


class Reader:
    """Calls the functions that read files, and collects their failures as lines."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, read: Callable[..., _Result], *asked: Any) -> _Result | None:
        try:
            return read(*asked)
        except (Unusable, RecordError, OSError) as error:
            self.problems.append(str(error))
            return None


def read(path: Path, model: type[_Model]) -> _Model | None:
    """Read a JSON file; None if it does not exist. Raises Unusable."""
    try:
        return model.model_validate_json(read_bytes(path, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Unusable(f"{path.name} is not as expected: {_first_problem(error)}") from error
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror}") from error


def read_history(path: Path) -> list[Epoch]:
    """Read history.jsonl; empty if it does not exist. Raises Unusable."""
    return [_parsed(path, line, Epoch) for line in _lines(path, _MOST_EPOCHS)]


def read_pictured(path: Path) -> list[Prediction]:
    """Read the lines of predictions.json with drawn images: about a hundred of up to a million."""
    return _read_some(path, b'"file": "results/', Prediction)


def read_nothing_found(path: Path) -> list[NothingFound]:
    """Read the lines of predictions.json for drawn images on which nothing was found."""
    return _read_some(path, b'"picture": "results/', NothingFound)


def _read_some(path: Path, sign: bytes, model: type[_Model]) -> list[_Model]:
    lines = (line.strip().strip(b",") for line in _lines(path))
    wanted = (line for line in lines if sign in line)
    return [_parsed(path, line, model) for line in islice(wanted, _MOST_PICTURES)]


def tail(path: Path, lines: int, size: int, root: Path) -> tuple[tuple[str, ...], int]:
    """The last lines of a log, from its last `size` bytes, and the size of the log in bytes.

    Terminal controls are removed. root: the folder of the run, in which no link is followed.
    """
    with open_regular(path, root=root) as file:
        there = os.fstat(file.fileno()).st_size
        file.seek(max(0, there - size))
        kept = file.read(size).decode("utf-8", "replace").splitlines()[-lines:]
    return tuple(printable(line) for line in kept), there


def data_uri(path: Path, kind: Literal["png", "svg+xml"], most: int, root: Path) -> str | None:
    """A picture as a data: URI; None if it is not of that kind or has more than `most` bytes.

    root: the folder of the run or the sweep; pictures behind links in it are refused.
    """
    try:
        content = read_bytes(path, most, root=root)
    except (OSError, ValueError):  # ValueError: an invalid file name
        return None
    if kind == "png" and not content.startswith(_PNG):
        return None
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _lines(path: Path, most: int | None = None) -> Iterator[bytes]:
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(_LONGEST_LINE):
                number += 1
                if most is not None and number > most:
                    raise Unusable(f"{path.name} has more than {most} lines")
                yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror}") from error


def _parsed(path: Path, line: bytes, model: type[_Model]) -> _Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        raise Unusable(f"{path.name} is not as expected: {_first_problem(error)}") from error


def _first_problem(error: ValidationError) -> str:
    """The first of perhaps a million problems, in one line: `outputs./dev/zero: …`."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part)[:200] for part in first["loc"] if part != "[key]")
    what = str(first["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
