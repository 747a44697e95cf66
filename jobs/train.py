"""train: data, model, loop, weights.

Writes model.pt and model.json, history.jsonl, config.yaml and checkpoints/. Interrupted at any
moment, it goes on from the newest whole checkpoint, and on a CPU ends with the very weights it
would have had undisturbed: the order of the images and which of them are mirrored depend on seed
and epoch alone, the learning rate on the step, and torch's generator is in the checkpoint.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobs import compute
from jobs.assignment import Assignment, Outcome
from jobs.checkpoint import Position
from jobs.contract.config import RunConfig
from jobs.data import DESCRIPTIONS, Split, load
from jobs.errors import BadInput, Terminated
from jobs.models import ModelSpec, build, channels_last, normalise
from jobs.progress import EpochSums, Progress, settings_that_stay
from jobs.schedule import one_cycle
from jobs.stopping import StopRequest
from jobs.weights import to_bytes


def train(assignment: Assignment, stop: StopRequest) -> Outcome:
    """Train the configured model on the configured data, for the configured number of epochs."""
    config, folder = assignment.config, assignment.folder
    device = compute.prepare(config)
    data = load(config.data, "train", folder.root)
    inputs = assignment.prove(*data.files)
    spec = describe_model(config, data)
    model = channels_last(build(spec).to(device))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.train.learning_rate, weight_decay=config.train.weight_decay
    )
    progress = Progress(folder, assignment.fence, settings_that_stay(config, inputs), model, optimizer)
    progress.resume(config.train.epochs)
    progress.write_history()
    assignment.keep_config()

    epochs, batch_size, samples = config.train.epochs, config.train.batch_size, len(data)
    steps = math.ceil(samples / batch_size)  # of one epoch; the last batch may be smaller
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"training {spec.name} ({parameters:,} parameters) on {samples:,} images of {spec.dataset}: "
        f"{epochs} epochs of {steps} steps, {compute.describe(device)}",
        flush=True,
    )
    images, labels = data.images.to(device), data.labels.to(device)
    with stop.deferred():
        for epoch in range(progress.position.epoch, epochs):
            started = time.perf_counter() - progress.sums.seconds
            order, mirrored = plan(config, epoch, samples, device)
            # On the device, so that an accelerator is waited for once an epoch and not once a step.
            loss_sum = torch.tensor(progress.sums.loss, device=device)
            correct = torch.tensor(progress.sums.correct, device=device)
            model.train()
            for step in range(progress.position.step, steps):
                if stop.requested:
                    seconds = time.perf_counter() - started
                    progress.sums = EpochSums(loss=loss_sum.item(), correct=int(correct), seconds=seconds)
                    progress.position = Position(epoch=epoch, step=step)
                    name = progress.save()
                    raise Terminated(
                        f"stopped by SIGTERM after {progress.position}; saved as checkpoints/{name}"
                    )
                for group in optimizer.param_groups:
                    group["lr"] = one_cycle(epoch * steps + step, epochs * steps, config.train.learning_rate)
                batch = slice(step * batch_size, (step + 1) * batch_size)
                pixels = normalise(images[order[batch]], spec)  # (B, 1, 28, 28)
                if mirrored is not None:
                    pixels = torch.where(mirrored[batch, None, None, None], pixels.flip(3), pixels)
                target = labels[order[batch]]  # (B,)
                scores = model(pixels)  # (B, classes)
                loss = F.cross_entropy(scores, target, reduction="sum")
                optimizer.zero_grad()
                torch.autograd.backward(loss / len(target))
                optimizer.step()
                loss_sum += loss.detach()
                correct += (scores.argmax(1) == target).sum()
            seconds = time.perf_counter() - started
            row = {
                "epoch": epoch + 1,
                "loss": loss_sum.item() / samples,
                "accuracy": int(correct) / samples,
                "seconds": round(seconds, 3),
                "images_per_second": round(samples / seconds, 1),
                "learning_rate": optimizer.param_groups[0]["lr"],
            }
            if not math.isfinite(row["loss"]):
                raise BadInput(
                    f"training has diverged: the loss of epoch {epoch + 1} is {row['loss']}; take another "
                    f"--run with a smaller --set train.learning_rate (it is {config.train.learning_rate:g})"
                )
            progress.history.append(row)
            progress.position, progress.sums = Position(epoch=epoch + 1, step=0), EpochSums()
            progress.save()
            progress.write_history()
            print(tell(row, epochs), flush=True)

        weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        assignment.fence.write(folder.model, to_bytes(weights))
        assignment.fence.write(folder.model_config, spec.model_dump_json(indent=2) + "\n")
        print(f"saved model.pt ({folder.model.stat().st_size / 1e6:.1f} MB)", flush=True)
    last = progress.history[-1]
    return Outcome(
        inputs=inputs,
        outputs=assignment.prove(folder.model, folder.model_config, folder.history),
        metrics={
            "loss": last["loss"],
            "accuracy": last["accuracy"],
            "epochs": float(epochs),
            "images_per_second": last["images_per_second"],
        },
    )


def describe_model(config: RunConfig, data: Split) -> ModelSpec:
    """The model that fits the data, with the mean and deviation of its pixels."""
    # Exact and without a float copy of all pixels: there are only 256 values.
    counts = torch.bincount(data.images.flatten(), minlength=256).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = (counts * values).sum() / counts.sum()
    variance = (counts * (values - mean) ** 2).sum() / counts.sum()
    return ModelSpec(
        name=config.model.name,
        input_shape=(data.images.shape[1], data.images.shape[2], data.images.shape[3]),
        class_names=DESCRIPTIONS[config.data.name].class_names,
        mean=round(mean.item(), 6),
        std=max(round(variance.sqrt().item(), 6), 1e-6),  # images of one grey have none
        dataset=config.data.name,
    )


def plan(config: RunConfig, epoch: int, samples: int, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """The order of an epoch's images, int64 (N,), and which places of it are mirrored, bool (N,) or None."""
    generator = compute.generator(config.seed, "epoch", epoch)
    order = torch.randperm(samples, generator=generator).to(device)
    if not DESCRIPTIONS[config.data.name].mirrored_is_the_same:
        return order, None
    return order, (torch.rand(samples, generator=generator) < 0.5).to(device)


def tell(row: dict[str, float], epochs: int) -> str:
    """One line for one epoch."""
    speed = row["images_per_second"] / 1000
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  acc {row['accuracy']:.4f}  "
        f"{row['seconds']:.1f} s  {speed:.1f}k images/s  lr {row['learning_rate']:.4f}"
    )
