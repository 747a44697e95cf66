"""train: data, model, loop, weights.

Writes model.pt and model.json, history.jsonl, config.yaml and checkpoints/. Interrupted at any
moment, it goes on from the newest whole checkpoint, and on a CPU ends with the very weights it
would have had undisturbed: the order of the images and which of them are mirrored depend on seed
and epoch alone, the learning rate on the step, and torch's generator is in the checkpoint.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (PyTorch's own convention)

from jobs import checkpoint, compute
from jobs.assignment import Assignment, Outcome
from jobs.checkpoint import Position
from jobs.contract.config import RunConfig
from jobs.contract.files import write_atomically
from jobs.data import DESCRIPTIONS, Split, load
from jobs.errors import BadInput, Failed, Terminated
from jobs.models import ModelSpec, build, normalise
from jobs.schedule import one_cycle
from jobs.stopping import StopRequest


@dataclass
class Epoch:
    """Sums over the part of an epoch that is done; kept in the checkpoint of an interrupted one."""

    loss: float = 0.0
    correct: int = 0
    samples: int = 0
    seconds: float = 0.0


@dataclass
class Progress:
    """Where training stands."""

    position: Position = field(default_factory=lambda: Position(epoch=0, step=0))
    history: list[dict[str, float]] = field(default_factory=list)
    sums: Epoch = field(default_factory=Epoch)


def train(assignment: Assignment, stop: StopRequest) -> Outcome:
    """Train the configured model on the configured data, to the configured number of epochs."""
    config, folder = assignment.config, assignment.folder
    device = compute.prepare(config)
    data = load(config.data, "train", folder.root)
    inputs = assignment.prove(*data.files)
    spec = describe_model(config, data)
    # channels_last: convolutions on a CPU are 1.7 times as fast with it.
    model = build(spec).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.train.learning_rate, weight_decay=config.train.weight_decay
    )

    continues = what_may_not_change(config, [proof.sha256 for proof in inputs.values()])
    progress = resume(assignment, continues, model, optimizer)
    assignment.keep_config()
    write_history(assignment, progress)

    epochs, batch_size = config.train.epochs, config.train.batch_size
    steps = math.ceil(len(data) / batch_size)  # of one epoch
    print(
        f"training {spec.name} ({sum(p.numel() for p in model.parameters()):,} parameters) on {len(data):,} images "
        f"of {spec.dataset}: {epochs} epochs of {steps} steps, {compute.describe(device)}",
        flush=True,
    )
    images, labels = data.images.to(device), data.labels.to(device)
    with stop.deferred():
        for epoch in range(progress.position.epoch, epochs):
            started = time.perf_counter() - progress.sums.seconds
            order, mirrored = plan(config, spec, epoch, len(data), device)
            loss_sum = torch.tensor(progress.sums.loss, device=device)
            correct = torch.tensor(progress.sums.correct, device=device)
            model.train()
            for step in range(progress.position.step, steps):
                if stop.requested:
                    progress.position = Position(epoch=epoch, step=step)
                    seconds = time.perf_counter() - started
                    progress.sums = Epoch(
                        loss_sum.item(), int(correct), min(step * batch_size, len(data)), seconds
                    )
                    path = save(assignment, progress, continues, model, optimizer)
                    raise Terminated(
                        f"stopped by SIGTERM at {progress.position}; saved in checkpoints/{path}"
                    )
                learning_rate = one_cycle(epoch * steps + step, epochs * steps, config.train.learning_rate)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate
                batch = slice(step * batch_size, (step + 1) * batch_size)
                pixels = normalise(images[order[batch]], spec)  # (B, 1, 28, 28)
                if mirrored is not None:
                    pixels = torch.where(mirrored[batch, None, None, None], pixels.flip(3), pixels)
                target = labels[order[batch]]  # (B,)
                scores = model(pixels.contiguous(memory_format=torch.channels_last))  # (B, classes)
                loss = F.cross_entropy(scores, target, reduction="sum")
                optimizer.zero_grad()
                (loss / len(target)).backward()
                optimizer.step()
                # On the device, so that an accelerator is waited for once an epoch and not once a step.
                loss_sum += loss.detach()
                correct += (scores.argmax(1) == target).sum()
            seconds = time.perf_counter() - started
            row = {
                "epoch": epoch + 1,
                "loss": loss_sum.item() / len(data),
                "accuracy": int(correct) / len(data),
                "seconds": round(seconds, 3),
                "images_per_second": round(len(data) / seconds, 1),
                "learning_rate": learning_rate,
            }
            if not math.isfinite(row["loss"]):
                raise Failed(
                    f"the loss of epoch {epoch + 1} is {row['loss']}: training has diverged; take another --run "
                    f"with a smaller rate, such as --set train.learning_rate={config.train.learning_rate / 10:g}"
                )
            progress.history.append(row)
            progress.position, progress.sums = Position(epoch=epoch + 1, step=0), Epoch()
            save(assignment, progress, continues, model, optimizer)
            write_history(assignment, progress)
            print(tell(row, epochs), flush=True)

        weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
        write_atomically(folder.model, checkpoint.to_bytes(weights))
        write_atomically(folder.model_config, spec.model_dump_json(indent=2) + "\n")
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


def plan(
    config: RunConfig, spec: ModelSpec, epoch: int, samples: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """The order of an epoch's images, int64 (N,), and which are mirrored, bool (N,), or None."""
    generator = compute.generator(config.seed, "epoch", epoch)
    order = torch.randperm(samples, generator=generator)
    if not DESCRIPTIONS[config.data.name].mirrored_is_the_same:
        return order.to(device), None
    return order.to(device), (torch.rand(samples, generator=generator) < 0.5).to(device)


