"""Names on the shared volume. Nothing here reads or writes."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jobrelay_runner.stages import Stage

RUN_ID_MAX: Final = 40
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

_SIDECAR: Final = re.compile(r"epoch-(?P<epoch>[0-9]+)(-step-(?P<step>[0-9]+))?\.json")

#: Environment of every stage, set by the manifests.
ENV_RUN: Final = "JOBRELAY_RUN"
ENV_VOLUME: Final = "JOBRELAY_VOLUME"
ENV_CONFIG: Final = "JOBRELAY_CONFIG"
ENV_POD: Final = "JOBRELAY_POD"
ENV_TERMINATION: Final = "JOBRELAY_TERMINATION_MESSAGE"
#: Set by the launcher in a stage that it starts early: the stage whose record opens its gate.
ENV_AFTER: Final = "JOBRELAY_AFTER"

#: In a stage of several Pods: the index of this Pod (set by Kubernetes in every Indexed Job), the address at
#: which the others reach it, and the name by which they find Pod 0.
ENV_INDEX: Final = "JOB_COMPLETION_INDEX"
ENV_ADDRESS: Final = "JOBRELAY_ADDRESS"
ENV_LEADER: Final = "JOBRELAY_LEADER"

#: Errors of a network file system while its server does not answer: later the same call may succeed.
PASSING_ERRORS: Final = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN})

#: Kubernetes keeps this much of a termination message.
TERMINATION_MESSAGE_BYTES: Final = 4096

#: In a run's folder: what an interrupted training resumes from.
CHECKPOINTS: Final = "checkpoints"
#: In a run's folder: where a pipeline of any programs works.
WORKSPACE: Final = "workspace"
#: In a run's folder: the digest of the code that was put into the workspace.
CODE_MARKER: Final = ".code"
#: In a run's folder: the output of the stages.
LOGS: Final = "logs"

#: In results/, in place of a picture for each image, for a model that classifies points.
BOUNDARY: Final = "decision_boundary.png"


def check_name(name: str, what: str, longest: int = RUN_ID_MAX) -> str:
    """Return `name` if it is a DNS-1123 label of at most `longest` characters; else raise ValueError."""
    if len(name) > longest or not _LABEL.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: must be lower-case letters, digits and '-', start and end with a "
            f"letter or digit, and have at most {longest} characters"
        )
    return name


@dataclass(frozen=True)
class RunFolder:
    """The files of one run below the volume's root."""

    root: Path
    run: str

    @property
    def path(self) -> Path:
        return self.root / "runs" / self.run

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def workspace(self) -> Path:
        """The folder in which the stages of a pipeline of any programs work."""
        return self.path / WORKSPACE

    @property
    def code(self) -> Path:
        """Names the code in the workspace by its digest."""
        return self.path / CODE_MARKER

    def before(self, stage: Stage) -> Path:
        """The state of the workspace before a stage; not fetched, as any .NAME.partial."""
        return self.path / f".{stage}-before.json.partial"

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def model(self) -> Path:
        """The final state_dict."""
        return self.path / "model.pt"

    @property
    def model_config(self) -> Path:
        """What `model.pt` needs to be rebuilt: name, input shape, classes, normalisation."""
        return self.path / "model.json"

    @property
    def exported(self) -> Path:
        """The model as torch.export makes it, if the configuration asks for it."""
        return self.path / "model.pt2"

    @property
    def history(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def eval_results(self) -> Path:
        return self.path / "eval_results.json"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.json"

    @property
    def inference(self) -> Path:
        """What `infer` classified, what it could not read, and how fast it was."""
        return self.path / "inference.json"

    @property
    def logs(self) -> Path:
        return self.path / LOGS

    def log(self, stage: Stage, pod: str) -> Path:
        return self.logs / f"{stage}-{pod}.log"

    def record(self, stage: Stage) -> Path:
        return self.path / f"{stage}.json"

    def inputs(self, stage: Stage) -> Path:
        """What a stage has read, one line per file, if that is too much for its record."""
        return self.path / f"{stage}-inputs.jsonl"

    def rendezvous(self, stage: Stage) -> Path:
        """How the other Pods reach Pod 0, which writes this; its name keeps it from being fetched."""
        return self.path / f".{stage}-rendezvous.json.partial"


def checkpoint_sidecars(names: Iterable[str]) -> list[str]:
    """Return those of the files in checkpoints/ that prove a checkpoint, the newest first.

    `epoch-0003-step-00042.json`, 42 steps into the fourth epoch, is newer than `epoch-0003.json`.
    """
    found = [(match, name) for name in names if (match := _SIDECAR.fullmatch(name))]
    return [name for match, name in sorted(found, key=lambda each: _position(each[0]), reverse=True)]


def _position(match: re.Match[str]) -> tuple[int, int]:
    return int(match["epoch"]), int(match["step"] or 0)


def data_folder(root: Path, dataset: str) -> Path:
    """Return the folder of the data set of that name, which all runs share."""
    return root / "data" / dataset


def inside(root: Path, name: str) -> Path:
    """Return the folder runs/RUN or data/NAME below the volume's root. Raises ValueError for any other."""
    kind, _, rest = name.partition("/")
    if kind not in ("runs", "data", "code") or not rest or "/" in rest or rest.startswith("."):
        raise ValueError(f"{name!r}: expected runs/RUN, data/NAME or code/HASH")
    return root / kind / rest


def below(root: Path, name: str) -> Path:
    """As `inside`, or a file further down: data/NAME/FILE. Raises ValueError for a path that leads out."""
    kind, _, rest = name.partition("/")
    first, *others = rest.split("/")
    if {"", ".", ".."} & set(others):
        raise ValueError(f"{name!r}: expected runs/RUN or data/NAME, or a file in one")
    return inside(root, f"{kind}/{first}").joinpath(*others)
