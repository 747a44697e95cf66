"""RunConfig: the configuration of one run.

A stage's section has two kinds of keys. Those that determine the result (epochs, batch_size, …) are
part of the stage's hash. Those of `Placement` only determine where and how long the stage may run, so
a run that ran out of memory can resume with more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from jobrelay_runner.stages import Stage
from jobrelay_train.config.inputs import DataConfig, ModelConfig
from jobrelay_train.config.placement import Placement, Section
from jobrelay_train.config.values import Number, code_digest, data_source, is_own, own_function

#: The file in a run's ConfigMap.
CONFIG_FILE: Final = "config.yaml"
#: Data sets that are in the image or generated from the seed: they cannot change on the volume.
_IN_THE_BOX: Final = ("fashion-mnist-mini", "blobs")
_TORCHVISION_PIXELS: Final = 33
#: The built-in programs, in their order.
STAGES: Final[tuple[Stage, ...]] = ("train", "eval", "infer")


class TrainConfig(Placement):
    epochs: int = Field(default=5, ge=1, le=1000)
    batch_size: int = Field(default=64, ge=1, le=65536, description="images of one step, of all processes")
    learning_rate: Number = Field(default=0.005, gt=0, le=10)
    optimizer: Literal["adamw", "sgd", "adadelta"] = Field(
        default="adamw", description="sgd: with a momentum of 0.9"
    )
    schedule: Literal["one-cycle", "step"] = Field(
        default="one-cycle", description="step: the learning rate times gamma after every epoch"
    )
    gamma: Number = Field(default=0.7, gt=0, le=1, description="of schedule step; 1: a constant rate")
    weight_decay: Number = Field(default=0.05, ge=0, le=1)
    loss: Annotated[str, AfterValidator(own_function)] | None = Field(
        default=None, description="package.module:function of your own, in place of cross-entropy"
    )
    label_smoothing: Number = Field(
        default=0.1, ge=0, lt=1, description="part of the target that is spread over all classes"
    )
    freeze: Literal["none", "backbone"] = Field(
        default="none", description="backbone: of a model that has weights, only the head learns"
    )
    validation_split: Number = Field(
        default=0,
        ge=0,
        le=0.5,
        description="part of the training images, drawn by the seed, that judges every epoch and is not "
        "learnt from; none where the data has validation images of its own",
    )
    augment: bool = Field(
        default=True, description="vary the images in ways that leave their class: mirrored, moved"
    )
    horizontal_flip: Literal["auto", True, False] = Field(
        default="auto",
        description="mirror images left to right; auto: where the data set is known to allow it",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="auto: bf16 where a short measurement finds it faster"
    )
    strategy: Literal["single", "hogwild", "ddp"] = "single"
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = Field(
        default="auto", description="on each node; auto: 1 for single, 2 for hogwild and ddp"
    )
    nodes: int = Field(default=1, ge=1, le=256, description="Pods that train together, by ddp")

    @model_validator(mode="after")
    def _keys_fit_each_other(self) -> Self:
        if self.horizontal_flip is True and not self.augment:
            raise ValueError("horizontal_flip is true but has no effect, because augment is false")
        if self.strategy == "single" and self.processes not in ("auto", 1):
            raise ValueError(f"strategy single runs one process, not {self.processes}: use hogwild or ddp")
        if self.strategy != "ddp" and self.nodes > 1:
            raise ValueError(f"{self.nodes} nodes need strategy ddp, not {self.strategy}")
        if self.batch_size < self.workers:
            raise ValueError(
                f"batch_size {self.batch_size} is less than one image for each of {self.workers} processes"
            )
        return self

    @property
    def processes_a_node(self) -> int:
        if self.processes == "auto":
            return 1 if self.strategy == "single" else 2
        return self.processes

    @property
    def workers(self) -> int:
        """The number of training processes on all nodes."""
        return self.nodes * self.processes_a_node


class EvalConfig(Placement):
    batch_size: int = Field(default=1000, ge=1, le=65536)
    export: Literal["none", "torch"] = Field(
        default="none", description="torch: the model as model.pt2 too, by torch.export"
    )
    metrics: Annotated[str, AfterValidator(own_function)] | None = Field(
        default=None, description="package.module:function of your own, which returns more metrics"
    )


class InferConfig(Placement):
    source: Annotated[str, AfterValidator(data_source)] = Field(
        default="test", description="test: the data set's own images; data/NAME: image files on the volume"
    )
    samples: Literal["all"] | Annotated[int, Field(ge=1, le=10000)] = Field(
        default=5, description="how many of its images, drawn by the seed"
    )
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=65536)] = Field(
        default="auto", description="auto: grown while that makes it faster and memory allows"
    )

    @property
    def folder(self) -> str | None:
        """The folder of image files on the volume; None if the source is the test set."""
        return None if self.source == "test" else self.source


class RunConfig(Section):
    """One run: data, model and what each stage does."""

    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="auto: the best there is"
    )
    code: Annotated[str, AfterValidator(code_digest)] | None = Field(
        default=None, description="digest of the code with functions of your own; the launcher sets it"
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    infer: InferConfig = InferConfig()

    @model_validator(mode="after")
    def _strategy_fits_the_device(self) -> Self:
        works_on = {"hogwild": ("auto", "cpu"), "ddp": ("auto", "cpu", "cuda")}
        devices = works_on.get(self.train.strategy, (self.device,))
        if self.device not in devices:
            raise ValueError(
                f"strategy {self.train.strategy} does not work on {self.device}: "
                f"--set device={devices[-1]}, or --set train.strategy=single"
            )
        return self

    @model_validator(mode="after")
    def _points_are_no_images(self) -> Self:
        if self.data.name == "blobs" and self.model.name != "perceptron" and not self.model.is_own:
            raise ValueError(
                f"model {self.model.name} takes images, and data blobs has none: --set model.name=perceptron"
            )
        if self.data.name == "blobs" and self.train.horizontal_flip is True:
            raise ValueError("train.horizontal_flip is for images, and data blobs has none")
        if self.data.name == "blobs" and self.infer.folder:
            raise ValueError(
                f"infer.source {self.infer.source} is a folder of images, and a model of points takes none: "
                "--set infer.source=test"
            )
        return self

    @model_validator(mode="after")
    def _model_fits_the_data(self) -> Self:
        name, folder = self.model.name, self.data.name == "imagefolder"
        if self.data.is_own:  # its shape is known when it is read
            pass
        elif self.model.is_torchvisions and not folder:
            raise ValueError(
                f"model {name} takes RGB images, {self.data.name} has none: use data.name=imagefolder, "
                "or model.name=cnn"
            )
        elif self.model.is_torchvisions and self.data.size < _TORCHVISION_PIXELS:
            raise ValueError(
                f"model {name} halves images five times: data.size must be {_TORCHVISION_PIXELS} or more, "
                f"not {self.data.size}"
            )
        if name in ("mnist-net", "mnist-hogwild-net") and folder:
            raise ValueError(
                f"model {name} takes grey images of 28 x 28, not an imagefolder's: model.name=cnn"
            )
        if self.train.freeze == "backbone" and not self.model.weights:
            raise ValueError(
                "train.freeze: a backbone without model.weights has learnt nothing: set model.weights"
            )
        return self

    @property
    def own_functions(self) -> dict[str, str]:
        """The functions of the user's own, by their keys: {"model.name": "package.module:function"}."""
        named = {
            "data.name": self.data.name,
            "model.name": self.model.name,
            "train.loss": self.train.loss,
            "eval.metrics": self.eval.metrics,
        }
        return {key: name for key, name in named.items() if name and is_own(name)}

    def on_the_volume(self, stages: Iterable[Stage]) -> list[str]:
        """Return the folders and files that these stages need below the volume's root."""
        stages = set(stages)
        needed = [
            self.data.folder,
            self.model.weights if "train" in stages else None,
            self.infer.folder if "infer" in stages else None,
        ]
        return list(dict.fromkeys(name for name in needed if name))

    def stage(self, stage: Stage) -> dict[str, Any]:
        """Return the keys that determine the result of `stage`: its own and those of every earlier stage."""
        keep = ("seed", "code", "data", "model", *STAGES[: STAGES.index(stage) + 1])
        excluded = {name: set(Placement.model_fields) for name in STAGES} | {"data": {"mirror", "skip_limit"}}
        dumped = self.model_dump(mode="json", exclude=excluded)
        tree = {name: dumped[name] for name in keep}
        for section, key in ((tree, "code"), (tree["train"], "loss"), (tree.get("eval", {}), "metrics")):
            if section.get(key) is None:  # as in versions that did not have these keys
                section.pop(key, None)
        return tree

    def stage_hash(self, stage: Stage) -> str:
        """Return the SHA-256 (hex) of `stage(stage)`."""
        return tree_hash(self.stage(stage))

    def placement(self, stage: Stage) -> Placement:
        """Return the section of `stage` as its placement; no wishes for another program."""
        section = getattr(self, stage, None)
        return section if isinstance(section, Placement) else Placement()

    def decides(self, stage: Stage) -> dict[str, Any]:
        """Return `stage(stage)`, with the device if it is named: another device gives other results."""
        if stage not in STAGES:  # another program, in a Job beside ours
            return {}
        return self.stage(stage) | ({} if self.device == "auto" else {"device": self.device})

    def fill(self, stage: Stage, job: Any) -> None:
        """Leave a stage's Job as it is: the program reads its configuration itself."""

    def uploads(self) -> dict[str, bytes]:
        """Return nothing: the programs are in the image."""
        return {}

    def config_files(self) -> dict[str, str | bytes]:
        """Return what a Job reads: {"config.yaml": …}. JSON is YAML, and canonical."""
        return {CONFIG_FILE: json.dumps(self.result_config(), indent=2) + "\n"}

    def pods(self, stage: Stage) -> int:
        """Return how many Pods of the stage work together."""
        return self.train.nodes if stage == "train" else 1

    def reads_the_volume(self) -> bool:
        """Whether the data is on the volume, where it may change."""
        on_the_volume = not self.data.is_own and self.data.name not in _IN_THE_BOX
        return on_the_volume or bool(self.on_the_volume(STAGES))

    def identity(self) -> str:
        """Return the hash of the training without its epochs: a run may later get more."""
        tree = self.stage("train")
        return tree_hash({**tree, "train": {**tree["train"], "epochs": None}})

    def result_config(self) -> dict[str, Any]:
        """Return what a Job reads: all keys except placement, which is in the Job itself."""
        excluded: dict[str, set[str]] = {name: set(Placement.model_fields) for name in STAGES}
        return self.model_dump(mode="json", exclude=excluded)


def tree_hash(tree: Any) -> str:
    """Return the SHA-256 (hex) of a JSON tree in its canonical form."""
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
