"""The whole training, from fresh weights or the newest checkpoint to the last epoch, for every strategy."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from jobrelay_runner.context import StageResult
from jobrelay_runner.errors import Terminated
from jobrelay_runner.signals import StopRequest
from jobrelay_runner.usage.cgroup import usable_cpus
from jobrelay_runner.usage.timeline import mark
from jobrelay_train import compute
from jobrelay_train.config.schema import RunConfig, TrainConfig
from jobrelay_train.data.loader import plan
from jobrelay_train.data.split import Split
from jobrelay_train.distributed.threads import ThreadedDataParallel, worth_it
from jobrelay_train.models.own import check_own, loss_of
from jobrelay_train.models.predict import predict
from jobrelay_train.models.pretrained import backbone, freeze_backbone, load_pretrained
from jobrelay_train.models.registry import ModelSpec, build, channels_last, normalise
from jobrelay_train.models.serialization.checkpoint import Position
from jobrelay_train.models.serialization.weights import model_to_bytes
from jobrelay_train.program import Context
from jobrelay_train.training.messages import announce, tell
from jobrelay_train.training.optim import build_optimizer, set_learning_rate
from jobrelay_train.training.precision import autocast
from jobrelay_train.training.schedule import learning_rate
from jobrelay_train.training.state import EpochSums, TrainInputs, TrainState
from jobrelay_train.training.strategies import Shard, Strategy


def fit(context: Context, inputs: TrainInputs, stop: StopRequest, strategy: Strategy) -> StageResult:
    """Train in this process, alone or with others; only the main process prints and writes files.

    Raises BadInput for weights of another model or if the training diverges, and Terminated after a stop,
    with all finished work saved.
    """
    config, train, data, spec = context.config, context.config.train, inputs.data, inputs.spec
    device, size, samples = strategy.device, train.batch_size, len(data)
    steps = math.ceil(samples / size)  # per epoch; the last batch may be smaller
    images, labels = data.images.to(device), data.labels.to(device)
    model, notes = build_model(config, inputs, device)
    optimizer = build_optimizer(train, (p for p in model.parameters() if p.requires_grad), device)
    example = normalise(images[:2].to(device), spec)
    criterion = loss_of(config)
    check_own(config, model, example, labels[:2], spec.classes)
    parallel = ThreadedDataParallel(model, replicas(config, model, example))
    compute.use_processors(sharing=parallel.count * train.processes_a_node)

    state = TrainState(context, inputs.settings, model, optimizer)
    if strategy.is_main:
        state.restore_or_start(device)
        means = announce(config, inputs, state, device, parallel.count, notes)
    strategy.prepare(state)
    # On the device, so that an accelerator is synchronised once per epoch and not once per step.
    sums = torch.zeros(2, dtype=torch.float32 if device.type == "mps" else torch.float64, device=device)

    def part(step: int) -> Shard:
        return strategy.shard(slice(step * size, min((step + 1) * size, samples)))

    def forward_backward(model: nn.Module, x: Tensor, y: Tensor, weight: float) -> Tensor:
        """Leave the gradients of weight × mean loss; return the sums of the loss and of correct answers."""
        with autocast(state.precision, device):
            scores = model(normalise(x, spec)).float()  # (B, classes)
        loss = criterion(scores, y)
        strategy.backward(loss * weight if weight != 1 else loss)
        with torch.no_grad():
            return torch.stack((loss * len(y), (scores.argmax(1) == y).sum())).to(sums)

    with stop.deferred():
        for epoch in range(state.position.epoch, train.epochs):
            started = time.perf_counter() - state.sums.seconds
            order = plan(config, epoch, samples, device)  # a function of seed and epoch alone
            train_mode(config, parallel.models)
            sums.copy_(torch.tensor([state.sums.loss, state.sums.correct], dtype=torch.float64))
            first = state.position.step
            ahead = (part(step).rows for step in range(first, steps) if strategy.is_in_order)
            batch = order.batches(images, labels, ahead)
            mark("first_batch")
            for step in strategy.steps(first, steps, stop):
                shard = part(step)
                x, y = batch(shard.rows)  # uint8 (B, C, H, W), int64 (B,)
                set_learning_rate(optimizer, learning_rate(train, epoch * steps + step, steps))
                optimizer.zero_grad()
                found = parallel.accumulate(forward_backward, x, y, shard.weight)
                optimizer.step()
                if shard.counts:
                    sums += found
            done, total = strategy.all_reduce(sums)
            (loss, correct), seconds = total.tolist(), time.perf_counter() - started
            if done < steps:
                state.interrupt(done, loss, correct, seconds)
                saved = f"; saved as checkpoints/{state.save()}" if strategy.is_main else ""
                raise Terminated(f"stopped by SIGTERM after {state.position}{saved}")
            state.position, state.sums = Position(epoch=epoch + 1, step=0), EpochSums()
            if strategy.is_main:
                row = epoch_row(train, epoch, samples, loss, correct, seconds)
                row |= validate(model, spec, data.validation, device, size)
                state.finish_epoch(row)
                print(tell(row, train.epochs, spec.things), flush=True)
            strategy.barrier()
        return save_model(context, inputs, state, means) if strategy.is_main else StageResult()


def build_model(config: RunConfig, inputs: TrainInputs, device: torch.device) -> tuple[nn.Module, list[str]]:
    """Build the network on the device; also return how a file's weights were adapted. Raises BadInput."""
    model = build(inputs.spec)
    notes = load_pretrained(model, inputs.weights, config.model) if inputs.weights else []
    if config.train.freeze == "backbone":
        freeze_backbone(model, inputs.spec.name)
    return channels_last(model.to(device), inputs.spec), notes


