"""The built-in programs in a sweep: train and eval, compared by their accuracy."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from jobrelay.errors import BadInput
from jobrelay.flags import SweepFlags
from jobrelay.manifests import PipelineConfig
from jobrelay.runs.target import Target
from jobrelay.sweep.built_in_table import FIGURES, row_of
from jobrelay.sweep.design import Axis, Trial, parse_axis
from jobrelay.sweep.pipeline import Objective, Shown
from jobrelay.sweep.running import Condition
from jobrelay.sweep.table import Row
from jobrelay_runner.stages import Stage
from jobrelay_train.config.schema import RunConfig

#: The images on which the best trial is chosen: held-out training images, or the test images. The chosen
#: trial's accuracy on these images is biased upwards: among many trials the luckiest one wins.
ChooseOn = Literal["validation", "test"]
#: Default share of training images that a sweep holds out.
VALIDATION_SPLIT: Final = 0.1
_SHOWN: Final = (
    Shown("val acc", "val_acc", "{:.4f}"),
    Shown("test acc", "test_acc", "{:.4f}"),
    Shown("training", "train_seconds", "{:.1f} s"),
)


def _by(column: str, title: str) -> Objective:
    return Objective(
        column, larger=True, name="accuracy", title=title,
        seconds="train_seconds", time_title="Training time (seconds)", digits=".4f",
    )  # fmt: skip


OBJECTIVES: Final[dict[ChooseOn, Objective]] = {
    "validation": _by("val_acc", "Accuracy on held-out training images"),
    "test": _by("test_acc", "Test accuracy"),
}


@dataclass(frozen=True)
class BuiltIn:
    """See SweptPipeline. is_base: whether `base` is valid by itself, without the values of a grid."""

    target: Target
    base: RunConfig
    config_file: Path | None = None
    overrides: Sequence[str] = ()
    choose_on: ChooseOn = "validation"
    is_base: bool = True
    stages: Sequence[Stage] = field(default=("train", "eval"), init=False)

    @property
    def first_seed(self) -> int:
        return self.base.seed

    def check_axes(self, axes: Sequence[Axis]) -> None:
        """Do nothing: the configuration of the first trial names unknown keys."""

    def value(self, axis: Axis) -> Any:
        value: Any = self.base
        for part in axis.key.split("."):
            if not hasattr(value, part):
                raise BadInput(
                    f"--grid {axis.key}: unknown key", "keys are written as in --set: train.epochs"
                )
            value = getattr(value, part)
        return value

    def shared(self, axes: Sequence[Axis]) -> dict[str, Any]:
        shared = self.base.result_config()
        if not self.is_base:
            for axis in axes:
                _drop(shared, axis.key)
        return shared

    def naming(self) -> Any:
        return self.base.model_dump(mode="json")

    def config(self, trial: Trial) -> RunConfig:
        return self.target.built_in(self.config_file, [*self.overrides, *trial.overrides])

    def check(self, trials: Sequence[Trial]) -> None:
        for trial in trials:
            config = self.config(trial)
            if self.choose_on == "validation" and not config.train.validation_split:
                raise BadInput(
                    f"trial {trial} holds out no training images, so the best trial cannot be chosen by them",
                    f"--set train.validation_split={VALIDATION_SPLIT}, or --choose-on test",
                )

    def needs(self, trial: Trial) -> list[str]:
        return self.config(trial).on_the_volume(self.stages)

    def why_not_packed(self) -> str:
        return "each trial of the built-in programs has its own Jobs"

    def pack(self, trials: Mapping[str, Trial]) -> PipelineConfig:
        raise NotImplementedError(self.why_not_packed())

    def condition(self, text: str) -> Condition:
        return Condition.parse(text, list(FIGURES))

    def row(self, folder: Path, run: str, trial: Trial, cause: str = "") -> Row:
        return row_of(folder, run, trial, cause)

    def objective(self, rows: Sequence[Row]) -> Objective:
        return OBJECTIVES[self.choose_on]

    def chosen(self, objective: Objective) -> dict[str, Any]:
        return {"choose_on": self.choose_on}

    def announced(self, objective: Objective) -> str:
        return ""

    def columns(self, rows: Sequence[Row]) -> Mapping[str, str]:
        return FIGURES

    def shown(self, rows: Sequence[Row]) -> Sequence[Shown]:
        return _SHOWN

    def best(self, row: Row, objective: Objective) -> str:
        settings = " ".join(f"{key}={value}" for key, value in row.trial.settings)
        found = f"{objective.shown(objective.of(row))} with {settings} (run {row.run})"
        if self.choose_on == "test":
            return f"best: {found}; chosen on the test images, so other images may do less well"
        test = f"{row.figures['test_acc']:.4f}"
        return f"best on held-out training images: {found}; its test accuracy: {test}"

    def notes(self, rows: Sequence[Row]) -> list[str]:
        seconds = sorted(row.figures["seconds_per_epoch"] for row in rows)
        middle = statistics.median(seconds)
        return [f"an epoch takes {middle:.2f} s (median; {seconds[0]:.2f} to {seconds[-1]:.2f})"]


def built_in(target: Target, flags: SweepFlags) -> BuiltIn:
    """The built-in programs as the flags ask for them. Raises BadInput."""
    if flags.minimize is not None:
        raise BadInput(
            "--minimize and --maximize are for your own stages; the built-in programs have accuracy",
            "leave them out",
        )
    choose_on: ChooseOn
    match flags.choose_on:
        case None | "validation":
            choose_on = "validation"
        case "test":
            choose_on = "test"
        case other:
            raise BadInput(
                f"--choose-on {other}: the built-in programs have `validation` and `test`",
                "other figures are for your own stages, in a jobrelay.yaml",
            )
    overrides = flags.overrides
    base, is_base = _configured(target, flags, overrides)
    if choose_on == "validation" and not base.train.validation_split:
        overrides = (*overrides, f"train.validation_split={VALIDATION_SPLIT}")
        base, is_base = _configured(target, flags, overrides)
    return BuiltIn(target, base, flags.config_file, overrides, choose_on, is_base)


def _configured(target: Target, flags: SweepFlags, overrides: Sequence[str]) -> tuple[RunConfig, bool]:
    """The configuration that all trials share, and whether it is valid by itself. Raises BadInput.

    If it is not, a grid may set the missing keys: the first trial then takes its place.
    """
    try:
        return target.built_in(flags.config_file, overrides), True
    except BadInput:
        if flags.one_at_a_time:
            raise  # its trials differ from this configuration in one key only
        first = [axis.first for axis in map(parse_axis, flags.axes)]
        return target.built_in(flags.config_file, [*overrides, *first]), False


def _drop(tree: dict[str, Any], key: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        tree = tree.get(parent, {})
    tree.pop(leaf, None)  # keys of placement are absent
