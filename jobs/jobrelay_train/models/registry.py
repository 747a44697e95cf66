"""The networks, and the specification that is stored with their weights to rebuild them.

All take normalised float32 images (N, C, H, W), `perceptron` also points (N, 2), and return float32 scores
(N, classes) whose log_softmax is the log-probability of each class. Most return logits; the two networks of
pytorch/examples return log-probabilities, which log_softmax does not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Final, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_train import vision
from jobrelay_train.config.inputs import TORCHVISION_MODELS
from jobrelay_train.config.values import is_own
from jobrelay_train.models.own import build_own

_TYPES: Final = {"uint8": torch.uint8, "float32": torch.float32, "int64": torch.int64}
Positive = Annotated[float, Field(gt=0)]


class ModelSpec(BaseModel):
    """model.json: everything except the weights that is needed to rebuild a model and to feed it."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    format: Literal[1] = 1
    name: str
    code: str | None = Field(default=None, description="digest of the code of a network of the user's own")
    input_shape: tuple[int, int, int] | tuple[int] | tuple[int, ...] = Field(
        description="channels, height, width of an image; coordinates of a point; anything for other data"
    )
    input_type: Literal["uint8", "float32", "int64"] | None = Field(
        default=None, description="of data of the user's own"
    )
    class_names: tuple[str, ...]
    mean: float | tuple[float, ...] = Field(
        description="of the pixels, black 0, white 1, of RGB images one a channel; of coordinates"
    )
    std: Positive | tuple[Positive, ...]
    dataset: str

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def things(self) -> Literal["images", "points", "items"]:
        """The kind of its inputs, as people call them."""
        if self.input_type:
            is_image = len(self.input_shape) == 3 and self.input_shape[0] in (1, 3)
            return "images" if is_image and self.input_type != "int64" else "items"
        return "points" if len(self.input_shape) == 1 else "images"

    @property
    def dtype(self) -> torch.dtype:
        """The type of its inputs as stored: pixels, coordinates or indices."""
        if self.input_type:
            return _TYPES[self.input_type]
        return torch.float32 if self.things == "points" else torch.uint8

    @property
    def is_own(self) -> bool:
        """Whether the network is the user's own."""
        return is_own(self.name)


def build(spec: ModelSpec) -> nn.Module:
    """Build the network of `spec`, with fresh weights from torch's generator."""
    return build_own(spec.name, spec.classes, spec.input_shape) if spec.is_own else _BUILDERS[spec.name](spec)


def outline(spec: ModelSpec) -> nn.Module:
    """Build the network of `spec` with weights that have shapes but no values, and take no memory.

    Those of a network of the user's own have values; torch's generator stays as it is.
    """
    if spec.is_own:  # its function may do what needs values: read a file, for example
        with torch.random.fork_rng(devices=[]):
            return build(spec)
    with torch.device("meta"):
        return build(spec)


def channels_last(model: nn.Module, spec: ModelSpec) -> nn.Module:
    """Lay out the model's weights for the convolutions of CPUs and tensor cores; return the model itself.

    On a CPU, a training step of `cnn` then takes less than half the time. The input needs no conversion: an
    image of one channel has the same layout either way, and RGB images are stored in this layout. A network
    of the user's own stays as it is: it may use `view`, which refuses this layout.
    """
    if spec.is_own:
        return model
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def normalise(images: Tensor, spec: ModelSpec) -> Tensor:
    """Turn uint8 pixels (N, C, H, W) into float32 with mean 0 and deviation 1 over the training images.

    Points float32 (N, 2) likewise; indices int64 stay as they are.
    """
    if spec.dtype == torch.int64:
        return images
    white = 255 if spec.dtype == torch.uint8 else 1
    mean, std = (_of_channels(values, white, images.device) for values in (spec.mean, spec.std))
    return images.to(torch.float32, copy=True).sub_(mean).div_(std)


def _of_channels(values: float | tuple[float, ...], white: int, device: torch.device) -> float | Tensor:
    """Return the values scaled by `white`, in a shape that broadcasts over the channels."""
    if isinstance(values, float):
        return white * values
    return torch.tensor(values, device=device).mul(white).view(-1, 1, 1)


def _cnn(spec: ModelSpec) -> nn.Module:
    """Two convolutions, each with batch normalisation, and two linear layers: 207,000 parameters.

    Pooling comes before normalisation and ReLU, which gives nearly the same function for a quarter
    of the elementwise work.
    """
    assert len(spec.input_shape) == 3  # RunConfig ensures it
    channels, height, width = spec.input_shape
    return nn.Sequential(
        *_convolution(channels, 16),  # (N, 16, 14, 14)
        *_convolution(16, 32),  # (N, 32, 7, 7)
        nn.Flatten(),  # (N, 1568)
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, spec.classes),
    )


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    # No bias: the normalisation that follows would remove it.
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return convolution, nn.MaxPool2d(2), nn.BatchNorm2d(outputs), nn.ReLU()


class MnistNet(nn.Module):
    """`Net` of pytorch/examples, mnist/main.py: the same layers under the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.dropout1 = nn.Dropout(0.25)
        self.dropout2 = nn.Dropout(0.5)
        self.fc1 = nn.Linear(9216, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.conv1(images))  # (N, 32, 26, 26)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)  # (N, 64, 12, 12)
        x = self.dropout1(x).flatten(1)  # (N, 9216)
        x = self.dropout2(F.relu(self.fc1(x)))  # (N, 128)
        return F.log_softmax(self.fc2(x), dim=1)


class MnistHogwildNet(nn.Module):
    """`Net` of pytorch/examples, mnist_hogwild/main.py: the same layers under the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.conv2_drop = nn.Dropout2d()
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(F.max_pool2d(self.conv1(images), 2))  # (N, 10, 12, 12)
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))  # (N, 20, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))  # (N, 50); flatten, as view refuses channels_last
        x = F.dropout(x, training=self.training)
        return F.log_softmax(self.fc2(x), dim=1)


def _perceptron(spec: ModelSpec) -> nn.Module:
    """One linear layer: each class weighs every pixel, or coordinate (softmax regression)."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(spec.input_shape), spec.classes))


def _torchvisions(spec: ModelSpec) -> nn.Module:
    """Build the network of that name in torchvision.models, for 3 channels of 33 x 33 pixels or more."""
    model = cast("nn.Module", getattr(vision.models(), spec.name)(num_classes=spec.classes))
    for module in model.modules():
        # mobilenet_v3_small has a tenth of this, for ImageNet's hundreds of thousands of steps; after the few
        # hundred steps of a small data set, its statistics would still be close to the initial ones.
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1
    return model


_BUILDERS: Final[dict[str, Callable[[ModelSpec], nn.Module]]] = {
    "cnn": _cnn,
    "mnist-net": lambda spec: MnistNet(),
    "mnist-hogwild-net": lambda spec: MnistHogwildNet(),
    "perceptron": _perceptron,
    **dict.fromkeys(TORCHVISION_MODELS, _torchvisions),
}
