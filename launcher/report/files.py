"""What the files of a run are expected to say, and their reading, with limits."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from jobs.contract.config import Stage
from jobs.contract.record import Cost, RecordError, first_problem
from jobs.contract.safe_read import open_regular, read_bytes
from launcher.terminal import printable

#: eval_results.json of 256 classes has half of it.
_MOST_BYTES: Final = 4 * 2**20
_MOST_EPOCHS: Final = 10_000
#: `infer` draws a hundred.
_MOST_PICTURES: Final = 1000
_LONGEST_LINE: Final = 64 * 1024
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class Unusable(ValueError):
    """A file is there and is not what it should be; the message names it."""


Text = Annotated[str, AfterValidator(lambda text: text[:4000])]
Name = Annotated[str, AfterValidator(lambda text: text[:120])]
#: Far beyond anything that is measured, and near enough to be drawn.
Figure = Annotated[float, Field(ge=-1e12, le=1e12)]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Ended(_Part):
    """How a stage ended, or (without an exit code) what it is at."""

    exit_code: int | None = None
    outcome: Name
    reason: Text = ""
    message: Text = ""
    pod: Name | None = None
    hint: Text = ""


class Resources(_Part):
    """Of a container; what else Kubernetes knows of them is not shown."""

    requests: dict[Name, Name | int | float] = {}
    limits: dict[Name, Name | int | float] = {}


class StageOutcome(_Part):
    stage: Stage
    how: Name = ""
    seconds: float | None = None
    log_complete: bool | None = None
    log_from: Name | None = None
    skipped: bool = False  # its work was done before; its Pod has only looked
    verdict: Ended
    metrics: dict[Name, float] = {}
    timeline: dict[Name, Name] = {}
    cost: Annotated[Cost | None, BeforeValidator(lambda told: told or None)] = None
    resources: Resources = Resources()
    suggestion: dict[Literal["cpu", "memory"], Name | None] = {}


class RunOutcome(_Part):
    """report.json: launcher.outcome, as far as the page needs it."""

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
    """A line of predictions.json whose image was drawn. `file` is the picture."""

    index: int | None = None
    image: Name | None = None
    file: str
    predicted_name: Name
    probability: Probability
    true_name: Name | None = None
    correct: bool | None = None


class NothingFound(_Part):
    """A line of predictions.json on whose image nothing was found, and which was drawn as `picture`."""

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
    images_per_second: float | None  # None, and so the next two: there was nothing to classify
    batch_size: int | None
    latency: Latency | None
    device: Name

    @property
    def is_timed(self) -> bool:
        return None not in (self.images_per_second, self.batch_size, self.latency)


_Model = TypeVar("_Model", bound=BaseModel)
_Result = TypeVar("_Result")


class Reader:
    """Calls what reads files, and keeps, one line each, why it could not."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def __call__(self, read: Callable[..., _Result], *asked: Any) -> _Result | None:
        try:
            return read(*asked)
        except (Unusable, RecordError, OSError) as error:
            self.problems.append(str(error))
            return None


def read(path: Path, model: type[_Model]) -> _Model | None:
    """What a JSON file says; None if it is not there. Raises Unusable."""
    try:
        return model.model_validate_json(read_bytes(path, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Unusable(f"{path.name} is not as expected: {first_problem(error)}") from error
    except OSError as error:
        raise Unusable(f"{path.name} cannot be read: {error.strerror}") from error


def read_history(path: Path) -> list[Epoch]:
    """history.jsonl; empty if it is not there. Raises Unusable."""
    return [_parsed(path, line, Epoch) for line in _lines(path, _MOST_EPOCHS)]


def read_pictured(path: Path) -> list[Prediction]:
    """The lines of predictions.json whose images were drawn: of what may be a million, a hundred."""
    return _read_some(path, b'"file": "results/', Prediction)


def read_nothing_found(path: Path) -> list[NothingFound]:
    """The lines of predictions.json of images with nothing on them, which were drawn."""
    return _read_some(path, b'"picture": "results/', NothingFound)


def _read_some(path: Path, sign: bytes, model: type[_Model]) -> list[_Model]:
    lines = (line.strip().strip(b",") for line in _lines(path))
    wanted = (line for line in lines if sign in line)
    return [_parsed(path, line, model) for line in islice(wanted, _MOST_PICTURES)]


def tail(path: Path, lines: int, size: int, root: Path) -> tuple[tuple[str, ...], int]:
    """The last lines of a log, of its last `size` bytes, and how large it is.

    Without what a terminal would act upon. root: the folder of the run, in which no link is followed.
    """
    with open_regular(path, root=root) as file:
        there = os.fstat(file.fileno()).st_size
        file.seek(max(0, there - size))
        kept = file.read(size).decode("utf-8", "replace").splitlines()[-lines:]
    return tuple(printable(line) for line in kept), there


def data_uri(path: Path, kind: Literal["png", "svg+xml"], most: int, root: Path) -> str | None:
    """A picture as an address of itself; None for what is no picture of that kind, or larger than `most`.

    root: the folder of the run or the sweep; a picture that is reached by a link in it is none.
    """
    try:
        content = read_bytes(path, most, root=root)
    except (OSError, ValueError):  # the latter for a name that no file can have
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
        raise Unusable(f"{path.name} is not as expected: {first_problem(error)}") from error