def what_may_not_change(config: RunConfig, data_hashes: list[str]) -> dict[str, Any]:
    """What a checkpoint depends on: all that decides training but the number of epochs, and the data."""
    tree = config.stage("train")
    tree["train"] = {key: value for key, value in tree["train"].items() if key != "epochs"}
    return {**tree, "data_sha256": data_hashes}


def save(
    assignment: Assignment,
    progress: Progress,
    continues: dict[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> str:
    """Write a checkpoint of everything that training needs to go on; returns its file's name."""
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": progress.history,
        "sums": vars(progress.sums),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    return checkpoint.save(assignment.folder.checkpoints, progress.position, state, continues).name


def resume(
    assignment: Assignment, continues: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress:
    """Go back to the newest whole checkpoint of this run; a fresh Progress if there is none."""
    found = checkpoint.load_newest(assignment.folder.checkpoints, continues)
    if found is None:
        return Progress()
    position, state = found
    epochs = assignment.config.train.epochs
    if (position.epoch, position.step) > (epochs, 0):
        raise BadInput(
            f"train.epochs: {epochs} asked, but this run has come to {position} already; "
            f"take another --run, or at least --set train.epochs={position.epoch + bool(position.step)}"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["rng"])
    if torch.cuda.is_available() and len(state["cuda_rng"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    print(f"resuming from {position} (checkpoints/{position.name}.pt)", flush=True)
    return Progress(position, state["history"], Epoch(**state["sums"]))


def write_history(assignment: Assignment, progress: Progress) -> None:
    """history.jsonl: always whole, and never ahead of the checkpoint that would be resumed from."""
    lines = "".join(json.dumps(row) + "\n" for row in progress.history)
    write_atomically(assignment.folder.history, lines)


def tell(row: dict[str, float], epochs: int) -> str:
    """One line for one epoch."""
    return (
        f"epoch {row['epoch']:.0f}/{epochs}  loss {row['loss']:.4f}  acc {row['accuracy']:.4f}  "
        f"{row['seconds']:.1f} s  {row['images_per_second'] / 1000:.1f}k images/s  lr {row['learning_rate']:.4f}"
    )