def replicas(config: RunConfig, model: nn.Module, example: Tensor) -> int:
    """Return how many threads compute a batch's gradients; 1 if several processes train already.

    A network or loss of the user's own may not expect to be called by several threads.
    """
    single = config.train.strategy == "single" and example.device.type == "cpu"
    if not single or config.model.is_own or config.train.loss:
        return 1
    return worth_it(model, example, config.train.batch_size, usable_cpus())


def train_mode(config: RunConfig, models: Iterable[nn.Module]) -> None:
    """Set the models to training mode; a frozen part also keeps its statistics."""
    for model in models:
        model.train()
        if config.train.freeze == "backbone":
            for part in backbone(model, config.model.name):
                part.eval()


def epoch_row(
    train: TrainConfig, epoch: int, samples: int, loss: float, correct: float, seconds: float
) -> dict[str, float]:
    """Return the history's row for one epoch (0 …), from the sums over its samples."""
    steps = math.ceil(samples / train.batch_size)
    return {
        "epoch": epoch + 1,
        "loss": loss / samples,
        "accuracy": int(correct) / samples,
        "seconds": round(seconds, 3),
        "images_per_second": round(samples / seconds, 1),
        # of the epoch's last step, which another process may have run
        "learning_rate": learning_rate(train, (epoch + 1) * steps - 1, steps),
    }


def validate(
    model: nn.Module, spec: ModelSpec, data: Split | None, device: torch.device, batch_size: int
) -> dict[str, float]:
    """Evaluate the model on images that it is not trained on; empty if there are none."""
    if data is None:
        return {}
    found = predict(model, spec, data.images, device, batch_size)
    return {"val_accuracy": int((found.argmax(1) == data.labels).sum()) / len(data)}


def save_model(
    context: Context, inputs: TrainInputs, state: TrainState, means: dict[str, str]
) -> StageResult:
    """Write model.pt and model.json; return the contents of this training's record."""
    folder, last = context.folder, state.history[-1]
    context.fence.write(folder.model, model_to_bytes(state.model.state_dict()))
    context.fence.write(folder.model_config, inputs.spec.model_dump_json(indent=2, exclude_none=True) + "\n")
    print(f"saved model.pt ({folder.model.stat().st_size / 1e6:.1f} MB)", flush=True)
    return StageResult(
        outputs=context.digests(folder.model, folder.model_config, folder.history),
        metrics={
            "loss": last["loss"],
            **{name: last[name] for name in ("accuracy", "val_accuracy") if name in last},
            "epochs": float(context.config.train.epochs),
            "images_per_second": last["images_per_second"],
        },
        means=means,
    )
