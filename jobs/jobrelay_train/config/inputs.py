"""Which images, and which network."""

from __future__ import annotations

from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from jobrelay_train.config.placement import Section
from jobrelay_train.config.values import address, data_file, folder_of_data, is_own, one_of, sha256

DATA_SETS: Final = ("fashion-mnist-mini", "fashion-mnist", "mnist", "imagefolder", "blobs")
#: The models that torchvision builds: for RGB images, which they halve five times.
TORCHVISION_MODELS: Final = ("mobilenet_v3_small", "resnet18", "efficientnet_b0")
MODELS: Final = ("cnn", "mnist-net", "mnist-hogwild-net", "perceptron", *TORCHVISION_MODELS)


class DataConfig(Section):
    """Which images. MNIST and Fashion-MNIST share shape and format: 28 x 28 grey, ten classes.

    imagefolder: image files in folders that are named for their classes. They become RGB squares.
    blobs: no images, but points of two classes in the plane, made by the seed, for the perceptron.
    package.module:function: whatever that function of your own returns for "train", "val" and "test".
    """

    name: Annotated[str, AfterValidator(one_of(DATA_SETS))] = "fashion-mnist-mini"
    folder: Annotated[str, AfterValidator(folder_of_data)] | None = Field(
        default=None, description="of imagefolder, or for your own function: data/NAME on the volume"
    )
    size: int = Field(default=64, ge=16, le=512, description="of imagefolder: pixels of a side")
    skip_limit: int = Field(
        default=100, ge=0, le=100_000, description="of imagefolder: how many of its files may be unusable"
    )
    mirror: Annotated[str, AfterValidator(address)] | None = Field(
        default=None, description="where to download from instead of torchvision's own mirrors"
    )

    @property
    def is_own(self) -> bool:
        return is_own(self.name)

    @model_validator(mode="after")
    def _keys_are_of_this_set(self) -> Self:
        if self.name == "imagefolder":
            if self.folder is None:
                raise ValueError(
                    "imagefolder needs its folder: put a folder on the volume as data/NAME, and set "
                    "data.folder=data/NAME"
                )
            return self
        for key in ("size", "skip_limit") if self.is_own else ("folder", "size", "skip_limit"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{key} applies to imagefolder only, not to {self.name}")
        return self


class ModelConfig(Section):
    """Which network; it is stored beside the weights, so that a model is rebuilt from it alone."""

    name: Annotated[str, AfterValidator(one_of(MODELS))] = "cnn"
    weights: Annotated[str, AfterValidator(data_file)] | None = Field(
        default=None, description="data/NAME/FILE on the volume, from which a torchvision model starts"
    )
    weights_sha256: Annotated[str, AfterValidator(sha256)] | None = Field(
        default=None, description="what the file of weights must be"
    )

    @property
    def is_own(self) -> bool:
        return is_own(self.name)

    @property
    def is_torchvisions(self) -> bool:
        return self.name in TORCHVISION_MODELS

    @model_validator(mode="after")
    def _weights_fit_the_model(self) -> Self:
        if self.weights and not self.is_torchvisions:
            raise ValueError(
                f"weights are read for {', '.join(sorted(TORCHVISION_MODELS))}, not for {self.name}"
            )
        if self.weights_sha256 and not self.weights:
            raise ValueError("weights_sha256 is set, but weights is not")
        return self
