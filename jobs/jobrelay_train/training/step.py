"""A model that learns: network, optimiser and images on one device, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig
from jobrelay_train.data.loader import Epoch, plan
from jobrelay_train.data.split import Images, Split
from jobrelay_train.distributed.replicas import Replicas, worth_it
from jobrelay_train.models.predict import predict
from jobrelay_train.models.pretrained import backbone, begin_with, freeze_backbone
from jobrelay_train.models.registry import ModelSpec, build, channels_last, normalise
from jobrelay_train.training.optim import optimizer
from jobrelay_train.training.precision import Precision, autocast, fastest
from jobrelay_train.training.schedule import learning_rate
from jobrelay_train.training.strategy import Part


@dataclass
class Learner:
    """What one process needs to train. `sums`, float64 (2,): loss and right answers, of the epoch so far.

    The sums are on the device, so that an accelerator is waited for once an epoch and not once a step.
    notes: what was done to make the weights of a file fit.
    """

    config: RunConfig
    spec: ModelSpec
    images: Images
    labels: Tensor
    model: nn.Module
    optimizer: torch.optim.Optimizer
    device: torch.device
    validation: Split | None = None
    precision: Precision = "fp32"
    notes: list[str] = field(default_factory=list)
    sums: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(2, dtype=torch.float64 if self.device.type != "mps" else torch.float32)
        self.sums = self.sums.to(self.device)
        #: Between the gradients and the step: what all processes that train together do about them.
        self.agree: Callable[[], None] | None = None
        self.replicas = Replicas(self.model, 1)

    @classmethod
    def new(
        cls,
        config: RunConfig,
        spec: ModelSpec,
        data: Split,
        device: torch.device,
        weights: Mapping[str, Any] | None = None,
    ) -> Learner:
        """Fresh weights or, if there are any, these; and all images on the device.

        Raises BadInput for weights of another model.
        """
        model = build(spec)
        notes = begin_with(model, weights, config.model) if weights else []
        if config.train.freeze == "backbone":
            freeze_backbone(model, spec.name)
        model = channels_last(model.to(device))
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return cls(
            config=config,
            spec=spec,
            images=data.images.to(device),
            labels=data.labels.to(device),
            model=model,
            optimizer=optimizer(config.train, learning, device),
            device=device,
            validation=data.validation,
            notes=notes,
        )

    def use_processors(self, count: int) -> None:
        """Train with so many threads, in this process alone. To be called before anything is learned."""
        example = normalise(self.images[:2], self.spec)
        replicas = 1
        if self.device.type == "cpu":
            replicas = worth_it(self.model, example, self.config.train.batch_size, count)
        self.replicas = Replicas(self.model, replicas)
        compute.use_processors(sharing=replicas)

    @property
    def steps(self) -> int:
        """Of one epoch; the last batch may be smaller."""
        return math.ceil(len(self.labels) / self.config.train.batch_size)

    def choose_precision(self) -> None:
        """Take the configured precision, or find out which one is faster here."""
        wanted = self.config.train.precision
        self.precision = fastest(self.device, self.model) if wanted == "auto" else wanted

    def plan(self, epoch: int) -> Epoch:
        """The batches of an epoch."""
        return plan(self.config, epoch, len(self.labels), self.device)

    def places(self, step: int) -> slice:
        """Which places of an epoch's order are the batch of a step."""
        size = self.config.train.batch_size
        return slice(step * size, min((step + 1) * size, len(self.labels)))

    def begin_epoch(self) -> None:
        """Set the sums to 0, and the model to training; a frozen part of it keeps its statistics, too."""
        self.sums.zero_()
        for model in self.replicas.models:
            model.train()
            if self.config.train.freeze == "backbone":
                for part in backbone(model, self.spec.name):
                    part.eval()

    def learn(self, epoch: Epoch, number: int, share: Part) -> None:
        """One step: the `number`-th of the whole training, from this part of the epoch's order."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config.train, number, self.steps)

        def work(model: nn.Module, places: slice, weight: float) -> Tensor:
            return self._gradients(model, epoch, places, weight * share.weight)

        self.optimizer.zero_grad()
        sums = self.replicas.gradients(work, share.places)
        if share.counts:
            self.sums += sums
        if self.agree:
            self.agree()
        self.optimizer.step()

    def validated(self) -> dict[str, float]:
        """How the model does now on images that it does not learn from; empty if there are none."""
        if self.validation is None:
            return {}
        size = self.config.train.batch_size
        found = predict(self.model, self.spec, self.validation.images, self.device, size)
        right = int((found.argmax(1) == self.validation.labels).sum())
        return {"val_accuracy": right / len(self.validation)}

    def _gradients(self, model: nn.Module, epoch: Epoch, places: slice, weight: float) -> Tensor:
        """Leave the gradients of weight × mean loss; returns loss and right answers, summed, as in `sums`."""
        pixels, target = epoch.batch(self.images, self.labels, places)  # (B, C, H, W), (B,)
        with autocast(self.precision, self.device):
            scores = model(normalise(pixels, self.spec))
        scores = scores.float()  # (B, classes)
        loss = F.cross_entropy(scores, target, label_smoothing=self.config.train.label_smoothing)
        torch.autograd.backward(loss * weight if weight != 1 else loss)
        with torch.no_grad():
            return torch.stack((loss * len(target), (scores.argmax(1) == target).sum())).to(self.sums)
